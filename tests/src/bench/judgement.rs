//! What was promised of a figure, and whether it holds.

use std::fmt;

use serde::Serialize;

/// A figure and what it must not exceed.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    pub what: String,
    pub family: &'static str,
    pub value: f64,
    pub most: f64,
    pub unit: &'static str,
    pub kept: bool,
}

impl Judgement {
    /// NaN, for what was not measured, keeps no promise.
    pub(super) fn new(what: String, family: &'static str, value: f64, most: f64, unit: &'static str) -> Self {
        Self { what, family, value, most, unit, kept: value <= most }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, family, value, most, unit, kept } = self;
        let verdict = match kept {
            true => "kept",
            false if value.is_nan() => "unknown",
            false => "missed",
        };
        // A promise below one needs more digits than one of a hundred nanoseconds.
        let digits = if *most < 1.0 { 3 } else { 1 };
        write!(out, "{verdict:7} {family:4} {what:50} {value:.digits$} {unit}, at most {most:.digits$}")
    }
}

/// What was measured again and again, in any unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(samples.len() / 2), lowest: at(0), highest: at(samples.len().saturating_sub(1)) }
    }
}
