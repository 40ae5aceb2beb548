//! What a list may do besides dropping SYNs: stop open connections, only observe, say who alone may connect; and what is
//! said of its lines.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_tests::gateway::{Site, eventually, ip, passed};
use ratelimit_tests::lists::{
    ENFORCE, Files, SMTP, WATCHED, await_entries, check, check_on, next, show, table, warns, warns_of_nothing,
};
use ratelimit_tests::packet::{ACK, PSH, SynPacket};
use ratelimit_user::api::{Explanation, ListMatch, ListState};
use serde::de::DeserializeOwned;

const POP3: u16 = 110;
const IMAP: u16 = 143;

/// Sends a packet of an open connection to smtp, and says how often it was let through and dropped, by reason.
fn open_packet(site: &Site, source: &str) -> Result<Vec<(Reason, u64, u64)>> {
    let before = site.counters()?;
    let packet = SynPacket::v4().from(source).to("192.0.2.1").to_port(SMTP).flags(ACK | PSH).data(b"QUIT\r\n");
    site.wire.send(&site.wire.frame(&packet))?;
    let mut moved = site.counters()?.all_since(&before);
    eventually("the packet is counted", WATCHED, || {
        moved = site.counters()?.all_since(&before);
        Ok(moved.total() > 0)
    })?;
    let tally = |reason: Reason| (reason, moved.of_reason("smtp", reason));
    let moved = Reason::ALL.iter().map(|reason| tally(*reason)).filter(|(_, tally)| *tally != Default::default());
    Ok(moved.map(|(reason, tally)| (reason, tally.passed, tally.dropped)).collect())
}

#[test]
fn all_packets_stops_open_connections_too() -> Result<()> {
    let files = Files::new()?;
    files.write("usual", "8.0.0.1\n")?;
    files.write("total", "8.1.0.1\n")?;
    let lists = table("usual", &files.from("usual"), "") + &table("total", &files.from("total"), "all_packets = true");
    let site = Site::configured(&format!("{ENFORCE}allow = [\"8.1.0.2\"]\n{lists}"))?;
    await_entries(&site, "usual", 1)?;
    await_entries(&site, "total", 1)?;
    check(&site, &["8.0.0.1", "8.1.0.1"], &["8.0.0.2", "8.1.0.2"])?;
    for (source, expected) in [
        ("8.0.0.1", (Reason::Established, 1, 0)),
        ("8.1.0.1", (Reason::Blocked, 0, 1)),
        ("8.1.0.2", (Reason::Established, 1, 0)),
        ("8.2.0.1", (Reason::Established, 1, 0)),
    ] {
        let moved = open_packet(&site, source)?;
        ensure!(moved == [expected], "{source}: {moved:?}, not {expected:?}");
    }
    Ok(())
}

#[test]
fn a_list_that_observes_counts_and_drops_nothing() -> Result<()> {
    let files = Files::new()?;
    files.write("watched", "8.0.0.1\n8.0.0.2\n")?;
    files.write("bad", "8.0.0.2\n")?;
    let lists = table("watched", &files.from("watched"), "mode = \"observe\"") + &table("bad", &files.from("bad"), "");
    let site = Site::configured(&format!("{ENFORCE}{lists}"))?;
    await_entries(&site, "watched", 2)?;
    await_entries(&site, "bad", 1)?;
    let before = site.counters()?;
    site.wire.attempt(ip("8.0.0.1"), SMTP, 3)?;
    site.expect(&before, &[passed("smtp", Reason::Blocked, Family::V4, 3)])?;
    let status = site.controller.status()?;
    let smtp = status.services.iter().find(|service| service.name == "smtp").context("no smtp")?;
    ensure!(smtp.would_refuse == 3, "{smtp:?}");
    let explained = site.controller.cli(&["explain", "8.0.0.1", "--service", "smtp"])?;
    ensure!(explained.status.code() == Some(3), "{explained:?}");
    ensure!(explained.stdout.contains("enforcing would refuse it on smtp"), "{}", explained.stdout);
    // Another list, that does not observe, drops what both hold.
    check(&site, &["8.0.0.2"], &["8.0.0.3"])
}

#[test]
fn a_list_acts_on_its_services_alone() -> Result<()> {
    let files = Files::new()?;
    for name in ["usual", "imap", "all"] {
        files.write(name, format!("8.{}.0.1\n", name.len()))?;
    }
    let lists = table("usual", &files.from("usual"), "")
        + &table("imap", &files.from("imap"), "services = [\"imap\"]")
        + &table("all", &files.from("all"), "services = \"all\"");
    let site = Site::configured(&format!("{ENFORCE}{lists}"))?;
    for name in ["usual", "imap", "all"] {
        await_entries(&site, name, 1)?;
    }
    let (usual, imap, all) = ("8.5.0.1", "8.4.0.1", "8.3.0.1");
    check_on(&site, ("smtp", SMTP), &[usual, all], &[imap])?;
    check_on(&site, ("imap", IMAP), &[imap, all], &[usual])
}

#[test]
fn only_those_of_a_list_may_connect_once_it_was_read() -> Result<()> {
    let files = Files::new()?;
    files.write("other", "8.0.0.1\n")?;
    let list = table("office", &files.from("office"), "action = \"allow\"\nprivate = true")
        + &table("bad", &files.from("other"), "services = \"all\"");
    let service = "[services.pop3]\nonly_from = [\"office\", \"10.7.0.0/24\"]\ndeny = \"drop\"\n";
    let site = Site::configured(&format!("{ENFORCE}trust = [\"10.8.0.1\"]\n{list}{service}"))?;
    await_entries(&site, "bad", 1)?;
    let met = |source: &str| next(&site, source, POP3);
    // Nobody has said yet who may connect.
    for source in ["10.1.0.9", "10.7.0.9", "8.8.8.8"] {
        ensure!(met(source)? == (Reason::Admitted, true), "{source}");
    }
    warns(&site, "office", "it weighs nothing, for it was never read")?;
    ensure!(show(&site, "office")?.state == ListState::Missing);

    files.replace("office", "10.1.0.0/24\n2001:db8:1:1::/64\n8.0.0.1\n")?;
    await_entries(&site, "office", 3)?;
    warns_of_nothing(&site)?;
    let (admitted, restricted) = ((Reason::Admitted, true), (Reason::Restricted, false));
    for (source, expected) in [
        ("10.1.0.9", admitted),
        ("2001:db8:1:1::9", admitted),
        ("10.7.0.9", admitted),
        ("10.8.0.1", (Reason::Trusted, true)),
        ("10.2.0.9", restricted),
        ("8.8.8.8", restricted),
        ("2001:db8:1:2::9", restricted),
        // Who may connect may be blocked for other reasons: the list that allows him does so on smtp alone.
        ("8.0.0.1", (Reason::Blocked, false)),
    ] {
        let met = met(source)?;
        ensure!(met == expected, "{source}: {met:?}, not {expected:?}");
    }
    // Other services are everybody's.
    ensure!(next(&site, "10.2.0.9", SMTP)? == admitted && next(&site, "8.0.0.1", SMTP)? == admitted);
    let explained = site.controller.cli(&["explain", "10.2.0.9", "--service", "pop3"])?;
    ensure!(explained.status.code() == Some(3) && explained.stdout.contains("restricted"), "{explained:?}");

    // What is gone again stays in force: nobody is let in, and nobody locked out, by a file that is missing.
    fs::remove_file(files.path("office"))?;
    eventually("the missing file is told", WATCHED, || Ok(show(&site, "office")?.problem.is_some()))?;
    ensure!(met("10.2.0.9")? == restricted && met("10.1.0.9")? == admitted);
    Ok(())
}

fn answer<T: DeserializeOwned>(site: &Site, words: &[&str]) -> Result<T> {
    Ok(serde_json::from_value(site.controller.json(words)?)?)
}

#[test]
fn list_test_and_explain_name_the_list_the_line_and_the_end() -> Result<()> {
    let files = Files::new()?;
    files.write("bad", "# ours\n8.0.0.0/24\n\n8.0.0.7 # twice\n2a00:1450::/32\n")?;
    files.write("zone", "8.1.0.0/24\n!8.1.0.7\n")?;
    files.write("friends", "8.0.0.9\n")?;
    let lists = table("bad", &files.from("bad"), "max_age = \"2h\"")
        + &table("zone", &files.from("zone"), "format = \"rbldnsd\"\nservices = \"all\"")
        + &table("friends", &files.from("friends"), "action = \"allow\"");
    let site = Site::configured(&format!("{ENFORCE}{lists}"))?;
    for (name, entries) in [("bad", 3), ("zone", 1), ("friends", 1)] {
        await_entries(&site, name, entries)?;
    }
    let lines = |matches: &[ListMatch]| -> Vec<(String, Option<u64>, bool)> {
        matches.iter().map(|found| (found.list.clone(), found.line, found.in_force)).collect()
    };
    let bad = |line: u64| ("bad".to_owned(), Some(line), true);
    let expires = show(&site, "bad")?.expires;
    ensure!(expires.is_some());

    let found: Vec<ListMatch> = answer(&site, &["list", "test", "8.0.0.7"])?;
    ensure!(lines(&found) == [bad(2), bad(4)], "{found:?}");
    ensure!(found[1].text.as_deref() == Some("8.0.0.7 # twice") && found[1].expires == expires, "{found:?}");
    let text = site.run("list test 8.0.0.7")?;
    let place = |line: u64| format!("{}:{line}", Path::new(&files.from("bad")).display());
    for says in ["8.0.0.7 is listed", &place(2), &place(4), "8.0.0.0/24", "twice", expires.as_deref().unwrap_or("?")] {
        ensure!(text.contains(says), "{says:?} is missing in {text}");
    }
    let found: Vec<ListMatch> = answer(&site, &["list", "test", "::ffff:8.0.0.8"])?;
    ensure!(lines(&found) == [bad(2)], "{found:?}");
    let found: Vec<ListMatch> = answer(&site, &["list", "test", "2a00:1450::8"])?;
    ensure!(lines(&found) == [bad(5)], "{found:?}");
    let found: Vec<ListMatch> = answer(&site, &["list", "test", "8.1.0.7"])?;
    ensure!(found.iter().any(|found| found.excludes && found.line == Some(2)), "{found:?}");
    ensure!(found.iter().all(|found| !found.in_force), "{found:?}");
    ensure!(site.run("list test 8.1.0.7")?.contains("no list acts on it"));
    ensure!(site.run("list test 9.9.9.9")? == "9.9.9.9 is in no list\n");

    let explained: Explanation = answer(&site, &["explain", "8.0.0.7", "--service", "smtp"])?;
    ensure!(explained.services.len() == 1 && explained.services[0].reason == "blocked", "{explained:?}");
    ensure!(lines(&explained.services[0].lists) == [bad(2), bad(4)], "{explained:?}");
    let text = site.controller.cli(&["explain", "8.0.0.7"])?.stdout;
    for says in ["refused on smtp", &place(4), expires.as_deref().unwrap_or("?"), "ratelimit list show bad"] {
        ensure!(text.contains(says), "{says:?} is missing in {text}");
    }
    // Listed and allowed: both are named, and the verdict is what counts.
    let explained: Explanation = answer(&site, &["explain", "8.0.0.9", "--service", "smtp"])?;
    let names: Vec<&str> = explained.services[0].lists.iter().map(|found| found.list.as_str()).collect();
    ensure!(explained.services[0].reason == "admitted" && names == ["bad", "friends"], "{explained:?}");
    check(&site, &["8.0.0.7", "8.1.0.8"], &["8.0.0.9", "8.1.0.7"])?;

    let said = site.refused("list show nobody", 1)?;
    ensure!(said.contains("there is no list \"nobody\" (bad, zone, friends)"), "{said}");
    let said = site.refused("list refresh nobody", 1)?;
    ensure!(said.contains("there is no list \"nobody\""), "{said}");
    Ok(())
}
