//! What suspects are asked and what they earn, with a clock that stands until it is set.

use ratelimit_common::{Address, Challenge, Family, Moment, Reason, SliceFrame, challenge::Tuple, parse};
use ratelimit_tests::{
    packet::{RST, SynPacket},
    tables::{HostTables, World, world::Rate},
};

const SECOND_NS: u64 = 1_000_000_000;

fn reason(tables: &HostTables, packet: &SynPacket) -> Reason {
    tables.judge(&packet.build()).verdict.reason
}

/// The number that a challenge of this SYN asks for.
fn cookie(world: &World, packet: &SynPacket, now_ns: u64) -> u32 {
    Tuple::of(&world.secret(0), &parse(&SliceFrame(&packet.build()))).cookie(Moment(now_ns))
}

fn answer(world: &World, packet: &SynPacket, now_ns: u64) -> SynPacket {
    packet.clone().flags(RST).sequence(cookie(world, packet, now_ns))
}

fn families() -> [SynPacket; 2] {
    [SynPacket::v4(), SynPacket::v6()]
}

#[test]
fn a_ticket_is_good_for_eight_seconds() {
    let world = World::new().suspect("smtp", Challenge::Reset);
    for syn in families() {
        let tables = HostTables::new(&world);
        assert_eq!(reason(&tables, &syn), Reason::Challenged);
        assert_eq!(reason(&tables, &answer(&world, &syn, SECOND_NS)), Reason::Answered);
        tables.advance(3 * SECOND_NS);
        assert_eq!(reason(&tables, &syn), Reason::Ticketed, "the second SYN of a stack that waits for three seconds");
        tables.advance(6 * SECOND_NS);
        // The service is suspect no longer: nothing asked for it any more.
        assert_eq!(reason(&tables, &syn), Reason::Admitted);
    }
}

#[test]
fn suspicion_ends_by_itself_and_lives_as_long_as_the_flood() {
    let world = World::new().unlimited().suspect("smtp", Challenge::Reset);
    let tables = HostTables::new(&world);
    let stranger = |number: u32| SynPacket::v4().from(&format!("10.{}.{}.1", number >> 8 & 255, number & 255));
    for number in 0..20_000 {
        assert_eq!(reason(&tables, &stranger(number)), Reason::Challenged, "{number}");
        tables.advance(SECOND_NS / 1000);
    }
    tables.advance(3 * SECOND_NS);
    assert_eq!(reason(&tables, &stranger(20_001)), Reason::Challenged, "a moment after the flood");
    // What waited has been forgotten by then.
    tables.advance(20 * SECOND_NS);
    assert_eq!(reason(&tables, &stranger(20_002)), Reason::Admitted);
}

#[test]
fn who_answers_and_completes_makes_nobody_suspect() {
    let world = World::new().unlimited().proving("smtp", Challenge::Reset);
    let tables = HostTables::new(&world);
    let id = world.id("smtp");
    for number in 0u32..50_000 {
        let syn = SynPacket::v4().from(&format!("10.{}.{}.1", number >> 8 & 255, number & 255));
        assert_eq!(reason(&tables, &syn), Reason::Admitted, "{number}");
        let service = ratelimit_common::Tables::set(&tables).service_of(id);
        ratelimit_common::suspicion::note_arrived(&tables, service, ratelimit_common::Ticks(15_258));
    }
}

#[test]
fn forged_syns_cost_a_source_nothing_it_completed() {
    let limit = Rate::per_hour(60, 10);
    let world = World::new().proving("smtp", Challenge::Reset).source_limit("smtp", limit);
    let tables = HostTables::new(&world);
    let own = SynPacket::v4().from_port(40_000);
    let source = Address::from_v4(0xc000_0207);
    // A thousand in its name, of which ten pass as its allowance.
    for port in 1..1000 {
        let _ = reason(&tables, &SynPacket::v4().from_port(port));
    }
    for number in 0..10u16 {
        let syn = own.clone().from_port(40_000 + number);
        assert_eq!(reason(&tables, &syn), Reason::Challenged);
        assert_eq!(reason(&tables, &answer(&world, &syn, SECOND_NS)), Reason::Answered);
        assert_eq!(reason(&tables, &syn), Reason::Ticketed);
        tables.complete(source, world.id("smtp"));
    }
    assert_eq!(reason(&tables, &own.clone().from_port(50_000)), Reason::SourceLimit, "that would be its excess");
}

#[test]
fn an_answer_is_worth_nothing_to_another_connection_or_family() {
    let world = World::new().suspect("smtp", Challenge::Reset);
    let tables = HostTables::new(&world);
    let [v4, v6] = families();
    assert_eq!(v4.family(), Family::V4);
    let stolen = v6.clone().flags(RST).sequence(cookie(&world, &v4, SECOND_NS));
    assert_eq!(reason(&tables, &stolen), Reason::Established);
    assert_eq!(reason(&tables, &answer(&world, &v4, SECOND_NS)), Reason::Answered);
    assert_eq!(reason(&tables, &v6), Reason::Challenged);
    assert_eq!(reason(&tables, &v4.clone().to_port(465)), Reason::Admitted, "no suspect service");
    assert_eq!(reason(&tables, &v4.from("192.0.2.8")), Reason::Challenged);
}
