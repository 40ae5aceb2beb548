//! What lists cost: a lookup, a packet, and the way from a list to one that is enforced; beside what others use for it,
//! with the same lists and the same sources, in one run on one machine.
//!
//! Everything is measured in turn and the whole again, so that what the machine does meanwhile falls on all alike; what the
//! harness and the bare filter cost is measured with the same sources right before, and medians are reported. What takes
//! seconds is measured once.

use anyhow::{Result, ensure};
use ratelimit_common::Family;
use ratelimit_common::ban::MAX_BANS;

use crate::look_up::LookUp;

mod corpus;
mod lookups;
mod phases;
mod report;
mod wire;

use corpus::Corpus;
use lookups::Subject;
pub use report::Report;
use report::{Memory, Time};

pub const ROUNDS: u32 = 5;
pub const PACKETS: u32 = 500_000;
/// The largest list.
pub const ENTRIES: usize = 5_000_000;

const V4_ENTRIES: [usize; 4] = [10_000, 100_000, 1_000_000, ENTRIES];
const V6_ENTRIES: [usize; 3] = [10_000, 100_000, 1_000_000];

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub rounds: u32,
    pub packets: u32,
    /// Larger lists are left out, and what is judged of them is missed.
    pub entries: usize,
}

/// Measures lists.
///
/// # Errors
///
/// Not root, a kernel too old, or a program that does not do what it is measured for.
pub fn measure(options: Options) -> Result<Report> {
    let sizes = V4_ENTRIES.map(|entries| (Family::V4, entries)).into_iter();
    let sizes = sizes.chain(V6_ENTRIES.map(|entries| (Family::V6, entries)));
    let corpora: Vec<Corpus> = sizes
        .filter(|(_, entries)| *entries <= options.entries)
        .map(|(family, entries)| Corpus::new(family, entries))
        .collect();
    ensure!(!corpora.is_empty(), "the smallest list has {} entries", V4_ENTRIES[0]);
    let mut times = phases::measure(&corpora, options.rounds)?;
    let memory = corpora.iter().map(phases::memory).collect::<Result<Vec<Memory>>>()?;
    let (wire, loaded) = wire::measure(&corpora, options.rounds, options.packets)?;
    times.extend(loaded);
    let lookups = {
        let (bans, samples) = lookups::banned(MAX_BANS.min(options.entries))?;
        let mut subjects = filled(&corpora, &mut times)?;
        subjects.push(Subject::of_bans(MAX_BANS.min(options.entries), &samples, bans));
        lookups::measure(&subjects, options.rounds, options.packets)?
    };
    Ok(Report::new(options, lookups, (wire, times), memory))
}

/// Puts every list into the maps of all, and notes how long that of others takes.
fn filled<'a>(corpora: &'a [Corpus], times: &mut Vec<Time>) -> Result<Vec<Subject<'a>>> {
    let mut subjects = Vec::new();
    for corpus in corpora {
        let mut look_up = LookUp::load(corpus.entries)?;
        look_up.put_table(&phases::build(&corpus.networks)?)?;
        let ((), trie) = phases::timed(|| look_up.put_trie(&corpus.networks))?;
        let ((), hash) = phases::timed(|| look_up.put_hosts(&corpus.networks))?;
        times.push(phases::once(phases::TRIE, corpus, trie));
        times.push(phases::once(phases::HASH, corpus, hash));
        subjects.push(Subject::of(corpus, look_up));
    }
    Ok(subjects)
}
