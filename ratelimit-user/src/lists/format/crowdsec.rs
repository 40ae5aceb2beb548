//! Decisions of CrowdSec: `{"new": […], "deleted": […]}`, or a bare array of them.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Problem, Said, Sink, Unreadable, error::json_problem, go_duration, plain, text::Line};

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
    let (mut number, mut counted) = (1, 0);
    let take = |decision: &RawValue| {
        let decision = decision.get().as_bytes();
        // Where it lies in the text it was borrowed from.
        let start = (decision.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        let before = text.get(counted..start).unwrap_or_default();
        number += before.iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = start;
        sink.said(Line { number, text: decision }, said(decision, age));
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    json.deserialize_any(File(Decisions(take)))
        .and_then(|()| json.end())
        .map_err(|error| Unreadable::Syntax { line: error.line() as u64, problem: json_problem(&error) })
}

/// An array of decisions, each taken as it comes: they are never all in memory.
struct Decisions<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Decisions<F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of decisions")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut decisions: A) -> Result<(), A::Error> {
        while let Some(decision) = decisions.next_element()? {
            (self.0)(decision);
        }
        Ok(())
    }

    /// CrowdSec writes null where there are none.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'de, F: FnMut(&'de RawValue)> DeserializeSeed<'de> for Decisions<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

/// Decisions, or an object with those that are `new`. What is deleted is not read: a file stands for itself, and what
/// is not in `new` is not in it.
struct File<F>(Decisions<F>);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for File<F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("decisions of CrowdSec")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, decisions: A) -> Result<(), A::Error> {
        self.0.visit_seq(decisions)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut file: A) -> Result<(), A::Error> {
        let mut new = Some(self.0);
        while let Some(key) = file.next_key::<Cow<'de, str>>()? {
            match new.take_if(|_| key == "new") {
                Some(decisions) => file.next_value_seed(decisions)?,
                None => drop(file.next_value::<IgnoredAny>()?),
            }
        }
        // An error in JSON is no list without entries.
        if new.is_some() { Err(A::Error::missing_field("new")) } else { Ok(()) }
    }
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
