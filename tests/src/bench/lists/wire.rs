//! What a packet costs from the sender's hand to where it is dropped, over a wire between two namespaces: only so can the
//! gate's table be compared with what filters inside the network stack.
//!
//! Sender and receiver are one thread: the kernel hands a packet over while it is sent. So the thread's own time is that
//! of both.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Address, Family};

use super::corpus::Corpus;
use super::lookups::{FEW, FEW_SOURCES, HIT, MISS, RANDOM, TABLE};
use super::phases::{self, IPSET, NFT, once, timed};
use super::report::{Time, WireFigure};
use crate::bench::judgement::Spread;
use crate::debian::DebianRoot;
use crate::flood::{Flood, Pattern};
use crate::look_up::LookUp;
use crate::netns::{End, Namespace, veth};
use crate::process::Task;
use crate::receiver::Receiver;
use crate::template::Syn;

const OUT: &str = "out0";
const IN: &str = "in0";
const DESTINATION: &str = "192.0.2.2";
/// More than a million elements would take others too long.
pub(super) const MOST_ENTRIES: usize = 1_000_000;
/// For a list to be loaded.
pub(super) const LOAD_LIMIT: Duration = Duration::from_secs(300);
const FLOOD_LIMIT: Duration = Duration::from_secs(60);
/// What must arrive of all that was sent, for the figures to mean anything.
const LEAST_ARRIVED: f64 = 0.95;

pub(super) const XDP_PLAIN: &str = "XDP, counts and drops";
pub(super) const NFT_PLAIN: &str = "nftables ingress, drops";
pub(super) const NFT_SET: &str = "nftables ingress, interval set";
pub(super) const IPTABLES_PLAIN: &str = "iptables raw, drops";
pub(super) const IPSET_SET: &str = "iptables raw, ipset hash:net";

/// A wire and what drops every packet at its end.
struct Wire<'a> {
    what: &'static str,
    /// The filter that looks nothing up, to be compared with.
    plain: &'static str,
    /// Whose sources are sent; all wires of a round are sent the same.
    corpus: &'a Corpus,
    attacker: Namespace,
    victim: Namespace,
    /// Gives up its XDP program when dropped.
    end: Receiving,
}

/// What holds the program at the receiving end.
enum Receiving {
    LookUp(LookUp),
    Program { _receiver: Receiver },
}

/// Loads the lists into what others use, and measures how long that takes; then sends packets through all of them.
pub(super) fn measure(corpora: &[Corpus], rounds: u32, packets: u32) -> Result<(Vec<WireFigure>, Vec<Time>)> {
    let root = DebianRoot::new()?;
    let (mut wires, mut times) = (Vec::new(), Vec::new());
    for corpus in corpora.iter().filter(|corpus| corpus.family == Family::V4 && corpus.entries <= MOST_ENTRIES) {
        wires.push(Wire::counting(corpus)?);
        wires.push(Wire::table(corpus)?);
        wires.push(Wire::rules(NFT_PLAIN, NFT_PLAIN, corpus, |victim| nft(&root, victim, &nft_rules(None)?))?);
        let set = nft_rules(Some(corpus))?;
        let mut took = 0.0;
        wires.push(Wire::rules(NFT_SET, NFT_PLAIN, corpus, |victim| {
            took = timed(|| nft(&root, victim, &set))?.1;
            Ok(())
        })?);
        times.push(once(NFT, corpus, took));
        wires.push(Wire::rules(IPTABLES_PLAIN, IPTABLES_PLAIN, corpus, |victim| iptables(&root, victim, ""))?);
        let set = ipset_lines(corpus)?;
        wires.push(Wire::rules(IPSET_SET, IPTABLES_PLAIN, corpus, |victim| {
            took = timed(|| ipset(&root, victim, &set))?.1;
            iptables(&root, victim, "-m set --match-set listed src")?;
            iptables(&root, victim, "")
        })?);
        times.push(once(IPSET, corpus, took));
    }
    Ok((send_rounds(&wires, rounds, packets)?, times))
}

impl<'a> Wire<'a> {
    fn new(
        what: &'static str,
        plain: &'static str,
        corpus: &'a Corpus,
        receive: impl FnOnce(&Namespace) -> Result<Receiving>,
    ) -> Result<Self> {
        let (attacker, victim) = (Namespace::new("attacker")?, Namespace::new("victim")?);
        veth(
            End { namespace: &attacker, interface: OUT, addresses: &["192.0.2.1/24"] },
            End { namespace: &victim, interface: IN, addresses: &["192.0.2.2/24"] },
            1500,
        )?;
        let end = receive(&victim).with_context(|| format!("{what}, {} entries", corpus.entries))?;
        Ok(Self { what, plain, corpus, attacker, victim, end })
    }

    fn counting(corpus: &'a Corpus) -> Result<Self> {
        Self::new(XDP_PLAIN, XDP_PLAIN, corpus, |victim| {
            Ok(Receiving::Program { _receiver: Receiver::count(victim.path(), IN)? })
        })
    }

    fn table(corpus: &'a Corpus) -> Result<Self> {
        Self::new(TABLE, XDP_PLAIN, corpus, |victim| {
            let mut look_up = LookUp::load(0)?;
            look_up.put_table(&phases::build(&corpus.networks)?)?;
            look_up.attach(&victim.path(), IN)?;
            Ok(Receiving::LookUp(look_up))
        })
    }

    fn rules(
        what: &'static str,
        plain: &'static str,
        corpus: &'a Corpus,
        load: impl FnOnce(&Namespace) -> Result<()>,
    ) -> Result<Self> {
        Self::new(what, plain, corpus, |victim| {
            load(victim)?;
            Ok(Receiving::Program { _receiver: Receiver::pass(victim.path(), IN)? })
        })
    }

    /// Nanoseconds a packet.
    fn send(&self, sources: &Arc<[Address]>, listed: bool, packets: u32) -> Result<f64> {
        let mac = self.victim.mac(IN)?;
        let mac = mac.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<Vec<_>, _>>()?;
        let mac = <[u8; 6]>::try_from(mac).ok().context("not an Ethernet address")?;
        let syn = Syn::new("192.0.2.1".parse()?, DESTINATION.parse()?, 25).macs([2, 0, 0, 0, 0, 9], mac);
        let (before, found) = (self.arrived()?, self.found()?);
        let flood = Flood::new(self.attacker.path(), OUT)
            .template(syn.build()?)
            .sources(Pattern::samples(Arc::clone(sources)))
            .limit(packets.into(), FLOOD_LIMIT);
        let report = flood.start()?.join()?;
        let arrived = self.arrived()? - before;
        ensure!(
            arrived as f64 >= report.packets as f64 * LEAST_ARRIVED,
            "{}: {arrived} of {} packets arrived",
            self.what,
            report.packets
        );
        if let (Some(before), Some(after)) = (found, self.found()?) {
            let wrong = usize::from(listed);
            ensure!(after[wrong] == before[wrong], "{} packets were judged wrongly", after[wrong] - before[wrong]);
            ensure!(after != before, "no packet was looked up");
        }
        Ok(report.work.as_nanos() as f64 / report.packets as f64)
    }

    /// Packets that came in at the victim's end.
    fn arrived(&self) -> Result<u64> {
        let table = self.victim.read_proc("/proc/net/dev")?;
        let line = table.lines().find_map(|line| line.trim().strip_prefix(IN)?.strip_prefix(':'));
        let packets = line.and_then(|line| line.split_whitespace().nth(1)).with_context(|| format!("no {IN}"))?;
        Ok(packets.parse()?)
    }

    /// What the table found until now: listed, not listed. `None` where another filter is at the end.
    fn found(&self) -> Result<Option<[u64; 2]>> {
        match &self.end {
            Receiving::LookUp(look_up) => look_up.counts().map(|counts| Some([counts.listed, counts.unlisted])),
            Receiving::Program { .. } => Ok(None),
        }
    }
}

/// A kind of traffic.
struct Traffic {
    outcome: &'static str,
    sources: &'static str,
    addresses: fn(&Corpus) -> Arc<[Address]>,
}

const TRAFFIC: [Traffic; 4] = [
    Traffic { outcome: HIT, sources: RANDOM, addresses: |corpus| Arc::clone(&corpus.samples.listed) },
    Traffic { outcome: HIT, sources: FEW, addresses: |corpus| few(&corpus.samples.listed) },
    Traffic { outcome: MISS, sources: RANDOM, addresses: |corpus| Arc::clone(&corpus.samples.unlisted) },
    Traffic { outcome: MISS, sources: FEW, addresses: |corpus| few(&corpus.samples.unlisted) },
];

fn few(addresses: &[Address]) -> Arc<[Address]> {
    addresses.iter().take(FEW_SOURCES as usize).copied().collect()
}

fn send_rounds(wires: &[Wire<'_>], rounds: u32, packets: u32) -> Result<Vec<WireFigure>> {
    let mut samples = vec![Vec::new(); wires.len() * TRAFFIC.len()];
    for _ in 0..rounds {
        for (index, samples) in samples.iter_mut().enumerate() {
            // All wires with the same traffic, then the next traffic.
            let (traffic, wire) = (&TRAFFIC[index / wires.len()], &wires[index % wires.len()]);
            samples.push(wire.send(&(traffic.addresses)(wire.corpus), traffic.outcome == HIT, packets)?);
        }
    }
    let mut figures: Vec<WireFigure> = Vec::new();
    for (index, samples) in samples.into_iter().enumerate() {
        let (traffic, wire) = (&TRAFFIC[index / wires.len()], &wires[index % wires.len()]);
        let Spread { median, lowest, highest } = Spread::of(samples);
        figures.push(WireFigure {
            what: wire.what,
            plain: wire.plain,
            entries: wire.corpus.entries,
            outcome: traffic.outcome,
            sources: traffic.sources,
            ns: median,
            lowest_ns: lowest,
            highest_ns: highest,
        });
    }
    Ok(figures)
}

/// Rules for a table of a namespace, dropping everything, first what is listed.
fn nft_rules(corpus: Option<&Corpus>) -> Result<String> {
    let (set, rule) = match corpus {
        Some(corpus) => {
            let elements = corpus.text()?.trim_end().replace('\n', ",\n");
            let set = "set listed { type ipv4_addr; flags interval; auto-merge; elements = {\n";
            (format!("{set}{elements}\n}} }}\n"), "ip saddr @listed drop;")
        }
        None => (String::new(), ""),
    };
    let chain =
        format!("chain in {{ type filter hook ingress device \"{IN}\" priority 0; {rule} ip protocol tcp drop; }}");
    Ok(format!("table netdev bench {{\n{set}{chain}\n}}\n"))
}

fn ipset_lines(corpus: &Corpus) -> Result<String> {
    let room = corpus.networks.len();
    let create = format!("create listed hash:net hashsize {} maxelem {room}\n", room.next_power_of_two());
    let added = corpus.text()?.lines().fold(create, |mut lines, network| {
        lines.push_str("add listed ");
        lines.push_str(network);
        lines.push('\n');
        lines
    });
    Ok(added)
}

fn nft(root: &DebianRoot, victim: &Namespace, rules: &str) -> Result<()> {
    const FILE: &str = "/tmp/rules.nft";
    root.write(FILE, rules)?;
    done(root.command(victim, "nft").args(["-f", FILE]))
}

fn ipset(root: &DebianRoot, victim: &Namespace, lines: &str) -> Result<()> {
    const FILE: &str = "/tmp/lines.ipset";
    root.write(FILE, lines)?;
    done(root.command(victim, "ipset").args(["-exist", "-file", FILE, "restore"]))
}

/// Drops TCP that a condition holds for, before the stack looks at it.
fn iptables(root: &DebianRoot, victim: &Namespace, condition: &str) -> Result<()> {
    let words = format!("-w -t raw -A PREROUTING -p tcp {condition} -j DROP");
    done(root.command(victim, "iptables-legacy").args(words.split_whitespace()))
}

fn done(task: Task) -> Result<()> {
    task.check(LOAD_LIMIT)?;
    Ok(())
}
