//! The figures, and what was promised of them.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::Options;
use super::lookups::{BANS, FEW, HIT, MISS, RANDOM, TABLE, TRIE};
use super::phases::{FROM_ENTRIES, FROM_FILE, IPSET, NFT};
use super::wire::{LOAD_LIMIT, MOST_ENTRIES};
use crate::bench::judgement::Judgement;

const MILLION: usize = 1_000_000;
const SMALLEST: usize = 10_000;
const LARGEST: usize = 5_000_000;
const ROOT_BYTES: u64 = 16 << 20;
const ENTRY_BYTES: u64 = 16;

/// What one lookup costs.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub what: &'static str,
    pub family: &'static str,
    pub entries: usize,
    pub outcome: &'static str,
    pub sources: &'static str,
    /// Median, without harness and parser.
    pub ns: f64,
    pub lowest_ns: f64,
    pub highest_ns: f64,
}

/// What one packet costs over a wire, sender and receiver together.
#[derive(Clone, Debug, Serialize)]
pub struct WireFigure {
    pub what: &'static str,
    /// The filter without a list.
    pub plain: &'static str,
    pub entries: usize,
    pub outcome: &'static str,
    pub sources: &'static str,
    /// Median.
    pub ns: f64,
    pub lowest_ns: f64,
    pub highest_ns: f64,
}

/// How long something takes.
#[derive(Clone, Debug, Serialize)]
pub struct Time {
    pub what: &'static str,
    pub family: &'static str,
    pub entries: usize,
    /// Median.
    pub ms: f64,
    pub lowest_ms: f64,
    pub highest_ms: f64,
}

/// What a list occupies in the kernel, as the kernel accounts it.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    pub family: &'static str,
    pub entries: usize,
    pub bytes: u64,
    /// While it takes the place of one as large: the old one and the new one, which is why this is not judged.
    pub swap_bytes: u64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub rounds: u32,
    pub packets: u32,
    pub lookups: Vec<Figure>,
    pub wire: Vec<WireFigure>,
    pub times: Vec<Time>,
    pub memory: Vec<Memory>,
    pub judged: Vec<Judgement>,
}

impl Report {
    pub(super) fn new(
        options: Options,
        lookups: Vec<Figure>,
        (wire, times): (Vec<WireFigure>, Vec<Time>),
        memory: Vec<Memory>,
    ) -> Self {
        let Options { rounds, packets, .. } = options;
        let mut report = Self { rounds, packets, lookups, wire, times, memory, judged: Vec::new() };
        report.judged = [report.costs(), report.durations(), report.sizes()].concat();
        report
    }

    pub fn all_kept(&self) -> bool {
        self.judged.iter().all(|judgement| judgement.kept)
    }

    fn costs(&self) -> Vec<Judgement> {
        let ns = |what, entries, outcome, sources| self.ns(what, entries, outcome, sources);
        let part = |outcome| ns(TABLE, MILLION, outcome, RANDOM) / ns(TRIE, MILLION, outcome, RANDOM);
        let growth = |outcome| ns(TABLE, LARGEST, outcome, FEW) / ns(TABLE, SMALLEST, outcome, FEW);
        vec![
            v4("a miss in 1M, random sources / LPM_TRIE", part(MISS), 0.1, "times"),
            v4("a hit in 1M, random sources / LPM_TRIE", part(HIT), 0.25, "times"),
            v4("growth of a hit, 10k to 5M, warm", growth(HIT), 1.5, "times"),
            v4("growth of a miss, 10k to 5M, warm", growth(MISS), 1.5, "times"),
            v4("a miss with 1M bans, random sources", ns(BANS, MILLION, MISS, RANDOM), 60.0, "ns"),
        ]
    }

    fn durations(&self) -> Vec<Judgement> {
        let ms = |what| self.ms(what, MILLION);
        vec![
            v4("1M parsed entries to enforced", ms(FROM_ENTRIES), 100.0, "ms"),
            v4("a file of 1M to enforced", ms(FROM_FILE), 1000.0, "ms"),
            v4("a file of 1M to enforced / nft -f", ms(FROM_FILE) / ms(NFT), 0.05, "times"),
            v4("a file of 1M to enforced / ipset restore", ms(FROM_FILE) / ms(IPSET), 0.05, "times"),
        ]
    }

    fn sizes(&self) -> Vec<Judgement> {
        let judged = |memory: &Memory| {
            let Memory { family, entries, bytes, .. } = *memory;
            let bound = ROOT_BYTES + ENTRY_BYTES * entries as u64;
            let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
            Judgement::new(format!("memory of {}", short(entries)), family, mib(bytes), mib(bound), "MiB")
        };
        self.memory.iter().map(judged).collect()
    }

    /// Of IPv4; NaN if it was not measured, which no promise keeps.
    fn ns(&self, what: &str, entries: usize, outcome: &str, sources: &str) -> f64 {
        let found = |figure: &&Figure| {
            (figure.family, figure.what, figure.outcome, figure.sources) == ("v4", what, outcome, sources)
                && figure.entries == entries
        };
        self.lookups.iter().find(found).map_or(f64::NAN, |figure| figure.ns)
    }

    /// The same of times.
    fn ms(&self, what: &str, entries: usize) -> f64 {
        let found = |time: &&Time| (time.family, time.what) == ("v4", what) && time.entries == entries;
        self.times.iter().find(found).map_or(f64::NAN, |time| time.ms)
    }

    fn show_lookups(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, packets, .. } = self;
        writeln!(
            out,
            "ns a lookup without harness and parser: median (lowest to highest) of {rounds} rounds, {packets} packets each"
        )?;
        let rows: Vec<_> = self
            .lookups
            .iter()
            .map(|figure| {
                let Figure { what, family, outcome, sources, .. } = figure;
                let row = format!("{family:3} {outcome:11} {sources:7} {what}");
                (row, figure.entries, shown(figure.ns, figure.lowest_ns, figure.highest_ns, 1))
            })
            .collect();
        grid(out, &rows)
    }

    fn show_wire(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\nns a packet in all, IPv4, from the sender to where it is dropped; + what the list adds to the same filter \
             without one. Up to {} entries: more take others too long",
            short(MOST_ENTRIES)
        )?;
        let rows: Vec<_> = self
            .wire
            .iter()
            .map(|figure| {
                let WireFigure { what, outcome, sources, .. } = figure;
                let spread = shown(figure.ns, figure.lowest_ns, figure.highest_ns, 0);
                let added = figure.ns - self.plain(figure);
                let text = if figure.what == figure.plain { spread } else { format!("{spread} {added:+.0}") };
                (format!("{outcome:5} {sources:7} {what}"), figure.entries, text)
            })
            .collect();
        grid(out, &rows)
    }

    /// What the filter of a figure costs without its list, with the same traffic.
    fn plain(&self, of: &WireFigure) -> f64 {
        let found = |figure: &&WireFigure| {
            (figure.what, figure.entries, figure.outcome, figure.sources)
                == (of.plain, of.entries, of.outcome, of.sources)
        };
        self.wire.iter().find(found).map_or(f64::NAN, |figure| figure.ns)
    }

    fn show_times(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\nms: median (lowest to highest); maps of others, nft and ipset are filled once, within {} s",
            LOAD_LIMIT.as_secs()
        )?;
        let rows: Vec<_> = self
            .times
            .iter()
            .map(|time| {
                let Time { what, family, .. } = time;
                (format!("{family:3} {what}"), time.entries, shown(time.ms, time.lowest_ms, time.highest_ms, 1))
            })
            .collect();
        grid(out, &rows)
    }

    fn show_memory(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\nbytes")?;
        let rows: Vec<_> = self
            .memory
            .iter()
            .flat_map(|memory| {
                let Memory { family, entries, bytes, swap_bytes } = memory;
                [
                    (format!("{family:3} table"), *entries, bytes.to_string()),
                    (format!("{family:3} table, during a swap"), *entries, swap_bytes.to_string()),
                ]
            })
            .collect();
        grid(out, &rows)
    }
}

fn v4(what: &str, value: f64, most: f64, unit: &'static str) -> Judgement {
    Judgement::new(what.into(), "v4", value, most, unit)
}

fn shown(median: f64, lowest: f64, highest: f64, digits: usize) -> String {
    format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
}

/// Rows with a column for each size of list.
fn grid(out: &mut fmt::Formatter<'_>, cells: &[(String, usize, String)]) -> fmt::Result {
    let sizes: BTreeSet<usize> = cells.iter().map(|(_, entries, _)| *entries).collect();
    write!(out, "{:50}", "")?;
    for size in &sizes {
        write!(out, " {:>28}", short(*size))?;
    }
    writeln!(out)?;
    let mut written = BTreeSet::new();
    for (row, _, _) in cells {
        if !written.insert(row) {
            continue;
        }
        write!(out, "{row:50}")?;
        for size in &sizes {
            let cell = cells.iter().find(|(name, entries, _)| name == row && entries == size);
            write!(out, " {:>28}", cell.map_or("", |(_, _, text)| text))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// `10k`, `5M`.
fn short(entries: usize) -> String {
    match entries / MILLION {
        0 => format!("{}k", entries / 1000),
        millions => format!("{millions}M"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_lookups(out)?;
        self.show_wire(out)?;
        self.show_times(out)?;
        self.show_memory(out)?;
        writeln!(out)?;
        self.judged.iter().try_for_each(|judgement| writeln!(out, "{judgement}"))
    }
}
