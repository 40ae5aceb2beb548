//! Everything a list says, taken down.

use std::time::Duration;

use super::{
    Bad, BadLine, MOST_BAD_KEPT, MOST_BAD_PERCENT, MOST_NETWORKS, MOST_NOTICES, Parsed, Problem, Said, Sink,
    Unreadable,
    exclusion::deciding,
    range::Range,
    text::{Line, shown},
};
use crate::{
    config::Format,
    lists::{
        Networks,
        spans::{Prefix, Span},
    },
};

#[derive(Default)]
pub struct Tally {
    listed: Ranges,
    excluded: Ranges,
    entries: u64,
    exclusions: u64,
    left_out: u64,
    bad: Bad,
    notices: Vec<String>,
    next_end: Option<Duration>,
}

/// Ranges as they come, at most [`MOST_NETWORKS`].
#[derive(Default)]
struct Ranges {
    v4: Vec<Span<u32>>,
    v6: Vec<Span<u128>>,
    too_many: bool,
}

impl Sink for Tally {
    fn said(&mut self, line: Line<'_>, said: Result<Said, Problem>) {
        match said {
            Ok(Said::Nothing) => {}
            Ok(Said::Listed { range, rest }) => {
                self.entries += 1;
                self.listed.push(range);
                self.next_end = [self.next_end, rest].into_iter().flatten().min();
            }
            Ok(Said::Excluded(range)) => {
                self.exclusions += 1;
                self.excluded.push(range);
            }
            Ok(Said::LeftOut) => self.left_out += 1,
            Err(problem) => self.bad(line, &problem),
        }
    }

    fn notice(&mut self, text: &[u8]) {
        if self.notices.len() < MOST_NOTICES {
            self.notices.push(shown(text));
        }
    }
}

impl Tally {
    fn bad(&mut self, line: Line<'_>, problem: &Problem) {
        self.bad.count += 1;
        if self.bad.lines.len() < MOST_BAD_KEPT {
            let (line, text) = (line.number, shown(line.text));
            self.bad.lines.push(BadLine { line, text, problem: problem.to_string() });
        }
    }

    pub fn parsed(self, format: Format) -> Result<Parsed, Unreadable> {
        let (bad, of) = (self.bad.count, self.entries + self.exclusions + self.left_out + self.bad.count);
        if let Some(first) = self.bad.lines.first().filter(|_| bad * 100 > of * MOST_BAD_PERCENT) {
            return Err(Unreadable::TooManyBad { bad, of, first: first.clone() });
        }
        Ok(Parsed {
            format,
            networks: self.listed.without(&self.excluded).ok_or(Unreadable::TooManyNetworks)?,
            entries: self.entries,
            left_out: self.left_out,
            bad: self.bad,
            notices: self.notices,
            next_end: self.next_end,
        })
    }
}

impl Ranges {
    fn push(&mut self, range: Range) {
        self.too_many |= self.v4.len() + self.v6.len() >= MOST_NETWORKS;
        match range {
            _ if self.too_many => {}
            Range::V4(span) => self.v4.push(span),
            Range::V6(span) => self.v6.push(span),
        }
    }

    /// `None` if they are too many.
    fn without(&self, excluded: &Self) -> Option<Networks> {
        let listed = self.networks()?;
        if excluded.v4.is_empty() && excluded.v6.is_empty() {
            return Some(listed);
        }
        let too_many = excluded.too_many;
        let (v4, v6) = (deciding(&self.v4, &excluded.v4), deciding(&self.v6, &excluded.v6));
        listed.without_within(&Self { v4, v6, too_many }.networks()?, MOST_NETWORKS)
    }

    fn networks(&self) -> Option<Networks> {
        let (v4, v6) = (networks(&self.v4)?, networks(&self.v6)?);
        (!self.too_many).then(|| Networks::new(v4, v6))
    }
}

/// The networks that make up spans; `None` if they are too many.
fn networks<P: Prefix>(spans: &[Span<P::Number>]) -> Option<Vec<P>> {
    let mut networks = Vec::with_capacity(spans.len());
    for span in spans {
        networks.extend(span.networks::<P>());
        if networks.len() > MOST_NETWORKS {
            return None;
        }
    }
    Some(networks)
}
