//! How likely a flood of forged sources makes the limiter refuse an honest one.
//!
//! # The question
//!
//! A region of N cells is shared by more sources than it can tell apart. A source has two cells, chosen by a
//! keyed hash, and owes what the lesser of them owes. A flood from random sources is hardly ever over a limit
//! of its own, so it is admitted and raises two random cells with every SYN. A SYN of an honest source is
//! refused, through no fault of its own, when chance has raised both its cells too far.
//!
//! # The model
//!
//! Count debt in connections and time in 1/rate, so that a cell that owes anything drains at speed 1. What
//! remains are two numbers: the *load* F/(N·rate) and the *top* T = burst - 1, the debt above which a source
//! is refused. Let U be the debt of a cell, and G(x) the share of cells with U > x.
//!
//! A SYN whose cells owe u and v, m = min(u, v), is refused if m > T; otherwise both cells become at least
//! m + 1 (conservative update). So a cell crosses a level x upwards if it owed at most x, and both cells owed
//! more than x - 1. A cell is hit 2·load times in a unit of time; its partner is a random cell. The cells that
//! drain through x are balanced by those that cross it upwards:
//!
//! ```text
//! -G'(x) = 2·load · (G(x-1) - G(x)) · G(x-1)                                        0 < x <= T
//! -G'(x) = 2·load · ((G(x-1) - G(x)) · G(x-1) - (G(T) - G(x)) · G(T))               T < x <= T+1
//! G(x) = 1 for x < 0,   G(T+1) = 0
//! ```
//!
//! the last term being the refused SYNs. That is an equation with a delay of 1, integrated upwards from the
//! share of idle cells 1 - G(0), which is the one unknown: it is found by bisection so that G(T+1) = 0.
//!
//! - *A whole burst at once.* Each SYN raises the lesser cell by exactly 1, so a quiet source whose cells owe
//!   m > 1 at first loses min(ceil(m) - 1, burst) of its SYNs. On average that is the sum of G(j)² over j = 1 to T.
//! - *Steady.* A SYN is refused if both cells owe more than T: G(T)² for a source that sends rarely. One that
//!   uses most of its rate ties its two cells together, and at worst they move as one: G(T), the bound given here.
//!
//! # What comes out
//!
//! Below a load of 0.80 debts stay within a few connections whatever the burst, and only the first few SYNs
//! of a burst are at stake. Above it (each SYN then raises its cells by 1.24 together) the cells climb as a body
//! until they reach the burst and refuse the excess, like a full queue. The shape of G is the same at either
//! end, so for large bursts the equation is solved for 40 levels and the rest is put where G is flat.
//!
//! # Assumptions, and where they end
//!
//! - Steady state, the worst case: from empty cells it takes burst / (1.24·F/N - rate) seconds to fill them.
//! - The two cells of a SYN are independent. This needs thousands of cells, and more sources than cells: 2^32
//!   addresses, or 2^24 networks of which none exceeds its own limit by what is forged in its name.
//! - The flood is all SYNs that the region sees, the honest ones (few beside a flood) included.
//! - The steps of the clock (4 ms) are short beside 1/rate; up to 50/s the difference does not show.
//! - A source's earlier SYNs are its own debt, not a collision.
//!
//! Everything is computed for [`MARGIN`] more flood than asked for, which covers what is neglected: the
//! same cell chosen twice, the integration step, the rounding of increments to ticks. Comparison with the
//! limiter itself: `tests/simulation.rs` of `ratelimit-common`.

/// The cells of one limit of one service at one level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    pub cells: u64,
    /// Connections per second that one source may open.
    pub rate_per_s: f64,
    /// Connections that one source may open at once; fractions are dropped.
    pub burst: f64,
}

/// The share of an honest burst that may be lost to collisions before a region counts as full.
pub const TOLERATED_SHARE: f64 = 1e-3;
/// The debt of strangers that costs a burst nothing: a tolerance is all but one connection more than a burst
/// needs (`Limit::tolerance_of`). Counted as a whole one here.
pub const SPARE: usize = 1;
/// Factor by which the flood is overestimated.
pub const MARGIN: f64 = 1.02;
/// Levels that are solved for; the body of cells is at most about ten levels deep.
const LEVELS: usize = 40;
/// Integration steps per level.
const STEPS: usize = 32;
/// Above this load, which refuses nine tenths of everything, everything is taken to be refused.
const HIGHEST_LOAD: f64 = 8.0;
/// Log of the least share of idle cells: less than that of any load up to [`HIGHEST_LOAD`].
const LOG_LEAST_IDLE: f64 = -690.0;
/// Shares below this are rounding errors of the integration.
const NOISE: f64 = 1e-9;

impl Region {
    /// The chance that a SYN of an honest source is refused while that source stays within its rate: an upper
    /// bound for every such source, about the square root of the chance of one that sends rarely.
    pub fn refusal_steady(&self, flood_per_s: f64) -> f64 {
        match self.load(flood_per_s) {
            Load::None => 0.0,
            Load::Some(load) => Debts::solve(load, self.top()).of_steady(),
            Load::Absurd => 1.0,
        }
    }

    /// The expected share of SYNs refused of an honest source that was quiet and sends its whole burst at once.
    pub fn refusal_burst(&self, flood_per_s: f64) -> f64 {
        match self.load(flood_per_s) {
            Load::None => 0.0,
            Load::Some(load) => Debts::solve(load, self.top()).of_burst(),
            Load::Absurd => 1.0,
        }
    }

    /// The largest flood, in SYNs per second, that costs an honest burst no more than [`TOLERATED_SHARE`].
    pub fn capacity(&self) -> f64 {
        self.drain_per_s(self.cells as f64) * highest_tolerated_load(self.top()) / MARGIN
    }

    /// How many cells are needed for a flood, in SYNs per second, to be within [`capacity`](Self::capacity).
    pub fn memory_for(&self, flood_per_s: f64) -> u64 {
        let per_cell = self.drain_per_s(1.0) * highest_tolerated_load(self.top()) / MARGIN;
        (flood_per_s.max(0.0) / per_cell).ceil() as u64
    }

    /// What cells drain when all of them owe something.
    fn drain_per_s(&self, cells: f64) -> f64 {
        cells * self.rate_per_s.max(0.0)
    }

    /// The debt above which a source is refused, in whole connections.
    fn top(&self) -> usize {
        (self.burst as usize).max(1) - 1 + SPARE
    }

    fn load(&self, flood_per_s: f64) -> Load {
        let load = flood_per_s * MARGIN / self.drain_per_s(self.cells as f64);
        if flood_per_s <= 0.0 {
            Load::None
        } else if load < HIGHEST_LOAD {
            Load::Some(load)
        } else {
            Load::Absurd
        }
    }
}

/// Flood by drain.
#[derive(Clone, Copy)]
enum Load {
    None,
    Some(f64),
    /// Beyond what is worth computing, or not a number: no cells, no rate.
    Absurd,
}

/// The highest load at which a burst loses no more than [`TOLERATED_SHARE`], rounded down.
fn highest_tolerated_load(top: usize) -> f64 {
    const ROUNDS: u32 = 14;
    let (mut tolerated, mut refused) = (0.0, 1.0);
    for _ in 0..ROUNDS {
        let load = 0.5 * (tolerated + refused);
        match Debts::solve(load, top).of_burst() <= TOLERATED_SHARE {
            true => tolerated = load,
            false => refused = load,
        }
    }
    tolerated
}

/// The debts of cells in the steady state.
struct Debts {
    /// The share of cells that owe more than 0, 1, 2 … connections: G(j) of the module's documentation.
    above: Vec<f64>,
    /// Levels left out in the middle, where the share does not change.
    omitted: usize,
}

impl Debts {
    fn solve(load: f64, top: usize) -> Self {
        // More halvings would not change a double.
        const ROUNDS: u32 = 52;
        let solved_top = top.min(LEVELS);
        let mut below = Vec::with_capacity(STEPS * (solved_top + 1) + 1);
        let (mut too_few, mut too_many) = (LOG_LEAST_IDLE, 0.0);
        for _ in 0..ROUNDS {
            let log_idle = 0.5 * (too_few + too_many);
            match integrate(load, solved_top, log_idle, &mut below) {
                Reach::Whole => too_few = log_idle,
                Reach::BeyondAll => too_many = log_idle,
            }
        }
        integrate(load, solved_top, too_few, &mut below);
        let above = below.iter().step_by(STEPS).take(solved_top + 1).map(|below| 1.0 - below).collect();
        Self { above, omitted: top - solved_top }
    }

    fn of_steady(&self) -> f64 {
        let share = self.above.last().copied().unwrap_or(1.0);
        if share < NOISE { 0.0 } else { share }
    }

    fn of_burst(&self) -> f64 {
        let solved: f64 = self.above.iter().skip(SPARE).map(|above| above * above).sum();
        let flat = self.above.get(self.above.len() / 2).copied().unwrap_or(1.0);
        let lost = solved + self.omitted as f64 * flat * flat;
        lost / (self.above.len() + self.omitted - SPARE) as f64
    }
}

/// How far an integration came.
enum Reach {
    /// To the end, with at most all cells below it.
    Whole,
    /// More than all cells were below some level: it began with too many idle ones.
    BeyondAll,
}

/// Integrates the share of cells *below* a level, 1 - G, from 0 to `top` + 1 in `below`.
///
/// In terms of 1 - G, small shares of idle cells keep their precision. Each step solves the equation exactly
/// with its delayed terms taken at the middle of the step.
fn integrate(load: f64, top: usize, log_idle: f64, below: &mut Vec<f64>) -> Reach {
    const STEP: f64 = 1.0 / STEPS as f64;
    below.clear();
    below.push(log_idle.exp());
    for step in 0..STEPS * (top + 1) {
        let here = below[step];
        let one_less = match step.checked_sub(STEPS) {
            Some(earlier) => 0.5 * (below[earlier] + below[earlier + 1]),
            None => 0.0,
        };
        let next = if step < STEPS * top {
            one_less + (here - one_less) * (2.0 * load * (1.0 - one_less) * STEP).exp()
        } else {
            let at_top = below[STEPS * top];
            let slope = 2.0 * load * (at_top - one_less);
            let constant = 2.0 * load * (at_top * (1.0 - at_top) - one_less * (1.0 - one_less));
            here * (slope * STEP).exp() + constant * STEP * (1.0 + 0.5 * slope * STEP)
        };
        if next > 1.0 {
            return Reach::BeyondAll;
        }
        below.push(next);
    }
    Reach::Whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMTP_SOURCE: Region = Region { cells: 786_432, rate_per_s: 5.0, burst: 300.0 };

    fn region(burst: f64) -> Region {
        Region { cells: 1 << 16, rate_per_s: 2.0, burst }
    }

    #[test]
    fn refusals_are_shares_and_grow_with_the_flood() {
        for burst in [1.0, 2.0, 3.0, 10.0, 60.0, 300.0, 3000.0, 86_400.0] {
            let region = region(burst);
            let (mut steady, mut at_once) = (0.0, 0.0);
            for percent in (0..300).step_by(4) {
                let flood = f64::from(percent) / 100.0 * 131_072.0;
                let (steady_now, at_once_now) = (region.refusal_steady(flood), region.refusal_burst(flood));
                assert!((0.0..=1.0).contains(&steady_now) && (0.0..=1.0).contains(&at_once_now));
                assert!(steady_now + 1e-9 >= steady && at_once_now + 1e-9 >= at_once, "burst {burst}, {percent} %");
                (steady, at_once) = (steady_now, at_once_now);
            }
        }
    }

    #[test]
    fn cells_fill_up_at_a_load_of_four_fifths() {
        for burst in [60.0, 300.0, 3000.0] {
            assert_eq!(region(burst).refusal_steady(0.77 * 131_072.0), 0.0);
            assert!(region(burst).refusal_steady(0.82 * 131_072.0) > 0.05);
        }
    }

    /// With few collisions a cell is busy for 2·load of the time. A burst whose cells are both busy would lose
    /// one SYN, but for the spare; it takes two strangers in both cells to lose one.
    #[test]
    fn a_light_flood_costs_a_burst_next_to_nothing() {
        let region = region(300.0);
        let load = 0.005;
        let share = region.refusal_burst(load * 131_072.0 / MARGIN);
        let without_spare = (2.0 * load) * (2.0 * load) / 300.0;
        assert!(share < without_spare / 100.0, "{share} {without_spare}");
    }

    #[test]
    fn capacity_is_where_the_tolerated_share_is_reached() {
        for burst in [1.0, 60.0, 300.0, 3000.0] {
            let region = region(burst);
            let capacity = region.capacity();
            assert!(region.refusal_burst(capacity) <= TOLERATED_SHARE * 1.000_001, "burst {burst}");
            assert!(region.refusal_burst(capacity * 1.01) > TOLERATED_SHARE, "burst {burst}");
        }
    }

    #[test]
    fn memory_and_capacity_say_the_same() {
        let cells = SMTP_SOURCE.memory_for(1e6);
        assert!(cells < SMTP_SOURCE.cells);
        assert!(Region { cells, ..SMTP_SOURCE }.capacity() >= 1e6 * 0.999_999);
        assert!(Region { cells: cells - 2, ..SMTP_SOURCE }.capacity() < 1e6);
    }

    #[test]
    fn nothing_and_too_much_are_answered() {
        assert_eq!(SMTP_SOURCE.refusal_burst(0.0), 0.0);
        assert_eq!(SMTP_SOURCE.refusal_steady(-1.0), 0.0);
        assert_eq!(SMTP_SOURCE.memory_for(0.0), 0);
        for region in [Region { cells: 0, ..SMTP_SOURCE }, Region { rate_per_s: 0.0, ..SMTP_SOURCE }] {
            assert_eq!(region.refusal_burst(1.0), 1.0);
            assert_eq!(region.refusal_steady(f64::INFINITY), 1.0);
            assert_eq!(region.capacity(), 0.0);
        }
        assert_eq!(SMTP_SOURCE.refusal_burst(f64::NAN), 1.0);
        assert_eq!(Region { rate_per_s: 0.0, ..SMTP_SOURCE }.memory_for(1.0), u64::MAX);
    }
}
