//! Which format a text is in.

use super::{
    count, drop, drop_json, plain, rbldnsd, shadowserver,
    text::{before_comment, first_word, is_comment, lines},
};
use crate::config::Format;

/// So many lines tell the format.
const SAMPLE_LINES: usize = 512;

/// The format of a text. One that says nothing of itself is plain.
pub fn format(text: &[u8]) -> Format {
    let Some(first) = lines(text).map(|line| line.text).find(|line| !is_comment(line)) else {
        return Format::Plain;
    };
    match first {
        [b'{', ..] if drop_json::is_record(first) => Format::DropJson,
        [b'{' | b'[', ..] => Format::Crowdsec,
        _ if shadowserver::has_header(text) => Format::Shadowserver,
        _ => of_lines(text),
    }
}

fn of_lines(text: &[u8]) -> Format {
    let texts = || lines(text).map(|line| line.text);
    // Nothing but a zone excludes, and to miss an exclusion is to block whom the list does not.
    if texts().any(is_of_zone) {
        return Format::Rbldnsd;
    }
    let sample: Vec<Format> = texts().filter(|line| !is_comment(line)).take(SAMPLE_LINES).filter_map(of_line).collect();
    let votes = |format: Format| sample.iter().filter(|vote| **vote == format).count();
    // Of equal votes the last wins.
    let line_formats = [Format::Rbldnsd, Format::Count, Format::Drop, Format::Plain];
    line_formats.into_iter().max_by_key(|format| votes(*format)).unwrap_or(Format::Plain)
}

/// Directives, defaults and exclusions.
fn is_of_zone(line: &[u8]) -> bool {
    match line {
        [b'$', ..] => true,
        // Lists of other kinds begin comments with it.
        [b'!', entry @ ..] => rbldnsd::range(rbldnsd::key(entry.trim_ascii_start())).is_ok(),
        [b':', ..] => plain::range(before_comment(line)).is_err(),
        _ => false,
    }
}

/// What a line looks like; `None` if it looks like nothing.
fn of_line(line: &[u8]) -> Option<Format> {
    if drop::is_referenced(line) {
        return Some(Format::Drop);
    }
    let entry = before_comment(line);
    if plain::range(entry).is_ok() {
        return Some(Format::Plain);
    }
    let (word, rest) = first_word(entry);
    if plain::range(word).is_ok() && count::number(rest).is_some() {
        return Some(Format::Count);
    }
    rbldnsd::range(rbldnsd::key(line)).is_ok().then_some(Format::Rbldnsd)
}
