//! Real attack tools against a real mail server behind the gate.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_tests::attackers::{Hping, HpingSource, Scan, nmap};
use ratelimit_tests::clients::Conversation;
use ratelimit_tests::debian::DebianRoot;
use ratelimit_tests::gateway::{GATEWAY_V4, GATEWAY_V6, Moved, Site, client, ip};
use ratelimit_tests::servers::{Extra, MailServer};

/// Two that are open, one of a service that nobody listens on, one that is no service at all.
const OPEN: [u16; 2] = [25, 143];
const CLOSED: u16 = 4190;
const OTHER: u16 = 26;
const PORTS: [u16; 4] = [OPEN[0], OPEN[1], CLOSED, OTHER];
const TIMEOUT: Duration = Duration::from_secs(20);

struct Scanned {
    states: [String; 4],
    moved: Moved,
}

fn scan(site: &Site, tools: &DebianRoot, scan: Scan, target: IpAddr) -> Result<Scanned> {
    let before = site.counters()?;
    let report = nmap(tools, &site.wire.outside, scan, target, &PORTS)?;
    let moved = site.counters()?.since(&before);
    let states = PORTS.map(|port| report.states.get(&port).cloned().unwrap_or_default());
    println!("{scan:?} of {target}: {states:?}\n{moved}");
    Ok(Scanned { states, moved })
}

fn converse(site: &Site, source: &str) -> Result<()> {
    for (conversation, port) in [(Conversation::Smtp, 25), (Conversation::Imap, 143)] {
        site.wire
            .outside
            .enter(|| client(ip(source), port, TIMEOUT).converse(conversation))?
            .with_context(|| format!("{conversation:?} from {source}"))?;
    }
    Ok(())
}

#[test]
fn stealth_scans_find_nothing_and_are_counted() -> Result<()> {
    let site = Site::enforcing()?;
    let _server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    let tools = DebianRoot::new()?;
    for (target, family, honest) in
        [(IpAddr::from(GATEWAY_V4), Family::V4, "10.9.0.1"), (GATEWAY_V6.into(), Family::V6, "2001:db8:1:9::1")]
    {
        let mut scans =
            vec![(Scan::Null, Reason::BadFlags), (Scan::Fin, Reason::BadFlags), (Scan::Xmas, Reason::BadFlags)];
        // nmap cuts IPv4 packets only.
        if family == Family::V4 {
            scans.push((Scan::SynFragments, Reason::FragmentedSyn));
        }
        for (kind, reason) in scans {
            let Scanned { states, moved } = scan(&site, &tools, kind, target)?;
            let [smtp, imap, sieve, _] = &states;
            ensure!(!states.iter().any(|state| state == "open"), "{kind:?} found a port: {states:?}");
            ensure!(smtp == imap && imap == sieve, "{kind:?} tells open from closed: {states:?}");
            for service in ["smtp", "imap", "sieve"] {
                let tally = moved.of_reason(service, reason);
                ensure!(tally.dropped > 0 && tally.passed == 0, "{kind:?} on {service}: {moved}");
            }
            ensure!(moved.total() == moved.of(reason), "{kind:?}: {moved}");
        }
        converse(&site, honest)?;
    }
    Ok(())
}

#[test]
fn a_slow_syn_scan_sees_what_everybody_sees() -> Result<()> {
    let site = Site::enforcing()?;
    let _server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    let tools = DebianRoot::new()?;
    for target in [IpAddr::from(GATEWAY_V4), GATEWAY_V6.into()] {
        for kind in [Scan::Syn, Scan::Connect] {
            let Scanned { states, moved } = scan(&site, &tools, kind, target)?;
            ensure!(states == ["open", "open", "closed", "closed"], "{kind:?}: {states:?}");
            ensure!(moved.total() == moved.of(Reason::Admitted) && moved.total() == moved.total_passed(), "{moved}");
        }
        let Scanned { states, .. } = scan(&site, &tools, Scan::Ack, target)?;
        ensure!(states.iter().all(|state| state == "unfiltered"), "packets of open connections pass: {states:?}");
    }
    Ok(())
}

#[test]
fn a_syn_flood_by_hping3_loses_its_excess() -> Result<()> {
    let site = Site::enforcing()?;
    let _server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    let tools = DebianRoot::new()?;
    let hping = Hping {
        target: GATEWAY_V4,
        port: 25,
        count: 2_000,
        interval: Duration::from_micros(200),
        source: HpingSource::Own,
    };
    let before = site.counters()?;
    let sent = hping.run(&tools, &site.wire.outside)?;
    ensure!(sent.stderr.contains("2000 packets transmitted"), "{sent:?}");
    let moved = site.settled(&before, 2_000)?;
    let tally = moved.connections("smtp");
    // 300 at once, and five a second.
    let allowed = 301 + 5 * (sent.elapsed.as_secs() + 1);
    ensure!(tally.passed + tally.dropped == 2_000, "{moved}");
    ensure!((64..=allowed).contains(&tally.passed), "at most {allowed} were allowed:\n{moved}");
    // It completes no handshake, so nothing is its excess: it is asked.
    ensure!(moved.of(Reason::Challenged) == tally.dropped, "{moved}");

    // Each from another forged address, while the service is suspect.
    let before = site.counters()?;
    Hping { count: 500, source: HpingSource::Random, ..hping }.run(&tools, &site.wire.outside)?;
    let moved = site.settled(&before, 500)?;
    let asked = moved.of(Reason::Challenged) + moved.of(Reason::Awaited);
    ensure!(moved.connections("smtp").dropped == asked, "{moved}");
    converse(&site, "10.9.0.1")?;
    converse(&site, "2001:db8:1:9::1")
}
