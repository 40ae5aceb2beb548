//! Zones of rbldnsd: ip4set, ip4trie, ip6tset, ip6trie. Its manual, rbldnsd(8), has the rules.

use std::net::{IpAddr, Ipv6Addr};

use super::{
    Problem, Said, Sink, Unreadable,
    range::{self, Octets, Range},
    text::{before_comment, first_word, lines, read_lines},
};

pub fn read(text: &[u8], sink: &mut dyn Sink) -> Result<(), Unreadable> {
    // An exclusion holds for its own zone alone.
    if let Some(line) = lines(text).find(|line| line.text.starts_with(b"$DATASET")) {
        return Err(Unreadable::Combined { line: line.number });
    }
    read_lines(text, sink, said);
    Ok(())
}

fn said(line: &[u8]) -> Result<Said, Problem> {
    match line {
        // Directives and variables; default values.
        [b'$' | b':', ..] => Ok(Said::Nothing),
        [b'!', entry @ ..] => range(key(entry.trim_ascii_start())).map(Said::Excluded),
        entry => range(key(entry)).map(Said::listed),
    }
}

/// What is before the value of an entry, except for a value that follows IPv4 without a blank.
pub fn key(entry: &[u8]) -> &[u8] {
    // A comment may begin behind an entry, but within its text it is text.
    before_comment(first_word(entry).0)
}

/// `127.16.0.0/12`, `127.16/12`, `127.16-31`, `127.16`, or IPv6 networks.
pub fn range(key: &[u8]) -> Result<Range, Problem> {
    let v4 = key.split(|byte| *byte == b':').next().unwrap_or(key);
    match Octets::read(v4) {
        // A number alone is none of IPv4, but may be the first of IPv6.
        Some(Octets { count: 1, rest: [], .. }) | None => read_v6(key),
        Some(octets) => read_v4(&octets),
    }
}

fn read_v4(octets: &Octets<'_>) -> Result<Range, Problem> {
    let address = IpAddr::V4(octets.address.into());
    match octets.rest {
        [] => Range::network(address, 8 * octets.count),
        [b'/', digits @ ..] => Range::network(address, range::prefix(digits)?),
        [b'-', last @ ..] => match Octets::read(last) {
            Some(last) if last.rest.is_empty() => Range::between(address, IpAddr::V4(last_of(octets, &last).into())),
            Some(_) | None => Err(Problem::NotNetwork),
        },
        _ => Err(Problem::NotNetwork),
    }
}

/// The last address of a range: octets that are missing are 255, and one alone takes the place of the last of `first`.
fn last_of(first: &Octets<'_>, last: &Octets<'_>) -> u32 {
    let behind = |count: u8| u32::MAX.checked_shr(8 * u32::from(count)).unwrap_or(0);
    if last.count == 1 {
        let before = first.address & !behind(first.count - 1);
        before | last.address >> (8 * (first.count - 1)) | behind(first.count)
    } else {
        last.address | behind(last.count)
    }
}

/// `2001:db8::/32`, `2001:db8/32`, or `2001:db8:1:2`, which is a /64.
fn read_v6(key: &[u8]) -> Result<Range, Problem> {
    let text = std::str::from_utf8(key).map_err(|_| Problem::NotNetwork)?;
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(range::prefix(prefix.as_bytes())?)),
        None => (text, None),
    };
    let groups = address.split(':').count();
    let is_whole = address.contains("::") || groups == 8;
    let parsed = if is_whole { address.parse() } else { format!("{address}::").parse() };
    let parsed: Ipv6Addr = parsed.map_err(|_| Problem::NotNetwork)?;
    match prefix {
        Some(prefix) => Range::network(parsed.into(), prefix),
        None if is_whole => Ok(Range::host(parsed.into())),
        None if groups > 1 => Range::network(parsed.into(), 16 * groups as u8),
        None => Err(Problem::NotNetwork),
    }
}
