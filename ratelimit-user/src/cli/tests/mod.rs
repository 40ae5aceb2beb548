mod dnsbls;
mod explained;
mod lists;
mod parsed;
mod rendered;

use std::collections::BTreeMap;

use crate::api::Count;

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn counts<const N: usize>(counts: [(&str, u64, u64); N]) -> BTreeMap<String, Count> {
    counts.into_iter().map(|(reason, passed, dropped)| (reason.to_owned(), Count { passed, dropped })).collect()
}

/// Golden text stands one line a line in the tests.
fn assert_text(text: &str, expected: &[&str]) {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, expected, "\n{text}");
}
