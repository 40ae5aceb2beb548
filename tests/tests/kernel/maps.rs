//! Sets, entries and cells: what one run sees of the maps.

use anyhow::Result;
use ratelimit_common::{Action, Mode, limit::TICK_NS};
use ratelimit_tests::{
    kernel::{Globals, Kernel, Program, coarse_clock_ns},
    packet::{SynPacket, mutate::Random},
    tables::{HostTables, World, world::Rate},
};

#[test]
fn the_epoch_switches_set_and_entries_together() -> Result<()> {
    let (first, second) = (World::new().block("192.0.2.0/24"), World::new().block("2001:db8:7::/48"));
    let observing = World::new().block("192.0.2.0/24").mode(Mode::Observe);
    let mut kernel = crate::load(Globals::default(), &first);
    let frames = [SynPacket::v4().build(), SynPacket::v6().build()];
    let actions = |kernel: &Kernel| -> Result<[Action; 2]> {
        Ok([kernel.run(Program::Gate, &frames[0])?, kernel.run(Program::GateFrags, &frames[1])?])
    };
    assert_eq!(actions(&kernel)?, [Action::Drop, Action::Pass]);
    kernel.put(1, &second)?;
    assert_eq!(actions(&kernel)?, [Action::Drop, Action::Pass], "the other set is not in force yet");
    kernel.flip(1)?;
    assert_eq!(actions(&kernel)?, [Action::Pass, Action::Drop]);
    kernel.put(0, &observing)?;
    assert_eq!(actions(&kernel)?, [Action::Pass, Action::Drop], "the first set is not in force any more");
    kernel.flip(2)?;
    assert_eq!(actions(&kernel)?, [Action::Pass, Action::Pass], "only the lowest bit of the epoch counts");
    Ok(())
}

#[test]
fn zeroed_maps_drop_nothing() -> Result<()> {
    let mut kernel = crate::load(Globals::default(), &World::new().block("0.0.0.0/0"));
    kernel.flip(1)?;
    for frame in [SynPacket::v4().build(), SynPacket::v4().flags(0).build(), SynPacket::v6().ip_version(4).build()] {
        assert_eq!(kernel.run(Program::Gate, &frame)?, Action::Pass);
    }
    Ok(())
}

/// The kernel's clock moves, so values differ; the places must not.
#[test]
fn host_and_kernel_charge_the_same_cells() -> Result<()> {
    let world = World::new();
    let (host, kernel) = (HostTables::new(&world), crate::load(Globals::default(), &world));
    let ports: Vec<_> = world.default_services().map(|(_, port)| port).collect();
    let mut random = Random::new(1);
    for number in 0..3000 {
        let source = random.word();
        let packet = match number % 2 {
            0 => SynPacket::v4().from_address(std::net::IpAddr::from((source as u32).to_be_bytes())),
            _ => SynPacket::v6().from(&format!("2001:db8:{:x}:{:x}::1", source as u16, source >> 16 & 0xffff)),
        };
        let frame = packet.to_port(ports[random.below(ports.len())]).build();
        assert_eq!(kernel.run(Program::Gate, &frame)?, host.judge(&frame).verdict.action());
    }
    let charged = host.charged_cells();
    println!("3000 connections charged {} cells", charged.len());
    assert!(charged.len() > 6000);
    assert_eq!(kernel.charged_cells(), charged);
    Ok(())
}

/// A limit that refills while the test runs: the burst at once, and then its rate. The burst is large, so that
/// nothing is lost when the test has to wait for a processor.
#[test]
fn a_source_gets_its_rate_by_the_kernels_clock() -> Result<()> {
    const SECOND_NS: u64 = 1_000_000_000;
    let rate = Rate::per_second(100, 2000);
    let kernel = crate::load(Globals::default(), &World::new().unlimited().source_limit("smtp", rate));
    let frame = SynPacket::v4().build();
    let (start_ns, mut now_ns, mut admitted) = (coarse_clock_ns()?, 0, 0u64);
    while now_ns < start_ns + 2 * SECOND_NS {
        now_ns = coarse_clock_ns()?;
        while kernel.run(Program::Gate, &frame)? == Action::Pass {
            admitted += 1;
        }
    }
    let end_ns = coarse_clock_ns()?;
    let ticks = end_ns / TICK_NS - start_ns / TICK_NS;
    let (earned, at_most) = ((now_ns - start_ns) * 100 / SECOND_NS, ticks.div_ceil(u64::from(rate.increment())));
    println!("{admitted} admitted in two seconds at 100/s, burst 2000");
    assert!((2000 + earned - 2..=2000 + at_most + 1).contains(&admitted), "{admitted}, {earned} to {at_most} earned");
    Ok(())
}

/// Only the kernel side looks at hardware addresses: the decision does not know them.
#[test]
fn a_frame_for_several_stations_is_not_answered() -> Result<()> {
    let kernel = crate::load(Globals::default(), &World::new().only_from("smtp", "198.51.100.0/24", true));
    for program in Program::ALL {
        assert_eq!(kernel.run(program, &SynPacket::v4().build())?, Action::Reset);
        assert_eq!(kernel.run(program, &SynPacket::v4().to_group().build())?, Action::Drop);
    }
    Ok(())
}
