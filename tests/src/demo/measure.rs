//! Counters of the gate, of the drivers and of the honest clients' kernel, and what changed between two readings.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use ratelimit_common::Reason;
use ratelimit_user::api::{Count, Status};

use super::port::Port;
use super::topology::{ATTACK_PORT, HONEST_PORT, Topology, WIRE};
use crate::netns::Namespace;

/// The unit of times in /proc, fixed in the kernel's interface to programs.
const TICKS_PER_SECOND: u64 = 100;

/// All that is counted, from the start of the topology on.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// Of all services and of what belongs to none, from the controller.
    counts: BTreeMap<String, Count>,
    honest_syns: u64,
    honest: Port,
    attack: Port,
    lost: u64,
    gate: Option<GateTime>,
    controller_cpu: Duration,
}

/// Between two readings.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    /// By reason.
    pub drops: BTreeMap<String, u64>,
    /// Connections that the gate judged, honest ones included.
    pub judged: u64,
    /// SYNs that the honest clients' kernel sent, repeated ones included.
    pub honest_syns: u64,
    /// Frames of the honest network that the gate dropped, as the driver counted them; answers to challenges too.
    pub honest_drops: u64,
    /// Those that it answered with a challenge.
    pub honest_asked: u64,
    /// Frames of the attacker that the gate dropped, as the driver counted them.
    pub attack_drops: u64,
    pub attack_asked: u64,
    /// Frames of the attacker that did not reach the gate, because the wire's queue was full.
    pub lost: u64,
    pub gate: Option<GateTime>,
    pub controller_cpu: Duration,
}

/// How often the gate's program ran, and for how long.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GateTime {
    pub runs: u64,
    pub ns: u64,
}

impl Reading {
    pub fn take(topology: &Topology) -> Result<Self> {
        let status = topology.controller.status()?;
        Ok(Self {
            honest_syns: syns_sent(&topology.honest)?,
            honest: Port::read(&topology.gateway, HONEST_PORT)?,
            attack: Port::read(&topology.gateway, ATTACK_PORT)?,
            lost: Port::read(&topology.attacker, WIRE)?.lost,
            gate: GateTime::read(&topology.controller.pins()),
            controller_cpu: cpu_of(topology.controller.id().context("the controller is not running")?)?,
            counts: counts(&status),
        })
    }

    pub fn since(&self, earlier: &Self) -> Change {
        let mut change = Change {
            honest_syns: self.honest_syns - earlier.honest_syns,
            honest_drops: self.honest.dropped - earlier.honest.dropped,
            honest_asked: self.honest.answered - earlier.honest.answered,
            attack_drops: self.attack.dropped - earlier.attack.dropped,
            attack_asked: self.attack.answered - earlier.attack.answered,
            lost: self.lost - earlier.lost,
            gate: self.gate.zip(earlier.gate).map(|(now, then)| now.since(then)),
            controller_cpu: self.controller_cpu.saturating_sub(earlier.controller_cpu),
            ..Change::default()
        };
        for (reason, count) in &self.counts {
            let before = earlier.counts.get(reason).copied().unwrap_or_default();
            let dropped = count.dropped - before.dropped;
            if dropped > 0 {
                change.drops.insert(reason.clone(), dropped);
            }
            if is_new_connection(reason) {
                change.judged += dropped + count.passed - before.passed;
            }
        }
        change
    }
}

impl Change {
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// What was refused because its source or network is over a limit.
    pub fn over_limits(&self) -> u64 {
        let of = |reason: &Reason| self.drops.get(reason.label()).copied().unwrap_or(0);
        [Reason::SourceLimit, Reason::NetworkLimit].iter().map(of).sum()
    }

    /// Answers to challenges: only honest clients give any here.
    pub fn answers(&self) -> u64 {
        self.drops.get(Reason::Answered.label()).copied().unwrap_or(0)
    }
}

impl GateTime {
    /// From the program behind a pinned link; `None` where the kernel does not say.
    fn read(pins: &Path) -> Option<Self> {
        let link: FdLink = PinnedLink::from_pin(pins.join("links").join(ATTACK_PORT)).ok()?.into();
        let id = link.info().ok()?.program_id();
        let program = loaded_programs().flatten().find(|program| program.id() == id)?;
        let fd = program.fd().ok()?;
        let shown = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
        let value = |name: &str| {
            let line = shown.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        Some(Self { runs: value("run_cnt:")?, ns: value("run_time_ns:")? })
    }

    fn since(self, earlier: Self) -> Self {
        Self { runs: self.runs - earlier.runs, ns: self.ns - earlier.ns }
    }
}

/// While it lives, the kernel measures how long eBPF programs run; `None` where it does not do that.
pub(super) fn measure_programs() -> Option<OwnedFd> {
    enable_stats(Stats::RunTime).ok()
}

fn counts(status: &Status) -> BTreeMap<String, Count> {
    let mut sums: BTreeMap<String, Count> = BTreeMap::new();
    let of_services = status.services.iter().flat_map(|service| &service.counts);
    for (reason, count) in of_services.chain(&status.other) {
        let sum = sums.entry(reason.clone()).or_default();
        sum.passed += count.passed;
        sum.dropped += count.dropped;
    }
    sums
}

fn is_new_connection(label: &str) -> bool {
    Reason::ALL.iter().any(|reason| reason.label() == label && reason.is_new_connection())
}

/// Connections that were begun, and SYNs that were repeated.
fn syns_sent(namespace: &Namespace) -> Result<u64> {
    Ok(namespace.counter("Tcp", "ActiveOpens")? + namespace.counter("TcpExt", "TCPSynRetrans")?)
}

/// Time that a process has spent on processors.
fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("cannot look at the controller")?;
    cpu_in(&stat).with_context(|| format!("cannot read {stat:?}"))
}

/// Fields 14 and 15; the second one is a name in parentheses that may hold anything.
fn cpu_in(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map_while(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis((times.next()? + times.next()?) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 100";
        assert_eq!(cpu_in(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_in("7 (a) S 1"), None);
    }
}
