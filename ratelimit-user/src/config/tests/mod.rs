mod entries;
mod errors;
mod export;
mod files;
mod grammar;
mod lists;
mod proof;
mod reading;
mod reputation;
mod round_trip;
mod warnings;

use super::{Config, Diagnostic, Loaded};

fn loaded(text: &str) -> Loaded {
    match Config::parse(text, "t.toml") {
        Ok(loaded) => loaded,
        Err(errors) => panic!("refused:\n{errors}"),
    }
}

fn config(text: &str) -> Config {
    loaded(text).config
}

/// What is said about a text that must be refused.
fn refused(text: &str) -> String {
    match Config::parse(text, "t.toml") {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

/// Pairs of a text and what must be said about it; the text must have nothing else wrong.
fn expect(cases: &[(&str, &str)]) {
    for (text, said) in cases {
        assert_eq!(refused(text), *said, "for:\n{text}");
    }
}

fn warnings(text: &str) -> String {
    loaded(text).warnings.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}
