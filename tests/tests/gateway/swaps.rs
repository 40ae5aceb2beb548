//! Configuration and lists are swapped under a flood, and every SYN is judged by one version entirely.
//!
//! Two versions never let anybody in once their bursts are used up, each for a reason of its own:
//!
//! | source and service | version A | version B |
//! |---|---|---|
//! | S to smtp | **blocked**; a limit that is never reached | not blocked; **2 an hour** |
//! | T to imap | not blocked; **2 an hour** | **blocked**; a limit that is never reached |
//! | W to both | **listed** | **listed** |
//!
//! So a SYN that passes was judged by a mixture. One that met the lists of B and the limits of A lets S in without bound, the
//! reverse one T. What classes mean is a third part: of the networks in order of their addresses S is the first class of A
//! and W its second, W is the first class of B and T its second. A class of A that is read as one of B makes W be blocked on
//! imap alone, so that it passes on smtp; the reverse lets it in on imap.
//!
//! These tests fail where a set, a table or its classes is put in place before the epoch flips, or is filled after it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratelimit_common::event::Tally;
use ratelimit_common::{Family, Reason};
use ratelimit_tests::controller::COUNTING_SYNS;
use ratelimit_tests::flood::{Pattern, RunningFlood};
use ratelimit_tests::gateway::{Counters, ListFile, Site, eventually, ip, is_long, net};
use ratelimit_user::api::Reloaded;

/// S, W and T, in the order of their addresses.
const S: [&str; 2] = ["10.1.0.0/30", "2001:db8:1:1::/126"];
const W: [&str; 2] = ["10.2.0.0/28", "2001:db8:1:2::/124"];
const T: [&str; 2] = ["10.3.0.0/30", "2001:db8:1:3::/126"];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const SERVICES: [(&str, u16, [&str; 2]); 2] = [("smtp", 25, S), ("imap", 143, T)];

/// Never reached: as many at once as a day of that rate brings. What the tight one makes a source owe, three hours at most,
/// is far within it.
const WIDE: &str = "{ rate = \"1000/s\", burst = 80_000_000 }";
const TIGHT: &str = "{ rate = \"1/h\", burst = 2 }";
/// What the tight one lets in of a source: its burst, and one more a tick later.
const BURST: u64 = 3;
/// Sources of S on smtp, IPv4 and IPv6, and of T on imap, where those of a /64 are one.
const SOURCES: [[u64; 2]; 2] = [[4, 4], [4, 1]];

/// Packets a second of each of the four floods.
const RATE: u64 = 150_000;
const TIME: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);
/// How many swaps of the configuration there are to one of the list.
const LIST_EVERY: usize = 10;
/// Fewer SYNs than these, for each swap, would show little.
const LEAST_SYNS_A_SWAP: u64 = 100;

fn version(blocked: [&str; 2], service: &str, [smtp, imap]: [&str; 2]) -> String {
    let entry = |network| format!("{{ network = \"{network}\", services = [\"{service}\"] }}");
    let [v4, v6] = blocked.map(entry);
    format!(
        "mode = \"enforce\"\nblock = [{v4}, {v6}]\n\
         [services.smtp]\nsource = {smtp}\nnetwork = \"off\"\nservice = \"off\"\n\
         [services.imap]\nsource = {imap}\nnetwork = \"off\"\nservice = \"off\"\n{COUNTING_SYNS}"
    )
}

fn versions() -> [String; 2] {
    [version(S, "smtp", [WIDE, TIGHT]), version(T, "imap", [TIGHT, WIDE])]
}

/// Two contents of the list, both with all of W: as it is, and inside a wider network. Of the others a third differ: of half, the controller would not believe it.
fn contents() -> [String; 2] {
    let text = |own: [&str; 2], others: std::ops::Range<u32>| -> String {
        let host = |host: u32| format!("10.40.{}.{}\n2001:db8:1:40::{host:x}\n", host / 100, host % 100 * 2);
        own.map(|network| format!("{network}\n")).into_iter().chain(others.map(host)).collect()
    };
    [text(W, 0..1_000), text(["10.2.0.0/27", "2001:db8:1:2::/64"], 300..1_300)]
}

/// Four floods, of all sources of a service in a family.
fn flood(site: &Site) -> Result<Vec<RunningFlood>> {
    let mut floods = Vec::new();
    for (_, port, sources) in SERVICES {
        for (any, of_family, listed) in [("10.1.0.1", sources[0], W[0]), ("2001:db8:1:1::1", sources[1], W[1])] {
            let pattern = Pattern::random([net(of_family), net(listed)]);
            let flood = site.wire.flood(port, pattern, ip(any))?.rate(Some(RATE)).limit(u64::MAX, TIME);
            floods.push(flood.start()?);
        }
    }
    Ok(floods)
}

/// The planes that are pinned: a new one would begin with empty cells.
fn planes(site: &Site) -> Result<BTreeSet<OsString>> {
    let names = fs::read_dir(site.controller.pins())?.map(|entry| Ok(entry?.file_name()));
    names.collect()
}

/// `ratelimit reload` without a process for it.
fn reload(site: &Site) -> Result<Reloaded> {
    let mut stream = UnixStream::connect(site.controller.socket())?;
    stream.set_read_timeout(Some(SOON))?;
    stream
        .write_all(b"POST /v1/reload HTTP/1.1\r\nHost: ratelimit\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    serde_json::from_str(body).with_context(|| answer.clone())
}

/// What is swapped, and how.
struct Swapper<'a> {
    site: &'a Site,
    versions: [String; 2],
    list: ListFile,
    contents: [String; 2],
}

impl<'a> Swapper<'a> {
    /// With version A in force, and the list.
    fn new(site: &'a Site) -> Result<Self> {
        let (versions, contents) = (versions(), contents());
        let list = site.with_list(&versions[0], "always", "services = [\"smtp\", \"imap\"]", &contents[0])?;
        let versions = versions.map(|version| version + list.section());
        Ok(Self { site, versions, list, contents })
    }

    fn put(&self, version: usize) -> Result<()> {
        self.site.controller.write_config(&self.versions[version % 2])?;
        let reloaded = reload(self.site)?;
        ensure!(reloaded.changes.len() == 6, "four networks and two services change: {reloaded:?}");
        Ok(())
    }

    /// Swaps so often, from A in force on; the list also now and then. Returns how often that was.
    fn swap(&self, count: usize) -> Result<usize> {
        let mut of_list = 0;
        for number in 0..count {
            self.put(number + 1)?;
            if number % LIST_EVERY == LIST_EVERY - 1 {
                of_list += 1;
                self.site.refresh(&self.list, &self.contents[of_list % 2])?;
            }
        }
        Ok(of_list)
    }

    /// Has each version use up its bursts under the flood, and returns the counters with A in force again.
    fn use_up_bursts(&self, before: &Counters) -> Result<Counters> {
        for (version, service) in [(0, 1), (1, 0)] {
            if version == 1 {
                self.put(version)?;
            }
            let (name, ..) = SERVICES[service];
            eventually("the bursts are used up", SOON, || {
                let moved = self.site.counters()?.since(before);
                let is_used_up = |(family, sources)| {
                    let admitted = moved.of_family(name, Reason::Admitted, family).passed;
                    let over = moved.of_family(name, Reason::SourceLimit, family).dropped;
                    admitted >= BURST * sources && over > 1_000
                };
                Ok(FAMILIES.into_iter().zip(SOURCES[service]).all(is_used_up))
            })?;
        }
        self.put(0)?;
        self.site.counters()
    }
}

#[test]
fn under_swaps_every_syn_is_judged_by_one_version() -> Result<()> {
    let swaps = if is_long() { 1_000 } else { 200 };
    let site = Site::configured(&format!("mode = \"enforce\"\n{COUNTING_SYNS}"))?;
    let swapper = Swapper::new(&site)?;
    let (first, frames_before) = site.snapshot()?;
    let (made_in, generation) = (planes(&site)?, site.controller.status()?.generation);

    let floods = flood(&site)?;
    let warm = swapper.use_up_bursts(&first)?;
    let bursts = warm.since(&first);
    let start = Instant::now();
    let of_list = swapper.swap(swaps)?;
    let took = start.elapsed();
    ensure!(!floods.iter().any(RunningFlood::is_finished), "a flood ended before the swaps, after {took:.1?}");
    floods.iter().for_each(RunningFlood::stop);
    let mut sent = 0;
    for flood in floods {
        sent += flood.join()?.packets;
    }
    let (last, frames_after) = site.snapshot()?;
    let run = last.since(&warm);
    println!(
        "{swaps} swaps, and {of_list} of the list, in {took:.1?}, {:.0} a second; {sent} packets sent\n{run}",
        swaps as f64 / took.as_secs_f64()
    );

    // The observer sees what passes, and the bursts were all that did; several processors may let in twice as much.
    let (passed, bursts_of_all) = (bursts.total_passed(), BURST * SOURCES.as_flattened().iter().sum::<u64>());
    ensure!(
        (bursts_of_all..=2 * bursts_of_all).contains(&passed),
        "{passed} and not {bursts_of_all} passed:\n{bursts}"
    );
    ensure!(run.total_passed() == 0, "a mixture of versions let somebody in:\n{run}");
    let all = last.all_since(&first);
    ensure!(all.total() == frames_after - frames_before, "{} frames:\n{all}", frames_after - frames_before);
    // Half of the SYNs are of W, which is blocked in both versions, the other half is blocked in one and over its limit in
    // the other.
    for (service, ..) in SERVICES {
        for family in FAMILIES {
            for reason in [Reason::Blocked, Reason::SourceLimit] {
                let Tally { dropped, .. } = run.of_family(service, reason, family);
                let least = LEAST_SYNS_A_SWAP * swaps as u64 / 4;
                ensure!(dropped >= least, "{service} {} {}: {dropped} of {least}", family.label(), reason.label());
            }
            let [blocked, over] =
                [Reason::Blocked, Reason::SourceLimit].map(|reason| run.of_family(service, reason, family));
            ensure!(run.connections_of(service, family).dropped == blocked.dropped + over.dropped, "{run}");
        }
    }
    ensure!(planes(&site)? == made_in, "the maps were made anew, so the cells of the limits were emptied");
    let grown = site.controller.status()?.generation - generation;
    // Two were put in force before; the watch over the file may have read it too.
    let least = (swaps + of_list + 2) as u64;
    ensure!((least..=least + of_list as u64).contains(&grown), "{least} changes, and {grown} sets were put in force");
    Ok(())
}

/// W alone, so that each counter is W's: nothing but `blocked` ever moves, whatever is swapped.
#[test]
fn no_syn_of_an_always_listed_source_passes() -> Result<()> {
    let swaps = if is_long() { 300 } else { 20 };
    let site = Site::configured(&format!("mode = \"enforce\"\n{COUNTING_SYNS}"))?;
    let swapper = Swapper::new(&site)?;
    let (before, frames_before) = site.snapshot()?;
    let mut floods = Vec::new();
    for ((_, port, _), (listed, any)) in SERVICES.into_iter().zip(W.into_iter().zip(["10.2.0.1", "2001:db8:1:2::1"])) {
        let flood = site.wire.flood(port, Pattern::random([net(listed)]), ip(any))?.limit(u64::MAX, TIME);
        floods.push(flood.start()?);
    }
    let of_list = swapper.swap(swaps)?;
    ensure!(!floods.iter().any(RunningFlood::is_finished), "a flood ended before the swaps");
    floods.iter().for_each(RunningFlood::stop);
    let sent: Result<Vec<u64>> = floods.into_iter().map(|flood| Ok(flood.join()?.packets)).collect();
    let (after, frames_after) = site.snapshot()?;
    let moved = after.since(&before);
    println!("{swaps} swaps, and {of_list} of the list; {:?} packets sent\n{moved}", sent.context("a flood failed")?);
    for ((service, ..), family) in SERVICES.into_iter().zip(FAMILIES) {
        let blocked = moved.of_family(service, Reason::Blocked, family);
        ensure!(blocked.passed == 0 && blocked.dropped >= LEAST_SYNS_A_SWAP * swaps as u64, "{moved}");
    }
    ensure!(moved.only_reason() == Some(Reason::Blocked), "something else was said of a listed source:\n{moved}");
    let all = after.all_since(&before);
    ensure!(all.total() == frames_after - frames_before, "{} frames:\n{all}", frames_after - frames_before);
    Ok(())
}
