//! `explain` tells the truth: what it says of a source is what the source's next SYN gets.

use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result, ensure};
use ratelimit_common::Family;
use ratelimit_tests::gateway::{Answers, Site, TICK, ip};
use ratelimit_user::api::{Explanation, ServiceExplanation};

/// SYNs are counted: nobody is asked to prove himself.
const CONFIG: &str = r#"
trust = ["10.1.0.0/24", "2001:db8:1:1::/64"]
allow = ["10.2.0.128/25"]
block = ["10.2.0.0/24", "2001:db8:1:2::/64"]

[services.smtp]
source = { rate = "60/h", burst = 6 }
network = { rate = "60/h", burst = 10 }
[services.imap]
mode = "observe"
source = { rate = "60/h", burst = 2 }

[proof]
challenge = "off"
"#;

/// Which service, which source, how many connections it makes before, and what is said of the next one.
type Case = (&'static str, &'static str, u32, Expected);
type Expected = (&'static str, &'static str);

const CASES: [Case; 14] = [
    ("smtp", "10.9.0.1", 0, ("admitted", "pass")),
    ("smtp", "10.9.1.1", 3, ("admitted", "pass")),
    ("smtp", "10.9.2.1", 5, ("admitted", "pass")),
    ("smtp", "10.9.3.1", 7, ("source_limit", "drop")),
    ("smtp", "10.9.4.1", 9, ("source_limit", "drop")),
    ("smtp", "10.1.0.1", 9, ("trusted", "pass")),
    ("smtp", "10.2.0.1", 0, ("blocked", "drop")),
    ("smtp", "10.2.0.200", 0, ("admitted", "pass")),
    ("smtp", "10.2.0.201", 8, ("source_limit", "drop")),
    ("smtp", "2001:db8:1:9::1", 7, ("source_limit", "drop")),
    ("smtp", "2001:db8:1:1::1", 6, ("trusted", "pass")),
    ("smtp", "2001:db8:1:2::1", 1, ("blocked", "drop")),
    ("imap", "10.9.5.1", 3, ("source_limit", "pass")),
    ("imap", "2001:db8:1:2::1", 0, ("blocked", "pass")),
];

fn port(service: &str) -> u16 {
    if service == "smtp" { 25 } else { 143 }
}

fn explained(site: &Site, source: IpAddr, service: &str) -> Result<(ServiceExplanation, Option<i32>)> {
    let words = ["explain", &source.to_string(), "--service", service, "--json"];
    let finished = site.controller.cli(&words)?;
    let explanation: Explanation =
        serde_json::from_str(&finished.stdout).with_context(|| format!("{words:?}: {finished:?}"))?;
    let [verdict] = <[_; 1]>::try_from(explanation.services).ok().context("one service was asked about")?;
    Ok((verdict, finished.status.code()))
}

/// Sends one SYN and says what it got.
fn met(site: &Site, source: IpAddr, service: &str) -> Result<(String, &'static str)> {
    let before = site.counters()?;
    let answers = Answers::listen(&site.wire)?;
    site.wire.attempt(source, port(service), 1)?;
    let moved = site.settled(&before, 1)?;
    let reason = moved.only_reason().with_context(|| format!("one SYN moved\n{moved}"))?;
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let action = if moved.connections_of(service, family).dropped == 1 { "drop" } else { "pass" };
    let answered = answers.stop()?.of(source, port(service)) == 1;
    ensure!(answered == (action == "pass"), "{source} was counted as {action}, answered: {answered}");
    Ok((reason.label().to_owned(), action))
}

fn check(site: &Site, (service, source, before, (reason, action)): Case) -> Result<()> {
    let source = ip(source);
    for _ in 0..before {
        site.wire.attempt(source, port(service), 1)?;
        thread::sleep(TICK);
    }
    let (said, code) = explained(site, source, service)?;
    ensure!((said.reason.as_str(), said.action.as_str()) == (reason, action), "explain says {said:?}");
    // Asking costs nothing: the same answer again.
    ensure!(explained(site, source, service)?.0.reason == reason, "asking changed the answer");
    let refuses = matches!(reason, "blocked" | "source_limit" | "network_limit");
    ensure!(said.refused == refuses && code == Some(if refuses { 3 } else { 0 }), "code {code:?}, {said:?}");
    let got = met(site, source, service)?;
    ensure!((got.0.as_str(), got.1) == (reason, action), "the next SYN got {got:?}");
    Ok(())
}

#[test]
fn the_next_connection_gets_what_explain_says() -> Result<()> {
    let site = Site::configured(&format!("mode = \"enforce\"\n{CONFIG}"))?;
    for case in CASES {
        check(&site, case).with_context(|| format!("{case:?}"))?;
    }
    // What a network may is used up: a stranger in it is told so, and so it is.
    for host in 1..=3 {
        site.wire.attempt(ip(&format!("10.8.0.{host}")), 25, 5)?;
        thread::sleep(TICK);
    }
    check(&site, ("smtp", "10.8.0.99", 0, ("network_limit", "drop")))
}

#[test]
fn without_a_controller_explain_asks_the_pins() -> Result<()> {
    let mut site = Site::configured(&format!("mode = \"enforce\"\n{CONFIG}"))?;
    site.controller.kill9()?;
    for case in CASES {
        check(&site, case).with_context(|| format!("{case:?}, no controller"))?;
    }
    Ok(())
}

#[test]
fn explain_shows_how_much_of_a_limit_is_used() -> Result<()> {
    let site = Site::configured(&format!("mode = \"enforce\"\n{CONFIG}"))?;
    let source = ip("10.9.0.1");
    for used in 0..6u32 {
        let (said, _) = explained(&site, source, "smtp")?;
        let levels: Vec<(u32, bool)> =
            said.levels.iter().map(|level| (level.used.round() as u32, level.wait_ms > 0)).collect();
        ensure!(levels == [(used, false), (used, false)], "after {used} connections: {:?}", said.levels);
        site.wire.attempt(source, 25, 1)?;
    }
    thread::sleep(TICK);
    site.wire.attempt(source, 25, 2)?;
    let (said, code) = explained(&site, source, "smtp")?;
    ensure!(code == Some(3) && said.levels[0].wait_ms > 50_000 && said.levels[1].wait_ms == 0, "{said:?}");
    let (said, _) = explained(&site, ip("10.2.0.200"), "smtp")?;
    let kinds: Vec<String> = said.entries.iter().map(|entry| entry.kind.to_string()).collect();
    ensure!(kinds == ["allow", "block"], "{:?}", said.entries);
    Ok(())
}
