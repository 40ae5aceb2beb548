//! The limiter against the exact model, around the wrap of its clock, and on cells that others left behind.

use proptest::{collection::vec, prelude::*};
use ratelimit_common::{Reason, limit::TICK_NS};
use ratelimit_tests::{
    packet::SynPacket,
    tables::{HostTables, START_NS, World, world::Rate},
};

use crate::model::Exact;

const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3600 * SECOND_NS;
/// The clock of the cells starts again after this long: 78 h.
const WRAP_NS: u64 = TICK_NS << 32;
/// Cells that rest for longer are brought to the present by the controller.
const LONGEST_REST_NS: u64 = WRAP_NS - 26 * HOUR_NS;

/// What the tolerance holds above the burst: not quite one connection, so it never shows at one moment.
const SLACK: u32 = 1;

/// One source before a gate with one limit.
struct Source {
    tables: HostTables,
    frame: Vec<u8>,
    rate: Rate,
}

impl Source {
    fn new(rate: Rate) -> Self {
        Self::of(&World::new().unlimited().source_limit("smtp", rate), rate)
    }

    fn of(world: &World, rate: Rate) -> Self {
        Self { tables: HostTables::new(world), frame: SynPacket::v4().build(), rate }
    }

    fn connects(&self, now_ns: u64) -> bool {
        self.tables.set_clock(now_ns);
        match self.tables.judge(&self.frame).verdict.reason {
            Reason::Admitted => true,
            Reason::SourceLimit => false,
            other => panic!("{}", other.label()),
        }
    }

    /// How many of `attempts` at one moment are admitted.
    fn admitted(&self, now_ns: u64, attempts: u32) -> u32 {
        (0..attempts).map(|_| u32::from(self.connects(now_ns))).sum()
    }

    /// What the limiter may admit at most between two moments: the burst, and one for each rounded increment begun.
    fn at_most(&self, from_ns: u64, to_ns: u64) -> u64 {
        let ticks = to_ns / TICK_NS - from_ns / TICK_NS;
        u64::from(self.rate.burst) + ticks.div_ceil(u64::from(self.rate.increment()))
    }
}

/// Rates that the cells can hold: up to 1000/s, and a burst that drains within 24 h.
fn rates() -> impl Strategy<Value = Rate> {
    let period = prop_oneof![Just(SECOND_NS), Just(60 * SECOND_NS), Just(HOUR_NS), Just(24 * HOUR_NS)];
    (2u32..=1000, period, 1u32..=500).prop_map(|(count, period_ns, burst)| {
        let connections_a_day = 24 * HOUR_NS / (period_ns / u64::from(count));
        // The tolerance and the last connection together are one more than the burst.
        Rate::new(count, period_ns, burst.min(connections_a_day as u32 - 1))
    })
}

/// Pauses in thousandths of the time that one connection costs: none, short, about right, long.
fn pauses() -> impl Strategy<Value = Vec<u64>> {
    let pause =
        prop_oneof![4 => Just(0u64), 4 => 0u64..100, 4 => 900u64..1100, 1 => 0u64..20_000, 1 => 0u64..2_000_000];
    vec(pause, 1..600)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    /// At no moment has a source got less than the exact model gives it, or more than the rounding allows.
    #[test]
    fn a_source_gets_what_the_exact_model_gives(rate in rates(), pauses in pauses(), offset in 0..TICK_NS) {
        let source = Source::new(rate);
        let start_ns = START_NS + offset;
        let mut exact = Exact::new(rate, start_ns);
        let (mut now_ns, mut given, mut exactly, mut refused) = (start_ns, 0u64, 0u64, false);
        for pause in pauses {
            now_ns += (rate.period_ns / u64::from(rate.count) / 1000 * pause).min(LONGEST_REST_NS);
            let within = exact.admits(now_ns);
            let admitted = source.connects(now_ns);
            refused |= !within;
            prop_assert!(admitted || refused, "a source that never left its limit was refused at {} ns", now_ns);
            exactly += u64::from(within);
            given += u64::from(admitted);
            prop_assert!(given >= exactly, "{given} admitted, but {exactly} in the exact model");
            let most = source.at_most(start_ns, now_ns);
            prop_assert!(given <= most, "{given} admitted, but {most} at most");
        }
    }

    /// Excess is not charged: however hard a source knocks, it gets its rate.
    #[test]
    fn a_hammering_source_gets_its_rate(rate in rates(), offset in 0..TICK_NS) {
        let source = Source::new(rate);
        let start_ns = START_NS + offset;
        let mut exact = Exact::new(rate, start_ns);
        let step_ns = (rate.period_ns / u64::from(rate.count) / 100).max(1);
        let (mut given, mut exactly) = (0u64, 0u64);
        let mut now_ns = start_ns;
        for _ in 0..20_000 {
            given += u64::from(source.connects(now_ns));
            exactly += u64::from(exact.admits(now_ns));
            now_ns += step_ns;
        }
        prop_assert!(given >= exactly && given <= source.at_most(start_ns, now_ns), "{given} instead of {exactly}");
    }
}

#[test]
fn the_default_of_smtp_under_a_hundredfold_hammer() {
    let source = Source::new(Rate::per_minute(300, 300));
    let mut given = 0;
    for step in 0..300_000 {
        given += u32::from(source.connects(START_NS + step * 2_000_000));
    }
    println!("10 minutes of 500/s at a limit of 300/min, burst 300: {given} admitted, exactly 3300");
    assert!((3300..=3300 + SLACK).contains(&given), "{given}");
}

#[test]
fn a_pause_gives_the_burst_back_at_the_rate() {
    let source = Source::new(Rate::per_minute(60, 10));
    assert_eq!(source.admitted(START_NS, 100), 10);
    assert_eq!(source.admitted(START_NS + 3 * SECOND_NS, 100), 3 + SLACK);
    assert_eq!(source.admitted(START_NS + 6 * SECOND_NS, 100), 3);
    assert_eq!(source.admitted(START_NS + 60 * SECOND_NS, 100), 10);
}

#[test]
fn both_windows_count() {
    let (short, long) = (Rate::per_second(1, 5), Rate::per_hour(60, 20));
    let world = World::new().unlimited().source_limit("smtp", short).long_source_limit("smtp", long);
    let source = Source::of(&world, short);
    assert_eq!(source.admitted(START_NS, 100), 5, "the short window's burst");
    let admitted: u32 = (1..=60).map(|second| source.admitted(START_NS + second * SECOND_NS, 10)).sum();
    assert_eq!(admitted, 16 + SLACK, "what is left of the long window's burst, and one a minute");
    assert_eq!(source.admitted(START_NS + 660 * SECOND_NS, 100), 5, "no more than the short window's burst");
}

#[test]
fn a_refusal_of_one_window_costs_the_other_nothing() {
    let (short, long) = (Rate::per_second(1, 5), Rate::per_hour(1, 20));
    let world = World::new().unlimited().source_limit("smtp", short).long_source_limit("smtp", long);
    let source = Source::of(&world, short);
    assert_eq!(source.admitted(START_NS, 10_000), 5);
    let later: u32 = (1..=10).map(|pause| source.admitted(START_NS + pause * 10 * SECOND_NS, 10_000)).sum();
    assert_eq!(later, 15 + SLACK);
}

#[test]
fn a_source_in_use_does_not_notice_the_wrap_of_the_clock() {
    let rate = Rate::per_minute(300, 300);
    for wraps in 1..=2 {
        let source = Source::new(rate);
        let start_ns = wraps * WRAP_NS - 300 * SECOND_NS;
        let mut exact = Exact::new(rate, start_ns);
        let (mut given, mut exactly) = (0u64, 0u64);
        for step in 0..120_000 {
            let now_ns = start_ns + step * 5_000_000;
            given += u64::from(source.connects(now_ns));
            exactly += u64::from(exact.admits(now_ns));
            let from_wrap_s = now_ns as f64 / 1e9 - (wraps * WRAP_NS) as f64 / 1e9;
            let expected = exactly..=source.at_most(start_ns, now_ns);
            assert!(expected.contains(&given), "{given} instead of {expected:?}, {from_wrap_s} s from the wrap");
        }
    }
}

/// Limits of a minute, of a day, and the shortest.
const DRAINS: [Rate; 4] =
    [Rate::per_minute(300, 300), Rate::per_hour(1000, 500), Rate::new(24, 24 * HOUR_NS, 24), Rate::per_second(1000, 1)];

#[test]
fn a_cell_at_rest_owes_nothing() {
    for rate in DRAINS {
        for hours in 0..=LONGEST_REST_NS / HOUR_NS {
            let never_used = Source::new(rate);
            assert_eq!(never_used.admitted(START_NS + hours * HOUR_NS, rate.burst), rate.burst, "{rate:?}, {hours} h");
            if hours > 24 {
                let drained = Source::new(rate);
                assert_eq!(drained.admitted(START_NS, rate.burst), rate.burst);
                assert_eq!(drained.admitted(START_NS + hours * HOUR_NS, rate.burst), rate.burst, "{rate:?}, {hours} h");
            }
        }
    }
}

#[test]
fn a_narrower_limit_forgives_what_the_wider_one_let_through() {
    let wide = World::new().unlimited().source_limit("smtp", Rate::per_hour(60, 600));
    let source = Source::of(&wide, Rate::per_hour(60, 600));
    assert_eq!(source.admitted(START_NS, 1000), 600);
    let narrow = Rate::per_minute(60, 10);
    let tables = source.tables.reconfigured(&World::new().unlimited().source_limit("smtp", narrow));
    let after = Source { tables, frame: source.frame, rate: narrow };
    assert_eq!(after.admitted(START_NS, 1000), 10);
}
