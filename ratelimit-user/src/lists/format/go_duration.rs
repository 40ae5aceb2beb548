//! Durations as Go writes them: `3h59m1.5s`.

use std::time::Duration;

/// `None` if it is none, or longer than five centuries. A negative one is over, as 0 is.
pub fn read(text: &str) -> Option<Duration> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut sum_ns = None;
    while !rest.is_empty() {
        let (amount_ns, behind) = part_ns(rest)?;
        sum_ns = Some(sum_ns.unwrap_or(0u64).checked_add(amount_ns)?);
        rest = behind;
    }
    sum_ns.map(|sum_ns| if is_negative { Duration::ZERO } else { Duration::from_nanos(sum_ns) })
}

/// A number with its unit, and what is behind it.
fn part_ns(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = split_while(text, |c| c.is_ascii_digit() || c == '.');
    let (unit, rest) = split_while(rest, |c| !c.is_ascii_digit() && c != '.');
    let unit_ns: u64 = match unit {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = fraction.bytes().map(|digit| u64::from(digit - b'0'));
    let (part_ns, _) = digits.fold((0, unit_ns), |(sum, place), digit| (sum + digit * (place / 10), place / 10));
    Some((whole.checked_mul(unit_ns)?.checked_add(part_ns)?, rest))
}

fn split_while(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}
