use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;

/// Whoever read standard output has closed it: there is no one to answer, and nothing went wrong.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct OutputClosed;

/// Writes an answer, and a line end if it has none.
pub(super) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        other => other.context("cannot write the answer"),
    }
}

/// Writes an answer as one JSON document.
pub(super) fn write_json(answer: &impl Serialize) -> anyhow::Result<()> {
    write(&serde_json::to_string_pretty(answer)?)
}

/// Writes an answer as one JSON document on a line of its own.
pub(super) fn write_json_line(answer: &impl Serialize) -> anyhow::Result<()> {
    write(&serde_json::to_string(answer)?)
}

/// Says something beside the answer.
pub(super) fn note(text: &str) {
    // A closed standard error is no reason to keep the answer back.
    let _ = writeln!(io::stderr(), "ratelimit: {text}");
}
