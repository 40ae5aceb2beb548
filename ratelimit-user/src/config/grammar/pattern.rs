use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::{GrammarError, decimal, serde_as_text};

/// Answers of a DNSBL, written as postscreen's `dnsbl_sites` write them: four octets, of which each is a number
/// or a choice, `127.0.0.[2;4..7]`. The last may name bits of which one must be set, `127.0.0.&2|4|16`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern([Octet; 4]);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Octet {
    Number(u8),
    /// From and to, both included. Never empty.
    Choice(Vec<(u8, u8)>),
    /// Never zero.
    Bits(u8),
}

impl Pattern {
    pub fn matches(&self, answer: Ipv4Addr) -> bool {
        self.0.iter().zip(answer.octets()).all(|(octet, number)| octet.matches(number))
    }

    /// Whether it is about 127.0.0.0/8, where every answer of a DNSBL lies.
    pub fn is_of_loopback(&self) -> bool {
        self.0[0].matches(127)
    }
}

impl Octet {
    fn matches(&self, number: u8) -> bool {
        match self {
            Self::Number(expected) => *expected == number,
            Self::Choice(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&number)),
            Self::Bits(mask) => mask & number != 0,
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text.strip_prefix('[') {
            None => Some(Self::Number(octet(text)?)),
            Some(rest) => {
                let ranges = rest.strip_suffix(']')?.split(';').map(range);
                Some(Self::Choice(ranges.collect::<Option<_>>()?))
            }
        }
    }

    fn read_last(text: &str) -> Option<Self> {
        let Some(bits) = text.strip_prefix('&') else { return Self::read(text) };
        let mask = bits.split('|').try_fold(0, |mask, bit| Some(mask | octet(bit)?))?;
        (mask != 0).then_some(Self::Bits(mask))
    }
}

impl FromStr for Pattern {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        read(text.trim()).ok_or(GrammarError::Pattern)
    }
}

fn read(text: &str) -> Option<Pattern> {
    let parts: [&str; 4] = octets(text).try_into().ok()?;
    let [first, second, third, last] = parts;
    Some(Pattern([Octet::read(first)?, Octet::read(second)?, Octet::read(third)?, Octet::read_last(last)?]))
}

/// Parted at the dots that are in no choice: a range has dots of its own.
fn octets(text: &str) -> Vec<&str> {
    let mut inside = false;
    let parts = text.split(|character| {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        character == '.' && !inside
    });
    parts.collect()
}

fn range(text: &str) -> Option<(u8, u8)> {
    let (from, to) = match text.split_once("..") {
        None => (octet(text)?, octet(text)?),
        Some((from, to)) => (octet(from)?, octet(to)?),
    };
    (from <= to).then_some((from, to))
}

fn octet(text: &str) -> Option<u8> {
    u8::try_from(decimal(text)?).ok()
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets: Vec<String> = self.0.iter().map(Octet::to_string).collect();
        out.pad(&octets.join("."))
    }
}

impl fmt::Display for Octet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(out),
            Self::Choice(ranges) => {
                let range = |(from, to): &(u8, u8)| match from == to {
                    true => from.to_string(),
                    false => format!("{from}..{to}"),
                };
                let ranges: Vec<String> = ranges.iter().map(range).collect();
                write!(out, "[{}]", ranges.join(";"))
            }
            Self::Bits(mask) => {
                let bits = (0..u8::BITS).map(|shift| 1_u8 << shift).filter(|bit| mask & bit != 0);
                let bits: Vec<String> = bits.map(|bit| bit.to_string()).collect();
                out.write_char('&')?;
                out.write_str(&bits.join("|"))
            }
        }
    }
}

serde_as_text!(Pattern);

/// A pattern, and what an answer that matches it adds to the score of its source: `127.0.0.4*3`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    pub pattern: Pattern,
    /// [`Code::LEAST`] to [`Code::MOST`], never 0. A negative one speaks for the source.
    pub weight: i32,
}

impl Code {
    pub const LEAST: i32 = -1000;
    pub const MOST: i32 = 1000;

    /// Reads a code, with `weight` for one that says none.
    pub(in crate::config) fn read(text: &str, weight: i32) -> Result<Self, GrammarError> {
        let (pattern, weight) = match text.split_once('*') {
            None => (text, weight),
            Some((pattern, written)) => (pattern, read_weight(written).ok_or(GrammarError::Weight)?),
        };
        Ok(Self { pattern: pattern.parse()?, weight })
    }
}

fn read_weight(text: &str) -> Option<i32> {
    let text = text.trim();
    let size = decimal(text.strip_prefix('-').unwrap_or(text)).and_then(|size| i32::try_from(size).ok())?;
    let weight = if text.starts_with('-') { -size } else { size };
    (weight != 0 && (Code::LEAST..=Code::MOST).contains(&weight)).then_some(weight)
}

impl FromStr for Code {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        Self::read(text, 1)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, weight } = self;
        match weight {
            1 => pattern.fmt(out),
            _ => out.pad(&format!("{pattern}*{weight}")),
        }
    }
}

serde_as_text!(Code);
