//! Honest peaks under the default limits, enforced: nobody is refused.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_tests::clients::Conversation;
use ratelimit_tests::gateway::{GATEWAY_V4, GATEWAY_V6, Site, ip, is_long, paced};
use ratelimit_tests::load::Load;
use ratelimit_tests::servers::{Extra, MailServer};

const SMTP: u16 = 25;
const IMAPS: u16 = 993;

/// Sends these connection attempts and asserts that each was counted and none refused.
fn all_pass(site: &Site, service: &str, port: u16, sources: &[IpAddr], per_second: f64) -> Result<()> {
    let before = site.counters()?;
    let count = sources.len() as u64;
    paced(count, per_second, |number| site.wire.attempt(sources[number as usize], port, 1))?;
    let moved = site.settled(&before, count)?;
    let tally = moved.connections(service);
    ensure!(moved.total() == count && (tally.passed, tally.dropped) == (count, 0), "{count} attempts moved\n{moved}");
    Ok(())
}

fn repeated(sources: impl Iterator<Item = IpAddr>, times: usize) -> Vec<IpAddr> {
    let sources: Vec<IpAddr> = sources.collect();
    sources.repeat(times)
}

/// As fast as they can be sent: harder than any profile says.
const AT_ONCE: f64 = f64::INFINITY;

#[test]
fn an_office_of_fifty_behind_one_address() -> Result<()> {
    let site = Site::counting_syns()?;
    let _server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    // Fifty users with five connections each; IPv6 gives everyone an address of their own in one /64.
    let v4 = vec![ip("10.20.0.1")];
    let v6 = (1..=50).map(|user| ip(&format!("2001:db8:1:20::{user:x}"))).collect();
    for (sources, server) in [(v4, IpAddr::from(GATEWAY_V4)), (v6, GATEWAY_V6.into())] {
        let before = site.counters()?;
        let load = Load {
            sources,
            server: (server, 143).into(),
            conversation: Conversation::Imap,
            per_second: AT_ONCE,
            count: Some(250),
            workers: 50,
            timeout: Duration::from_secs(60),
        };
        let tally = load.run(&site.wire.outside)?;
        ensure!(tally.completed == 250, "{tally:?}");
        let moved = site.settled(&before, 250)?;
        let connections = moved.connections("imap");
        ensure!(connections.dropped == 0 && connections.passed >= 250, "{moved}");
    }
    for source in ["10.21.0.1", "2001:db8:1:21::1"] {
        all_pass(&site, "imaps", IMAPS, &repeated([ip(source)].into_iter(), 250), AT_ONCE)?;
    }
    Ok(())
}

#[test]
fn a_provider_whose_homes_all_come_back_after_a_restart() -> Result<()> {
    let site = Site::counting_syns()?;
    // 250 homes of one /24, or of one /48, with three devices and five connections each.
    let v4 = repeated((1..=250).map(|home| ip(&format!("10.30.0.{home}"))), 15);
    let v6 = repeated(
        (1..=250u16).flat_map(|home| (1..=3).map(move |device| ip(&format!("2001:db8:1:{home:x}::{device}")))),
        5,
    );
    for sources in [v4, v6] {
        ensure!(sources.len() == 3_750);
        all_pass(&site, "imaps", IMAPS, &sources, AT_ONCE)?;
        all_pass(&site, "imap", 143, &sources, AT_ONCE)?;
    }
    Ok(())
}

#[test]
fn a_large_provider_sends_from_500_addresses_of_a_20() -> Result<()> {
    let site = Site::counting_syns()?;
    let senders = (0..500).map(|sender| ip(&format!("10.40.{}.{}", sender % 16, sender / 16 + 1)));
    all_pass(&site, "smtp", SMTP, &repeated(senders, 20), AT_ONCE)
}

#[test]
fn a_large_provider_sends_from_300_addresses_of_one_ipv6_64() -> Result<()> {
    let site = Site::counting_syns()?;
    let senders = (1..=300).map(|sender| ip(&format!("2001:db8:1:40::{sender:x}")));
    all_pass(&site, "smtp", SMTP, &repeated(senders, 10), AT_ONCE)
}

/// One IPv4 and one IPv6 host, each with so many attempts, in turn.
fn both(v4: &str, v6: &str, attempts: u64) -> Vec<IpAddr> {
    (0..attempts).flat_map(|_| [ip(v4), ip(v6)]).collect()
}

#[test]
fn a_newsletter_at_two_a_second() -> Result<()> {
    let site = Site::counting_syns()?;
    let seconds = if is_long() { 600 } else { 30 };
    all_pass(&site, "smtp", SMTP, &both("10.50.0.1", "2001:db8:1:50::1", 2 * seconds), 4.0)
}

#[test]
fn a_trusted_webmail_host_at_fifty_a_second() -> Result<()> {
    let site = Site::counting_syns()?;
    let seconds = if is_long() { 120 } else { 8 };
    let (v4, v6) = ("10.60.0.1", "2001:db8:1:60::1");
    for source in [v4, v6] {
        site.run(&format!("trust add {source} --note webmail"))?;
    }
    for (service, port) in [("imap", 143), ("smtp", SMTP)] {
        // More than its burst and rate would allow anybody else.
        all_pass(&site, service, port, &both(v4, v6, 50 * seconds), 100.0)?;
    }
    Ok(())
}
