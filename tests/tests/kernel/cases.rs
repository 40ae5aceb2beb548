//! The table of cases again: the action, and that exactly the expected counter moved.

use anyhow::{Result, bail};
use ratelimit_common::{Action, event::Tally};
use ratelimit_tests::{
    cases::{self, Case, Expected},
    kernel::{Globals, Kernel, Program},
    tables::World,
};

fn check(kernel: &mut Kernel, program: Program, case: &Case, world: &World, expected: &Expected) -> Result<()> {
    kernel.put(0, world)?;
    kernel.reset()?;
    for frame in &case.before {
        let _ = kernel.run(program, frame)?;
    }
    let before = kernel.tallies()?;
    let action = kernel.run(program, &case.frame)?;
    let after = kernel.tallies()?;

    let mut counted = before;
    count(&mut counted[expected.tally(world) as usize], expected.action);
    if action != expected.action || counted != after {
        let moved: Vec<_> = (0..after.len()).filter(|index| after[*index] != counted[*index]).collect();
        bail!("{action:?} instead of {expected:?}; wrong counters: {moved:?}");
    }
    Ok(())
}

fn count(tally: &mut Tally, action: Action) {
    match action {
        Action::Pass => tally.passed += 1,
        Action::Drop | Action::Reset | Action::Challenge => tally.dropped += 1,
    }
}

fn replay(program: Program) {
    let mut kernel = crate::load(Globals::default(), &World::new());
    let (mut wrong, mut ran, mut too_short_or_long) = (Vec::new(), 0, 0);
    for case in cases::all() {
        if !program.takes(&case.frame) {
            too_short_or_long += 1;
            continue;
        }
        let (observing, expected) = case.observed();
        for (world, expected) in [(&case.world, case.expected), (&observing, expected)] {
            ran += 1;
            if let Err(error) = check(&mut kernel, program, &case, world, &expected) {
                wrong.push(format!("{}: {error:#}", case.name));
            }
        }
    }
    println!("{program:?}: {ran} replays, {too_short_or_long} frames that the kernel's test run does not take");
    assert!(wrong.is_empty(), "{} of {ran} replays:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_case_in_one_piece() {
    replay(Program::Gate);
}

#[test]
fn every_case_in_several_buffers() {
    replay(Program::GateFrags);
}

#[test]
fn only_frames_shorter_than_an_ethernet_header_or_very_long_are_left_to_the_host() {
    for case in cases::all() {
        let taken = Program::ALL.map(|program| program.takes(&case.frame));
        assert!(taken[1] || case.frame.len() < 14, "{}", case.name);
        assert!(taken[0] || case.frame.len() < 14 || case.frame.len() > 3400, "{}", case.name);
    }
}
