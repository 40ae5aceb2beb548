//! The second rung: the gate's own programs in the kernel, run over single frames. Needs root.

mod cases;
mod events;
mod hits;
mod lookup;
mod maps;
mod mutations;
mod suspects;

use ratelimit_common::Action;
use ratelimit_tests::{
    kernel::{Globals, Kernel, Program},
    packet::SynPacket,
    tables::World,
};

/// A gate in the kernel, or the reason there is none: these tests never skip.
fn load(globals: Globals, world: &World) -> Kernel {
    Kernel::load(globals, world).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn every_combination_of_load_time_booleans_loads_and_runs() {
    for (sample_events, log_diagnostics) in [(false, false), (false, true), (true, false), (true, true)] {
        let kernel = load(Globals { sample_events, log_diagnostics }, &World::new().events_every(1_000_000));
        for program in Program::ALL {
            for packet in [SynPacket::v4(), SynPacket::v6()] {
                let action = kernel.run(program, &packet.build()).unwrap_or_else(|error| panic!("{error:#}"));
                assert_eq!(action, Action::Pass);
            }
        }
    }
}
