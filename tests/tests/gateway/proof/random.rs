//! Floods from every address there is, with a real mail server behind the gate.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::clients::Conversation;
use ratelimit_tests::flood::{Flood, FloodReport, Pattern};
use ratelimit_tests::gateway::{gateway_for, ip, is_long, net};
use ratelimit_tests::load::{Load, Running, Tally};
use ratelimit_tests::servers::{Extra, MailServer};
use serde_json::{Value, json};

use super::{Field, NAP, RETRIES_PER_S, Waiting, connecting, ensure_all, ensure_nearly_all, honest, report};

const TIMEOUT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// Conversations a second of the known, and of strangers, by each family.
const KNOWN_PER_S: f64 = 6.0;
const STRANGERS_PER_S: f64 = 6.0;
/// Of the flood, a second: a machine that is busy with other things makes less than one that is not.
const LEAST_PER_S: u64 = 100_000;

fn seconds() -> u64 {
    if is_long() { 60 } else { 7 }
}

fn known(is_v4: bool) -> Vec<IpAddr> {
    (1..=30).map(|host| ip(&if is_v4 { format!("10.41.{host}.7") } else { format!("2001:db8:1:{host}::7") })).collect()
}

/// Each its own household; enough that none comes twice.
fn strangers(is_v4: bool) -> Vec<IpAddr> {
    let address = |number: u32| match is_v4 {
        true => format!("10.{}.{}.7", 100 + number / 250, number % 250),
        false => format!("2001:db8:1:{:x}::7", 0x1000 + number),
    };
    (0..5_000).map(|number| ip(&address(number))).collect()
}

#[derive(Debug)]
struct Outcome {
    flood: FloodReport,
    /// Of its packets.
    arrived: u64,
    known: Tally,
    strangers: Tally,
    /// Handshakes that waited, at most.
    half_open: u64,
    listen_drops: u64,
}

impl Outcome {
    fn figures(&self, doubled: bool, guarded: bool) -> Value {
        json!({ "doubled": doubled, "guarded": guarded, "mpps": self.flood.mpps, "packets": self.flood.packets,
            "arrived": self.arrived,
            "known": honest(&self.known), "strangers": honest(&self.strangers), "half_open_most": self.half_open,
            "listen_drops": self.listen_drops })
    }
}

/// Whole conversations of both families, and handshakes of strangers, amid a flood.
fn flooded(field: &Field, flood: Flood) -> Result<Outcome> {
    let gateway = &field.wire.gateway;
    let drops = gateway.counter("TcpExt", "ListenDrops")?;
    let waiting = Waiting::watch(gateway)?;
    let arrived = field.arrived()?;
    let running = flood.start()?;
    // What comes before the flood is at its height proves nothing.
    thread::sleep(SECOND);
    let start = |sources: Vec<IpAddr>, per_second, conversation| {
        let load = connecting(sources.clone(), gateway_for(sources[0]), per_second, TIMEOUT);
        Load { conversation, ..load }.start(&field.wire.outside)
    };
    let known = [true, false].map(|is_v4| start(known(is_v4), KNOWN_PER_S, Conversation::Smtp));
    let strangers = [true, false].map(|is_v4| start(strangers(is_v4), STRANGERS_PER_S, Conversation::Smtp));
    while !running.is_finished() {
        thread::sleep(NAP);
    }
    let stop = |loads: [Result<Running>; 2]| -> Result<Tally> {
        let [v4, v6] = loads;
        let mut tally = v4?.stop();
        tally.merge(v6?.stop());
        Ok(tally)
    };
    let (known, strangers) = (stop(known)?, stop(strangers)?);
    let half_open = waiting.most()?;
    let listen_drops = gateway.counter("TcpExt", "ListenDrops")? - drops;
    let (flood, arrived) = (running.join()?, field.arrived()? - arrived);
    Ok(Outcome { flood, arrived, known, strangers, half_open, listen_drops })
}

fn flood(field: &Field, doubled: bool) -> Result<Flood> {
    let flood = field.far.syns(Pattern::random([net("0.0.0.0/0")]))?;
    let flood = flood.limit(u64::MAX, Duration::from_secs(seconds()));
    Ok(if doubled { flood.doubled(SECOND) } else { flood })
}

fn all_speak(doubled: bool) -> Result<()> {
    let field = Field::guarded("")?;
    let _server = MailServer::start(&field.wire.gateway, &Extra::default())?;
    field.prove(&[known(true), known(false)].concat())?;
    let before = field.counters()?;
    let outcome = flooded(&field, flood(&field, doubled)?)?;
    let moved = field.counters()?.since(&before);
    let asked = json!({ "challenged": moved.of(Reason::Challenged), "over_budget": moved.of(Reason::ChallengeRate),
        "repeated": moved.of(Reason::Repeated), "ticketed": moved.of(Reason::Ticketed) });
    report("a flood of random sources", &json!({ "outcome": outcome.figures(doubled, true), "gate": asked }));
    let judged = moved.connections("smtp");
    ensure!(outcome.arrived >= LEAST_PER_S * seconds(), "{:?}", outcome.flood);
    ensure!(judged.passed + judged.dropped >= outcome.arrived, "{} came in\n{moved}", outcome.arrived);
    // One for each SYN at most.
    let answers = field.far.answers()?;
    ensure!(answers <= moved.of(Reason::Challenged), "{answers} answers\n{moved}");
    ensure_all(&outcome.known)?;
    ensure_nearly_all(&outcome.strangers)?;
    ensure!(outcome.half_open <= 2 * RETRIES_PER_S, "{} handshakes waited", outcome.half_open);
    ensure!(outcome.listen_drops == 0, "the listener dropped {}", outcome.listen_drops);
    ensure!(!doubled || moved.of(Reason::Repeated) > 0, "no SYN was repeated\n{moved}");
    // Not one of the forged, but for those that waited before the service was suspect, and repetitions.
    let let_in = moved.of(Reason::Admitted) + moved.of(Reason::ServiceLimit);
    ensure!(let_in <= outcome.known.attempts + 1_000, "{let_in} were let in\n{moved}");
    Ok(())
}

/// What the kernel makes of the same alone; nothing is asked of it.
fn show_without_gate(doubled: bool) -> Result<()> {
    let field = Field::open()?;
    let _server = MailServer::start(&field.wire.gateway, &Extra::default())?;
    let outcome = flooded(&field, flood(&field, doubled)?)?;
    report("a flood of random sources", &outcome.figures(doubled, false));
    Ok(())
}

fn ends_no_conversation(doubled: bool) -> Result<()> {
    all_speak(doubled)?;
    if is_long() { show_without_gate(doubled) } else { Ok(()) }
}

#[test]
fn a_flood_of_random_sources_ends_no_conversation() -> Result<()> {
    ends_no_conversation(false)
}

#[test]
fn a_flood_of_random_sources_that_sends_every_syn_twice_ends_no_conversation() -> Result<()> {
    ends_no_conversation(true)
}
