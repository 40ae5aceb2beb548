//! An address, a network or a range a line.

use std::net::IpAddr;

use super::{
    Problem, Said,
    range::{self, Octets, Range},
    text::before_comment,
};

pub fn said(line: &[u8]) -> Result<Said, Problem> {
    range(before_comment(line)).map(Said::listed)
}

/// `192.0.2.1`, `192.0.2.0/24`, `192.0.2.1-192.0.2.9`, or the same in IPv6.
pub fn range(text: &[u8]) -> Result<Range, Problem> {
    // Nearly all lines of nearly all lists.
    if let Some(Octets { address, count: 4, rest: [] }) = Octets::read(text) {
        return Ok(Range::host(IpAddr::V4(address.into())));
    }
    let text = std::str::from_utf8(text).map_err(|_| Problem::NotNetwork)?;
    if let Some((address, prefix)) = text.split_once('/') {
        Range::network(read_address(address)?, range::prefix(prefix)?)
    } else if let Some((first, last)) = text.split_once('-') {
        Range::between(read_address(first.trim_ascii_end())?, read_address(last.trim_ascii_start())?)
    } else {
        read_address(text).map(Range::host)
    }
}

fn read_address(text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| Problem::NotNetwork)
}
