//! What is measured.

use ipnet::IpNet;
use ratelimit_common::Family;

use super::subject::{BLOCKED_V4, BLOCKED_V6, Setup};
use crate::cost::{Comparison, Frames};
use crate::packet::{ACK, SynPacket};

const DROP: Option<u32> = Some(1);
const PASS: Option<u32> = Some(2);
const TX: Option<u32> = Some(3);
/// Differs from packet to packet.
const ANY: Option<u32> = None;

#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    Comparison(Comparison),
    Gate(Setup),
}

/// One program, one frame, and the sources it comes from.
#[derive(Debug)]
pub(super) struct Scenario {
    pub name: &'static str,
    pub family: Family,
    pub sources_label: &'static str,
    pub sources: IpNet,
    pub program: Program,
    pub frame: Vec<u8>,
    pub frames: Frames,
    /// What the last packet must have been answered with.
    pub action: Option<u32>,
}

pub(super) const PARSE: &str = "bare parse";
pub(super) const LRU: &str = "LRU_HASH, one GCRA cell";
pub(super) const OVER: &str = "SYN, source over its limit";
pub(super) const WITHIN: &str = "SYN, source within its limit";
/// The same where handshakes are watched and suspects are challenged.
pub(super) const WITHIN_PROVING: &str = "SYN, within its limit, proof on";
pub(super) const CHALLENGED: &str = "SYN, challenged, service suspect";
pub(super) const CHALLENGED_OVER: &str = "SYN, challenged, over its limit";
pub(super) const SYN: &str = "SYN";
pub(super) const ESTABLISHED: &str = "established";

pub(super) const ONE: &str = "1";
pub(super) const RANDOM: &str = "random";

pub(super) fn all() -> Vec<Scenario> {
    [Family::V4, Family::V6].into_iter().flat_map(|family| Sources::of(family).scenarios()).collect()
}

/// What one family's packets look like and where they come from.
struct Sources {
    family: Family,
    one: IpNet,
    thousand: IpNet,
    million: IpNet,
    /// 2^32 for IPv4; for IPv6 a /32, so that the networks differ as well.
    random: IpNet,
    /// The same without addresses that nobody has: those get no answer.
    answerable: IpNet,
    blocked: IpNet,
    syn: SynPacket,
}

impl Sources {
    fn of(family: Family) -> Self {
        let network = |text: &str| text.parse().expect("a network");
        let [one, thousand, million, random, answerable, blocked] = match family {
            Family::V6 => [
                "2001:db8:7::7/128",
                "2001:db8:8::/118",
                "2001:db8:9::/108",
                "2001:db8::/32",
                "2001:db8::/32",
                BLOCKED_V6,
            ],
            _ => ["192.0.2.7/32", "10.0.0.0/22", "172.16.0.0/12", "0.0.0.0/0", "64.0.0.0/2", BLOCKED_V4],
        }
        .map(network);
        let syn = if family == Family::V6 { SynPacket::v6() } else { SynPacket::v4() };
        Self { family, one, thousand, million, random, answerable, blocked, syn }
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let syn = &self.syn;
        let established = syn.clone().flags(ACK).data(&[0; 64]);
        let one =
            |name, program, packet: &SynPacket, action| self.scenario(name, ONE, self.one, program, packet, action);
        let random = |name, program| self.scenario(name, RANDOM, self.random, program, syn, ANY);
        let [parse, lru] = [Comparison::ParseDrop, Comparison::LruGcra].map(Program::Comparison);
        let [default, plain, wide, proving, suspect, listed, quiet] = Setup::ALL.map(Program::Gate);
        // No longer than the answer to it, so that its frame can be used again.
        let short = syn.clone().tcp_options(&[]);
        let asked = |name, sources_label, sources, program| Scenario {
            frames: Frames::Restored,
            ..self.scenario(name, sources_label, sources, program, &short, TX)
        };
        vec![
            one(PARSE, parse, syn, DROP),
            random(PARSE, parse),
            one(LRU, lru, syn, ANY),
            self.scenario(LRU, "1,024", self.thousand, lru, syn, ANY),
            self.scenario(LRU, "1M", self.million, lru, syn, ANY),
            random(LRU, lru),
            one(OVER, plain, syn, DROP),
            one("SYN, over its limit, no events", quiet, syn, DROP),
            one("SYN, over its limit, 1,200 entries", listed, syn, DROP),
            one(WITHIN, wide, syn, PASS),
            one(WITHIN_PROVING, proving, syn, PASS),
            asked(CHALLENGED_OVER, ONE, self.one, default),
            asked(CHALLENGED, ONE, self.one, suspect),
            asked(CHALLENGED, RANDOM, self.answerable, suspect),
            self.scenario(SYN, "1,024", self.thousand, plain, syn, ANY),
            self.scenario(SYN, "1M", self.million, plain, syn, ANY),
            random(SYN, plain),
            random("SYN, 1,200 entries", listed),
            self.scenario("SYN, blocked", ONE, self.blocked, listed, syn, DROP),
            one(ESTABLISHED, default, &established, PASS),
            one("UDP", default, &syn.clone().udp(&[0; 64]), PASS),
            one("TCP to a port not served", default, &syn.clone().to_port(80), PASS),
        ]
    }

    fn scenario(
        &self,
        name: &'static str,
        sources_label: &'static str,
        sources: IpNet,
        program: Program,
        packet: &SynPacket,
        action: Option<u32>,
    ) -> Scenario {
        let (family, frames) = (self.family, Frames::Same);
        Scenario { name, family, sources_label, sources, program, frame: packet.build(), frames, action }
    }
}
