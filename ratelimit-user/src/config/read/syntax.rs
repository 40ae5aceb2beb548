//! What the TOML parser has to say, and how far it can be believed. It recovers from a missing
//! quote or a key written twice; after a fault in the structure it may put things where they do
//! not belong, so reading starts anew at the next table header.

use toml::de::Error;

use super::Finding;
use crate::config::problem::FileProblem;

/// The table headers of a text, found without understanding the rest of it.
#[derive(Debug)]
pub struct Outline<'t> {
    text: &'t str,
    /// Where the line starts, and the dotted name.
    headers: Vec<(usize, &'t str)>,
}

/// The faults of a part of the text.
#[derive(Debug, Default)]
pub struct Faults {
    pub findings: Vec<Finding>,
    /// The first broken line; from its first byte on nothing the parser returned is certain.
    pub broken_line: Option<usize>,
}

impl<'t> Outline<'t> {
    pub fn new(text: &'t str) -> Self {
        let mut start = 0;
        let lines = text.split_inclusive('\n').filter_map(|line| {
            let line_start = start;
            start += line.len();
            Some((line_start, header_name(line)?))
        });
        Self { text, headers: lines.collect() }
    }

    /// Where to start anew after a broken line: at its own header, unless that was the last start.
    pub fn restart(&self, last: usize, broken_line: usize) -> Option<usize> {
        let next = self.headers.partition_point(|(start, _)| *start <= last || *start < broken_line);
        self.headers.get(next).map(|(start, _)| *start)
    }

    /// The faults of the text from `base` on.
    pub fn faults(&self, base: usize, errors: &[Error]) -> Faults {
        let mut faults = Faults::default();
        let (structural, harmless): (Vec<_>, Vec<_>) =
            errors.iter().partition(|error| self.kind(base, error).breaks_structure());
        let first = structural.into_iter().min_by_key(|error| start(error));
        faults.broken_line = first.map(|error| self.line_start(base + start(error)));
        for error in harmless {
            if first.is_none_or(|first| start(error) < start(first)) {
                faults.findings.push(self.finding(base, error));
            }
        }
        faults.findings.extend(first.map(|error| self.finding(base, error)));
        faults
    }

    fn finding(&self, base: usize, error: &Error) -> Finding {
        let at = base + start(error);
        let value = error.span().and_then(|span| self.text.get(base + span.start..base + span.end));
        let mut message = error.message().replace(char::is_control, " ");
        let remedy = match self.kind(base, error) {
            Kind::Unquoted => {
                format!("put the value in quotes: \"{}\"", value.unwrap_or_default().trim().escape_debug())
            }
            Kind::Duplicate => "keep one of the two".into(),
            Kind::Unclosed => {
                message = "a table header inside a list or a value".into();
                "close what is open above this line with its ] or }".into()
            }
            Kind::Structure => "correct the TOML here: texts stand in \"quotes\", lists in [brackets]".into(),
        };
        Finding { at, key: self.key_at(at), problem: FileProblem::Syntax { message, remedy }.into() }
    }

    fn kind(&self, base: usize, error: &Error) -> Kind {
        let at = base + start(error);
        let line_start = self.line_start(at);
        let on_header =
            line_start > base && self.headers.binary_search_by_key(&line_start, |(start, _)| *start).is_ok();
        let unquoted = error.message().starts_with("string values must be quoted");
        if on_header && (unquoted || at == line_start) {
            Kind::Unclosed
        } else if unquoted {
            Kind::Unquoted
        } else if error.message() == "duplicate key" {
            Kind::Duplicate
        } else {
            Kind::Structure
        }
    }

    fn line_start(&self, offset: usize) -> usize {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        before.rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// The key of the line that holds this byte, as far as it can be told from the line's beginning.
    fn key_at(&self, offset: usize) -> String {
        let line_start = self.line_start(offset);
        let headers = self.headers.partition_point(|(start, _)| *start <= line_start);
        let (header_start, header) = headers.checked_sub(1).map_or((usize::MAX, ""), |last| self.headers[last]);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        match line.split_once('=').map(|(key, _)| key.trim()) {
            _ if header_start == line_start => header.to_owned(),
            Some(key) if is_plain(key) && header.is_empty() => key.to_owned(),
            Some(key) if is_plain(key) => format!("{header}.{key}"),
            Some(_) | None => String::new(),
        }
    }
}

/// How much harm a fault does to the rest of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The parser goes on with the text as the value.
    Unquoted,
    /// The parser goes on with one of the two values.
    Duplicate,
    /// Something above takes a table header for a part of itself.
    Unclosed,
    Structure,
}

impl Kind {
    fn breaks_structure(self) -> bool {
        match self {
            Self::Unquoted | Self::Duplicate => false,
            Self::Unclosed | Self::Structure => true,
        }
    }
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// `services.smtp` of `[services.smtp]`, with one bracket or two.
fn header_name(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('[')?;
    let name = inner.strip_prefix('[').unwrap_or(inner).split(']').next()?.trim();
    is_plain(name).then_some(name)
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
