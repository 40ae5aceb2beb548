//! The host's mutations in the kernel: both decide alike on every one.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;
use ratelimit_common::{Action, Mode, Tables as _, event::tally_index};
use ratelimit_tests::{
    kernel::{Globals, Kernel, Program},
    packet::{STATION, mutate::Corpus},
    tables::{HostTables, Judged, World},
};

const MUTATIONS: u64 = 100_000;
/// Of the mutations' world: two that block, one that observes, two that block all packets.
const LISTS_THAT_STOP: usize = 5;

/// Runs a frame and reads the one counter that the host's decision says must move.
fn agrees(kernel: &Kernel, program: Program, frame: &[u8], judged: &Judged) -> Result<bool> {
    let verdict = judged.verdict;
    let index = tally_index(verdict.reason, verdict.service, judged.family);
    let mut expected = kernel.tally(index)?;
    match verdict.action() {
        Action::Pass => expected.passed += 1,
        Action::Drop | Action::Reset | Action::Challenge => expected.dropped += 1,
    }
    // Hardware addresses are not the decision's: a frame of several stations is not answered.
    let action = match verdict.action() {
        Action::Reset | Action::Challenge if frame[..6] != STATION || frame[6] & 1 != 0 => Action::Drop,
        other => other,
    };
    Ok(kernel.run(program, frame)? == action && kernel.tally(index)? == expected)
}

fn compare(program: Program, mode: Mode) -> Result<()> {
    let (start, world) = (Instant::now(), World::for_mutations().mode(mode));
    let (corpus, host, kernel) = (Corpus::new(), HostTables::new(&world), crate::load(Globals::default(), &world));
    let (mut frame, mut ran, mut number) = (Vec::new(), 0, 0);
    let mut hits = BTreeMap::new();
    while ran < MUTATIONS {
        corpus.mutated(number, &mut frame);
        number += 1;
        if !program.takes(&frame) {
            continue;
        }
        let judged = host.judge(&frame);
        ran += 1;
        if let Some(class) = judged.verdict.blocked_by() {
            *hits.entry(host.entry(class).lists()).or_insert(0u64) += 1;
        }
        assert!(
            agrees(&kernel, program, &frame, &judged)?,
            "mutation {}: {judged:?} on the host, {frame:02x?}",
            number - 1
        );
    }
    // Each frame moved its own counter; no other moved if all together moved as often.
    let moved: u64 = kernel.tallies()?.iter().map(|tally| tally.passed + tally.dropped).sum();
    assert_eq!(moved, ran);
    let counted: BTreeMap<_, _> = kernel.hits(0)?.into_iter().map(|(lists, hits)| (lists, hits.hits)).collect();
    assert_eq!(counted, hits, "what each class stopped");
    assert!(hits.len() >= LISTS_THAT_STOP, "{hits:?}");
    println!(
        "{program:?}, {mode:?}: {ran} mutations agree, {} were shorter than an Ethernet header, {:.1} s",
        number - ran,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

#[test]
fn host_and_kernel_agree_in_one_piece() {
    compare(Program::Gate, Mode::Enforce).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn host_and_kernel_agree_in_several_buffers() {
    compare(Program::GateFrags, Mode::Enforce).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn host_and_kernel_agree_in_observe() {
    compare(Program::Gate, Mode::Observe).unwrap_or_else(|error| panic!("{error:#}"));
}
