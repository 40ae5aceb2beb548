//! Reports of Shadowserver: CSV of RFC 4180 with a header.

use csv::{ByteRecord, ReaderBuilder};

use super::{
    Problem, Said, Sink, Unreadable, plain,
    text::{LONGEST_LINE_BYTES, Line},
};

/// Names of the column that has the address, the best first.
const COLUMNS: [&[u8]; 3] = [b"ip", b"src_ip", b"address"];

pub fn read(text: &[u8], sink: &mut dyn Sink) -> Result<(), Unreadable> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut record = ByteRecord::new();
    let mut address = None;
    loop {
        let begin = reader.position().clone();
        let more = reader.read_byte_record(&mut record);
        let more = more.map_err(|error| Unreadable::Syntax { line: begin.line(), problem: error.to_string() })?;
        if !more {
            return Ok(());
        }
        let line = line(text, begin.byte(), reader.position().byte(), begin.line());
        match address {
            None => {
                let column = column(&record).ok_or(Unreadable::NoAddressColumn { line: line.number })?;
                address = Some(column);
            }
            Some(column) => sink.said(line, said(line, record.get(column))),
        }
    }
}

/// Whether a text begins with a header that names addresses.
pub fn has_header(text: &[u8]) -> bool {
    let mut record = ByteRecord::new();
    let read = ReaderBuilder::new().has_headers(false).from_reader(text).read_byte_record(&mut record);
    read.is_ok_and(|read| read) && record.len() > 1 && column(&record).is_some()
}

fn column(header: &ByteRecord) -> Option<usize> {
    let place = |name: &&[u8]| header.iter().position(|field| field.trim_ascii().eq_ignore_ascii_case(name));
    COLUMNS.iter().find_map(place)
}

fn said(line: Line<'_>, address: Option<&[u8]>) -> Result<Said, Problem> {
    if line.text.len() > LONGEST_LINE_BYTES {
        return Err(Problem::TooLong);
    }
    plain::range(address.ok_or(Problem::NoAddress)?.trim_ascii()).map(Said::listed)
}

/// A record from one byte to another, behind the blank lines before it.
fn line(text: &[u8], begin: u64, end: u64, number: u64) -> Line<'_> {
    let raw = text.get(begin as usize..end as usize).unwrap_or_default();
    let record = raw.trim_ascii_start();
    let blank = &raw[..raw.len() - record.len()];
    let blank_lines = blank.iter().filter(|byte| **byte == b'\n').count() as u64;
    Line { number: number + blank_lines, text: record.trim_ascii_end() }
}
