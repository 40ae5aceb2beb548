//! What is remembered of bans and of who they are about: what they stopped, whom `unban` protects, every way to write him.

use std::net::IpAddr;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_tests::gateway::{Site, dropped, ip, passed};
use ratelimit_user::api::BanView;
use ratelimit_user::bans::Book;
use ratelimit_user::changes::seconds;
use ratelimit_user::config::Network;

const SMTP: u16 = 25;
const ENFORCE: &str = "mode = \"enforce\"\n";
/// The same with a set of its own.
const OTHER: &str = "mode = \"enforce\"\nblock = [\"10.50.0.0/24\"]\n";
const DAY_S: u64 = 24 * 3600;

fn ban(site: &Site) -> Result<BanView> {
    let bans: Vec<BanView> = serde_json::from_value(site.controller.json(&["bans"])?)?;
    let [ban] = <[_; 1]>::try_from(bans).ok().context("one ban was made")?;
    Ok(ban)
}

/// Attempts of a source, counted for this reason, in observe or enforce.
fn attempts(site: &Site, source: &str, count: u32, reason: Reason, observes: bool) -> Result<()> {
    let (source, before) = (ip(source), site.counters()?);
    site.wire.attempt(source, SMTP, count)?;
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let row = if observes { passed } else { dropped };
    site.expect(&before, &[row("smtp", reason, family, count.into())])
}

#[test]
fn what_a_ban_stops_is_counted_in_every_mode_and_over_swaps() -> Result<()> {
    let mut site = Site::configured("mode = \"observe\"\n")?;
    site.run("ban 10.1.1.0/24 --for 1h")?;
    attempts(&site, "10.1.1.7", 5, Reason::Banned, true)?;
    let seen = ban(&site)?;
    ensure!(seen.hits == 5 && seen.last_hit.is_some(), "it would have stopped five: {seen:?}");
    for (number, config) in [ENFORCE, OTHER, ENFORCE].into_iter().enumerate() {
        site.controller.write_config(config)?;
        site.run("reload")?;
        attempts(&site, "10.1.1.8", 2, Reason::Banned, false)?;
        let hits = ban(&site)?.hits;
        ensure!(hits == 5 + 2 * (number as u64 + 1), "{hits} after swap {number}");
    }
    site.controller.kill9()?;
    attempts(&site, "10.1.1.9", 3, Reason::Banned, false)?;
    site.controller.restart()?;
    ensure!(ban(&site)?.hits == 14, "those without a controller too: {:?}", ban(&site)?);
    Ok(())
}

#[test]
fn unban_protects_for_a_day_whatever_becomes_of_the_controller() -> Result<()> {
    let mut site = Site::configured(ENFORCE)?;
    for source in ["10.1.1.7", "10.1.1.8", "10.1.1.9", "2001:db8:1:1::7"] {
        site.run(&format!("ban {source} --for 1h"))?;
    }
    let now_s = seconds(SystemTime::now());
    site.run("unban ::ffff:10.1.1.7")?;
    site.run("unban 2001:db8:1:1::/64")?;
    site.run("unban 10.1.1.8 --protect 1h")?;
    site.run("unban --all")?;
    site.controller.kill9()?;
    let book = Book::open(&site.controller.state())?;
    let rest = |source: &str| -> Result<Option<u64>> {
        let network = Network::host(source.parse::<IpAddr>()?);
        Ok(book.protection(network, now_s).map(|protection| protection.until_s - now_s))
    };
    let about = |rest: Option<u64>, wanted_s: u64| rest.is_some_and(|rest| (wanted_s..wanted_s + 60).contains(&rest));
    for (source, wanted_s) in [("10.1.1.7", DAY_S), ("2001:db8:1:1:9::9", DAY_S), ("10.1.1.8", 3600)] {
        ensure!(about(rest(source)?, wanted_s), "{source}: {:?} s are left of {wanted_s}", rest(source)?);
    }
    ensure!(rest("10.1.1.9")?.is_none(), "`--all` protects nobody in particular");
    ensure!(book.is_empty());
    drop(book);
    // An administrator bans whom he wants.
    site.controller.restart()?;
    site.run("ban 10.1.1.7 --for 1h")?;
    attempts(&site, "10.1.1.7", 2, Reason::Banned, false)
}

/// An IPv4 address, as a packet of it and as one of what NAT64 makes of it.
const BEHIND_NAT64: [&str; 2] = ["9.8.7.6", "64:ff9b::908:706"];

#[test]
fn an_address_is_the_same_however_it_is_written() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    let list = site.with_list(ENFORCE, "mine", "", "10.41.0.1\n")?;
    let all_are = |reason| -> Result<()> {
        for source in BEHIND_NAT64 {
            attempts(&site, source, 1, reason, reason == Reason::Admitted).with_context(|| source.to_string())?;
        }
        // Its neighbour is somebody else.
        attempts(&site, "64:ff9b::908:707", 1, Reason::Admitted, true)
    };
    for written in ["9.8.7.6", "::ffff:9.8.7.6", "64:ff9b::9.8.7.6", "64:ff9b::908:706"] {
        all_are(Reason::Admitted)?;
        site.run(&format!("ban {written} --for 1h"))?;
        ensure!(ban(&site)?.network.to_string() == "9.8.7.6/32", "{:?}", ban(&site)?);
        all_are(Reason::Banned).with_context(|| format!("ban {written}"))?;
        site.run(&format!("unban {written}"))?;
        all_are(Reason::Admitted)?;

        site.refresh(&list, &format!("10.41.0.1\n{written}\n"))?;
        all_are(Reason::Blocked).with_context(|| format!("list {written}"))?;
        let tested = site.run(&format!("list test {written}"))?;
        ensure!(tested.contains("9.8.7.6/32"), "{tested}");
        site.refresh(&list, "10.41.0.1\n10.41.0.2\n")?;

        site.run(&format!("block add {written}"))?;
        all_are(Reason::Blocked).with_context(|| format!("block {written}"))?;
        site.run(&format!("block remove {written}"))?;
    }
    Ok(())
}
