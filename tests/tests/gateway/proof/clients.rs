//! What a challenge means for clients of every kind: they are a little late, and nothing else.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_tests::clients::Conversation;
use ratelimit_tests::debian::DebianRoot;
use ratelimit_tests::flood::{Pattern, RunningFlood};
use ratelimit_tests::gateway::{Listener, TICK, client, eventually, gateway_for, ip, net};
use ratelimit_tests::load::Load;
use ratelimit_tests::segment::Link;
use ratelimit_tests::servers::{Extra, MailServer};
use ratelimit_tests::stacks::firewalled::{Firewall, Firewalled};
use ratelimit_tests::stacks::greet;
use ratelimit_tests::stacks::replayed::{Replayed, Seen, Timing};
use ratelimit_tests::stacks::second::SecondStack;
use ratelimit_tests::watch::{Watch, Watched};
use serde_json::json;

use super::{Attached, BANNER, Field, SMTP, SOON, connecting, ensure_all, is_greeted, report};

/// What a client may take that is challenged.
const MOST: Duration = Duration::from_secs(8);
const TIMEOUT: Duration = Duration::from_secs(20);
/// More than a service takes without suspicion. At ten times as many one first SYN in a hundred is pushed out of its place
/// before Windows repeats it.
const FLOOD_PER_S: u64 = 200;
const FAMILIES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Used up by a few SYNs, and not refilled while a test runs.
const TIGHT: &str = "[services.smtp]\nsource = { rate = \"1/min\", burst = 4 }\n";
/// Forged, in the name of a client: more than its burst.
const FORGED: u32 = 8;

/// How clients show that they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Challenge {
    Reset,
    Retry,
}

impl Challenge {
    const ALL: [Self; 2] = [Self::Reset, Self::Retry];

    const fn config(self) -> &'static str {
        match self {
            Self::Reset => "[proof]\nchallenge = \"reset\"\n",
            Self::Retry => "[proof]\nchallenge = \"retry\"\n",
        }
    }
}

/// A client, its name and whether it answers challenges.
struct Subject<'a> {
    name: String,
    answers: bool,
    /// Connects, hears the banner, and tells how long that took.
    connect: Box<dyn FnOnce() -> Result<Duration> + Send + 'a>,
}

/// Addresses that no kernel owns.
fn unowned(server: IpAddr, host: usize) -> IpAddr {
    ip(&if server.is_ipv4() { format!("203.0.113.{host}") } else { format!("2001:db8:2:{host}::7") })
}

fn of_replayed(seen: &Seen) -> Result<Duration> {
    ensure!(seen.line == BANNER && seen.wrong_answers == seen.resets, "{seen:?}");
    seen.banner.with_context(|| format!("{seen:?}"))
}

/// Clients of both families, none of them known.
fn subjects<'a>(
    field: &'a Field,
    link: &'a Link,
    stacks: &'a [SecondStack; 2],
    firewalled: &'a [(Firewall, Firewalled)],
) -> Vec<Subject<'a>> {
    let mut all = Vec::new();
    for (server, stack) in FAMILIES.map(ip).into_iter().zip(stacks) {
        let mut add = |name: String, answers, connect: Box<dyn FnOnce() -> Result<Duration> + Send + 'a>| {
            all.push(Subject { name: format!("{name} to {server}"), answers, connect });
        };
        let at = SocketAddr::new(server, SMTP);
        let own = ip(if server.is_ipv4() { "10.30.0.7" } else { "2001:db8:1:30::7" });
        let outside = &field.wire.outside;
        add("Linux".to_owned(), true, Box::new(move || Ok(greet(outside, client(own, SMTP, TIMEOUT))?.banner)));
        add("smoltcp".to_owned(), true, Box::new(move || Ok(stack.greet(at, TIMEOUT)?.banner)));
        for (timing, host) in Timing::ALL.into_iter().zip(10..) {
            let replayed = Replayed::new(timing, unowned(server, host), at).timeout(TIMEOUT);
            add(format!("{timing:?}"), true, Box::new(move || of_replayed(&replayed.greet(link)?)));
        }
        let silent = Replayed::new(Timing::Linux65, unowned(server, 20), at).timeout(TIMEOUT).never_answers();
        let greeted = move || {
            let seen = silent.greet(link)?;
            ensure!(seen.resets == 0, "{seen:?}");
            seen.banner.with_context(|| format!("{seen:?}"))
        };
        add("one that never answers".to_owned(), false, Box::new(greeted));
        for (firewall, behind) in firewalled {
            let answers = *firewall != Firewall::NeverAnswers;
            add(format!("{firewall:?}"), answers, Box::new(move || Ok(behind.greet(at, TIMEOUT)?.banner)));
        }
    }
    all
}

/// A flood that keeps the service suspect.
fn pressed(field: &Field) -> Result<RunningFlood> {
    let flood = field.far.syns(Pattern::random([net("0.0.0.0/0")]))?;
    let flood = flood.rate(Some(FLOOD_PER_S)).start()?;
    field.await_suspicion()?;
    Ok(flood)
}

/// Clients of every kind at once, while the service is suspect.
fn all_connect(attached: Attached, challenge: Challenge) -> Result<()> {
    let field = Field::attached(attached, challenge.config())?;
    let _listener = Listener::saying(BANNER, &field.wire.gateway, SMTP)?;
    field.prove(&[ip("10.31.0.7")])?;
    let root = DebianRoot::new()?;
    let firewalled: Vec<(Firewall, Firewalled)> = Firewall::ALL
        .into_iter()
        .zip(16..)
        .map(|(firewall, host)| Ok((firewall, Firewalled::behind(firewall, &field.wire, &root, host)?)))
        .collect::<Result<_>>()?;
    // Two at a time under one hardware address would refuse each other's connections.
    let stacks = [SecondStack::on(&field.wire, 30)?, SecondStack::on(&field.wire, 31)?];
    let link = field.wire.link();
    let _flood = pressed(&field)?;
    let before = field.counters()?;
    let subjects = subjects(&field, &link, &stacks, &firewalled);
    let expected = subjects.len() as u64;
    let silent = subjects.iter().filter(|subject| !subject.answers).count() as u64;
    let mut late = Vec::new();
    let mut took = serde_json::Map::new();
    thread::scope(|scope| -> Result<()> {
        let running: Vec<_> =
            subjects.into_iter().map(|subject| (subject.name, scope.spawn(subject.connect))).collect();
        for (name, client) in running {
            match client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                Ok(banner) if banner <= MOST => drop(took.insert(name, json!(banner.as_millis() as u64))),
                Ok(banner) => late.push(format!("{name}: {banner:?}")),
                Err(error) => late.push(format!("{name}: {error:#}")),
            }
        }
        Ok(())
    })?;
    let moved = field.counters()?.since(&before);
    report(
        "clients under challenge",
        &json!({ "attached": attached.label(), "challenge": format!("{challenge:?}"), "banner_ms": took,
            "ticketed": moved.of(Reason::Ticketed), "repeated": moved.of(Reason::Repeated) }),
    );
    ensure!(late.is_empty(), "{late:#?}\n{moved}");
    // By IPv6 all stations of the wire are one source, which is known when the first of them has connected.
    let admitted = moved.of_family("smtp", Reason::Admitted, Family::V4).passed;
    ensure!(admitted == 0, "somebody was let in unasked\n{moved}");
    let (ticketed, repeated) = (moved.of(Reason::Ticketed), moved.of(Reason::Repeated));
    ensure!(ticketed + repeated + moved.of(Reason::Admitted) >= expected, "{expected} connected\n{moved}");
    match challenge {
        Challenge::Reset => ensure!(repeated * 2 >= silent && ticketed * 2 >= expected, "{silent} are silent\n{moved}"),
        Challenge::Retry => ensure!(ticketed == 0 && moved.of(Reason::Challenged) == 0, "{moved}"),
    }
    ensure!(is_greeted(&field, ip("10.31.0.7"))?, "who is known is let in");
    Ok(())
}

#[test]
fn clients_of_every_kind_connect_under_challenge() -> Result<()> {
    Challenge::ALL.into_iter().try_for_each(|challenge| all_connect(Attached::Native, challenge))
}

#[test]
fn clients_of_every_kind_connect_under_challenge_without_a_driver_that_helps() -> Result<()> {
    Challenge::ALL.into_iter().try_for_each(|challenge| all_connect(Attached::Generic, challenge))
}

/// Uses up what the limit of a source grants, in its name.
fn use_up(field: &Field, source: IpAddr) -> Result<()> {
    let explained = || field.controller()?.json(&["explain", &source.to_string(), "--service", "smtp"]);
    // The limiter allows one more a tick of the clock later.
    let is_asked = || -> Result<bool> {
        field.wire.attempt(source, SMTP, FORGED)?;
        thread::sleep(TICK);
        Ok(explained()?["services"][0]["reason"] == "challenged")
    };
    eventually("the source is over its limit", SOON, is_asked).map(drop)
}

/// By the name of what others send, not by suspicion of the service.
#[test]
fn clients_whose_limit_others_use_up_connect() -> Result<()> {
    let field = Field::guarded(TIGHT)?;
    let _listener = Listener::saying(BANNER, &field.wire.gateway, SMTP)?;
    let link = field.wire.link();
    let mut clients = Vec::new();
    for server in FAMILIES.map(ip) {
        let replayed = |timing, host| -> Result<Replayed> {
            let source = unowned(server, host);
            use_up(&field, source)?;
            Ok(Replayed::new(timing, source, (server, SMTP).into()))
        };
        for (timing, host) in Timing::ALL.into_iter().zip(10..) {
            clients.push((timing, replayed(timing, host)?));
        }
        clients.push((Timing::Linux65, replayed(Timing::Linux65, 20)?.never_answers()));
    }
    thread::scope(|scope| {
        let link = &link;
        let running: Vec<_> =
            clients.iter().map(|(timing, client)| (timing, scope.spawn(move || client.greet(link)))).collect();
        for (timing, client) in running {
            let seen = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let banner = seen.banner.with_context(|| format!("{timing:?}: {seen:?}"))?;
            ensure!(banner <= MOST && seen.line == BANNER && seen.wrong_answers > 0, "{timing:?}: {seen:?}");
        }
        Ok(())
    })
}

/// Mail servers speak first: nothing but the server's own timer brings the banner then.
#[test]
fn a_lost_third_packet_delays_the_banner_no_more_than_without_a_challenge() -> Result<()> {
    const BANNER_WITHIN: Duration = Duration::from_secs(2);
    for attached in Attached::ALL {
        let field = Field::attached(attached, "")?;
        let _listener = Listener::saying(BANNER, &field.wire.gateway, SMTP)?;
        field.prove(&[ip("10.31.0.7")])?;
        let greeted = |server: IpAddr, host| -> Result<Seen> {
            let client = Replayed::new(Timing::Linux65, unowned(server, host), (server, SMTP).into());
            let seen = client.drops_first_ack().greet(&field.wire.link())?;
            let banner = seen.banner.with_context(|| format!("{seen:?}"))?;
            ensure!(banner <= BANNER_WITHIN && seen.line == BANNER, "{server}: {seen:?}");
            Ok(seen)
        };
        let without: Vec<Seen> =
            FAMILIES.map(ip).map(|server| greeted(server, 40)).into_iter().collect::<Result<_>>()?;
        let flood = pressed(&field)?;
        let with: Vec<Seen> = FAMILIES.map(ip).map(|server| greeted(server, 41)).into_iter().collect::<Result<_>>()?;
        drop(flood);
        let ms = |all: &[Seen]| -> Vec<u64> {
            all.iter().filter_map(|seen| Some(seen.banner?.as_millis() as u64)).collect()
        };
        report(
            "the third packet is lost",
            &json!({ "attached": attached.label(), "unchallenged_ms": ms(&without), "challenged_ms": ms(&with) }),
        );
        ensure!(without.iter().all(|seen| seen.wrong_answers == 0) && with.iter().all(|seen| seen.wrong_answers == 1));
    }
    Ok(())
}

/// Everything that was agreed upon, from the outside's kernel to the gateway's.
#[test]
fn a_challenged_connection_agrees_on_what_any_other_does() -> Result<()> {
    for attached in Attached::ALL {
        let field = Field::attached(attached, TIGHT)?;
        let watch = Watch::on(&field.wire, SMTP)?;
        for source in ["10.32.0.7", "2001:db8:1:32::7"].map(ip) {
            let plain = watch.connect(source, TIMEOUT)?;
            use_up(&field, source)?;
            let asked = watch.connect(source, TIMEOUT)?;
            let ms = |watched: &Watched| watched.connect.as_millis() as u64;
            report(
                "what is agreed upon under challenge",
                &json!({ "attached": attached.label(), "source": source, "unchallenged_ms": ms(&plain),
                    "challenged_ms": ms(&asked), "agreed": format!("{:?}", asked.handshake) }),
            );
            ensure!((plain.wrong_answers, asked.wrong_answers) == (0, 1), "{attached:?}: {plain:?}\n{asked:?}");
            ensure!(plain.handshake == asked.handshake, "{attached:?}:\n{plain:?}\n{asked:?}");
        }
    }
    Ok(())
}

/// Whole conversations, and many at once.
#[test]
fn on_a_quiet_day_nobody_is_challenged() -> Result<()> {
    let field = Field::guarded("")?;
    let server = MailServer::start(&field.wire.gateway, &Extra::default())?;
    for (port, conversation) in [(SMTP, Conversation::Smtp), (143, Conversation::Imap), (110, Conversation::Pop3)] {
        for network in ["10.33", "2001:db8:1"] {
            let sources: Vec<IpAddr> = (0x10..0x24)
                .map(|host| {
                    ip(&if network.contains(':') {
                        format!("{network}:{host}::7")
                    } else {
                        format!("{network}.{host}.7")
                    })
                })
                .collect();
            let server = (gateway_for(sources[0]), port).into();
            let load = connecting(sources.clone(), gateway_for(sources[0]), 40.0, TIMEOUT);
            ensure_all(&Load { server, conversation, count: Some(40), ..load }.run(&field.wire.outside)?)?;
        }
    }
    let proof = field.proof()?;
    report("a quiet day", &json!({ "proof": proof }));
    let asked = (proof.challenges.sent, proof.challenges.awaited, proof.challenges.strays);
    ensure!(asked == (0, 0, 0) && proof.handshakes >= 240, "{proof:?}");
    server.stop()
}
