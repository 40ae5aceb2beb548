//! What one lookup costs, whatever it is done with.

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Address, Family};

use super::corpus::{self, Corpus, Samples};
use super::report::Figure;
use crate::bench::judgement::Spread;
use crate::cost::{Comparison, Harness, SAMPLES, Sources};
use crate::look_up::{LookUp, Way};
use crate::packet::SynPacket;

const DROP: u32 = 1;
const PASS: u32 = 2;

pub(super) const HIT: &str = "hit";
pub(super) const HOST_HIT: &str = "hit, hosts";
pub(super) const MISS: &str = "miss";
pub(super) const RANDOM: &str = "random";
pub(super) const FEW: &str = "1,024";
pub(super) const FEW_SOURCES: u32 = 1024;

/// Filled maps, and who to ask for.
pub(super) struct Subject<'a> {
    pub family: Family,
    pub entries: usize,
    pub samples: &'a Samples,
    pub look_up: LookUp,
    /// What may be asked of it.
    pub ways: &'static [Way],
}

impl<'a> Subject<'a> {
    pub fn of(corpus: &'a Corpus, look_up: LookUp) -> Self {
        let Corpus { family, entries, samples, .. } = corpus;
        let ways = &[Way::Table, Way::Trie, Way::Hash];
        Self { family: *family, entries: *entries, samples, look_up, ways }
    }

    pub fn of_bans(entries: usize, samples: &'a Samples, look_up: LookUp) -> Self {
        Self { family: Family::V4, entries, samples, look_up, ways: &[Way::Bans] }
    }

    fn frame(&self) -> Vec<u8> {
        if self.family == Family::V6 { SynPacket::v6().build() } else { SynPacket::v4().build() }
    }
}

/// A kind of source.
struct Case {
    outcome: &'static str,
    samples: fn(&Samples) -> &[Address],
    /// What the program must answer.
    action: u32,
    /// Who can tell.
    ways: &'static [Way],
}

const CASES: [Case; 3] = [
    Case { outcome: HIT, samples: |samples| &samples.listed, action: DROP, ways: &[Way::Table, Way::Trie, Way::Bans] },
    Case { outcome: HOST_HIT, samples: |samples| &samples.hosts, action: DROP, ways: &[Way::Hash] },
    Case { outcome: MISS, samples: |samples| &samples.unlisted, action: PASS, ways: &Way::ALL },
];

/// Everything in turn, and the whole again.
pub(super) fn measure(subjects: &[Subject<'_>], rounds: u32, packets: u32) -> Result<Vec<Figure>> {
    let mut harness = Harness::new()?;
    let mut rows: Vec<(Row, Vec<f64>)> = Vec::new();
    // The first warms up.
    for round in 0..=rounds {
        let measured = one_round(&mut harness, subjects, packets)?;
        match round {
            0 => rows.extend(measured.into_iter().map(|(row, _)| (row, Vec::new()))),
            _ => rows.iter_mut().zip(measured).for_each(|((_, samples), (_, ns))| samples.push(ns)),
        }
    }
    Ok(rows.into_iter().map(|(row, samples)| row.figure(Spread::of(samples))).collect())
}

/// What a figure is about.
struct Row {
    what: &'static str,
    family: Family,
    entries: usize,
    outcome: &'static str,
    sources: &'static str,
}

impl Row {
    fn figure(self, ns: Spread) -> Figure {
        let Self { what, family, entries, outcome, sources } = self;
        let Spread { median, lowest, highest } = ns;
        let family = family.label();
        Figure { what, family, entries, outcome, sources, ns: median, lowest_ns: lowest, highest_ns: highest }
    }
}

fn one_round(harness: &mut Harness, subjects: &[Subject<'_>], packets: u32) -> Result<Vec<(Row, f64)>> {
    let mut measured = Vec::new();
    for subject in subjects {
        let frame = subject.frame();
        for case in &CASES {
            harness.put_samples((case.samples)(subject.samples))?;
            for way in subject.ways.iter().filter(|way| case.ways.contains(way)) {
                for (sources, count) in [(RANDOM, SAMPLES), (FEW, FEW_SOURCES)] {
                    let ns = cost(harness, subject, *way, &frame, Sources::Samples(count), case.action, packets)
                        .with_context(|| format!("{} of {} entries, {}", case.outcome, subject.entries, label(*way)))?;
                    let (family, entries, outcome) = (subject.family, subject.entries, case.outcome);
                    measured.push((Row { what: label(*way), family, entries, outcome, sources }, ns));
                }
            }
        }
    }
    Ok(measured)
}

/// Without the harness and the parser, measured right before over the same sources.
fn cost(
    harness: &mut Harness,
    subject: &Subject<'_>,
    way: Way,
    frame: &[u8],
    sources: Sources,
    action: u32,
    packets: u32,
) -> Result<f64> {
    let parse = harness.compare(Comparison::ParseDrop, frame, sources, packets)?;
    let whole = harness.measure(&subject.look_up.program(way)?, frame, sources, packets)?;
    ensure!(whole.action == action, "the program answered {}, not {action}", whole.action);
    Ok(whole.nanoseconds - parse.nanoseconds)
}

pub(super) const TABLE: &str = "ratelimit";
pub(super) const TRIE: &str = "LPM_TRIE";
pub(super) const HASH: &str = "HASH, hosts only";
pub(super) const BANS: &str = "ratelimit, bans";

const fn label(way: Way) -> &'static str {
    match way {
        Way::Table => TABLE,
        Way::Trie => TRIE,
        Way::Hash => HASH,
        Way::Bans => BANS,
    }
}

/// A million bans, and nothing else.
pub(super) fn banned(count: usize) -> Result<(LookUp, Samples)> {
    let (keys, samples) = corpus::bans(count);
    let mut look_up = LookUp::load(0)?;
    look_up.put_bans(&keys)?;
    Ok((look_up, samples))
}
