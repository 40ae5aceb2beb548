//! An address, a network or a range a line.

use std::net::IpAddr;

use super::{
    Problem, Said,
    range::{self, Octets, Range},
    text::before_comment,
};
use crate::lists::spans::Span;

pub fn said(line: &[u8]) -> Result<Said, Problem> {
    // Nearly all lines of nearly all lists.
    let alone = read_v4(line).map_or_else(|| range(before_comment(line)), Ok);
    alone.map(Said::listed)
}

/// `192.0.2.1`, `192.0.2.0/24`, `192.0.2.1-192.0.2.9`, or the same in IPv6.
pub fn range(text: &[u8]) -> Result<Range, Problem> {
    if let Some(host) = read_v4(text) {
        return Ok(host);
    }
    let text = std::str::from_utf8(text).map_err(|_| Problem::NotNetwork)?;
    if let Some((address, prefix)) = text.split_once('/') {
        Range::network(read_address(address)?, range::prefix(prefix.as_bytes())?)
    } else if let Some((first, last)) = text.split_once('-') {
        Range::between(read_address(first.trim_ascii_end())?, read_address(last.trim_ascii_start())?)
    } else {
        read_address(text).map(Range::host)
    }
}

/// An address or a network of IPv4 and nothing behind it.
fn read_v4(text: &[u8]) -> Option<Range> {
    let octets = Octets::read(text).filter(|octets| octets.count == 4)?;
    match octets.rest {
        [] => Some(Range::V4(Span::of(octets.address, 0))),
        [b'/', digits @ ..] => Range::network(IpAddr::V4(octets.address.into()), range::prefix(digits).ok()?).ok(),
        _ => None,
    }
}

fn read_address(text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| Problem::NotNetwork)
}
