//! What a packet costs in the gate as it runs in production, beside a bare parser and a limiter that keeps a table
//! of sources, in one run on one machine.
//!
//! Everything is measured in turn and the whole again, so that what the machine does meanwhile falls on all alike;
//! the cost of the harness is taken off, and medians are reported.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use crate::cost::{Comparison, Harness};

mod judgement;
pub mod lists;
mod report;
mod scenario;
mod subject;

pub use judgement::Judgement;
use report::Figure;
pub use report::Report;
use scenario::{Program, Scenario};
use subject::{Setup, Subject};

/// After one to warm up.
pub const ROUNDS: u32 = 7;
pub const PACKETS: u32 = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub rounds: u32,
    pub packets: u32,
}

/// Measures the gate.
///
/// # Errors
///
/// Not root, a kernel too old, or a program that does not do what it is measured for.
pub fn gate(options: Options) -> Result<Report> {
    let mut bench = Bench {
        harness: Harness::new()?,
        subjects: Setup::ALL.into_iter().map(|setup| Ok((setup, Subject::load(setup)?))).collect::<Result<_>>()?,
        packets: options.packets,
    };
    let scenarios = scenario::all();
    let before = bench.subject(Setup::Default)?.maps()?;
    let mut samples = vec![Vec::new(); scenarios.len()];
    bench.round(&scenarios)?;
    for _ in 0..options.rounds {
        for (samples, sample) in samples.iter_mut().zip(bench.round(&scenarios)?) {
            samples.push(sample);
        }
    }
    let after = bench.subject(Setup::Default)?.maps()?;
    let figures = scenarios.iter().zip(samples).map(|(scenario, samples)| Figure::new(scenario, samples)).collect();
    Ok(Report::new(options, figures, before, after))
}

struct Bench {
    harness: Harness,
    subjects: HashMap<Setup, Subject>,
    packets: u32,
}

impl Bench {
    /// Measures everything once: nanoseconds a packet, without the harness.
    fn round(&mut self, scenarios: &[Scenario]) -> Result<Vec<f64>> {
        let mut costs = Vec::new();
        for scenario in scenarios {
            // Its own, and right before: the harness draws more for IPv6, and the machine is not equally fast all the time.
            let sources = scenario.sources;
            let (frames, packets) = (scenario.frames, self.packets);
            let empty = self.harness.compare_with(frames, Comparison::Empty, &scenario.frame, sources, packets)?;
            let cost = match scenario.program {
                Program::Comparison(with) => {
                    self.harness.compare_with(frames, with, &scenario.frame, sources, packets)?
                }
                Program::Gate(setup) => {
                    let subject = self.subject(setup)?;
                    subject.press()?;
                    let program = subject.program()?.try_clone()?;
                    self.harness.measure_with(frames, &program, &scenario.frame, sources, packets)?
                }
            };
            if let Some(expected) = scenario.action {
                let name = scenario.name;
                ensure!(cost.action == expected, "{name}: the program answered {}, not {expected}", cost.action);
            }
            costs.push(cost.nanoseconds - empty.nanoseconds);
        }
        Ok(costs)
    }

    fn subject(&self, setup: Setup) -> Result<&Subject> {
        self.subjects.get(&setup).context("every setup is loaded")
    }
}
