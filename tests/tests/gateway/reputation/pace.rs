//! How soon a verdict is there, and how many sources a second are followed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Address, Reason, ServiceId, listed::ListedKey};
use ratelimit_tests::dns::{Impostor, Names, SERVERS, query};
use ratelimit_tests::gateway::{Site, eventually, gateway_for, is_long, paced};
use ratelimit_user::plane::{ListedMaps, Pins, open_in_force};
use serde_json::json;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Place, SOON, connected, dnsbl, name_of};

const ZONE: &str = "bl.test";
/// As far as a resolver is on the Internet.
const DELAY: Duration = Duration::from_millis(20);
const SOURCES: u32 = 1000;
/// The verdict may take so much longer than the question.
const BEYOND: Duration = Duration::from_millis(5);
/// On a machine that does other things as well.
const BEYOND_WHEN_BUSY: Duration = Duration::from_millis(100);

const UNLIMITED: &str = "mode = \"enforce\"\n[proof]\nchallenge = \"off\"\n[services.smtp]\n\
    network = { rate = \"1000/s\", burst = 5000 }\n\
    service = { rate = \"60000/s\", burst = 65000 }\n";

fn place(config: &str, more: &str, of_zone: &str) -> Result<(Place, Impostor)> {
    let mut impostor = None;
    let config =
        format!("{config}[reputation]\nthreshold = 1\n{more}{}{}", Names::resolver(SERVERS[0]), dnsbl(ZONE, of_zone));
    let place = Place::configured(&config, |names| {
        let started = Impostor::start(names, SERVERS[0])?;
        started.zone(ZONE);
        started.list_all_of(ZONE, 10);
        impostor = Some(started);
        Ok(())
    })?;
    place.wait_until_well()?;
    Ok((place, impostor.context("it was started")?))
}

/// One of each network after the other, so that none is over its limit.
fn source(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, 80, 0, 0]) + (number % 256) * 256 + number / 256).into()
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

/// From the completed handshake of a listed source to its entry in the kernel, by which its next SYN is judged.
#[test]
fn a_verdict_is_there_one_round_trip_after_the_handshake() -> Result<()> {
    let (place, impostor) = place(UNLIMITED, "action = \"ban\"\n", "concurrency = 256\n")?;
    impostor.delay(DELAY);
    let (listed, smtp) = maps(&place.site)?;
    let (mut round_trips, mut verdicts) = (Vec::new(), Vec::new());
    for number in 0..SOURCES {
        if number % 20 == 0 {
            let start = Instant::now();
            place.wire().gateway.enter(|| query(SocketAddr::from((SERVERS[0], 53)), &format!("9.9.9.9.{ZONE}")))??;
            round_trips.push(start.elapsed());
        }
        let key = ListedKey::new(Address::from(source(number)), smtp);
        let took = place.wire().outside.enter(|| -> Result<Duration> {
            let connection = connected(source(number), 25)?.context("it is not known yet")?;
            let start = Instant::now();
            while listed.get(&key)?.is_none() {
                ensure!(start.elapsed() < SOON, "{} has no verdict", source(number));
                thread::sleep(Duration::from_micros(50));
            }
            drop(connection);
            Ok(start.elapsed())
        })??;
        verdicts.push(took);
    }
    let before = place.site.counters()?;
    for number in 0..SOURCES {
        place.wire().attempt(source(number), 25, 1)?;
    }
    let moved = place.site.settled(&before, SOURCES.into())?;
    ensure!(moved.of_reason("smtp", Reason::ListedLimit).dropped == u64::from(SOURCES), "{moved}");

    round_trips.sort_unstable();
    verdicts.sort_unstable();
    let (round_trip, p99) = (percentile(&round_trips, 50), percentile(&verdicts, 99));
    println!(
        "{}",
        json!({
            "test": "verdict", "sources": SOURCES, "round_trip_ms": ms(round_trip), "p50_ms": ms(percentile(&verdicts, 50)),
            "p99_ms": ms(p99), "slowest_ms": ms(percentile(&verdicts, 100)),
        })
    );
    let beyond = if is_long() { BEYOND } else { BEYOND_WHEN_BUSY };
    ensure!(p99 <= round_trip + beyond, "{p99:?} at the 99th percentile, and a round trip is {round_trip:?}");
    Ok(())
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

fn maps(site: &Site) -> Result<(ListedMaps, ServiceId)> {
    let set = open_in_force(&Pins::at(&site.controller.pins()))?.active_set()?;
    let smtp = set.services().find(|(_, service)| service.name() == "smtp").context("no smtp")?.0;
    let plane = fs::read_dir(site.controller.pins())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.join("LISTED").exists())
        .context("no plane is pinned")?;
    Ok((ListedMaps::open(&plane)?, smtp))
}

/// New sources from two clients, each listed: every verdict is there, and memory stays within what is said.
#[test]
fn thousands_of_new_sources_a_second_are_followed_without_loss() -> Result<()> {
    let count: u32 = if is_long() { 50_000 } else { 10_000 };
    let (place, impostor) = place(UNLIMITED, "answers = 131072\n", "concurrency = 1024\n")?;
    let before = resident(&place.site)?;
    let start = Instant::now();
    let connecting = |first: u32| -> Result<()> {
        let touch = |number: u64| touch(source(first + 2 * number as u32));
        place.wire().outside.enter(|| paced(u64::from(count) / 2, PER_S / 2.0, touch))?
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| connecting(1));
        connecting(0)?;
        other.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
    })?;
    let took = start.elapsed();
    let followed = eventually("every verdict is there", SOON, || Ok(place.view()?.in_force == u64::from(count)))
        .with_context(|| format!("{:#?}", place.view()));
    let behind = followed?;
    let (view, zone) = (place.view()?, place.zone(&name_of(ZONE))?);
    ensure!((view.not_told, view.not_asked, view.no_room, zone.too_busy, zone.failed) == (0, 0, 0, 0, 0), "{view:#?}");
    ensure!(impostor.asked(ZONE) == u64::from(count));
    let grown = resident(&place.site)?.saturating_sub(before);
    println!(
        "{}",
        json!({
            "test": "new sources", "sources": count, "per_s": (f64::from(count) / took.as_secs_f64()).round(),
            "behind_ms": ms(behind), "grown_bytes": grown, "grown_per_source": grown / u64::from(count),
        })
    );
    ensure!(grown < ASKING_BYTES + u64::from(count) * LISTED_BYTES, "it grew by {grown} bytes");
    Ok(())
}

const PER_S: f64 = 10_000.0;
/// While as many sources are asked about at once as may be, and of each source that is listed by one zone for one service.
const ASKING_BYTES: u64 = 96 << 20;
const LISTED_BYTES: u64 = 700;

/// A list that begins to list nearly everybody is not believed, though its test entries are right.
#[test]
fn a_sudden_jump_of_listings_is_not_believed() -> Result<()> {
    let (place, impostor) = place(UNLIMITED, "", "concurrency = 256\n")?;
    let arrive = |addresses: std::ops::Range<u32>, octet: u8| -> Result<()> {
        let first = u32::from_be_bytes([octet, 0, 0, 0]);
        let touch = |number: u32| touch(Ipv4Addr::from_bits(first + number % 250 * 256 + number / 250 + 1).into());
        place.wire().outside.enter(|| addresses.into_iter().try_for_each(touch))?
    };
    impostor.delist_all_of(ZONE);
    arrive(0..400, 10)?;
    let answered = |count: u64| {
        eventually("the answers are there", SOON, || {
            let zone = place.zone(&name_of(ZONE))?;
            Ok(zone.listed + zone.unlisted >= count || zone.trouble.is_some())
        })
    };
    answered(400)?;
    ensure!(place.zone(&name_of(ZONE))?.trouble.is_none());
    impostor.list_all_of(ZONE, 10);
    arrive(1000..1100, 10)?;
    answered(500)?;
    let trouble = place.zone(&name_of(ZONE))?.trouble.unwrap_or_default();
    ensure!(trouble.contains("too sudden to be believed"), "{trouble}");
    ensure!(place.view()?.in_force == 0, "what it said is not believed either");
    Ok(())
}

/// A handshake, and a reset.
fn touch(source: IpAddr) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    let server = SocketAddr::new(gateway_for(source), 25);
    socket.connect_timeout(&server.into(), SOON).with_context(|| format!("connecting {source}"))
}

/// Bytes of memory of the controller.
fn resident(site: &Site) -> Result<u64> {
    let pid = site.controller.status()?.pid.context("it runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
