//! Budgets are kept to the query, and whom nobody may be asked about is not asked about.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use ratelimit_tests::controller::Options;
use ratelimit_tests::dns::{Impostor, Names, SERVERS};
use ratelimit_tests::flood::Pattern;
use ratelimit_tests::gateway::{LAN, eventually, ip, is_long, net};

use super::{HONEST, LISTED, Place, SOON, dnsbl, honest, listed, name_of};

const ZONE: &str = "bl.test";
const BUDGET: u64 = 40;
const SOURCES: u8 = 60;
const DAY_S: u64 = 86_400;

fn with_impostor(more: &str, of_zone: &str) -> Result<(Place, Impostor)> {
    let mut impostor = None;
    let config = format!("threshold = 1\n{}{more}{}", Names::resolver(SERVERS[0]), dnsbl(ZONE, of_zone));
    let place = Place::new(&config, |names| {
        let started = Impostor::start(names, SERVERS[0])?;
        started.zone(ZONE);
        started.list(ZONE, listed(), &["127.0.0.2"], 300);
        impostor = Some(started);
        Ok(())
    })?;
    place.wait_until_well()?;
    Ok((place, impostor.expect("it was started")))
}

/// What may have been asked by now: half of the day's at any time, the rest as the day goes on.
fn allowed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    BUDGET.div_ceil(2) + (BUDGET - BUDGET.div_ceil(2)) * (since % DAY_S) / DAY_S
}

#[test]
fn a_budget_is_kept_to_the_query_over_a_crash_too_and_the_busiest_wait_in_front() -> Result<()> {
    let (mut place, impostor) = with_impostor("", &format!("queries_per_day = {BUDGET}\n"))?;
    let source = |last: u8| IpAddr::from([10, 71, 0, last]);
    let before = allowed();
    for last in 1..=SOURCES {
        ensure!(place.connects(source(last), 25)?, "who is not asked about is let in");
    }
    eventually("all were dealt with", SOON, || Ok(place.view()?.handshakes >= u64::from(SOURCES)))?;
    thread::sleep(Duration::from_millis(1500));
    let (asked, after) = (impostor.asked_in_all(ZONE), allowed());
    ensure!((before..=after).contains(&asked), "{asked} questions, and {before} to {after} are allowed");
    let zone = place.zone(&name_of(ZONE))?;
    ensure!(zone.spent_today == asked && zone.queries == asked, "{zone:?}");
    ensure!(zone.over_budget + asked >= u64::from(SOURCES) && zone.waiting > 0, "{zone:?}");

    // Killed, and started again: what is left of the budget is not more for it.
    place.site.controller.restart()?;
    ensure!(place.connects_of(source(200), 25, 3)? == 3);
    thread::sleep(Duration::from_secs(2));
    let (asked, after) = (impostor.asked_in_all(ZONE), allowed());
    ensure!(asked <= after, "{asked} questions, and {after} are allowed");
    ensure!(place.zone(&name_of(ZONE))?.spent_today >= asked);
    Ok(())
}

#[test]
fn each_source_is_asked_about_once_while_its_answer_is_good() -> Result<()> {
    let (mut place, impostor) = with_impostor("", "")?;
    for source in [listed(), honest()] {
        for _ in 0..10 {
            place.connects(source, 25)?;
        }
        ensure!(impostor.asked_about(ZONE, source) == 1, "{source}: {}", impostor.asked_about(ZONE, source));
    }
    ensure!(!place.connects(listed(), 25)?, "its burst is used up");
    place.site.controller.restart()?;
    place.wait_until_well()?;
    ensure!(!place.connects(listed(), 25)? || place.connects_of(listed(), 25, 3)? < 3, "a restart frees nobody");
    ensure!(impostor.asked_about(ZONE, listed()) == 1, "nor does it ask again about who is listed");
    Ok(())
}

#[test]
fn who_is_trusted_allowed_or_needed_is_nobody_that_is_asked_about() -> Result<()> {
    let (place, impostor) = with_impostor("", "")?;
    place.site.run("trust add 10.72.0.0/24")?;
    place.site.run("allow add 10.73.0.0/24 --service smtp")?;
    place.site.run("reload")?;
    for source in ["10.72.0.1", "10.73.0.1"] {
        impostor.list(ZONE, ip(source), &["127.0.0.2"], 300);
        ensure!(place.connects_of(ip(source), 25, 8)? == 8, "{source}");
    }
    // Nobody is asked about sources of services that the zone is not for.
    ensure!(place.connects_of(listed(), 587, 4)? == 4 && place.connects_of(listed(), 993, 4)? == 4);
    thread::sleep(Duration::from_secs(2));
    ensure!(impostor.asked(ZONE) == 0, "{} questions", impostor.asked(ZONE));
    Ok(())
}

/// Half a million SYNs of random sources, or more than ten million, and none that completes. Some are lost on the way.
#[test]
fn a_forged_flood_causes_no_query() -> Result<()> {
    let (count, enough) = if is_long() { (12_000_000, 10_000_000) } else { (500_000, 400_000) };
    let (place, impostor) = with_impostor("", "")?;
    let random = Pattern::random([net("0.0.0.0/0")]);
    let before = place.site.counters()?;
    let flood = place.wire().flood(25, random, ip("10.0.0.1"))?.limit(count, Duration::from_secs(120));
    let report = flood.start()?.join()?;
    let arrived = place.site.settled(&before, report.packets)?.total();
    ensure!(arrived >= enough, "{arrived} of {count} arrived");
    thread::sleep(Duration::from_secs(2));
    ensure!(impostor.asked(ZONE) == 0, "{} questions", impostor.asked(ZONE));
    let view = place.view()?;
    ensure!(view.handshakes == 0 && view.answers == 0, "{view:?}");
    // The service is suspect for some seconds more: the first SYN may be challenged.
    eventually("an honest source gets in", SOON, || place.connects(honest(), 25))?;
    eventually("who completes is asked about", SOON, || Ok(impostor.asked_about(ZONE, ip(HONEST)) == 1))?;
    println!("{}", serde_json::json!({ "test": "forged", "syns": arrived, "queries": 0 }));
    Ok(())
}

#[test]
fn a_zone_that_is_paused_is_left_alone_until_it_is_resumed() -> Result<()> {
    let (place, impostor) = with_impostor("", "")?;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 4)? == 3);
    let paused = place.site.run(&format!("dnsbl pause {} --for 1h", name_of(ZONE)))?;
    ensure!(paused.contains("is not asked and weighs nothing until"), "{paused}");
    let asked = impostor.asked_in_all(ZONE);
    ensure!(place.connects_of(listed(), 25, 8)? == 8 && place.connects_of(honest(), 25, 8)? == 8);
    thread::sleep(Duration::from_secs(2));
    ensure!(impostor.asked_in_all(ZONE) == asked);
    let unknown = place.site.refused("dnsbl pause nobody", 1)?;
    ensure!(unknown.contains("there is no DNSBL nobody") && unknown.contains(&name_of(ZONE)), "{unknown}");
    place.site.run(&format!("dnsbl resume {}", name_of(ZONE)))?;
    place.wait_until_well()?;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 5)? < 5, "{LISTED} is listed again");
    Ok(())
}

#[test]
fn another_configuration_asks_again_only_what_it_has_to() -> Result<()> {
    let (mut place, impostor) = with_impostor("", "weight = 1\n")?;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 4)? == 3);
    let config = format!(
        "mode = \"enforce\"\n[reputation]\nthreshold = 2\n{}{}",
        Names::resolver(SERVERS[0]),
        dnsbl(ZONE, "weight = 1\n")
    );
    place.site.controller.write_config(&config)?;
    place.site.run("reload")?;
    ensure!(place.connects_of(listed(), 25, 8)? == 8, "its score does not reach the threshold any more");
    place.site.controller.write_config(&config.replace("weight = 1", "weight = 2"))?;
    place.site.run("reload")?;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 6)? < 6, "now it does");
    ensure!(impostor.asked_about(ZONE, listed()) == 1, "what was answered is still good");
    let options = Options { interfaces: vec![LAN.to_owned()], ..Options::default() };
    place.site.controller.restart_with(&options)?;
    Ok(())
}

#[test]
fn who_is_let_go_is_not_held_to_his_listing_any_more_over_a_restart_too() -> Result<()> {
    let (mut place, impostor) = with_impostor("", "")?;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 4)? == 3);
    let let_go = place.site.run(&format!("unban {LISTED} --protect 1h"))?;
    ensure!(let_go.contains("1 listing ended"), "{let_go}");
    ensure!(place.connects_of(listed(), 25, 8)? == 8, "it is let go");
    place.site.controller.restart()?;
    place.wait_until_well()?;
    ensure!(place.connects_of(listed(), 25, 8)? == 8, "and stays so");
    ensure!(impostor.asked_about(ZONE, listed()) == 1, "nobody asks about it meanwhile");
    Ok(())
}
