use std::error::Error;
use std::fmt;
use std::io;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::problem::{FileProblem, Problem};

/// Something to say about one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: String,
    /// `None` where it is about the file as a whole.
    pub position: Option<Position>,
    /// Dotted, as in `services.smtp.source.rate`; empty where there is none.
    pub key: String,
    pub problem: Problem,
}

/// Both count from 1; a column is a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Everything that is wrong with a configuration, in file order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfigErrors {
    errors: Vec<Diagnostic>,
}

impl ConfigErrors {
    /// `None` if there is nothing wrong.
    pub(super) fn new(errors: Vec<Diagnostic>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self { errors })
    }

    pub(super) fn of_file(file: String, problem: FileProblem) -> Self {
        let problem = problem.into();
        Self { errors: vec![Diagnostic { file, position: None, key: String::new(), problem }] }
    }

    pub(super) fn unreadable(file: String, error: &io::Error) -> Self {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => FileProblem::Missing,
            _ => FileProblem::Unreadable { error: error.to_string() },
        };
        Self::of_file(file, problem)
    }

    /// `valid` is how many bytes are text.
    pub(super) fn not_utf8(file: String, bytes: &[u8], valid: usize) -> Self {
        let text = String::from_utf8_lossy(&bytes[..valid.min(bytes.len())]);
        let position = Some(Lines::new(&text).position(text.len()));
        let problem = FileProblem::NotUtf8.into();
        Self { errors: vec![Diagnostic { file, position, key: String::new(), problem }] }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.errors.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COLUMN: KEY: problem`, and the remedy indented on a line of its own.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(out, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(out, " {}:", self.key)?;
        }
        write!(out, " {}\n    {}", self.problem, self.problem.remedy())
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut fields = out.serialize_struct("Diagnostic", 6)?;
        fields.serialize_field("file", &self.file)?;
        fields.serialize_field("line", &self.position.map(|position| position.line))?;
        fields.serialize_field("column", &self.position.map(|position| position.column))?;
        fields.serialize_field("key", &self.key)?;
        fields.serialize_field("problem", &self.problem.to_string())?;
        fields.serialize_field("remedy", &self.problem.remedy())?;
        fields.end()
    }
}

/// Turns byte offsets into positions without counting from the start each time.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub fn new(text: &'t str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// Past the end, or inside a character, it is the nearest position before.
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let start = self.starts[line - 1];
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }
}
