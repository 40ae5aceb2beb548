//! The limiter under floods of forged sources, beside the formula that predicts it.
//!
//! `RATELIMIT_LONG=1` runs the judged case for ten minutes of virtual time.

use std::{cell::Cell, env};

use bytemuck::Zeroable;
use ratelimit_common::{
    Address, Cells, ClassId, Entry, Limit, Mode, Moment, Parsed, Secret, Service, ServiceId, Set, Tables, Ticks,
    limit::TICK_NS,
    limiter::admit,
    map::{DEFAULT_LINES, LINE_BYTES},
};

#[path = "../../ratelimit-user/src/collision.rs"]
mod collision;
use collision::Region;

const S: u64 = 1_000_000_000;
/// The step of the kernel's coarse clock at 250 Hz.
const CLOCK_STEP_NS: u64 = 4_000_000;
const START_NS: u64 = S;
const ID: ServiceId = ServiceId::new(0).unwrap();

/// Tables in plain memory, with a clock that is set.
struct Host {
    set: Box<Set>,
    secret: Secret,
    now_ns: Cell<u64>,
    cells: Vec<Cell<u32>>,
    admitted: Cell<u32>,
}

impl Host {
    fn new(cells: u32) -> Self {
        Self {
            set: Box::new(Set::zeroed()),
            secret: Secret::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], 0),
            now_ns: Cell::new(START_NS),
            cells: vec![Cell::new(0); cells as usize],
            admitted: Cell::new(0),
        }
    }

    fn ticks(&self) -> Ticks {
        self.secret.ticks(self.now())
    }
}

impl Cells for Host {
    fn cell(&self, index: u32) -> Option<u32> {
        self.cells.get(index as usize).map(Cell::get)
    }

    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        let cell = &self.cells[index as usize];
        let unchanged = cell.get() == seen;
        if unchanged {
            cell.set(new);
        }
        unchanged
    }
}

impl Tables for Host {
    fn set(&self) -> &Set {
        &self.set
    }

    fn class(&self, _: &Address) -> ClassId {
        ClassId::NONE
    }

    fn entry(&self, _: ClassId) -> Entry {
        Entry::NONE
    }

    fn is_banned(&self, _: &Address, _: ServiceId) -> bool {
        false
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn now(&self) -> Moment {
        Moment(self.now_ns.get() / CLOCK_STEP_NS * CLOCK_STEP_NS)
    }

    fn count_admitted(&self, _: ServiceId) -> u32 {
        self.admitted.set(self.admitted.get().wrapping_add(1));
        self.admitted.get()
    }
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    fn source(&mut self) -> Address {
        Address::from_v4((self.next() >> 32) as u32)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sent: u64,
    refused: u64,
}

impl Count {
    fn add(&mut self, refused: bool) {
        self.sent += 1;
        self.refused += u64::from(refused);
    }

    fn share(self) -> f64 {
        self.refused as f64 / self.sent as f64
    }
}

fn limit(rate_per_s: u32, burst: u32, first_cell: u32, cells: u32) -> Limit {
    let increment = (S / u64::from(rate_per_s)).div_ceil(TICK_NS) as u32;
    Limit { increment, tolerance: Limit::tolerance_of(increment, burst), first_cell, cells }
}

/// One region at one load, scaled down: rate 1/s.
struct Trial {
    host: Host,
    limit: Limit,
    service: Service,
    burst: u32,
    random: Random,
    steady: Vec<Steady>,
    steady_count: Count,
    burst_count: Count,
}

struct Steady {
    source: Address,
    next_ns: u64,
    every_ns: u64,
}

const TRIAL_CELLS: u32 = 1 << 14;
const TRIAL_SECONDS: u64 = 120;
const WARM_SECONDS: u64 = 60;
const STEADY_SOURCES: u64 = 32;

impl Trial {
    fn new(burst: u32) -> Self {
        let limit = limit(1, burst, 0, TRIAL_CELLS);
        let none = Limit::NONE;
        let whole = Address::mask(128);
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(burst));
        // Half of them almost at their rate, half at a tenth of it.
        let steady = (0..STEADY_SOURCES)
            .map(|number| {
                let every_ns = if number % 2 == 0 { S * 21 / 20 } else { S * 10 };
                Steady { source: random.source(), next_ns: START_NS + random.below(every_ns), every_ns }
            })
            .collect();
        Self {
            host: Host::new(TRIAL_CELLS),
            limit,
            service: Service::new("trial", [limit, none, none, none], none, 0, [whole; 4]),
            burst,
            random,
            steady,
            steady_count: Count::default(),
            burst_count: Count::default(),
        }
    }

    /// Filling the cells by the flood alone would take up to a day of virtual time.
    fn fill(&mut self) {
        for cell in &self.host.cells {
            let below_top = self.random.below(u64::from(self.limit.increment * 3)) as u32;
            cell.set((self.host.ticks().0 + self.limit.tolerance).wrapping_sub(below_top));
        }
    }

    fn run(&mut self, flood_per_s: u64) {
        let probe_every = (flood_per_s * 60 * u64::from(self.burst) / 2_500_000).max(flood_per_s / 150);
        for second in 0..TRIAL_SECONDS {
            let warm = second >= WARM_SECONDS;
            for number in 0..flood_per_s {
                self.host.now_ns.set(START_NS + second * S + number * S / flood_per_s);
                let source = self.random.source();
                let _ = admit(&self.host, ID, &self.service, source, self.host.ticks());
                if number % 32 == 0 {
                    self.send_steady(warm);
                }
                if warm && number % probe_every == 0 {
                    self.probe_burst();
                }
            }
        }
    }

    fn send_steady(&mut self, count: bool) {
        let now = self.host.ticks();
        for steady in &mut self.steady {
            if steady.next_ns > self.host.now_ns.get() {
                continue;
            }
            steady.next_ns += steady.every_ns;
            let refused = admit(&self.host, ID, &self.service, steady.source, now).is_err();
            if count && steady.every_ns < 2 * S {
                self.steady_count.add(refused);
            }
        }
    }

    /// A whole burst of a source that was quiet, undone afterwards: thousands of them would be a flood.
    fn probe_burst(&mut self) {
        let (source, now) = (self.random.source(), self.host.ticks());
        let cells = self.limit.choose(self.host.secret.hash(source)).map(|index| &self.host.cells[index as usize]);
        let before = cells.map(Cell::get);
        for _ in 0..self.burst {
            self.burst_count.add(admit(&self.host, ID, &self.service, source, now).is_err());
        }
        for (cell, value) in cells.into_iter().zip(before) {
            cell.set(value);
        }
    }
}

/// Where cells neither drain nor fill for long, a trial says little about the steady state.
fn is_critical(load: f64) -> bool {
    (0.74..0.84).contains(&load)
}

#[test]
fn the_formula_agrees_with_the_limiter() {
    println!("burst  load   burst refused          steady refused");
    println!("              limiter    formula     limiter    formula (bound)");
    for burst in [1, 3, 60, 300, 3000] {
        for load in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.78, 0.8, 0.82, 0.85, 0.9, 1.0, 1.25, 1.5, 2.0] {
            compare(burst, load);
        }
    }
}

fn compare(burst: u32, load: f64) {
    let region = Region { cells: TRIAL_CELLS.into(), rate_per_s: 1.0, burst: burst.into() };
    let flood_per_s = (load * f64::from(TRIAL_CELLS)).round();
    let honest_per_s = STEADY_SOURCES as f64 * 0.5 * (20.0 / 21.0 + 0.1);
    let of_burst = region.refusal_burst(flood_per_s + honest_per_s);
    let of_steady = region.refusal_steady(flood_per_s + honest_per_s);

    let mut trial = Trial::new(burst);
    if of_burst > 0.5 {
        trial.fill();
    }
    trial.run(flood_per_s as u64);
    let (bursts, steady) = (trial.burst_count, trial.steady_count);
    println!("{burst:5} {load:5.2}   {:9.7}  {of_burst:9.7}   {:9.7}  {of_steady:9.7}", bursts.share(), steady.share());

    // Four standard deviations: each burst that loses any loses one or a few.
    let slack = |count: Count| 4.0 * (count.refused.max(4) as f64).sqrt() / count.sent as f64;
    assert!(of_burst >= 0.8 * bursts.share() - slack(bursts), "optimistic about bursts of {burst} at load {load}");
    assert!(of_steady >= 0.8 * steady.share() - slack(steady), "optimistic about steady ones, {burst} at load {load}");
    if !is_critical(load) {
        assert!(of_burst <= 1.2 * bursts.share() + slack(bursts), "too gloomy about bursts of {burst} at load {load}");
    }
}

const FLOOD_PER_S: u64 = 1_000_000;
const HONEST: usize = 10_000;
const BURSTING: usize = HONEST / 10;
const BURST: u32 = 300;
const NETWORK_BURST: u32 = 3000;
const PORT: u16 = 25;
const OURS: Address = Address::from_v4(0xc000_0201);

/// The default layout: equal shares for 8 services; of each, seven eighths for sources.
fn smtp() -> Host {
    let cells = (DEFAULT_LINES * LINE_BYTES / size_of::<u32>() / 8) as u32;
    let for_sources = cells / 8 * 7;
    let mut host = Host::new(cells);
    let limits = [
        limit(5, BURST, 0, for_sources),
        Limit::NONE,
        limit(50, NETWORK_BURST, for_sources, cells - for_sources),
        Limit::NONE,
    ];
    let masks = [128, 120, 128, 64].map(Address::mask);
    let id = ServiceId::new(0).unwrap();
    host.set.put_service(id, Service::new("smtp", limits, Limit::NONE, 0, masks), &[PORT]);
    host.set.put_locals(&[OURS], id.bit()).unwrap();
    host.set.set_mode(Some(id), Mode::Enforce);
    host
}

fn refused(host: &Host, source: Address) -> bool {
    let parsed = Parsed::connection(source, OURS, PORT);
    ratelimit_common::judge(&parsed, host).reason.refuses()
}

/// What a run of the judged case counted.
#[derive(Debug, Default)]
struct Judged {
    flood: Count,
    steady: Count,
    burst: Count,
}

/// The flood and 10,000 sources at 1/s, of which 1,000 also send their whole burst at once, each once in 70 s.
fn run_judged(host: &Host, seconds: u64) -> Judged {
    const WARM_MS: u64 = 5_000;
    const BURST_EVERY_MS: u64 = 70_000;
    let mut random = Random(0x1234_5678_9abc_def1);
    let steady: Vec<Address> = (0..HONEST).map(|_| random.source()).collect();
    let bursting: Vec<(Address, u64)> = steady
        .iter()
        .take(BURSTING)
        .map(|source| (*source, WARM_MS + random.below(BURST_EVERY_MS - WARM_MS)))
        .collect();
    let mut judged = Judged::default();
    for ms in 0..seconds * 1000 {
        host.now_ns.set(START_NS + ms * 1_000_000);
        for _ in 0..FLOOD_PER_S / 1000 {
            judged.flood.add(refused(host, random.source()));
        }
        for source in steady.iter().skip((ms % 1000) as usize).step_by(1000) {
            judged.steady.add(refused(host, *source));
        }
        for (source, _) in bursting.iter().filter(|(_, at_ms)| ms % BURST_EVERY_MS == *at_ms) {
            // The SYN of its steady second is part of its burst.
            for _ in 0..BURST - 1 {
                judged.burst.add(refused(host, *source));
            }
        }
    }
    judged
}

#[test]
fn a_million_forged_syns_a_second_cost_honest_senders_next_to_nothing() {
    let seconds = if env::var_os("RATELIMIT_LONG").is_some() { 600 } else { 70 };
    let host = smtp();
    let judged = run_judged(&host, seconds);
    let region = Region { cells: host.cells.len() as u64 / 8 * 7, rate_per_s: 5.0, burst: BURST.into() };
    let formula = region.refusal_burst(FLOOD_PER_S as f64);
    println!("smtp defaults, {FLOOD_PER_S} forged SYN/s for {seconds} s: {judged:?}");
    println!("burst share: limiter {:.6}, formula {formula:.6}", judged.burst.share());
    println!("capacity {:.0}/s, cells needed {}", region.capacity(), region.memory_for(FLOOD_PER_S as f64));

    assert!(region.capacity() >= FLOOD_PER_S as f64);
    assert_eq!(region.refusal_steady(FLOOD_PER_S as f64), 0.0);
    assert_eq!(judged.steady.refused, 0);
    assert!(judged.burst.sent >= (BURSTING as u64) * u64::from(BURST - 1) * 9 / 10);
    assert!(judged.burst.share() <= 1e-3);
    assert!(formula >= 0.8 * judged.burst.share());
}
