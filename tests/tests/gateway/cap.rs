//! How many connections a source may have open at once.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::gateway::{LAN, Site, Wire, eventually, gateway_for, ip};
use ratelimit_tests::pairs::{Door, End, Pair};
use ratelimit_user::api::{Explanation, SourceView};
use serde_json::Value;

const CONFIG: &str = r#"
mode = "enforce"
trust = ["10.62.0.0/16"]
[services.smtp]
connections = 3
[services.imap]
connections = 3
"#;
const SMTP: u16 = 25;
const IMAP: u16 = 143;
const SOON: Duration = Duration::from_secs(10);
/// For who is refused.
const PATIENCE: Duration = Duration::from_millis(500);
const REFUSED: (Reason, bool) = (Reason::ConnectionCap, false);
const OBSERVED: (Reason, bool) = (Reason::ConnectionCap, true);
const ADMITTED: (Reason, bool) = (Reason::Admitted, true);

/// For clients of the family of an address.
fn door(wire: &Wire, family: IpAddr, port: u16) -> Result<Door> {
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    Door::open(&wire.gateway, everywhere, SocketAddr::new(gateway_for(family), port))
}

fn connect(site: &Site, door: &Door, source: IpAddr, count: usize) -> Result<Vec<Pair>> {
    door.pairs(&site.wire.outside, &vec![source; count])
}

/// Ends one of them, and returns when the gate has counted it.
fn end_one(site: &Site, pairs: &mut Vec<Pair>, source: IpAddr, port: u16) -> Result<()> {
    let one = pairs.pop().context("none is open")?;
    End::ServerFirst.of(&site.wire, vec![one], &mut |_| Ok(()))?;
    eventually("another one is let in", SOON, || Ok(site.next(source, port)? == ADMITTED)).map(drop)
}

/// A source, a port, who is counted with it, and who is not.
const CASES: [(&str, u16, Option<&str>, &str); 4] = [
    ("10.61.0.1", SMTP, None, "10.61.0.2"),
    ("2001:db8:1:61::1", SMTP, None, "2001:db8:1:61::2"),
    ("10.61.0.1", IMAP, None, "10.61.0.2"),
    ("2001:db8:1:61::1", IMAP, Some("2001:db8:1:61::2"), "2001:db8:1:62::1"),
];

#[test]
fn who_has_as_many_as_he_may_is_refused_until_one_ends() -> Result<()> {
    let site = Site::configured(CONFIG)?;
    for (source, port, also, beside) in CASES {
        let (source, other_port) = (ip(source), SMTP + IMAP - port);
        let door = door(&site.wire, source, port)?;
        let mut pairs = connect(&site, &door, source, 2)?;
        ensure!(site.next(source, port)? == ADMITTED, "{source} has two");
        pairs.extend(connect(&site, &door, source, 1)?);
        for refused in [Some(source), also.map(ip)].into_iter().flatten() {
            let next = site.next(refused, port)?;
            ensure!(next == REFUSED, "{refused} at {port}: {next:?}");
        }
        let knocked = door.knock(&site.wire.outside, source, PATIENCE)?;
        ensure!(knocked.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut), "{source} came in");
        ensure!(site.next(ip(beside), port)? == ADMITTED, "{beside} at {port}");
        ensure!(site.next(source, other_port)? == ADMITTED, "{source} at {other_port}");
        pairs.iter().try_for_each(Pair::converse)?;
        is_explained(&site, source, port)?;

        end_one(&site, &mut pairs, source, port)?;
        pairs.extend(connect(&site, &door, source, 1)?);
        ensure!(site.next(source, port)? == REFUSED, "{source} has three again");
        waits_for_its_turn(&site, &door, source, &mut pairs)?;
    }
    Ok(())
}

fn is_explained(site: &Site, source: IpAddr, port: u16) -> Result<()> {
    let service = if port == SMTP { "smtp" } else { "imap" };
    let explained = site.controller.json(&["explain", &source.to_string(), "--service", service])?;
    let explained: Explanation = serde_json::from_value(explained)?;
    let one = explained.services.first().context("no service is explained")?;
    let said = (one.reason.as_str(), one.refused, one.connections, one.connections_most);
    ensure!(said == ("connection_cap", true, 3, Some(3)), "{source}: {one:?}");
    let shown = site.controller.ask("GET", "/v1/sources?by=connections", &Value::Null)?;
    let shown: Vec<SourceView> = serde_json::from_value(shown)?;
    let is_it = |view: &&SourceView| view.source.contains_address(source) && view.service == service;
    let view = shown.iter().find(is_it).with_context(|| format!("{source} is not among {shown:?}"))?;
    ensure!((view.connections, view.most, view.proven) == (3, Some(3), true), "{view:?}");
    Ok(())
}

/// A client that asks for one too many comes in by itself when there is room.
fn waits_for_its_turn(site: &Site, door: &Door, source: IpAddr, pairs: &mut Vec<Pair>) -> Result<()> {
    let one = pairs.pop().context("none is open")?;
    let client = thread::scope(|scope| {
        let waiting = scope.spawn(|| door.knock(&site.wire.outside, source, SOON));
        thread::sleep(PATIENCE);
        let is_early = waiting.is_finished();
        drop(one);
        let client = waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ensure!(!is_early, "{source} did not wait");
        client
    })?;
    pairs.push(door.accepted(client?)?);
    Ok(())
}

#[test]
fn a_trusted_source_may_have_any_number() -> Result<()> {
    let site = Site::configured(CONFIG)?;
    let source = ip("10.62.0.1");
    let door = door(&site.wire, source, SMTP)?;
    let _pairs = connect(&site, &door, source, 7)?;
    ensure!(site.next(source, SMTP)? == (Reason::Trusted, true));
    Ok(())
}

#[test]
fn a_command_acts_at_once_on_connections_that_are_open() -> Result<()> {
    let site = Site::configured(&CONFIG.replace("connections = 3", "connections = 50"))?;
    let (source, other) = (ip("10.61.0.1"), ip("10.61.0.2"));
    let door = door(&site.wire, source, SMTP)?;
    let mut pairs = connect(&site, &door, source, 5)?;
    let others = connect(&site, &door, other, 1)?;
    ensure!(site.next(source, SMTP)? == ADMITTED);
    for (words, expected) in [
        ("limit set smtp --connections 2", REFUSED),
        ("limit set smtp --connections 6", ADMITTED),
        ("limit set smtp --connections 5", REFUSED),
        ("limit set smtp --connections off", ADMITTED),
        ("limit set smtp --connections 1", REFUSED),
        ("limit reset smtp", ADMITTED),
        ("limit set smtp --connections 4", REFUSED),
    ] {
        site.run(words)?;
        let next = site.next(source, SMTP)?;
        ensure!(next == expected, "after `{words}`: {next:?}");
    }
    ensure!(site.next(other, SMTP)? == ADMITTED);
    pairs.iter().chain(&others).try_for_each(Pair::converse).context("a command ended a connection")?;
    let two = pairs.split_off(3);
    End::ClientReset.of(&site.wire, two, &mut |_| Ok(()))?;
    eventually("another one is let in", SOON, || Ok(site.next(source, SMTP)? == ADMITTED))?;
    Ok(())
}

#[test]
fn observe_only_counts() -> Result<()> {
    let site = Site::configured(&CONFIG.replace("enforce", "observe"))?;
    let source = ip("10.61.0.1");
    let door = door(&site.wire, source, SMTP)?;
    let before = site.counters()?;
    let pairs = connect(&site, &door, source, 6)?;
    let counted = site.settled(&before, 6)?.of_reason("smtp", Reason::ConnectionCap);
    ensure!((counted.passed, counted.dropped) == (3, 0), "{counted:?}");
    ensure!(site.next(source, SMTP)? == OBSERVED);
    pairs.iter().try_for_each(Pair::converse)
}

#[test]
fn no_restart_and_no_death_of_the_controller_opens_or_closes_it() -> Result<()> {
    let config = || Some(CONFIG.to_owned());
    let args = vec!["--keep".to_owned()];
    let options = Options { config: config(), interfaces: vec![LAN.to_owned()], args, ..Options::default() };
    let mut site = Site::start(1500, &options)?;
    let (source, other) = (ip("10.61.0.1"), ip("2001:db8:1:61::1"));
    let (v4, v6) = (
        door(&site.wire, source, SMTP)?,
        Door::open(
            &site.wire.gateway,
            SocketAddr::new(gateway_for(other), IMAP),
            SocketAddr::new(gateway_for(other), IMAP),
        )?,
    );

    // Nobody but the kernel is there to notice that it is full.
    site.controller.kill9()?;
    let mut pairs = connect(&site, &v4, source, 3)?;
    let others = connect(&site, &v6, other, 3)?;
    let full = |site: &Site, when: &str| -> Result<()> {
        let next = (site.next(source, SMTP)?, site.next(other, IMAP)?);
        ensure!(next == (REFUSED, REFUSED), "{when}: {next:?}");
        Ok(())
    };
    full(&site, "without a controller")?;
    end_one(&site, &mut pairs, source, SMTP)?;
    pairs.extend(connect(&site, &v4, source, 1)?);
    full(&site, "still without a controller")?;
    site.controller.restart()?;
    full(&site, "with another controller")?;
    site.controller.stop()?;
    full(&site, "while it is stopped")?;
    site.controller.restart()?;
    // Long enough for the controller to look again.
    thread::sleep(Duration::from_millis(2500));
    full(&site, "a while later")?;
    site.controller.write_config(&format!("memory = \"8 MiB\"\n{CONFIG}"))?;
    site.run("reload")?;
    full(&site, "with other maps")?;
    end_one(&site, &mut pairs, source, SMTP)?;
    ensure!(site.next(other, IMAP)? == REFUSED);
    pairs.iter().chain(&others).try_for_each(Pair::converse)
}

#[test]
fn connections_older_than_the_gate_count_towards_it() -> Result<()> {
    let wire = Wire::new(1500)?;
    let source = ip("10.61.0.1");
    let door = door(&wire, source, SMTP)?;
    let mut pairs = door.pairs(&wire.outside, &[source; 3])?;
    let options = Options { config: Some(CONFIG.to_owned()), interfaces: vec![LAN.to_owned()], ..Options::default() };
    let mut site = Site { controller: Controller::start(&wire.gateway, &options)?, wire };
    ensure!(site.next(source, SMTP)? == REFUSED, "three were there before");
    end_one(&site, &mut pairs, source, SMTP)?;
    pairs.extend(connect(&site, &door, source, 1)?);
    ensure!(site.next(source, SMTP)? == REFUSED, "two older and a young one");
    site.controller.stop()?;
    site.controller.restart()?;
    ensure!(site.next(source, SMTP)? == REFUSED, "all of them are older now");
    End::ServerReset.of(&site.wire, pairs, &mut |_| Ok(()))?;
    eventually("it is let in again", SOON, || Ok(site.next(source, SMTP)? == ADMITTED)).map(drop)
}
