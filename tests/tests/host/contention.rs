//! Several processors at one source's cells.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use ratelimit_common::{
    Address, Cells, ClassId, Entry, Moment, Reason, Secret, ServiceId, Set, SliceFrame, Tables, decide,
    limiter::ATTEMPTS,
};
use ratelimit_tests::{
    packet::{SynPacket, mutate::Random},
    tables::{HostTables, World, world::Rate},
};

const BURST: u32 = 300;
/// Each processor tries this often at the same moment.
const ATTEMPTS_EACH: u32 = 2 * BURST;
const ROUNDS: u32 = 60;

/// A processor that loses its turn around reads and swaps at random, so that few cores show many orders.
struct Jumpy<'a> {
    tables: &'a HostTables,
    random: std::cell::RefCell<Random>,
    /// One in how many operations.
    every: usize,
}

impl Jumpy<'_> {
    fn jump(&self) {
        if self.every > 0 && self.random.borrow_mut().below(self.every) == 0 {
            thread::yield_now();
        }
    }
}

impl Cells for Jumpy<'_> {
    fn cell(&self, index: u32) -> Option<u32> {
        self.jump();
        self.tables.cell(index)
    }

    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        self.jump();
        self.tables.replace_cell(index, seen, new)
    }
}

impl Tables for Jumpy<'_> {
    fn set(&self) -> &Set {
        self.tables.set()
    }

    fn class(&self, source: &Address) -> ClassId {
        self.tables.class(source)
    }

    fn entry(&self, class: ClassId) -> Entry {
        self.tables.entry(class)
    }

    fn is_banned(&self, source: &Address, service: ServiceId) -> bool {
        self.tables.is_banned(source, service)
    }

    fn secret(&self) -> &Secret {
        self.tables.secret()
    }

    fn now(&self) -> Moment {
        self.tables.now()
    }

    fn count_admitted(&self, service: ServiceId) -> u32 {
        self.tables.count_admitted(service)
    }
}

/// The most that one source got out of a burst at one moment.
fn most_admitted(threads: u32, every: usize) -> u32 {
    let world = World::new().unlimited().source_limit("smtp", Rate::per_hour(60, BURST));
    let frame = SynPacket::v4().build();
    let round = |round: u32| {
        let tables = HostTables::new(&world);
        let (admitted, together) = (AtomicU32::new(0), Barrier::new(threads as usize));
        thread::scope(|scope| {
            for thread in 0..threads {
                let (tables, frame, admitted, together) = (&tables, &frame, &admitted, &together);
                scope.spawn(move || {
                    let random = Random::new(u64::from(round) << 32 | u64::from(thread)).into();
                    let processor = Jumpy { tables, random, every };
                    together.wait();
                    for _ in 0..ATTEMPTS_EACH {
                        let verdict = decide(&SliceFrame(frame), &processor);
                        admitted.fetch_add(u32::from(verdict.reason == Reason::Admitted), Ordering::Relaxed);
                    }
                });
            }
        });
        admitted.into_inner()
    };
    (0..ROUNDS).map(round).max().unwrap_or(0)
}

#[test]
fn several_processors_admit_at_most_twice_the_burst() {
    for threads in [1, 2, 4, 8] {
        for every in [0, 2, 8, 64] {
            let most = most_admitted(threads, every);
            println!("{threads} threads, a jump every {every}: at most {most} of a burst of {BURST}");
            let bound = if threads == 1 { BURST } else { 2 * BURST + BURST * (threads - 1) / ATTEMPTS };
            assert!((BURST..=bound).contains(&most), "{most} admitted by {threads} threads, {bound} at most");
        }
    }
}
