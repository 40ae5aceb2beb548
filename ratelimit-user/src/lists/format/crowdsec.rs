//! Decisions of CrowdSec: `{"new": […], "deleted": […]}`, or a bare array of them.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Problem, Said, Sink, Unreadable, error::json_problem, go_duration, plain, text::Line};

/// What is deleted is not read: a file stands for itself, and what is not in `new` is not in it.
#[derive(Deserialize)]
struct Stream<'a> {
    // May be null but not missing: an error in JSON is no list without entries.
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    new: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Decision<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    duration: Option<Cow<'a, str>>,
}

pub fn read(text: &[u8], age: Duration, sink: &mut dyn Sink) -> Result<(), Unreadable> {
    let decisions = if text.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(text)
    } else {
        serde_json::from_slice(text).map(|stream: Stream<'_>| stream.new.unwrap_or_default())
    };
    let decisions =
        decisions.map_err(|error| Unreadable::Syntax { line: error.line() as u64, problem: json_problem(&error) })?;
    let (mut number, mut counted) = (1, 0);
    for decision in decisions {
        let decision = decision.get().as_bytes();
        // Where it lies in the text it was borrowed from.
        let start = (decision.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        let before = text.get(counted..start).unwrap_or_default();
        number += before.iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = start;
        sink.said(Line { number, text: decision }, said(decision, age));
    }
    Ok(())
}

fn said(decision: &[u8], age: Duration) -> Result<Said, Problem> {
    let decision: Decision<'_> =
        serde_json::from_slice(decision).map_err(|error| Problem::NoRecord(json_problem(&error)))?;
    let is = |word: &str, wanted: &str| word.eq_ignore_ascii_case(wanted);
    if !is(&decision.kind, "ban") || !is(&decision.scope, "ip") && !is(&decision.scope, "range") {
        return Ok(Said::LeftOut);
    }
    let duration = decision.duration.as_deref().and_then(go_duration::read).ok_or(Problem::NoDuration)?;
    let range = plain::range(decision.value.as_bytes())?;
    let rest = duration.checked_sub(age).filter(|rest| !rest.is_zero());
    Ok(rest.map_or(Said::LeftOut, |rest| Said::Listed { range, rest: Some(rest) }))
}
