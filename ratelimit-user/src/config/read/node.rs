use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::de::{DeInteger, DeValue};

use super::Reader;
use crate::config::grammar::{GrammarError, Mode};
use crate::config::problem::{KeyProblem, Problem, ValueProblem};

/// A value, its dotted key and the byte where it is to be reported.
#[derive(Clone, Debug)]
pub struct Node<'d> {
    pub key: String,
    pub at: usize,
    pub value: &'d DeValue<'d>,
}

/// The values of a table by their keys.
#[derive(Debug)]
pub struct Fields<'d>(BTreeMap<&'d str, Node<'d>>);

impl<'d> Fields<'d> {
    pub fn get(&self, key: &str) -> Option<&Node<'d>> {
        self.0.get(key)
    }

    /// In file order.
    pub fn in_order(&self) -> Vec<(&'d str, &Node<'d>)> {
        let mut fields: Vec<_> = self.0.iter().map(|(key, node)| (*key, node)).collect();
        fields.sort_by_key(|(_, node)| node.at);
        fields
    }
}

impl Reader {
    pub fn problem(&mut self, node: &Node<'_>, problem: impl Into<Problem>) {
        self.findings.error(node.at, node.key.as_str(), problem);
    }

    /// A table whose keys are names of the user's choice.
    pub fn table<'d>(&mut self, node: &Node<'d>, example: &'static str) -> Option<Fields<'d>> {
        let DeValue::Table(table) = node.value else {
            self.wrong_type(node, "a table", example);
            return None;
        };
        let mut fields = BTreeMap::new();
        for (name, value) in table {
            // A table under a header spans the header, name included: it is reported at its name.
            let at = self.base + value.span().start.max(name.span().start);
            let name = name.get_ref().as_ref();
            let key = match node.key.as_str() {
                "" => shown_key(name),
                parent => format!("{parent}.{}", shown_key(name)),
            };
            self.places.insert(key.clone(), at);
            fields.insert(name, Node { key, at, value: value.get_ref() });
        }
        Some(Fields(fields))
    }

    /// A table of known keys; any other is reported and left out.
    pub fn fields<'d>(
        &mut self,
        node: &Node<'d>,
        known: &'static [&'static str],
        example: &'static str,
    ) -> Option<Fields<'d>> {
        let mut fields = self.table(node, example)?;
        let DeValue::Table(table) = node.value else { return Some(fields) };
        for name in table.keys() {
            let key = name.get_ref().as_ref();
            if known.contains(&key) {
                continue;
            }
            if let Some(unknown) = fields.0.remove(key) {
                let nearest = nearest(key, known.iter().copied());
                let problem = KeyProblem::Unknown { nearest, known };
                self.findings.error(self.base + name.span().start, unknown.key, problem);
            }
        }
        Some(fields)
    }

    pub fn items<'d>(
        &mut self,
        node: &Node<'d>,
        expected: &'static str,
        example: &'static str,
    ) -> Option<Vec<Node<'d>>> {
        let DeValue::Array(array) = node.value else {
            self.wrong_type(node, expected, example);
            return None;
        };
        let items = array.iter().enumerate().map(|(index, value)| {
            let key = format!("{}[{index}]", node.key);
            Node { key, at: self.base + value.span().start, value: value.get_ref() }
        });
        let items: Vec<_> = items.collect();
        for item in &items {
            self.places.insert(item.key.clone(), item.at);
        }
        Some(items)
    }

    pub fn text<'d>(&mut self, node: &Node<'d>, example: &'static str) -> Option<&'d str> {
        let DeValue::String(text) = node.value else {
            self.wrong_type(node, "a text in quotes", example);
            return None;
        };
        Some(text)
    }

    pub fn word<T: FromStr<Err = GrammarError>>(&mut self, node: &Node<'_>, example: &'static str) -> Option<T> {
        let text = self.text(node, example)?;
        match text.parse() {
            Ok(word) => Some(word),
            Err(error) => {
                self.problem(node, ValueProblem::Grammar { value: quoted(text), error });
                None
            }
        }
    }

    pub fn mode(&mut self, node: &Node<'_>) -> Option<Mode> {
        self.word(node, "mode = \"observe\"")
    }

    pub fn boolean(&mut self, node: &Node<'_>, example: &'static str) -> Option<bool> {
        let DeValue::Boolean(value) = node.value else {
            self.wrong_type(node, "true or false", example);
            return None;
        };
        Some(*value)
    }

    pub fn integer(&mut self, node: &Node<'_>, range: RangeInclusive<u64>, example: &'static str) -> Option<u64> {
        let DeValue::Integer(written) = node.value else {
            self.wrong_type(node, "a whole number", example);
            return None;
        };
        if let Some(number) = number(written).filter(|number| range.contains(number)) {
            return Some(number);
        }
        let (lowest, highest) = (range.start().to_string(), range.end().to_string());
        let value = shortened(&written.to_string());
        self.problem(node, ValueProblem::OutOfRange { value, lowest, highest });
        None
    }

    /// A whole number that may be negative.
    pub fn signed(&mut self, node: &Node<'_>, range: RangeInclusive<i32>, example: &'static str) -> Option<i32> {
        let DeValue::Integer(written) = node.value else {
            self.wrong_type(node, "a whole number", example);
            return None;
        };
        let number = i32::from_str_radix(written.as_str(), written.radix()).ok();
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let (lowest, highest) = (range.start().to_string(), range.end().to_string());
        let value = shortened(&written.to_string());
        self.problem(node, ValueProblem::OutOfRange { value, lowest, highest });
        None
    }

    pub fn wrong_type(&mut self, node: &Node<'_>, expected: &'static str, example: &'static str) {
        let found = match node.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.problem(node, KeyProblem::Type { expected, found, example });
    }
}

pub fn number(written: &DeInteger<'_>) -> Option<u64> {
    let signed = i128::from_str_radix(written.as_str(), written.radix()).ok()?;
    u64::try_from(signed).ok()
}

/// The known word that was probably meant.
pub fn nearest<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let near = known.into_iter().filter_map(|known| {
        let tolerated = (word.len().max(known.as_ref().len()) / 3).max(1);
        let distance = strsim::osa_distance(word, known.as_ref());
        (distance <= tolerated).then_some((distance, known))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// A text as it may be shown: in quotes, control characters escaped, not too long.
pub fn quoted(text: &str) -> String {
    shortened(&format!("{text:?}"))
}

/// A key as TOML writes it.
fn shown_key(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) { shortened(key) } else { quoted(key) }
}

pub fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
