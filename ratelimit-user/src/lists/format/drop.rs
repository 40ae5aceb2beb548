//! Spamhaus DROP as text: a network, `;`, the number of its record.

use super::{Problem, Said, count, plain};

pub fn said(line: &[u8]) -> Result<Said, Problem> {
    let network = plain::range(network(line))?;
    // A line that is cut off within its prefix would read as a much wider network.
    if is_referenced(line) { Ok(Said::listed(network)) } else { Err(Problem::NoReference) }
}

fn network(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b';').next().unwrap_or(line).trim_ascii_end()
}

/// Whether a line has a record of Spamhaus behind `;`.
pub fn is_referenced(line: &[u8]) -> bool {
    let reference = line.splitn(2, |byte| *byte == b';').nth(1).map(<[u8]>::trim_ascii);
    reference.and_then(|reference| reference.strip_prefix(b"SBL")).and_then(count::number).is_some()
}
