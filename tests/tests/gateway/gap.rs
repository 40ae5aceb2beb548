//! Once attached, the filter holds: through crash, restart, replacement and reload, until it is stopped on purpose.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_tests::clients::Conversation;
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::flood::Pattern;
use ratelimit_tests::gateway::{
    Answers, Counters, GATEWAY_V4, LAN, Listener, Moved, Site, Wire, dropped, eventually, ip, paced, passed,
};
use ratelimit_tests::load::Load;

/// SYNs are counted: nobody is asked to prove himself.
const CONFIG: &str = r#"
mode = "enforce"
block = ["10.2.0.0/24", "2001:db8:1:2::/64"]

[services.imap]
source = { rate = "60/h", burst = 5 }

[proof]
challenge = "off"
"#;
const BLOCKED: &str = "10.2.0.9";
const FLOODER: &str = "10.66.0.6";
const SMTP: u16 = 25;
const IMAP: u16 = 143;
/// Connection attempts a second of somebody who is waiting for a gap.
const KNOCKS: f64 = 400.0;
const SOON: Duration = Duration::from_secs(10);

/// Has a blocked source knock without a pause while something is done; returns how often. Nothing was answered.
fn knocking(wire: &Wire, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let answers = Answers::listen(wire)?;
    let done = AtomicBool::new(false);
    let knocked = thread::scope(|scope| -> Result<u64> {
        let knocker = scope.spawn(|| {
            let mut knocked = 0;
            while !done.load(Ordering::Relaxed) {
                paced(10, KNOCKS, |_| wire.attempt(ip(BLOCKED), SMTP, 1))?;
                knocked += 10;
            }
            Ok(knocked)
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        let knocked: Result<u64> = knocker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcome.and(knocked)
    })?;
    let answered = answers.stop()?.of(ip(BLOCKED), SMTP);
    ensure!(answered == 0, "{answered} of {knocked} attempts of a blocked source came through");
    Ok(knocked)
}

fn drops(counters: &Counters, before: &Counters) -> u64 {
    counters.since(before).connections("smtp").dropped
}

#[test]
fn a_crash_in_a_flood_opens_nothing() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    let Site { controller, wire } = &mut site;
    let _smtp = Listener::start(&wire.gateway, SMTP)?;
    let before = Counters::read(&controller.pins())?;
    let flood = wire.flood(SMTP, Pattern::one(ip(FLOODER)), ip(FLOODER))?.rate(Some(100_000));
    let flood = flood.limit(u64::MAX, Duration::from_secs(120)).start()?;
    let knocked = knocking(wire, || {
        for _ in 0..3 {
            controller.kill9()?;
            thread::sleep(Duration::from_millis(200));
            ensure!(!controller.status()?.controller, "somebody answers for a dead controller");
            let (one, refused) = (Counters::read(&controller.pins())?, refused_offline(controller)?);
            eventually("the drops go on", SOON, || {
                Ok(drops(&Counters::read(&controller.pins())?, &one) > 1000 && refused_offline(controller)? > refused)
            })?;
            controller.restart()?;
        }
        for number in 0..20 {
            controller.write_config(&format!(
                "{CONFIG}\n[services.pop3]\nsource = {{ rate = \"{}/min\", burst = 99 }}\n",
                number + 60
            ))?;
            let finished = controller.cli(&["reload"])?;
            ensure!(finished.status.success(), "{finished:?}");
        }
        for words in [
            "mode enforce --for 1h",
            "trust add 10.77.0.0/24",
            "trust remove 10.77.0.0/24",
            "limit set smtp --burst 200",
            "limit reset smtp",
            "block add 10.78.0.0/24",
            "block remove 10.78.0.0/24",
            "mode enforce",
        ] {
            let finished = controller.cli(&words.split(' ').collect::<Vec<_>>())?;
            ensure!(finished.status.success(), "{words}: {finished:?}");
        }
        Ok(())
    })?;
    flood.stop();
    let flooded = flood.join()?.packets;
    let moved = site.settled(&before, knocked)?;
    println!("{knocked} knocks and {flooded} packets of a flood:\n{moved}");
    // The flood may lose packets on its way; the knocks do not, and none is missing or counted twice.
    let blocked = moved.of_reason("smtp", Reason::Blocked);
    ensure!(blocked.passed == 0 && blocked.dropped <= knocked && blocked.dropped * 100 >= knocked * 99, "{moved}");
    Ok(())
}

fn refused_offline(controller: &Controller) -> Result<u64> {
    let status = controller.status()?;
    Ok(status.services.iter().map(|service| service.refused).sum())
}

#[test]
fn ten_replacements_cost_honest_clients_nothing() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    let Site { controller, wire } = &mut site;
    let _smtp = Listener::start(&wire.gateway, SMTP)?;
    let before = Counters::read(&controller.pins())?;
    let load = Load {
        sources: (1..250).map(|host| ip(&format!("10.9.0.{host}"))).collect(),
        server: (GATEWAY_V4, SMTP).into(),
        conversation: Conversation::Connect,
        per_second: 100.0,
        count: None,
        workers: 10,
        timeout: Duration::from_secs(20),
    };
    let load = load.start(&wire.outside)?;
    for number in 0..10 {
        // Half of them over a controller that was killed, half of them over one that was asked to leave the gate behind.
        if number % 2 == 0 {
            controller.restart()?;
        } else {
            let keep =
                Options { interfaces: vec![LAN.to_owned()], args: vec!["--keep".to_owned()], ..Options::default() };
            controller.restart_with(&keep)?;
            ensure!(controller.stop()?.success());
            controller.restart()?;
        }
    }
    let tally = load.stop();
    ensure!(tally.attempts > 100 && tally.completed == tally.attempts, "{tally:?}");
    let moved = site.settled(&before, tally.attempts)?;
    // A SYN that had been lost would have been sent and counted again.
    let admitted = passed("smtp", Reason::Admitted, Family::V4, tally.attempts);
    ensure!(moved == Moved::expected(&[admitted]), "{} connections:\n{moved}", tally.attempts);
    println!("{} connections, the slowest after {:.1?}", tally.attempts, tally.connect_quantile(1.0));
    Ok(())
}

#[test]
fn what_a_source_has_used_up_outlives_the_controller() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    for source in ["10.9.0.1", "2001:db8:1:9::1"] {
        let source = ip(source);
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let before = site.counters()?;
        site.wire.attempt(source, IMAP, 3)?;
        site.expect(&before, &[passed("imap", Reason::Admitted, family, 3)])?;
        site.controller.restart()?;
        site.exhaust(source, IMAP, 2).context("after a kill: two are left")?;
        let over = |site: &Site, when: &'static str| {
            let before = site.counters()?;
            site.wire.attempt(source, IMAP, 2)?;
            site.expect(&before, &[dropped("imap", Reason::SourceLimit, family, 2)]).context(when)
        };
        site.controller.kill9()?;
        over(&site, "without a controller")?;
        site.controller.restart()?;
        over(&site, "after a second restart")?;
        site.run("reload")?;
        over(&site, "after a reload")?;
    }
    Ok(())
}

#[test]
fn new_maps_go_on_filtering_and_counting() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    let Site { controller, wire } = &mut site;
    let before = Counters::read(&controller.pins())?;
    let layouts = [
        "memory = \"16 MiB\"\n".to_owned() + CONFIG,
        "memory = \"64 MiB\"\n".to_owned() + CONFIG,
        CONFIG.to_owned() + "\n[services.submission-alt]\nports = [2525]\n",
        CONFIG.to_owned() + "\n[services.sieve]\nenabled = false\n",
        CONFIG.to_owned() + "\n[services.pop3]\nnetwork = \"off\"\n",
        CONFIG.to_owned(),
    ];
    let knocked = knocking(wire, || {
        for layout in &layouts {
            let counted = Counters::read(&controller.pins())?;
            controller.write_config(layout)?;
            let finished = controller.cli(&["reload"])?;
            ensure!(finished.status.success(), "{finished:?}");
            let lost = drops(&counted, &before) > drops(&Counters::read(&controller.pins())?, &before);
            ensure!(!lost, "the counters went back after\n{layout}");
            // A change that a controller is started with takes the same way.
            controller.restart()?;
        }
        Ok(())
    })?;
    let moved = site.settled(&before, knocked)?;
    println!("{knocked} knocks:\n{moved}");
    let blocked = moved.of_reason("smtp", Reason::Blocked);
    ensure!(blocked.passed == 0 && moved.connections("smtp") == blocked, "{moved}");
    // A frame that is counted while its counter is carried over is lost to the counter.
    ensure!(blocked.dropped <= knocked && blocked.dropped * 100 >= knocked * 99, "{knocked} knocks:\n{moved}");
    Ok(())
}

/// A list in force holds whatever becomes of its file and of the controller; half of its other entries come and go.
#[test]
fn a_listed_source_finds_no_gap_while_lists_are_swapped_and_the_controller_dies() -> Result<()> {
    let mut site = Site::configured("mode = \"enforce\"\n")?;
    let text = |others: std::ops::Range<u32>| -> String {
        let other = |host| format!("10.40.0.{host}\n2001:db8:1:40::{host:x}\n");
        std::iter::once(format!("{BLOCKED}\n")).chain(others.map(other)).collect()
    };
    let list = site.with_list("mode = \"enforce\"\n", "mine", "", &text(0..100))?;
    let Site { controller, wire } = &mut site;
    let _smtp = Listener::start(&wire.gateway, SMTP)?;
    let before = Counters::read(&controller.pins())?;
    let configured = |memory: &str| format!("memory = \"{memory}\"\nmode = \"enforce\"\n{}", list.section());
    let knocked = knocking(wire, || {
        for number in 0..5 {
            // Read by the controller, then one that it has no time to read before it dies.
            list.replace(&text(number * 10..number * 10 + 100))?;
            let refreshed = controller.cli(&["list", "refresh", "mine"])?;
            ensure!(refreshed.status.success(), "{refreshed:?}");
            list.replace(&text(number * 10 + 5..number * 10 + 105))?;
            controller.restart()?;
        }
        // The kept copy takes the place of a file that is gone, empty, or no list.
        for file in [None, Some(""), Some("<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>\n")] {
            match file {
                Some(text) => list.replace(text)?,
                None => list.remove()?,
            }
            let refreshed = controller.cli(&["list", "refresh", "mine"])?;
            ensure!(!refreshed.status.success(), "{file:?} was taken for the list: {refreshed:?}");
            controller.restart()?;
            // With new maps too.
            for memory in ["16 MiB", "32 MiB"] {
                controller.write_config(&configured(memory))?;
                let reloaded = controller.cli(&["reload"])?;
                ensure!(reloaded.status.success(), "{reloaded:?}");
            }
            controller.kill9()?;
            controller.write_config(&configured("8 MiB"))?;
            controller.restart()?;
        }
        Ok(())
    })?;
    let moved = site.settled(&before, knocked)?;
    println!("{knocked} knocks:\n{moved}");
    let blocked = moved.of_reason("smtp", Reason::Blocked);
    ensure!(blocked.passed == 0 && moved.connections("smtp") == blocked, "{moved}");
    // A frame that is counted while its counter is carried over is lost to the counter.
    ensure!(blocked.dropped <= knocked && blocked.dropped * 100 >= knocked * 99, "{knocked} knocks:\n{moved}");
    Ok(())
}

/// Whether a SYN of this source is answered.
fn is_answered(wire: &Wire, source: IpAddr) -> Result<bool> {
    let answers = Answers::listen(wire)?;
    wire.attempt(source, SMTP, 1)?;
    Ok(answers.stop()?.of(source, SMTP) == 1)
}

#[test]
fn a_dead_controller_can_still_be_told_to_observe_and_to_detach() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    site.controller.kill9()?;
    let blocked = ip(BLOCKED);
    ensure!(!is_answered(&site.wire, blocked)?, "a blocked source came through without a controller");
    site.run("mode observe")?;
    ensure!(is_answered(&site.wire, blocked)?, "observe on the pins did not let it through");
    ensure!(site.run("mode")?.contains("observe"));
    site.run("mode enforce")?;
    ensure!(!is_answered(&site.wire, blocked)?, "enforce on the pins did not drop it");
    site.run("mode observe --service smtp")?;
    ensure!(is_answered(&site.wire, blocked)?, "observe for smtp alone did not let it through");
    let said = site.refused("mode enforce --for 1h", 1)?;
    ensure!(said.contains("no controller is running"), "{said}");
    // What was told to the pins holds for the next controller too.
    site.controller.restart()?;
    ensure!(is_answered(&site.wire, blocked)?, "the next controller forgot the mode");
    site.run("mode enforce --service smtp")?;
    ensure!(!is_answered(&site.wire, blocked)?);

    site.controller.kill9()?;
    let said = site.run("detach")?;
    ensure!(said.contains(LAN), "{said}");
    ensure!(is_answered(&site.wire, blocked)?, "detached, and still dropping");
    let left = std::fs::read_dir(site.controller.pins())?.count();
    ensure!(left == 0, "{left} pins are left");
    let said = site.refused("detach", 1)?;
    ensure!(said.contains("nothing is pinned"), "{said}");
    let said = site.refused("status", 1)?;
    ensure!(said.contains("nothing is pinned") && said.contains("no controller is running"), "{said}");
    Ok(())
}

#[test]
fn stopping_on_purpose_stops_the_filter() -> Result<()> {
    let blocked = ip(BLOCKED);
    let mut site = Site::configured(CONFIG)?;
    ensure!(site.controller.stop()?.success(), "{}", site.controller.log());
    ensure!(is_answered(&site.wire, blocked)?, "stopped, and still dropping");
    ensure!(!site.controller.socket().exists(), "a socket is left");

    let keep = Options { interfaces: vec![LAN.to_owned()], args: vec!["--keep".to_owned()], ..Options::default() };
    site.controller.restart_with(&keep)?;
    ensure!(site.controller.stop()?.success(), "{}", site.controller.log());
    ensure!(!is_answered(&site.wire, blocked)?, "--keep did not leave the filter");
    site.controller.restart()?;
    ensure!(site.controller.log().contains("taken over without a gap"), "{}", site.controller.log());
    ensure!(!is_answered(&site.wire, blocked)?);

    let said = site.run("detach")?;
    ensure!(said.contains(LAN), "{said}");
    eventually("detach ends the controller", SOON, || Ok(!site.controller.is_running()?))?;
    ensure!(is_answered(&site.wire, blocked)?, "detached, and still dropping");
    Ok(())
}
