//! A flood made in the kernel against a gateway with real Postfix and Dovecot, while honest clients talk to them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_tests::clients::{Conversation, curl, swaks};
use ratelimit_tests::controller::Options;
use ratelimit_tests::debian::DebianRoot;
use ratelimit_tests::flood::{FloodReport, Pattern};
use ratelimit_tests::gateway::{LAN, Moved, Site, client, gateway_for, ip, net};
use ratelimit_tests::load::{Load, Running, Tally};
use ratelimit_tests::servers::{Extra, MailServer, USER};

const PACKETS: u64 = 2_000_000;
/// As many a second as one queue takes together with honest mail: a full one loses packets before anybody judges them.
const RATE: u64 = 400_000;
/// A machine that is busy with other things gets less done.
const TIME: Duration = Duration::from_secs(20);
const LEAST_PACKETS: u64 = 200_000;
const TIMEOUT: Duration = Duration::from_secs(30);

/// The defaults of smtp.
const SOURCE: (u64, u64) = (300, 5);
const NETWORK: (u64, u64) = (3_000, 50);

/// Honest clients of one family: a hundred households, one conversation a second and service in all.
fn honest(site: &Site, family: Family) -> Result<[Running; 2]> {
    let sources: Vec<IpAddr> = (0..100)
        .map(|home| match family {
            Family::V6 => ip(&format!("2001:db8:1:{home:x}::7")),
            _ => ip(&format!("10.9.{home}.7")),
        })
        .collect();
    let load = |conversation, port| {
        let load = Load {
            sources: sources.clone(),
            server: (gateway_for(sources[0]), port).into(),
            conversation,
            per_second: 15.0,
            count: None,
            workers: 15,
            timeout: TIMEOUT,
        };
        load.start(&site.wire.outside)
    };
    Ok([load(Conversation::Smtp, 25)?, load(Conversation::Imap, 143)?])
}

struct Outcome {
    flood: FloodReport,
    honest: [Tally; 2],
    moved: Moved,
    frames: u64,
}

/// Floods smtp in one family while clients of the other, and real programs of both, hold conversations.
fn flooded(site: &Site, tools: &DebianRoot, pattern: Pattern, family: Family) -> Result<Outcome> {
    let (any, other) = match family {
        Family::V6 => (ip("2001:db8::2"), Family::V4),
        _ => (ip("192.0.2.2"), Family::V6),
    };
    let (before, frames_before) = site.snapshot()?;
    let running = honest(site, other)?;
    let flood = site.wire.flood(25, pattern, any)?.rate(Some(RATE)).limit(PACKETS, TIME).start()?;
    for source in [ip("10.8.0.7"), ip("2001:db8:1:8::7")] {
        let sent = swaks(tools, &site.wire.outside, client(source, 25, TIMEOUT), true)?;
        ensure!(sent.status.success(), "swaks from {source}: {sent:?}");
        for (scheme, port) in [("imap", 143), ("imaps", 993), ("pop3s", 995)] {
            let read = curl(tools, &site.wire.outside, client(source, port, TIMEOUT), scheme)?;
            ensure!(read.status.success(), "{scheme} from {source}: {read:?}");
        }
    }
    let flood = flood.join()?;
    let honest = running.map(Running::stop);
    let (after, frames_after) = site.snapshot()?;
    let moved = after.all_since(&before);
    Ok(Outcome { flood, honest, moved, frames: frames_after - frames_before })
}

/// `allowed` is what the limits admit of the flood: so many at once, and so many a second.
fn check(outcome: &Outcome, family: Family, allowed: (u64, u64)) -> Result<()> {
    let Outcome { flood, honest, moved, frames } = outcome;
    let [smtp, imap] = honest;
    println!("{flood:?}, {} and {} honest conversations\n{moved}", smtp.attempts, imap.attempts);
    ensure!(flood.packets >= LEAST_PACKETS, "only {} packets in {TIME:?}", flood.packets);
    for tally in honest {
        ensure!(tally.attempts > 0 && tally.completed == tally.attempts, "{tally:?}");
    }
    // Every frame that arrived was counted, once.
    ensure!(moved.total() == *frames, "{frames} frames arrived, {} were counted\n{moved}", moved.total());
    let of_flood = moved.connections_of("smtp", family);
    let arrived = of_flood.passed + of_flood.dropped;
    ensure!(arrived * 100 >= flood.packets * 90, "only {arrived} of {} packets arrived", flood.packets);
    // Besides the flood, swaks has made one connection.
    let excess = arrived.saturating_sub(1 + allowed.0 + allowed.1 * (flood.elapsed.as_secs() + 1));
    ensure!(of_flood.dropped * 1000 >= excess * 999, "{} of an excess of {excess} dropped", of_flood.dropped);
    ensure!(of_flood.passed >= allowed.0, "{} of the {} that are allowed passed", of_flood.passed, allowed.0);
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    for (service, family) in [("smtp", other), ("imap", Family::V4), ("imap", Family::V6), ("imaps", Family::V4)] {
        let dropped = moved.connections_of(service, family).dropped;
        ensure!(dropped == 0, "{dropped} honest connections to {service} were dropped");
    }
    Ok(())
}

#[test]
fn honest_mail_flows_while_one_source_and_whole_networks_flood() -> Result<()> {
    // By the count of SYNs alone; with challenges, see `proof`.
    let site = Site::counting_syns()?;
    let server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    let tools = DebianRoot::new()?;
    let networks = |networks: &[&str]| Pattern::round_robin(networks.iter().map(|network| net(network)));
    let four = (4 * NETWORK.0, 4 * NETWORK.1);
    let mut mails = 0;
    for (name, pattern, family, allowed) in [
        ("one source", Pattern::one(ip("10.66.0.6")), Family::V4, SOURCE),
        ("one source", Pattern::one(ip("2001:db8:1:66::6")), Family::V6, SOURCE),
        (
            "every address of four networks",
            networks(&["10.70.0.0/24", "10.71.0.0/24", "10.72.0.0/24", "10.73.0.0/24"]),
            Family::V4,
            four,
        ),
        (
            "addresses of four networks",
            networks(&["2001:db8:1:70::/120", "2001:db8:1:71::/120", "2001:db8:1:72::/120", "2001:db8:1:73::/120"]),
            Family::V6,
            four,
        ),
    ] {
        let outcome = flooded(&site, &tools, pattern, family).with_context(|| format!("{name}, {}", family.label()))?;
        check(&outcome, family, allowed).with_context(|| format!("{name}, {}", family.label()))?;
        mails += outcome.honest[0].completed as usize + 2;
    }
    server.wait_delivered(mails, TIMEOUT)?;
    ensure!(server.delivered()? == mails, "{} of {mails} mails", server.delivered()?);
    let by_source = site.controller.status()?.services.into_iter().find(|service| service.name == "smtp");
    let counts = by_source.context("no smtp")?.counts;
    for reason in [Reason::SourceLimit, Reason::NetworkLimit] {
        ensure!(counts.get(reason.label()).is_some_and(|count| count.dropped > 0), "{counts:?}");
    }
    Ok(())
}

#[test]
fn a_megabyte_in_large_frames_goes_through() -> Result<()> {
    for (mtu, most_frames) in [(9_000, 400), (1_500, 5_000)] {
        let site = Site::start(mtu, &Options::enforce([LAN]))?;
        let server = MailServer::start(&site.wire.gateway, &Extra::default())?;
        server.root().write("/tmp/body", &"All work and no play makes a dull day.\n".repeat(27_000))?;
        for (count, source) in [ip("10.8.0.7"), ip("2001:db8:1:8::7")].into_iter().enumerate() {
            let before = site.wire.frames_received()?;
            let sent = server
                .root()
                .command(&site.wire.outside, "swaks")
                .args(["--server", &gateway_for(source).to_string(), "--local-interface", &source.to_string()])
                .args(["--helo", "client.example.test", "--from", "sender@client.example.test"])
                .args(["--to", USER, "--body", "@/tmp/body", "--silent", "2"])
                .output(TIMEOUT)?;
            ensure!(sent.status.success(), "MTU {mtu}, from {source}: {sent:?}");
            server.wait_delivered(count + 1, TIMEOUT)?;
            let frames = site.wire.frames_received()? - before;
            println!("MTU {mtu}, from {source}: {frames} frames for a megabyte");
            ensure!((100..most_frames).contains(&frames), "MTU {mtu}: {frames} frames");
        }
        let dropped: u64 = site.controller.status()?.services.iter().map(|service| service.refused).sum();
        ensure!(dropped == 0, "{dropped} frames were dropped");
    }
    Ok(())
}
