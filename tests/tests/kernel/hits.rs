//! What lists stopped is counted by class, in the set that was judged by.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{TestRun, TestRunOptions, Xdp},
};
use ratelimit_common::{Action, Mode, event::Hits, map::CELLS_PER_LINE};
use ratelimit_tests::{
    kernel::{Globals, Kernel, Program, coarse_clock_ns},
    netns::Bpffs,
    objects,
    packet::{ACK, SynPacket},
    tables::World,
};
use ratelimit_user::{
    compile::Compiled,
    lists::table,
    plane::{ListHits, Maps},
};

/// The first network of a world is its first list.
const FIRST: u64 = 1;
const SECOND: u64 = 2;

fn run(kernel: &Kernel, packet: &SynPacket, times: u32) -> Result<Action> {
    kernel.repeat(Program::Gate, &packet.build(), times)
}

fn counted(kernel: &Kernel, set: u32) -> Result<Vec<(u64, u64)>> {
    Ok(kernel.hits(set)?.into_iter().map(|(lists, Hits { hits, .. })| (lists, hits)).collect())
}

#[test]
fn a_block_is_counted_for_its_class_with_the_time() -> Result<()> {
    let world = World::new().block("192.0.2.0/24").block("192.0.2.7/32").block("2001:db8:7::/48");
    let kernel = crate::load(Globals::default(), &world);
    let before_ns = coarse_clock_ns()?;
    assert_eq!(run(&kernel, &SynPacket::v4(), 3)?, Action::Drop);
    assert_eq!(run(&kernel, &SynPacket::v4().from("192.0.2.8"), 2)?, Action::Drop);
    assert_eq!(run(&kernel, &SynPacket::v6(), 1)?, Action::Drop);
    let mut hits = kernel.hits(0)?;
    hits.sort_unstable_by_key(|(lists, _)| *lists);
    let shown: Vec<_> = hits.iter().map(|(lists, hits)| (*lists, hits.hits)).collect();
    assert_eq!(shown, [(FIRST, 2), (FIRST | SECOND, 3), (4, 1)]);
    let after_ns = coarse_clock_ns()?;
    assert!(hits.iter().all(|(_, hits)| (before_ns..=after_ns).contains(&hits.last_hit_ns)), "{hits:?}");
    Ok(())
}

#[test]
fn what_would_be_stopped_is_counted_where_it_is_only_observed() -> Result<()> {
    for world in [World::new().observe("192.0.2.0/24"), World::new().block("192.0.2.0/24").mode(Mode::Observe)] {
        let kernel = crate::load(Globals::default(), &world);
        assert_eq!(run(&kernel, &SynPacket::v4(), 5)?, Action::Pass);
        assert_eq!(counted(&kernel, 0)?, [(FIRST, 5)]);
    }
    Ok(())
}

#[test]
fn packets_of_open_connections_count_by_a_list_for_all_packets_alone() -> Result<()> {
    let packet = SynPacket::v4().flags(ACK);
    for (world, action, expected) in [
        (World::new().block("192.0.2.0/24"), Action::Pass, vec![]),
        (World::new().block_all_packets("192.0.2.0/24"), Action::Drop, vec![(FIRST, 4)]),
    ] {
        let kernel = crate::load(Globals::default(), &world);
        assert_eq!(run(&kernel, &packet, 4)?, action);
        assert_eq!(counted(&kernel, 0)?, expected);
    }
    Ok(())
}

#[test]
fn what_no_list_stopped_is_no_hit_of_one() -> Result<()> {
    let office = |world: World| world.only_from("smtp", "198.51.100.0/24", false);
    for world in [
        World::new().block("192.0.2.0/24").trust("192.0.2.0/24"),
        World::new().block("192.0.2.0/24").allow("192.0.2.0/24"),
        World::new().block_for("imap", "192.0.2.0/24"),
        World::new().allow("192.0.2.128/25").ban("smtp", "192.0.2.0/24"),
        office(World::new().block("192.0.2.0/24")),
    ] {
        let kernel = crate::load(Globals::default(), &world);
        let _ = run(&kernel, &SynPacket::v4(), 2)?;
        assert_eq!(counted(&kernel, 0)?, [], "{world:?}");
    }
    Ok(())
}

#[test]
fn each_set_counts_for_itself() -> Result<()> {
    let mut kernel = crate::load(Globals::default(), &World::new().block("192.0.2.0/24"));
    let _ = run(&kernel, &SynPacket::v4(), 2)?;
    kernel.put(1, &World::new().allow("198.51.100.0/24").block("192.0.0.0/16"))?;
    kernel.flip(1)?;
    let _ = run(&kernel, &SynPacket::v4(), 3)?;
    assert_eq!((counted(&kernel, 0)?, counted(&kernel, 1)?), (vec![(FIRST, 2)], vec![(SECOND, 3)]));
    Ok(())
}

/// The gate with pinned maps, as a controller has it.
struct Pinned {
    ebpf: Ebpf,
    maps: Maps,
    _bpffs: Bpffs,
}

impl Pinned {
    fn load(world: &World) -> Result<Self> {
        let bpffs = Bpffs::new()?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("CELLS", world.cells().div_ceil(CELLS_PER_LINE as u32))
            .load(objects::gate()?)?;
        for (name, map) in ebpf.maps() {
            // Those of the constants have names that are no file's.
            if !name.starts_with('.') {
                map.pin(bpffs.path().join(name))?;
            }
        }
        let gate: &mut Xdp = ebpf.program_mut("gate").context("no program gate")?.try_into()?;
        gate.load()?;
        Ok(Self { maps: Maps::open(bpffs.path())?, ebpf, _bpffs: bpffs })
    }

    /// Puts a world in force and returns what the one before stopped.
    fn put(&mut self, world: &World) -> Result<ListHits> {
        let listed: Vec<_> = world.layers().collect();
        let layers: Vec<_> =
            listed.iter().map(|(networks, says)| table::Layer { networks, says: *says, shields: false }).collect();
        Ok(self.maps.put_in_force(Compiled { set: world.set(), table: Some(table::build(&layers)?) })?)
    }

    fn knock(&self, times: u32) -> Result<()> {
        let gate: &Xdp = self.ebpf.program("gate").context("no program gate")?.try_into()?;
        let frame = SynPacket::v4().build();
        gate.test_run(TestRunOptions { data_in: Some(&frame), repeat: times, ..TestRunOptions::default() })?;
        Ok(())
    }
}

#[test]
fn nothing_is_lost_or_counted_twice_when_sets_are_swapped() -> Result<()> {
    let (one, other) = (World::new().block("192.0.2.0/24"), World::new().allow("10.0.0.0/8").block("192.0.0.0/16"));
    let mut gate = Pinned::load(&one)?;
    assert_eq!(gate.put(&one)?, ListHits::default(), "nothing was in force before");
    for round in 1..=4 {
        gate.knock(10 + round)?;
        assert_eq!(gate.maps.list_hits()?.of(0).hits, u64::from(10 + round));
        let before = gate.put(&other)?;
        assert_eq!((before.of(0).hits, before.of(1).hits), (u64::from(10 + round), 0));
        assert_eq!(gate.maps.list_hits()?, ListHits::default(), "a set counts from zero");
        gate.knock(round)?;
        let before = gate.put(&one)?;
        assert_eq!((before.of(0).hits, before.of(1).hits), (0, u64::from(round)));
        assert_eq!((before.of(1).last_hit_ns != 0, before.unnamed()), (true, Hits::default()));
    }
    Ok(())
}
