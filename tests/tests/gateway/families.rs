//! Who is who: trusted, allowed, blocked, limited and observed sources, IPv4 and IPv6, tagged and not, at each MTU.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Mode, Reason};
use ratelimit_tests::controller::Options;
use ratelimit_tests::gateway::{Answers, LAN, Moved, Site, dropped, gateway_for, ip, passed};

/// A burst that is not refilled while a test runs. SYNs are counted: nobody is asked to prove himself.
const CONFIG: &str = r#"
trust = ["10.1.0.0/24", "2001:db8:1:1::/64"]
allow = ["10.2.0.128/25", "2001:db8:1:2:8000::/65", "10.4.0.0/24", "2001:db8:1:4::/64"]
block = ["10.2.0.0/24", "2001:db8:1:2::/64", { network = "10.5.0.0/24", services = ["imap"] }]

[services.smtp]
source = { rate = "60/h", burst = 5 }

[services.imap]
mode = "observe"
source = { rate = "60/h", burst = 5 }

[proof]
challenge = "off"
"#;

const SMTP: u16 = 25;
const IMAP: u16 = 143;
const BURST: u64 = 5;
const ATTEMPTS: u32 = 8;
const ALL: u64 = ATTEMPTS as u64;

fn site(mode: &str) -> Result<Site> {
    Site::configured(&format!("mode = \"{mode}\"\n{CONFIG}"))
}

fn family(source: IpAddr) -> Family {
    if source.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// What eight attempts meet.
#[derive(Debug, Clone, Copy)]
enum Met {
    Trust,
    Block,
    /// A burst, and one more if a tick of the clock falls between them.
    Limit,
}

/// Sends eight SYNs, and asserts which counters moved and how many were answered. Returns how many are refused.
fn check(site: &Site, source: &str, port: u16, met: Met, mode: Mode) -> Result<u64> {
    let (source, service) = (ip(source), if port == SMTP { "smtp" } else { "imap" });
    let (before, answers) = (site.counters()?, Answers::listen(&site.wire)?);
    site.wire.attempt(source, port, ATTEMPTS)?;
    let moved = site.settled(&before, ALL)?;
    let admitted = match met {
        Met::Limit => moved.of(Reason::Admitted),
        Met::Trust | Met::Block => 0,
    };
    let refused = |reason, frames| match mode {
        Mode::Observe => passed(service, reason, family(source), frames),
        Mode::Enforce => dropped(service, reason, family(source), frames),
    };
    let (rows, refusals) = match met {
        Met::Trust => (vec![passed(service, Reason::Trusted, family(source), ALL)], 0),
        Met::Block => (vec![refused(Reason::Blocked, ALL)], ALL),
        Met::Limit => {
            let admitted = admitted.clamp(BURST, BURST + 1);
            let over = refused(Reason::SourceLimit, ALL - admitted);
            (vec![passed(service, Reason::Admitted, family(source), admitted), over], ALL - admitted)
        }
    };
    let expected = Moved::expected(&rows);
    ensure!(moved == expected, "{source} to {port}: expected\n{expected}but counted\n{moved}");
    let answered = answers.stop()?.of(source, port);
    let passed = expected.total_passed();
    ensure!(answered == passed, "{source} to {port}: {passed} attempts passed and {answered} were answered");
    Ok(refusals)
}

/// Dropped, and what would have been, as the status shows it.
fn refusals(site: &Site, service: &str) -> Result<(u64, u64)> {
    let status = site.controller.status()?;
    let found = status.services.iter().find(|one| one.name == service).context("no such service")?;
    Ok((found.refused, found.would_refuse))
}

#[test]
fn enforce_drops_what_is_blocked_and_what_exceeds_a_limit() -> Result<()> {
    let site = site("enforce")?;
    let mut refused = 0;
    for (trusted, blocked, excepted, allowed, stranger) in [
        ("10.1.0.9", "10.2.0.9", "10.2.0.200", "10.4.0.9", "10.9.0.9"),
        ("2001:db8:1:1::9", "2001:db8:1:2::9", "2001:db8:1:2:8000::9", "2001:db8:1:4::9", "2001:db8:1:9::9"),
    ] {
        for (source, met) in [
            (trusted, Met::Trust),
            (blocked, Met::Block),
            (excepted, Met::Limit),
            (allowed, Met::Limit),
            (stranger, Met::Limit),
        ] {
            refused += check(&site, source, SMTP, met, Mode::Enforce)?;
        }
    }
    let shown = refusals(&site, "smtp")?;
    ensure!(shown == (refused, 0), "{refused} were refused, the status says {shown:?}");
    Ok(())
}

#[test]
fn observe_drops_nothing_and_counts_what_it_would_have_dropped() -> Result<()> {
    let site = site("observe")?;
    let mut refused = 0;
    for (trusted, blocked, stranger) in
        [("10.1.0.9", "10.2.0.9", "10.9.0.9"), ("2001:db8:1:1::9", "2001:db8:1:2::9", "2001:db8:1:9::9")]
    {
        for (source, met) in [(trusted, Met::Trust), (blocked, Met::Block), (stranger, Met::Limit)] {
            refused += check(&site, source, SMTP, met, Mode::Observe)?;
        }
    }
    let shown = refusals(&site, "smtp")?;
    ensure!(shown == (0, refused), "{refused} would have been refused, the status says {shown:?}");
    Ok(())
}

#[test]
fn a_service_may_observe_while_the_others_enforce() -> Result<()> {
    let site = site("enforce")?;
    let (mut smtp, mut imap) = (0, 0);
    for (blocked, stranger) in [("10.2.0.9", "10.9.0.9"), ("2001:db8:1:2::9", "2001:db8:1:9::9")] {
        for (source, met) in [(blocked, Met::Block), (stranger, Met::Limit)] {
            imap += check(&site, source, IMAP, met, Mode::Observe)?;
            smtp += check(&site, source, SMTP, met, Mode::Enforce)?;
        }
    }
    // Blocked for one service alone.
    imap += check(&site, "10.5.0.9", IMAP, Met::Block, Mode::Observe)?;
    smtp += check(&site, "10.5.0.9", SMTP, Met::Limit, Mode::Enforce)?;
    let shown = [refusals(&site, "smtp")?, refusals(&site, "imap")?];
    ensure!(shown == [(smtp, 0), (0, imap)], "{smtp} and {imap} were refused, the status says {shown:?}");
    Ok(())
}

#[test]
fn tagged_frames_do_not_bypass_the_gate() -> Result<()> {
    let site = site("enforce")?;
    for (blocked, stranger) in [("10.2.0.9", "10.9.0.9"), ("2001:db8:1:2::9", "2001:db8:1:9::9")] {
        let (blocked, stranger) = (ip(blocked), ip(stranger));
        let family = family(blocked);
        let before = site.counters()?;
        for tags in [&[][..], &[7], &[7, 8]] {
            for _ in 0..3 {
                site.wire.send(&site.wire.syn(blocked, SMTP).tags(tags).build()?)?;
                site.wire.send(&site.wire.syn(stranger, SMTP).tags(tags).build()?)?;
            }
        }
        // However it is tagged, a source has one allowance.
        let admitted = site.settled(&before, 18)?.of(Reason::Admitted).clamp(BURST, BURST + 1);
        site.expect(
            &before,
            &[
                dropped("smtp", Reason::Blocked, family, 9),
                passed("smtp", Reason::Admitted, family, admitted),
                dropped("smtp", Reason::SourceLimit, family, 9 - admitted),
            ],
        )?;
    }
    Ok(())
}

#[test]
fn large_frames_are_judged_in_the_driver_too() -> Result<()> {
    for mtu in [1500, 9000] {
        let config = format!("mode = \"enforce\"\n{CONFIG}");
        let options = Options { config: Some(config), interfaces: vec![LAN.to_owned()], ..Options::default() };
        let site = Site::start(mtu, &options)?;
        let status = site.controller.status()?;
        let attached: Vec<_> = status.interfaces.iter().map(|interface| interface.attached.as_deref()).collect();
        ensure!(attached == [Some("native_frags")], "MTU {mtu}: {:?}", status.interfaces);
        for source in ["10.2.0.9", "2001:db8:1:2::9"] {
            check(&site, source, SMTP, Met::Block, Mode::Enforce)?;
        }
    }
    Ok(())
}

/// As a DNS server sends it that knows no smaller one: in three fragments, of which two show no port.
#[test]
fn a_large_udp_answer_arrives_in_fragments() -> Result<()> {
    const DNS: u16 = 53;
    let site = site("enforce")?;
    let answer: Vec<u8> = (0..4000_u32).map(|byte| byte as u8).collect();
    for source in ["10.9.0.9", "2001:db8:1:9::9"] {
        let (source, resolver) = (ip(source), gateway_for(ip(source)));
        let asks = site.wire.gateway.enter(|| UdpSocket::bind((resolver, 0)))??;
        asks.set_read_timeout(Some(Duration::from_secs(5)))?;
        let to = asks.local_addr()?;
        let answers = site.wire.outside.enter(|| UdpSocket::bind((source, DNS)))??;
        let before = site.wire.frames_received()?;
        answers.send_to(&answer, to)?;
        let mut heard = vec![0; 8192];
        let (length, from) = asks.recv_from(&mut heard).with_context(|| format!("nothing came from {source}"))?;
        ensure!(heard[..length] == answer && from.ip() == source, "{length} bytes from {from}");
        let frames = site.wire.frames_received()? - before;
        ensure!(frames >= 3, "{frames} frames for {length} bytes: it was not fragmented");
    }
    Ok(())
}
