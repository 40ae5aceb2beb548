//! Floods of segments that belong to no connection.

use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_tests::clients::Conversation;
use ratelimit_tests::flood::{Flood, Pattern};
use ratelimit_tests::forged::Forged;
use ratelimit_tests::gateway::{GATEWAY_V4, Moved, eventually, gateway_for, ip, is_long, net};
use ratelimit_tests::load::{Load, Tally};
use ratelimit_tests::servers::{Extra, MailServer};
use serde_json::json;

use super::{Field, SMTP, SOON, connecting, ensure_all, honest, report};

/// Of the standard services the one that the mail server does not offer.
const SIEVE: u16 = 4190;
const RATE: u64 = 1_000_000;
/// One that the bare kernel keeps up with too.
const RATE_TO_COMPARE: u64 = 200_000;
const TIMEOUT: Duration = Duration::from_secs(30);
const SOURCES: [[&str; 2]; 2] = [["10.41.1.7", "10.41.2.7"], ["2001:db8:1:1::7", "2001:db8:1:2::7"]];

fn flood(field: &Field, forged: Forged, port: u16) -> Flood {
    let everybody = net("0.0.0.0/0");
    field.far.packets(&forged.packet(everybody.addr(), GATEWAY_V4.into(), port), Pattern::random([everybody]))
}

/// So many messages of each family.
fn messages(field: &Field, count: u64) -> Result<Tally> {
    let mut all = Tally::default();
    let running = SOURCES.map(|sources| {
        let sources: Vec<IpAddr> = sources.map(ip).to_vec();
        let load = connecting(sources.clone(), gateway_for(sources[0]), 15.0, TIMEOUT);
        Load { count: Some(count), conversation: Conversation::Smtp, ..load }.start(&field.wire.outside)
    });
    for load in running {
        all.merge(load?.finish());
    }
    Ok(all)
}

/// What is dropped of a kind, and why: a SYN+ACK needs no looking for.
fn strays(moved: &Moved, forged: Forged) -> u64 {
    match forged {
        Forged::SynAck => moved.of_reason("smtp", Reason::StraySynAck).dropped,
        Forged::Ack | Forged::Reset | Forged::Data => moved.of_reason("smtp", Reason::Stray).dropped,
    }
}

fn await_strays(field: &Field) -> Result<()> {
    let before = field.counters()?;
    let are_dropped = || Ok(field.counters()?.all_since(&before).of(Reason::Stray) > 10_000);
    eventually("strays are dropped", SOON, are_dropped).map(drop)
}

#[test]
fn floods_of_strays_are_dropped_and_harm_no_conversation() -> Result<()> {
    let field = Field::guarded("")?;
    let _server = MailServer::start(&field.wire.gateway, &Extra::default())?;
    let count = if is_long() { 450 } else { 30 };
    for forged in Forged::ALL {
        let (before, resets) = (field.counters()?, field.wire.gateway.counter("Tcp", "OutRsts")?);
        let running = flood(&field, forged, SMTP).rate(Some(RATE)).start()?;
        thread::sleep(Duration::from_millis(500));
        let arrived = field.arrived()?;
        let tally = messages(&field, count)?;
        let arrived = field.arrived()? - arrived;
        running.stop();
        let flood = running.join()?;
        let moved = field.counters()?.all_since(&before);
        let (dropped, resets) = (strays(&moved, forged), field.wire.gateway.counter("Tcp", "OutRsts")? - resets);
        report(
            "a flood of strays",
            &json!({ "kind": format!("{forged:?}"), "mpps": flood.mpps, "packets": flood.packets, "dropped": dropped,
                "resets": resets, "honest": honest(&tally) }),
        );
        ensure_all(&tally).with_context(|| format!("{forged:?}"))?;
        ensure!(arrived > 100_000 && dropped >= arrived, "{dropped} dropped of {arrived} {forged:?}\n{moved}");
        ensure!(resets * 20 <= dropped, "{resets} were answered with a reset\n{moved}");
        // All of the flood is IPv4, so what is dropped of IPv6 was of a conversation.
        let real = moved.of_family("smtp", Reason::Stray, Family::V6).dropped;
        ensure!(real == 0, "{real} packets of real connections were dropped\n{moved}");
    }
    if is_long() { compare_costs() } else { Ok(()) }
}

/// The kernel itself knows nothing of such a connection until its third packet comes.
#[test]
fn the_end_of_a_handshake_by_cookie_is_no_stray() -> Result<()> {
    let field = Field::guarded("")?;
    let gateway = &field.wire.gateway;
    gateway.sysctl("net.ipv4.tcp_syncookies", "2")?;
    let _server = MailServer::start(gateway, &Extra::default())?;
    let _flood = flood(&field, Forged::Ack, SMTP).rate(Some(RATE / 5)).start()?;
    await_strays(&field)?;
    let (received, before) = (gateway.counter("TcpExt", "SyncookiesRecv")?, field.counters()?);
    let tally = messages(&field, 20)?;
    let received = gateway.counter("TcpExt", "SyncookiesRecv")? - received;
    let moved = field.counters()?.all_since(&before);
    report("handshakes by cookie amid strays", &json!({ "cookies": received, "honest": honest(&tally) }));
    ensure_all(&tally)?;
    ensure!(received >= tally.completed, "{received} cookies for {} conversations", tally.completed);
    ensure!(moved.of_family("smtp", Reason::Stray, Family::V6).dropped == 0, "cookies were dropped\n{moved}");
    Ok(())
}

/// A closed port tells whoever asks that it is closed, also while strays are looked for.
#[test]
fn what_is_for_a_closed_port_is_no_stray() -> Result<()> {
    const PACKETS: u64 = 5_000;
    let field = Field::guarded("")?;
    let gateway = &field.wire.gateway;
    let _server = MailServer::start(gateway, &Extra::default())?;
    let strays = flood(&field, Forged::Ack, SMTP).rate(Some(RATE / 10)).start()?;
    await_strays(&field)?;
    let before = field.counters()?;
    let closed = flood(&field, Forged::Data, SIEVE).rate(Some(PACKETS)).limit(PACKETS, SOON).start()?.join()?;
    let moved = field.counters()?.all_since(&before);
    drop(strays);
    ensure!(closed.packets == PACKETS);
    let at_smtp = moved.of_reason("smtp", Reason::Stray).dropped;
    let (passed, stray) = (moved.of_reason("sieve", Reason::Established), moved.of_reason("sieve", Reason::Stray));
    report("packets for a closed port amid strays", &json!({ "passed": passed.passed, "stray": stray.dropped }));
    ensure!(at_smtp > 10_000, "strays were not looked for\n{moved}");
    ensure!(passed.passed * 10 >= PACKETS * 9 && stray.dropped + stray.passed == 0, "{moved}");
    Ok(())
}

/// What all processors did in software interrupts: there packets are received. In the ticks of /proc.
fn received_for() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu ")).context("no line of all processors")?;
    Ok(all.split_whitespace().nth(6).context("no software interrupts")?.parse()?)
}

/// Ticks for a million packets that came in.
fn cost(field: &Field, forged: Forged) -> Result<f64> {
    let flood = flood(field, forged, SMTP).rate(Some(RATE_TO_COMPARE)).start()?;
    // With a gate, strays are being looked for by then.
    thread::sleep(Duration::from_secs(1));
    let (ticks, arrived) = (received_for()?, field.arrived()?);
    thread::sleep(Duration::from_secs(10));
    let (ticks, arrived) = (received_for()? - ticks, field.arrived()? - arrived);
    drop(flood);
    ensure!(arrived > 500_000, "only {arrived} packets came in");
    Ok(ticks as f64 * 1e6 / arrived as f64)
}

fn compare_costs() -> Result<()> {
    let (guarded, open) = (Field::guarded("")?, Field::open()?);
    let _servers = [
        MailServer::start(&guarded.wire.gateway, &Extra::default())?,
        MailServer::start(&open.wire.gateway, &Extra::default())?,
    ];
    let mut dear = Vec::new();
    for forged in Forged::ALL {
        let (with, without) = (cost(&guarded, forged)?, cost(&open, forged)?);
        report(
            "what strays cost",
            &json!({ "kind": format!("{forged:?}"), "ticks_per_million": with, "without_us": without }),
        );
        // A reset that belongs to nothing the bare kernel throws away too, without an answer.
        let least = if forged == Forged::Reset { 1.0 } else { 4.0 };
        if with * least > without {
            dear.push((forged, with, without));
        }
    }
    ensure!(dear.is_empty(), "too dear: {dear:?}");
    Ok(())
}
