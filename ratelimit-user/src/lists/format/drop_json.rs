//! Spamhaus DROP as NDJSON: a record a line, and a trailer that says how many there are.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Problem, Said, Sink, Unreadable,
    error::json_problem,
    plain,
    text::{Line, lines},
};

/// A line: a network, or the trailer.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    cidr: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    records: Option<u64>,
    #[serde(borrow)]
    copyright: Option<Cow<'a, str>>,
    #[serde(borrow)]
    terms: Option<Cow<'a, str>>,
}

impl<'a> Record<'a> {
    fn read(line: &'a [u8]) -> Result<Self, Problem> {
        serde_json::from_slice(line).map_err(|error| Problem::NoRecord(json_problem(&error)))
    }

    fn is_trailer(&self) -> bool {
        self.kind.as_deref() == Some("metadata")
    }

    fn said(&self) -> Result<Said, Problem> {
        let cidr = self.cidr.as_deref().ok_or(Problem::NoAddress)?;
        plain::range(cidr.as_bytes()).map(Said::listed)
    }
}

/// Whether a line is of this format.
pub fn is_record(line: &[u8]) -> bool {
    Record::read(line).is_ok_and(|record| record.cidr.is_some() || record.is_trailer())
}

pub fn read(text: &[u8], sink: &mut dyn Sink) -> Result<(), Unreadable> {
    let mut lines = lines(text);
    let (mut found, mut last) = (0, 0);
    for line in lines.by_ref() {
        last = line.number;
        match Record::read(line.text) {
            Ok(record) if record.is_trailer() => {
                finish(&record, line, found, sink)?;
                return lines.next().map_or(Ok(()), |line| Err(Unreadable::BehindTrailer { line: line.number }));
            }
            record => sink.said(line, record.and_then(|record| record.said())),
        }
        found += 1;
    }
    Err(Unreadable::NoTrailer { line: last })
}

fn finish(trailer: &Record<'_>, line: Line<'_>, found: u64, sink: &mut dyn Sink) -> Result<(), Unreadable> {
    let line = line.number;
    let problem = "a trailer without the number of records".to_owned();
    let said = trailer.records.ok_or(Unreadable::Syntax { line, problem })?;
    if said != found {
        return Err(Unreadable::WrongCount { line, said, found });
    }
    for notice in [&trailer.copyright, &trailer.terms].into_iter().flatten() {
        sink.notice(notice.as_bytes());
    }
    Ok(())
}
