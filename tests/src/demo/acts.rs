//! The acts: honest conversations throughout, and what is flooded meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::interrupt;
use super::measure::{Change, Reading, measure_programs};
use super::report;
use super::screen::Screen;
use super::topology::{self, IMAP, SMTP, Topology, WIRE};
use crate::clients::Conversation;
use crate::flood::{Flood, FloodReport, Pattern, RunningFlood};
use crate::load::{Load, Running, Tally};

/// Leaves a core of two to the mail server, which shares the machine with its attacker here.
const FLOOD_PER_SECOND: u64 = 1_500_000;

/// Of each protocol, in each family.
const CONVERSATIONS_PER_SECOND: f64 = 4.0;
const WORKERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

/// For one SYN in the honest network's name, so many in anybody's.
const EVERYBODY: usize = 7;

const TICK: Duration = Duration::from_secs(1);
/// What is on the wire when a flood ends arrives long before.
const SETTLING: Duration = Duration::from_millis(100);

/// One part of the demo.
#[derive(Debug)]
pub(super) struct Act {
    pub title: String,
    pub duration: Duration,
    /// Where a flood comes from; none in a quiet act.
    pub attackers: Vec<Ipv4Net>,
    /// Whom a flood claims to come from, at random; none where the attackers show who they are.
    pub forged: Vec<Ipv4Net>,
    /// Whom `ratelimit explain` is asked about while the flood goes on.
    pub asked_about: Vec<IpAddr>,
}

/// What became of an act.
#[derive(Debug)]
pub(super) struct Outcome {
    pub attackers: Vec<Ipv4Net>,
    pub is_forged: bool,
    pub flood: Option<FloodReport>,
    pub change: Change,
    pub elapsed: Duration,
    pub honest: Honest,
    /// What `ratelimit explain` said during the flood.
    pub explanations: Vec<Explained>,
}

/// The honest conversations of an act.
#[derive(Debug, Default)]
pub(super) struct Honest {
    pub smtp: Tally,
    pub imap: Tally,
}

#[derive(Debug)]
pub(super) struct Explained {
    pub command: String,
    pub answer: String,
}

/// What happened in the last second of an act under way.
#[derive(Debug)]
pub(super) struct Second {
    /// Since the start of the act.
    pub elapsed: Duration,
    pub flood_per_second: Option<f64>,
    pub change: Change,
    /// Since the start of the act.
    pub honest: Honest,
}

/// All acts in their order.
pub(super) fn program() -> Result<Vec<Act>> {
    let seconds = Duration::from_secs;
    let one = "198.19.0.66/32".parse::<Ipv4Net>()?;
    let several: Vec<Ipv4Net> = "198.18.0.0/22".parse::<Ipv4Net>()?.subnets(24)?.collect();
    let one_of_several = "198.18.3.7".parse()?;
    let asked_about: Vec<IpAddr> = [one_of_several].into_iter().chain(topology::honest_v4().first().copied()).collect();
    let act = |title: String, duration| Act {
        title,
        duration: seconds(duration),
        attackers: Vec::new(),
        forged: Vec::new(),
        asked_about: Vec::new(),
    };
    let everybody: Vec<Ipv4Net> =
        (0..EVERYBODY).map(|_| "0.0.0.0/0").chain([topology::HONEST_V4]).map(str::parse).collect::<Result<_, _>>()?;
    Ok(vec![
        act("a quiet day".into(), 5),
        Act { attackers: vec![one], ..act(format!("a flood from one source, {}", one.addr()), 10) },
        Act {
            attackers: several.clone(),
            asked_about: asked_about.clone(),
            ..act(format!("a flood from every address of {} networks, 198.18.0.0/22", several.len()), 15)
        },
        Act {
            forged: everybody,
            asked_about,
            ..act("a forged flood: random sources, one SYN in eight in the honest network's name".into(), 15)
        },
    ])
}

pub(super) fn play(act: &Act, topology: &Topology, screen: &mut Screen) -> Result<Outcome> {
    interrupt::check()?;
    // Ends with the act: a machine has other eBPF programs that need not be measured.
    let _measured = measure_programs();
    let before = Reading::take(topology)?;
    let start = Instant::now();
    let honest = Conversing::start(topology)?;
    let flood = begin_flood(act, topology)?;
    watch(act, topology, &honest, flood.as_ref(), &before, screen)?;
    let explanations = explain(&act.asked_about, topology)?;
    let flood = end_flood(flood)?;
    let honest = honest.stop();
    thread::sleep(SETTLING);
    let change = Reading::take(topology)?.since(&before);
    let (attackers, is_forged) = (act.attackers.clone(), !act.forged.is_empty());
    let outcome = Outcome { attackers, is_forged, flood, change, elapsed: start.elapsed(), honest, explanations };
    report::outcome(screen, &outcome)?;
    Ok(outcome)
}

/// Shows every second what happens, until the act is over.
fn watch(
    act: &Act,
    topology: &Topology,
    honest: &Conversing,
    flood: Option<&RunningFlood>,
    before: &Reading,
    screen: &mut Screen,
) -> Result<()> {
    let start = Instant::now();
    let mut ticks = 0;
    let (mut at, mut sent, mut reading) = (start, 0, before.clone());
    while start.elapsed() < act.duration {
        ticks += 1;
        interrupt::sleep_until(start + TICK * ticks)?;
        let last = (at, sent, reading);
        (at, sent) = (Instant::now(), flood.map_or(0, RunningFlood::sent));
        reading = Reading::take(topology)?;
        let second = Second {
            elapsed: at - start,
            flood_per_second: flood.map(|_| (sent - last.1) as f64 / (at - last.0).as_secs_f64()),
            change: reading.since(&last.2),
            honest: honest.so_far(),
        };
        report::progress(screen, &second)?;
    }
    Ok(())
}

/// Asks the controller while the flood goes on.
fn explain(addresses: &[IpAddr], topology: &Topology) -> Result<Vec<Explained>> {
    let explain = |address: &IpAddr| {
        let words = ["explain", &address.to_string(), "--service", "smtp"];
        let answer = topology.controller.cli(&words)?;
        Ok(Explained { command: format!("ratelimit {}", words.join(" ")), answer: answer.stdout + &answer.stderr })
    };
    addresses.iter().map(explain).collect()
}

fn begin_flood(act: &Act, topology: &Topology) -> Result<Option<RunningFlood>> {
    let networks = |networks: &[Ipv4Net]| networks.iter().map(|network| IpNet::V4(*network)).collect::<Vec<_>>();
    let pattern = match (act.attackers.as_slice(), act.forged.as_slice()) {
        ([], []) => return Ok(None),
        (attackers, []) => Pattern::round_robin(networks(attackers)),
        (_, forged) => Pattern::random(networks(forged)),
    };
    let seconds = act.duration + PATIENCE;
    let flood = Flood::new(topology.attacker.path(), WIRE)
        .template(topology.syn(Ipv4Addr::UNSPECIFIED)?)
        .sources(pattern)
        .rate(Some(FLOOD_PER_SECOND))
        .limit(FLOOD_PER_SECOND * seconds.as_secs(), seconds);
    // The thread of the flood inherits the core it is started on.
    let flood = thread::scope(|scope| {
        let starter = scope.spawn(|| -> Result<RunningFlood> {
            keep_to_last_core()?;
            flood.start()
        });
        starter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(Some(flood))
}

fn end_flood(flood: Option<RunningFlood>) -> Result<Option<FloodReport>> {
    let Some(flood) = flood else {
        return Ok(None);
    };
    flood.stop();
    Ok(Some(flood.join()?))
}

fn keep_to_last_core() -> Result<()> {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread)?;
    let last = (0..CpuSet::count()).rev().find(|core| allowed.is_set(*core).unwrap_or(false));
    let mut only = CpuSet::new();
    only.set(last.context("no core to run on")?)?;
    Ok(sched_setaffinity(this_thread, &only)?)
}

/// Honest clients at work.
struct Conversing {
    loads: Vec<(Conversation, Running)>,
}

impl Conversing {
    fn start(topology: &Topology) -> Result<Self> {
        let mut loads = Vec::new();
        for sources in [topology::honest_v4(), topology::honest_v6()] {
            for (conversation, port) in [(Conversation::Smtp, SMTP), (Conversation::Imap, IMAP)] {
                let first = *sources.first().context("nobody is honest")?;
                let load = Load {
                    sources: sources.clone(),
                    server: topology::server(first, port),
                    conversation,
                    per_second: CONVERSATIONS_PER_SECOND,
                    count: None,
                    workers: WORKERS,
                    timeout: PATIENCE,
                };
                loads.push((conversation, load.start(&topology.honest)?));
            }
        }
        Ok(Self { loads })
    }

    fn so_far(&self) -> Honest {
        self.loads.iter().map(|(conversation, load)| (*conversation, load.tally())).collect()
    }

    /// Returns when the conversations under way have ended.
    fn stop(self) -> Honest {
        self.loads.into_iter().map(|(conversation, load)| (conversation, load.stop())).collect()
    }
}

impl FromIterator<(Conversation, Tally)> for Honest {
    fn from_iter<I: IntoIterator<Item = (Conversation, Tally)>>(tallies: I) -> Self {
        let mut honest = Self::default();
        for (conversation, tally) in tallies {
            match conversation {
                Conversation::Imap => honest.imap.merge(tally),
                _ => honest.smtp.merge(tally),
            }
        }
        honest
    }
}

impl Honest {
    pub fn attempts(&self) -> u64 {
        self.smtp.attempts + self.imap.attempts
    }

    pub fn completed(&self) -> u64 {
        self.smtp.completed + self.imap.completed
    }
}

impl Outcome {
    /// Packets handed to the wire.
    pub fn sent(&self) -> u64 {
        self.flood.map_or(0, |flood| flood.packets)
    }

    /// Packets of the flood that came to the gate.
    pub fn arrived(&self) -> u64 {
        self.sent().saturating_sub(self.change.lost)
    }

    /// Packets of the flood that the gate counted: all new connections but the honest ones.
    pub fn judged(&self) -> u64 {
        self.change.judged.saturating_sub(self.change.honest_syns)
    }

    /// Packets of the flood that the gate did not let in: dropped, or answered with a challenge.
    pub fn dropped(&self) -> u64 {
        self.change.dropped().saturating_sub(self.change.honest_drops + self.change.honest_asked)
    }

    /// Packets of the flood that the gate let in.
    pub fn let_in(&self) -> u64 {
        self.judged().saturating_sub(self.dropped())
    }
}
