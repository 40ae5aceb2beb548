//! What follows for whom, with a real DNSBL behind a real resolver.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::dns::{Names, Rbldnsd, SERVERS, Unbound};
use ratelimit_tests::gateway::{Moved, eventually, ip};

use super::{HONEST, LISTED, Place, SOON, dnsbl, honest, listed};

const V4: &str = "v4.bl.test";
const V6: &str = "v6.bl.test";
const LISTED_V6: &str = "2001:db8:1:66::1";
const HONEST_V6: &str = "2001:db8:1:67::1";
const BURST: usize = 3;
/// Seconds that a real answer is good.
const TTL: u64 = 6;

fn v4_zone(sources: &str) -> String {
    format!(
        "$SOA {TTL} bl.test. admin.bl.test. 1 3600 600 86400 {TTL}\n$TTL {TTL}\n:127.0.0.4:sends spam\n127.0.0.2\n{sources}\n"
    )
}

fn v6_zone(sources: &str) -> String {
    format!(
        "$SOA {TTL} bl.test. admin.bl.test. 1 3600 600 86400 {TTL}\n$TTL {TTL}\n:127.0.0.4:sends spam\n::ffff:7f00:2\n{sources}\n"
    )
}

/// Dropped in this order.
struct Real {
    place: Place,
    _unbound: Unbound,
    rbldnsd: Rbldnsd,
}

fn real(more: &str) -> Result<Real> {
    let v6_tests = "test = { listed = [\"::ffff:127.0.0.2\"], unlisted = [\"::ffff:127.0.0.1\"] }\n";
    let config = format!(
        "threshold = 3\nttl = {{ min = \"1s\", max = \"1h\" }}\n{}{more}{}{}",
        Names::resolver(SERVERS[0]),
        dnsbl(V4, "weight = 3\n"),
        dnsbl(V6, &format!("weight = 3\n{v6_tests}")),
    );
    let mut servers = None;
    let place = Place::new(&config, |names| {
        let zones = [(V4, "ip4set", v4_zone(LISTED)), (V6, "ip6trie", v6_zone(LISTED_V6))];
        let zones = zones.each_ref().map(|(zone, kind, lines)| (*zone, *kind, lines.as_str()));
        let rbldnsd = Rbldnsd::start(names, SERVERS[1], &zones)?;
        servers = Some((rbldnsd, Unbound::start(names, SERVERS[0], &[(V4, SERVERS[1]), (V6, SERVERS[1])])?));
        Ok(())
    })?;
    let (rbldnsd, unbound) = servers.context("no servers were started")?;
    place.wait_until_well()?;
    Ok(Real { place, _unbound: unbound, rbldnsd })
}

#[test]
fn a_listed_source_is_held_to_what_is_left_to_it_and_free_when_it_is_delisted() -> Result<()> {
    let real = real("")?;
    let place = &real.place;
    for (bad, good) in [(LISTED, HONEST), (LISTED_V6, HONEST_V6)] {
        let before = place.site.counters()?;
        place.arrive(ip(bad), 25)?;
        let explained = place.site.controller.cli(&["explain", bad, "--service", "smtp"])?.stdout;
        for wanted in ["bl-test", "127.0.0.4", "score 3"] {
            ensure!(explained.contains(wanted), "{wanted} is not in\n{explained}");
        }
        let connected = place.connects_of(ip(bad), 25, BURST + 2)?;
        ensure!(connected == BURST, "{bad} got {connected}; {}", place.site.controller.log());
        place.arrive(ip(good), 25)?;
        ensure!(place.connects_of(ip(good), 25, 20)? == 20, "{good} is listed nowhere");
        let moved = place.site.settled(&before, 28)?;
        ensure!(dropped(&moved) == 2, "two were refused for the listing:\n{moved}");
    }
    real.rbldnsd.replace(V4, &v4_zone("10.1.1.1"))?;
    real.rbldnsd.replace(V6, &v6_zone("2001:db8:1:1::1"))?;
    let start = Instant::now();
    for bad in [LISTED, LISTED_V6] {
        eventually("it is free again", SOON, || Ok(place.connects_of(ip(bad), 25, 10)? == 10))?;
    }
    // The zone is looked at every second, and neither its resolver nor we remember anything for longer than it says.
    ensure!(start.elapsed() < Duration::from_secs(3 * TTL + 8), "that took {:?}", start.elapsed());
    Ok(())
}

fn dropped(moved: &Moved) -> u64 {
    moved.of_reason("smtp", Reason::ListedLimit).dropped
}

#[test]
fn a_ban_leaves_nothing_and_a_note_leaves_everything() -> Result<()> {
    let real = real("action = \"ban\"\n[reputation.services.imaps]\naction = \"note\"\n")?;
    let place = &real.place;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 2)? == 0, "it is banned");
    let bans = place.site.run("bans")?;
    ensure!(bans.contains(LISTED) && bans.contains("127.0.0.4"), "{bans}");
    // Nobody asks about sources of imaps, so nothing is known of them there.
    ensure!(place.connects_of(listed(), 993, 5)? == 5);

    let unbanned = place.site.run(&format!("unban {LISTED}"))?;
    ensure!(unbanned.contains(LISTED), "{unbanned}");
    ensure!(place.connects_of(listed(), 25, 5)? == 5, "it was let go");
    ensure!(place.connects_of(honest(), 25, 5)? == 5);
    Ok(())
}

#[test]
fn observing_reputation_alone_refuses_nobody_and_counts() -> Result<()> {
    let real = real("mode = \"observe\"\n")?;
    let place = &real.place;
    let before = place.site.counters()?;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, BURST + 4)? == BURST + 4);
    let moved = place.site.settled(&before, BURST as u64 + 5)?;
    ensure!(moved.of_reason("smtp", Reason::ListedLimit).passed == 4, "{moved}");
    Ok(())
}
