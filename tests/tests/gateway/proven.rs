//! What makes a source proven, what does not, and what it outlives.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Address, Reason, limit::TICK_NS};
use ratelimit_tests::gateway::{GATEWAY_V4, GATEWAY_V6, LAN, OUT, Site, Wire, eventually, ip};
use ratelimit_tests::netns::{Bpffs, Scratch};
use ratelimit_tests::pairs::{Door, Pair, end_of, hear, say};
use ratelimit_tests::receiver::Receiver;
use ratelimit_user::api::{Explanation, ProofStatus, ProvenView, SourcesBy};
use ratelimit_user::bans::Book;
use ratelimit_user::controller::Controller;
use ratelimit_user::daemon::{self, PathOverrides};
use ratelimit_user::plane::{Pins, now, open_in_force, open_watch};

const ENFORCE: &str = "mode = \"enforce\"\n";
const SMTP: u16 = 25;
const SOON: Duration = Duration::from_secs(10);
const SOURCES: [&str; 2] = ["10.91.0.1", "2001:db8:1:91::1"];

fn door(wire: &Wire, family: IpAddr) -> Result<Door> {
    let at = match family {
        IpAddr::V4(_) => SocketAddr::new(GATEWAY_V4.into(), SMTP),
        IpAddr::V6(_) => SocketAddr::new(GATEWAY_V6.into(), SMTP),
    };
    Door::open(&wire.gateway, at, at)
}

fn doors(wire: &Wire) -> Result<[Door; 2]> {
    Ok([door(wire, ip(SOURCES[0]))?, door(wire, ip(SOURCES[1]))?])
}

fn proven(site: &Site, source: &str) -> Result<Option<ProvenView>> {
    let explained: Explanation = serde_json::from_value(site.controller.json(&["explain", source])?)?;
    Ok(explained.proven)
}

fn status(site: &Site) -> Result<ProofStatus> {
    Ok(site.controller.status()?.proof)
}

/// All that the kernel holds as proven.
fn all_proven(site: &Site) -> Result<BTreeSet<IpAddr>> {
    let watch = open_watch(&Pins::at(&site.controller.pins()))?;
    Ok(watch.all_proven()?.into_iter().map(|(source, _)| source.to_ip()).collect())
}

fn has_exchanged(site: &Site, source: &str) -> Result<bool> {
    Ok(proven(site, source)?.is_some_and(|proven| proven.exchanged.is_some()))
}

#[test]
fn a_handshake_proves_and_a_syn_does_not() -> Result<()> {
    for mode in ["observe", "enforce"] {
        let site = Site::configured(&format!("mode = \"{mode}\"\n"))?;
        for (number, (source, door)) in SOURCES.into_iter().zip(doors(&site.wire)?).enumerate() {
            site.wire.attempt(ip(source), SMTP, 3)?;
            let said = site.controller.cli(&["explain", source])?;
            ensure!(proven(&site, source)?.is_none(), "{source} sent SYNs and no more: {said:?}");
            let pair = door.pair(&site.wire.outside, ip(source))?;
            let shown = proven(&site, source)?.with_context(|| format!("{source} completed a handshake, {mode}"))?;
            ensure!(shown.exchanged.is_none(), "nobody has said anything: {shown:?}");
            drop(pair);
            ensure!(!has_exchanged(&site, source)?, "nor had anybody when it ended");
            let pair = door.pair(&site.wire.outside, ip(source))?;
            pair.converse()?;
            drop(pair);
            eventually("it is noted that both said something", SOON, || has_exchanged(&site, source))?;
            let status = status(&site)?;
            ensure!(status.proven == number as u64 + 1 && status.handshakes == 2 * status.proven, "{status:?}");
        }
        // What is proven of IPv6 is the /64.
        ensure!(proven(&site, "2001:db8:1:91:5::6")?.is_some() && proven(&site, "2001:db8:1:92::1")?.is_none());
        ensure!(proven(&site, "10.91.0.2")?.is_none());
    }
    Ok(())
}

#[test]
fn an_answered_challenge_proves_nothing() -> Result<()> {
    let site = Site::configured("mode = \"enforce\"\n[services.smtp]\nsource = { rate = \"60/h\", burst = 3 }\n")?;
    let _doors = doors(&site.wire)?;
    let _receives = Receiver::pass(site.wire.outside.path(), OUT)?;
    for source in SOURCES {
        let before = site.counters()?;
        // The outside's kernel knows nothing of these connections and says so, whatever it is sent.
        site.wire.attempt(ip(source), SMTP, 12)?;
        let answered = eventually("challenges are answered", SOON, || {
            let moved = site.counters()?.all_since(&before);
            Ok(moved.of(Reason::Challenged) > 0 && moved.of(Reason::Answered) == moved.of(Reason::Challenged))
        });
        answered.with_context(|| format!("{:?}", site.counters().map(|counters| counters.all_since(&before))))?;
        ensure!(proven(&site, source)?.is_none(), "{source} completed no handshake");
    }
    let status = status(&site)?;
    ensure!(status.proven == 0 && status.handshakes == 0 && status.challenges.answered > 0, "{status:?}");
    Ok(())
}

/// Waits until the disk knows of these.
fn wait_for_disk(site: &Site, count: usize) -> Result<()> {
    let noted = || Ok(Book::open(&site.controller.state())?.proven(now(), SystemTime::now())?.len() >= count);
    eventually("they are written down", Duration::from_secs(70), noted).map(drop)
}

#[test]
fn it_outlives_restarts_the_gate_and_the_machine() -> Result<()> {
    let mut site = Site::configured(ENFORCE)?;
    let doors = doors(&site.wire)?;
    let prove = |site: &Site, host: u8| -> Result<[String; 2]> {
        let sources = [format!("10.91.1.{host}"), format!("2001:db8:1:{host:x}::1")];
        for (source, door) in sources.iter().zip(&doors) {
            let pair = door.pair(&site.wire.outside, ip(source))?;
            pair.converse()?;
            drop(pair);
            eventually("it is noted that both said something", SOON, || has_exchanged(site, source))?;
        }
        Ok(sources)
    };
    let mut known: Vec<[String; 2]> = Vec::new();
    let all_known = |site: &Site, known: &[[String; 2]], when: &str| -> Result<()> {
        for source in known.iter().flatten() {
            ensure!(has_exchanged(site, source)?, "{when}: {source} is {:?}", proven(site, source)?);
        }
        ensure!(status(site)?.proven == 2 * known.len() as u64, "{when}: {:?}", status(site)?);
        Ok(())
    };

    known.push(prove(&site, 1)?);
    site.controller.restart()?;
    all_known(&site, &known, "after its death")?;
    known.push(prove(&site, 2)?);
    site.controller.stop()?;
    site.controller.restart()?;
    all_known(&site, &known, "after it was stopped")?;
    known.push(prove(&site, 3)?);
    site.controller.kill9()?;
    site.run("detach")?;
    site.controller.restart()?;
    all_known(&site, &known, "after it was detached without a controller")?;
    known.push(prove(&site, 4)?);
    // A controller writes down what it finds when it starts, and then every minute.
    site.controller.restart()?;
    wait_for_disk(&site, 2 * known.len())?;
    site.controller.forget_kernel()?;
    site.controller.restart()?;
    all_known(&site, &known, "after the machine started anew")?;
    known.push(prove(&site, 5)?);
    site.controller.write_config(&format!("memory = \"8 MiB\"\n{ENFORCE}"))?;
    site.run("reload")?;
    all_known(&site, &known, "with other maps")?;
    known.push(prove(&site, 6)?);
    site.controller.write_config(&format!("memory = \"16 MiB\"\n{ENFORCE}[proof]\nsources = 2048\n"))?;
    site.run("reload")?;
    all_known(&site, &known, "with room for others, and other maps")?;
    known.push(prove(&site, 7)?);
    site.controller.write_config(&format!("memory = \"16 MiB\"\n{ENFORCE}[proof]\nsources = 4096\n"))?;
    site.run("reload")?;
    all_known(&site, &known, "with room for others")?;
    ensure!(status(&site)?.proven_most == 4096, "{:?}", status(&site)?);
    site.controller.restart()?;
    all_known(&site, &known, "at last")
}

#[test]
fn of_one_site_only_so_many_are_noted() -> Result<()> {
    const SITE: u64 = 256;
    const MORE: u64 = 44;
    let site = Site::configured(ENFORCE)?;
    site.wire.outside.own_network("2001:db8:9::/48")?;
    let [_, door] = doors(&site.wire)?;
    let sources: Vec<IpAddr> = (0..SITE + MORE).map(|number| ip(&format!("2001:db8:1:{number:x}::1"))).collect();
    // The first alone, so that they are who is noted; the others all at once, so that they race for the last places.
    let (first, others) = sources.split_at(SITE as usize - 6);
    drop(door.pairs(&site.wire.outside, first)?);
    thread::scope(|scope| {
        let racing: Vec<_> = others.chunks(10).map(|some| scope.spawn(|| race(&site, &door, some))).collect();
        racing.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let after = status(&site)?;
    let noted = (after.proven, after.not_noted_of_site, after.not_noted, after.handshakes);
    ensure!(noted == (SITE, MORE, 0, SITE + MORE), "{after:?}");
    let first: BTreeSet<IpAddr> = first.iter().map(|source| network_of(*source)).collect();
    ensure!(all_proven(&site)?.is_superset(&first), "somebody made way");
    // Who is noted stays so, whoever comes; another /48 has room of its own.
    race(&site, &door, &[sources[0], ip("2001:db8:1:ffff::1"), ip("2001:db8:9:1::1")])?;
    let after = status(&site)?;
    ensure!((after.proven, after.not_noted_of_site) == (SITE + 1, MORE + 1), "{after:?}");
    Ok(())
}

/// Connects from several; who accepts them does not matter.
fn race(site: &Site, door: &Door, sources: &[IpAddr]) -> Result<()> {
    for source in sources {
        door.knock(&site.wire.outside, *source, SOON)??;
    }
    Ok(())
}

fn network_of(source: IpAddr) -> IpAddr {
    ratelimit_common::proof::proven_source(Address::from(source)).to_ip()
}

#[test]
fn when_there_is_no_room_nobody_makes_way() -> Result<()> {
    const ROOM: usize = 1024;
    const MORE: usize = 50;
    let mut site = Site::configured(&format!("{ENFORCE}[proof]\nsources = {ROOM}\n"))?;
    let [v4, v6] = doors(&site.wire)?;
    let source = |number: usize| IpAddr::from(Ipv4Addr::from(0x0a5c_0000 + number as u32));
    let first: Vec<IpAddr> = (0..ROOM).map(source).collect();
    let later: Vec<IpAddr> = (ROOM..ROOM + MORE).map(source).collect();
    drop(v4.pairs(&site.wire.outside, &first)?);
    let full = status(&site)?;
    ensure!((full.proven, full.not_noted, full.proven_most) == (ROOM as u64, 0, ROOM as u64), "{full:?}");
    drop(v4.pairs(&site.wire.outside, &later)?);
    drop(v6.pair(&site.wire.outside, ip(SOURCES[1]))?);
    let more = status(&site)?;
    let noted = (more.proven, more.not_noted, more.not_noted_of_site);
    ensure!(noted == (ROOM as u64, MORE as u64 + 1, 0), "{more:?}");
    let expected: BTreeSet<IpAddr> = first.iter().copied().collect();
    ensure!(all_proven(&site)? == expected, "somebody made way");
    site.controller.stop()?;
    site.controller.restart()?;
    ensure!(all_proven(&site)? == expected, "somebody made way on disk");
    Ok(())
}

/// The controller itself, asked as whoever bans by findings asks it.
fn with_controller(wire: &Wire, act: impl FnOnce(&Controller) -> Result<()> + Send) -> Result<()> {
    let (scratch, bpffs) = (Scratch::new()?, Bpffs::new()?);
    let config = scratch.path().join("ratelimit.toml");
    std::fs::write(&config, ENFORCE)?;
    let paths = PathOverrides {
        socket: Some(scratch.path().join("control.sock")),
        pins: Some(bpffs.path().join("ratelimit")),
        state: Some(scratch.path().join("state")),
    };
    let interfaces = vec![LAN.to_owned()];
    let options = daemon::Options { config: Some(config), interfaces, paths, ..daemon::Options::default() };
    wire.gateway.enter(|| {
        let mut controller = Controller::start(options)?;
        let outcome = act(&controller);
        controller.detach()?;
        outcome
    })?
}

fn is_all_over(controller: &Controller) -> Result<bool> {
    Ok(controller.sources(SourcesBy::Connections, 1)?.is_empty())
}

#[test]
fn a_ban_may_rest_on_who_said_something_and_on_nobody_else() -> Result<()> {
    let wire = Wire::new(1500)?;
    let doors = doors(&wire)?;
    with_controller(&wire, |controller| {
        for (source, door) in SOURCES.into_iter().zip(&doors) {
            let source = ip(source);
            let has_proof = || -> Result<bool> { Ok(controller.proof_of(source)?.is_some()) };
            wire.attempt(source, SMTP, 3)?;
            ensure!(!has_proof()?, "{source} sent SYNs");
            let silent = door.pair(&wire.outside, source)?;
            ensure!(!has_proof()?, "{source} connected");
            let spoken = door.pair(&wire.outside, source)?;
            say(&spoken.client)?;
            hear(&spoken.server)?;
            ensure!(!has_proof()?, "{source} alone said something");
            say(&spoken.server)?;
            hear(&spoken.client)?;
            eventually("both said something", SOON, has_proof)?;
            drop((silent, spoken));
            // Nothing is open any more, and it is known still.
            eventually("the last one has ended", SOON, || is_all_over(controller))?;
            ensure!(has_proof()?, "{source} said something before it ended");
            let neighbour = if source.is_ipv4() { ip("10.91.0.2") } else { ip("2001:db8:1:92::1") };
            ensure!(controller.proof_of(neighbour)?.is_none(), "{neighbour} said nothing");
        }
        // A greeting that nobody answers is one side alone, and to close says nothing.
        let quiet = ip("10.91.0.3");
        for greets in [false, true] {
            let Pair { server, client } = doors[0].pair(&wire.outside, quiet)?;
            if greets {
                say(&server)?;
                hear(&client)?;
            }
            drop(client);
            ensure!(
                end_of(&server)?.is_none() && controller.proof_of(quiet)?.is_none(),
                "it closed, greeted: {greets}"
            );
            drop(server);
            eventually("the last one has ended", SOON, || is_all_over(controller))?;
            ensure!(controller.proof_of(quiet)?.is_none(), "it said nothing, greeted: {greets}");
        }
        Ok(())
    })
}

/// A cell that stands still is taken for an indebted one when its time wraps: of those that SYNs charge, and of those that
/// completed handshakes do.
#[test]
fn cells_that_stood_still_for_a_day_are_brought_up_to_date() -> Result<()> {
    const ANY: u32 = 100_000;
    const LONG_NS: u64 = 25 * 3_600 * 1_000_000_000;
    let mut site = Site::enforcing()?;
    let maps = open_in_force(&Pins::at(&site.controller.pins()))?;
    let old = maps.secret()?.ticks(now()).0.wrapping_sub((LONG_NS / TICK_NS) as u32);
    for cells in [maps.cells(), maps.completed()] {
        ensure!(cells.replace(ANY, 0, old), "somebody uses that cell");
    }
    // It looks through them when it starts, and every hour.
    site.controller.restart()?;
    eventually("both are as if nobody had used them", SOON, || {
        Ok([maps.cells(), maps.completed()].iter().all(|cells| cells.get(ANY) == Some(0)))
    })?;
    Ok(())
}
