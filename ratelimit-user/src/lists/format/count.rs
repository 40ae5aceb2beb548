//! An address, blanks, and how often it was seen.

use super::{
    Problem, Said, plain,
    text::{before_comment, first_word},
};

pub fn said(line: &[u8], least: u64) -> Result<Said, Problem> {
    let (address, count) = first_word(before_comment(line));
    let range = plain::range(address)?;
    let count = number(count).ok_or(Problem::NoCount)?;
    Ok(if count < least { Said::LeftOut } else { Said::listed(range) })
}

/// Digits alone. More than a number holds is as much as it holds.
pub fn number(digits: &[u8]) -> Option<u64> {
    let digit = |digit: &u8| digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
    let add = |number: u64, next: u64| number.saturating_mul(10).saturating_add(next);
    let first = digits.first()?;
    digits[1..].iter().try_fold(digit(first)?, |number, next| Some(add(number, digit(next)?)))
}
