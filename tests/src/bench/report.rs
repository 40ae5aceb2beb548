//! The figures, and what was promised of them.

use std::fmt;

use serde::Serialize;

use super::Options;
use super::judgement::{Judgement, Spread};
use super::scenario::{
    CHALLENGED, CHALLENGED_OVER, ESTABLISHED, LRU, ONE, OVER, PARSE, RANDOM, SYN, Scenario, WITHIN, WITHIN_PROVING,
};
use super::subject::MapSize;

const CELLS_BYTES: u64 = 32 * 1024 * 1024;

/// What a packet costs in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub what: &'static str,
    pub family: &'static str,
    pub sources: &'static str,
    /// Median, without the harness.
    pub ns: f64,
    pub lowest_ns: f64,
    pub highest_ns: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub rounds: u32,
    pub packets: u32,
    pub figures: Vec<Figure>,
    pub judged: Vec<Judgement>,
    pub memory_before: Vec<MapSize>,
    pub memory_after: Vec<MapSize>,
}

impl Figure {
    pub(super) fn new(scenario: &Scenario, samples: Vec<f64>) -> Self {
        let Spread { median, lowest, highest } = Spread::of(samples);
        Self {
            what: scenario.name,
            family: scenario.family.label(),
            sources: scenario.sources_label,
            ns: median,
            lowest_ns: lowest,
            highest_ns: highest,
        }
    }
}

impl Report {
    pub(super) fn new(options: Options, figures: Vec<Figure>, before: Vec<MapSize>, after: Vec<MapSize>) -> Self {
        let Options { rounds, packets } = options;
        let mut report =
            Self { rounds, packets, figures, judged: Vec::new(), memory_before: before, memory_after: after };
        report.judged = ["v4", "v6"].into_iter().flat_map(|family| report.costs(family)).collect();
        report.judged.extend(report.memory());
        report
    }

    pub fn all_kept(&self) -> bool {
        self.judged.iter().all(|judgement| judgement.kept)
    }

    fn costs(&self, family: &'static str) -> Vec<Judgement> {
        let ns = |what, sources| self.ns(family, what, sources);
        let judge = |what: &str, value, most, unit| Judgement::new(what.into(), family, value, most, unit);
        let parse = ns(PARSE, ONE);
        vec![
            judge("SYN of one source, over its limit / bare parse", ns(OVER, ONE) / parse, 14.0, "times"),
            judge("SYN of one source, within its limit / bare parse", ns(WITHIN, ONE) / parse, 14.0, "times"),
            judge("SYN of random sources / LRU_HASH", ns(SYN, RANDOM) / ns(LRU, RANDOM), 0.5, "times"),
            judge("established packet to a mail port", ns(ESTABLISHED, ONE), 30.0, "ns"),
            judge("challenged SYN, its source over its limit", ns(CHALLENGED_OVER, ONE), 120.0, "ns"),
            judge("challenged SYN of one source", ns(CHALLENGED, ONE), 120.0, "ns"),
            judge("challenged SYN of random sources", ns(CHALLENGED, RANDOM), 120.0, "ns"),
            judge("what proof costs a SYN outside suspicion", ns(WITHIN_PROVING, ONE) - ns(WITHIN, ONE), 10.0, "ns"),
        ]
    }

    fn memory(&self) -> [Judgement; 2] {
        let bytes = |maps: &[MapSize]| maps.iter().map(|map| map.memory_bytes).sum::<u64>();
        let (before, after) = (bytes(&self.memory_before), bytes(&self.memory_after));
        let cells = self.memory_before.iter().find(|map| map.name == "CELLS").map_or(f64::NAN, |map| {
            // The kernel adds a header and rounds up to whole pages.
            (map.memory_bytes / CELLS_BYTES * CELLS_BYTES) as f64 / 1_048_576.0
        });
        let growth = after as f64 - before as f64;
        [
            Judgement::new("memory of the cells".into(), "both", cells, 32.0, "MiB"),
            Judgement::new("growth of all maps by what was measured".into(), "both", growth, 0.0, "bytes"),
        ]
    }

    /// NaN if it was not measured, which no promise keeps.
    fn ns(&self, family: &str, what: &str, sources: &str) -> f64 {
        let found = |figure: &&Figure| (figure.family, figure.what, figure.sources) == (family, what, sources);
        self.figures.iter().find(found).map_or(f64::NAN, |figure| figure.ns)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, packets, .. } = self;
        writeln!(
            out,
            "ns a packet without the harness: median (lowest to highest) of {rounds} rounds, {packets} packets each"
        )?;
        writeln!(out, "{:36} {:>8} {:>26} {:>26}", "", "sources", "IPv4", "IPv6")?;
        for v4 in self.figures.iter().filter(|figure| figure.family == "v4") {
            let v6 = self.figures.iter().find(|v6| (v6.family, v6.what, v6.sources) == ("v6", v4.what, v4.sources));
            let v6 = v6.map(Figure::to_string).unwrap_or_default();
            writeln!(out, "{:36} {:>8} {:>26} {v6:>26}", v4.what, v4.sources, v4.to_string())?;
        }
        writeln!(out)?;
        for judgement in &self.judged {
            writeln!(out, "{judgement}")?;
        }
        writeln!(out)?;
        writeln!(out, "{:16} {:>10} {:>16}", "map", "entries", "memory")?;
        for map in &self.memory_after {
            writeln!(out, "{:16} {:>10} {:>16}", map.name, map.entries_max, map.memory_bytes)?;
        }
        Ok(())
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.1} ({:.1} to {:.1})", self.ns, self.lowest_ns, self.highest_ns)
    }
}
