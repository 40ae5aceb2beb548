//! Sets, entries and cells: what one run sees of the maps.

use anyhow::Result;
use ratelimit_common::{Action, Mode};
use ratelimit_tests::{
    kernel::{Globals, Program},
    packet::{SynPacket, mutate::Random},
    tables::{HostTables, World},
};

#[test]
fn the_epoch_switches_set_and_entries_together() -> Result<()> {
    let (first, second) = (World::new().block("192.0.2.0/24"), World::new().block("2001:db8:7::/48"));
    let observing = World::new().block("192.0.2.0/24").mode(Mode::Observe);
    let mut kernel = crate::load(Globals::default(), &first);
    let frames = [SynPacket::v4().build(), SynPacket::v6().build()];
    let actions = |kernel: &ratelimit_tests::kernel::Kernel| -> Result<[Action; 2]> {
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
        let source = random.next();
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

/// A limit that refills while the test runs: the burst at once, and then its rate.
#[test]
fn a_source_gets_its_rate_by_the_kernels_clock() -> Result<()> {
    use ratelimit_tests::{kernel::coarse_clock_ns, tables::world::Rate};

    const SECOND_NS: u64 = 1_000_000_000;
    let rate = Rate::per_second(100, 50);
    let kernel = crate::load(Globals::default(), &World::new().unlimited().source_limit("smtp", rate));
    let frame = SynPacket::v4().build();
    let (start_ns, mut now_ns, mut admitted) = (coarse_clock_ns()?, 0, 0u64);
    while now_ns < start_ns + 2 * SECOND_NS {
        admitted += u64::from(kernel.run(Program::Gate, &frame)? == Action::Pass);
        now_ns = coarse_clock_ns()?;
    }
    let earned = (now_ns - start_ns) * 100 / SECOND_NS;
    println!("{admitted} admitted in two seconds at 100/s, burst 50");
    // The clock stands for 4 ms at a time, and a rounded increment is 152 of 152.6 ticks.
    assert!((50 + earned - 1..=50 + earned + earned / 200 + 2).contains(&admitted), "{admitted}, earned {earned}");
    Ok(())
}
