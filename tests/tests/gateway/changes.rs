//! Changes while it runs: by command, by file, by the machine itself, and what becomes of them after a restart.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratelimit_common::Reason;
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::gateway::{LAN, Site, TICK, Wire, eventually, ip};
use ratelimit_tests::receiver::Receiver;
use ratelimit_user::config::Mode;
use serde_json::{Value, json};

/// SYNs are counted: nobody is asked to prove himself.
const CONFIG: &str = r#"
mode = "enforce"
block = ["10.2.0.0/24"]

[proof]
challenge = "off"

[services.smtp]
source = { rate = "60/h", burst = 5 }
"#;
const BLOCKED: &str = "10.2.0.9";
const SMTP: u16 = 25;
/// Far more than anything here takes; only a hanging controller needs it.
const SOON: Duration = Duration::from_secs(10);

/// What the next SYN of a source to port 25 gets: the reason, and whether it passed.
fn next(site: &Site, source: &str) -> Result<(Reason, bool)> {
    next_to(site, ip(source), SMTP)
}

fn next_to(site: &Site, source: IpAddr, port: u16) -> Result<(Reason, bool)> {
    let before = site.counters()?;
    site.wire.attempt(source, port, 1)?;
    let moved = site.settled(&before, 1)?;
    let reason = moved.only_reason().with_context(|| format!("one SYN of {source} moved\n{moved}"))?;
    Ok((reason, moved.total_passed() == 1))
}

const DROPPED: (Reason, bool) = (Reason::Blocked, false);
const OBSERVED: (Reason, bool) = (Reason::Blocked, true);
const ADMITTED: (Reason, bool) = (Reason::Admitted, true);

/// Whether so many SYNs of a source pass at once, or one more.
fn is_burst(site: &Site, source: &str, burst: u64) -> Result<bool> {
    let before = site.counters()?;
    site.wire.attempt(ip(source), SMTP, 10)?;
    Ok((burst..=burst + 1).contains(&site.settled(&before, 10)?.connections("smtp").passed))
}

/// Whether a source gets in no more.
fn is_over(site: &Site, source: &str) -> Result<bool> {
    Ok(next(site, source)? == (Reason::SourceLimit, false))
}

#[test]
fn a_mode_for_a_time_ends_by_itself() -> Result<()> {
    let site = Site::configured(CONFIG)?;
    ensure!(next(&site, BLOCKED)? == DROPPED);
    site.run("mode observe --for 2s")?;
    let mode = site.controller.status()?.mode;
    ensure!(mode.mode == Mode::Observe && mode.ends.len() == 1 && !mode.ends[0].awaits_confirmation, "{mode:?}");
    ensure!(next(&site, BLOCKED)? == OBSERVED);
    eventually("back to enforce", SOON, || Ok(next(&site, BLOCKED)? == DROPPED))?;
    let mode = site.controller.status()?.mode;
    ensure!(mode.mode == Mode::Enforce && mode.ends.is_empty(), "{mode:?}");

    site.run("mode observe --service smtp")?;
    ensure!(next(&site, BLOCKED)? == OBSERVED);
    ensure!(next_to(&site, ip(BLOCKED), 143)? == DROPPED, "the other services go on dropping");
    site.run("mode enforce --service smtp")?;
    ensure!(next(&site, BLOCKED)? == DROPPED);
    Ok(())
}

#[test]
fn a_trial_reverts_unless_it_is_confirmed() -> Result<()> {
    let site = Site::configured(&CONFIG.replace("enforce", "observe"))?;
    site.run("mode enforce --confirm 2s")?;
    let ends = site.controller.status()?.mode.ends;
    ensure!(ends.len() == 1 && ends[0].awaits_confirmation, "{ends:?}");
    ensure!(next(&site, BLOCKED)? == DROPPED);
    eventually("back to observe", SOON, || Ok(next(&site, BLOCKED)? == OBSERVED))?;

    site.run("mode enforce --confirm 3s")?;
    site.run("confirm")?;
    thread::sleep(Duration::from_secs(5));
    ensure!(next(&site, BLOCKED)? == DROPPED, "a confirmed mode stays");
    let said = site.refused("confirm", 1)?;
    ensure!(said.contains("nothing waits for a confirmation"), "{said}");
    Ok(())
}

#[test]
fn a_mode_set_by_command_outlives_a_restart() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    site.run("mode observe")?;
    site.controller.restart()?;
    ensure!(next(&site, BLOCKED)? == OBSERVED);
    site.run("mode enforce --service imap")?;
    site.run("mode enforce")?;
    site.controller.restart()?;
    ensure!(next(&site, BLOCKED)? == DROPPED);
    Ok(())
}

#[test]
fn limits_are_set_and_reset_live() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    site.exhaust(ip("10.9.0.1"), SMTP, 5)?;
    site.run("limit set smtp --burst 7")?;
    ensure!(is_burst(&site, "10.9.0.2", 7)?);
    site.run("limit reset smtp")?;
    ensure!(is_over(&site, "10.9.0.1")?, "what it used up is not forgotten");
    site.run("limit set smtp --burst 3")?;
    ensure!(is_burst(&site, "10.9.0.3", 3)?);
    site.controller.restart()?;
    ensure!(is_burst(&site, "10.9.0.4", 3)?, "a limit by command outlives a restart");
    site.run("limit reset smtp")?;
    ensure!(is_burst(&site, "10.9.0.5", 5)?);

    site.run("limit set smtp --burst 2 --for 2s")?;
    ensure!(is_burst(&site, "10.9.0.6", 2)?);
    let mut host = 6;
    eventually("the configured limit is back", SOON, || {
        host += 1;
        is_burst(&site, &format!("10.9.0.{host}"), 5)
    })?;

    site.run("limit set smtp --level network --rate 60/h --burst 3")?;
    ensure!(is_burst(&site, "10.10.0.1", 3)?);
    // The one that comes a tick of the kernel's clock later, if it was not among the ten.
    thread::sleep(TICK);
    next(&site, "10.10.0.2")?;
    let third = next(&site, "10.10.0.3")?;
    ensure!(third == (Reason::NetworkLimit, false), "its network has used up its limit: {third:?}");
    ensure!(is_burst(&site, "10.11.0.1", 3)?);
    Ok(())
}

/// What `limit show --json` says of the connections of a service: in force, configured, and whether it ends.
fn connections(site: &Site, service: &str) -> Result<(Value, Value, bool)> {
    let shown = site.controller.json(&["limit", "show"])?;
    let of_all = shown["connections"].as_array().with_context(|| format!("no connections in {shown}"))?;
    let mut of_service = of_all.iter().filter(|one| one["service"] == service);
    let (Some(one), None) = (of_service.next(), of_service.next()) else { bail!("not one {service} in {shown}") };
    Ok((one["connections"].clone(), one["configured"].clone(), one["until"].is_string()))
}

#[test]
fn connections_are_set_and_reset_by_command_and_outlive_a_restart() -> Result<()> {
    let mut site = Site::configured(&format!("{CONFIG}connections = 40\n"))?;
    let configured = (json!(40), Value::Null, false);
    ensure!(connections(&site, "smtp")? == configured && connections(&site, "imap")?.0 == json!(500));
    let said = site.run("limit set smtp --connections 7")?;
    ensure!(said.contains("connections  7") && !said.contains("imap"), "{said}");
    site.run("limit set imap --connections off")?;
    site.run("limit set smtp --burst 9")?;
    for restarted in [false, true] {
        if restarted {
            site.controller.restart()?;
        }
        let shown = [connections(&site, "smtp")?, connections(&site, "imap")?];
        ensure!(shown[0] == (json!(7), json!(40), false), "{shown:?}, restarted: {restarted}");
        ensure!(shown[1] == (json!("off"), json!(500), false), "{shown:?}, restarted: {restarted}");
        let config = site.run("config show --changed")?;
        ensure!(config.contains("connections = 7\n") && config.contains("connections = \"off\"\n"), "{config}");
    }

    site.run("limit reset smtp --connections")?;
    ensure!(connections(&site, "smtp")? == configured, "back to what the file says");
    ensure!(site.run("config show --changed")?.contains("burst = 9"), "the limit stays");
    site.run("limit reset imap --level source")?;
    ensure!(connections(&site, "imap")?.0 == json!("off"), "another level was reset");
    site.run("limit reset imap")?;
    ensure!(connections(&site, "imap")? == (json!(500), Value::Null, false));

    site.run("limit set smtp --connections 8 --for 2s")?;
    ensure!(connections(&site, "smtp")? == (json!(8), json!(40), true));
    eventually("the configured connections are back", SOON, || Ok(connections(&site, "smtp")? == configured))?;

    let said = site.refused("limit set smtpx --connections 8", 1)?;
    ensure!(said.contains("did you mean smtp?"), "{said}");
    let said = site.refused("limit set smtp --connections 8 --rate 10/s", 2)?;
    ensure!(said.contains("cannot be used with"), "{said}");
    site.controller.write_config(&format!("{}connections = 41\n", CONFIG.replace("\"off\"", "\"retry\"")))?;
    let said = site.run("reload")?;
    ensure!(said.contains("service smtp: changed") && said.contains("proof: changed"), "{said}");
    Ok(())
}

#[test]
fn entries_take_effect_at_once_and_outlive_a_restart() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    for (source, network, v6) in [("10.6.0.9", "10.6.0.0/24", false), ("2001:db8:1:6::9", "2001:db8:1:6::/64", true)] {
        ensure!(next(&site, source)? == ADMITTED);
        site.run(&format!("block add {network} --note guesses"))?;
        ensure!(next(&site, source)? == DROPPED, "v6: {v6}");
        site.run(&format!("allow add {source}"))?;
        ensure!(next(&site, source)? == ADMITTED, "allowed inside blocked, v6: {v6}");
        site.run(&format!("allow remove {source}"))?;
        site.run(&format!("trust add {source} --service smtp"))?;
        ensure!(next(&site, source)? == (Reason::Trusted, true));
        ensure!(next_to(&site, ip(source), 143)? == DROPPED, "trusted by smtp alone");

        site.controller.restart()?;
        ensure!(next(&site, source)? == (Reason::Trusted, true), "after a restart");
        ensure!(next_to(&site, ip(source), 143)? == DROPPED, "after a restart");
        let shown = site.run("block show")?;
        ensure!(shown.contains(network) && shown.contains("guesses") && shown.contains("10.2.0.0/24"), "{shown}");
        site.run(&format!("trust remove {source}"))?;
        ensure!(next(&site, source)? == DROPPED);
        site.run(&format!("block remove {network}"))?;
        ensure!(next(&site, source)? == ADMITTED);
    }
    ensure!(next(&site, BLOCKED)? == DROPPED, "what the file says stays");
    let said = site.refused("block remove 10.2.0.0/24", 1)?;
    ensure!(said.contains("configuration") && said.contains("ratelimit reload"), "{said}");
    Ok(())
}

#[test]
fn an_address_that_the_gateway_gets_later_is_protected() -> Result<()> {
    let site = Site::configured(CONFIG)?;
    for (address, source) in [("192.0.2.77/24", BLOCKED), ("2001:db8::77/64", "2001:db8:1:2::9")] {
        if source != BLOCKED {
            site.run("block add 2001:db8:1:2::/64")?;
        }
        let to = |site: &Site| -> Result<u64> {
            let before = site.counters()?;
            let (host, _) = address.split_once('/').context("a prefix length")?;
            site.wire.send(&site.wire.syn_to(ip(source), ip(host), SMTP).build()?)?;
            thread::sleep(Duration::from_millis(50));
            Ok(site.counters()?.since(&before).connections("smtp").dropped)
        };
        ensure!(to(&site)? == 0, "{address} is nobody's yet");
        site.wire.gateway.add_addresses(LAN, [address])?;
        let took = eventually("the new address is protected", SOON, || Ok(to(&site)? == 1))?;
        println!("{address} protected after {took:.1?}");
    }
    Ok(())
}

#[test]
fn an_interface_that_comes_back_is_protected_again() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    ensure!(next(&site, BLOCKED)? == DROPPED);
    let is_protected = |site: &Site| -> Result<bool> {
        let before = site.counters()?;
        site.wire.attempt(ip(BLOCKED), SMTP, 1)?;
        thread::sleep(Duration::from_millis(50));
        Ok(site.counters()?.since(&before).connections("smtp").dropped == 1)
    };
    let attached = |site: &Site| -> Result<Vec<Option<String>>> {
        Ok(site.controller.status()?.interfaces.into_iter().map(|one| one.attached).collect())
    };
    for restarted in [false, true] {
        site.wire.cut()?;
        eventually("the status tells that the interface is gone", SOON, || Ok(attached(&site)? == [None]))?;
        ensure!(site.controller.is_running()?, "{}", site.controller.log());
        if restarted {
            site.controller.kill9()?;
        }
        site.wire.mend(1500)?;
        if restarted {
            site.controller.restart()?;
        }
        let took = eventually("the new interface is protected", SOON, || is_protected(&site))?;
        println!("protected again after {took:.1?}, restarted: {restarted}");
        ensure!(attached(&site)? == [Some("native_frags".to_owned())], "{:?}", attached(&site)?);
    }
    Ok(())
}

#[test]
fn a_broken_file_changes_nothing_and_is_explained() -> Result<()> {
    let site = Site::configured(CONFIG)?;
    let file = site.controller.config().display().to_string();
    let before = site.controller.json(&["config", "show"])?;
    for (text, line, says) in [
        ("mode = \"enforce\"\nblock = [\"10.2.0.0/24\"\n", 2, &["broken TOML"][..]),
        ("mode = \"enforce\"\nblok = [\"10.2.0.0/24\"]\n", 2, &["blok", "did you mean block?"]),
        ("mode = \"enforce\"\n\n[services.smtp]\nsource = { rate = \"fast\", burst = 5 }\n", 4, &["rate", "10/s"]),
        ("block = [\"10.2.0.1/24\"]\n", 1, &["10.2.0.1/24", "host bits", "10.2.0.0/24"]),
        ("trust = [\"10.7.0.0/24\"]\nblock = [\"10.7.0.0/24\"]\n", 2, &["trust", "block", "keep it in one of the two"]),
    ] {
        site.controller.write_config(text)?;
        let said = site.refused("reload", 1)?;
        for part in [&format!("{file}:{line}")[..]].iter().chain(says) {
            ensure!(said.contains(part), "{part:?} is missing in:\n{said}");
        }
        let error = site.controller.status()?.config_error.context("the status does not show the error")?;
        ensure!(says.iter().all(|part| error.contains(part)), "{error}");
        ensure!(next(&site, BLOCKED)? == DROPPED, "what is in force stays in force");
        ensure!(site.controller.json(&["config", "show"])? == before, "what is in force has changed");
    }
    site.controller.write_config(&CONFIG.replace("10.2.0.0/24", "10.3.0.0/24"))?;
    let said = site.run("reload")?;
    ensure!(said.contains("10.3.0.0/24") && said.contains("10.2.0.0/24"), "{said}");
    ensure!(site.controller.status()?.config_error.is_none());
    ensure!(next(&site, BLOCKED)? == ADMITTED && next(&site, "10.3.0.9")? == DROPPED);
    Ok(())
}

#[test]
fn a_reload_that_cannot_attach_changes_nothing() -> Result<()> {
    let named = |interfaces: &str| format!("interfaces = {interfaces}\n{CONFIG}");
    let options = Options { config: Some(named("[\"lan0\"]")), ..Options::default() };
    let site = Site::start(1500, &options)?;
    site.wire.gateway.ip("link add name aaa0 type veth peer name zzz0")?;
    site.wire.gateway.ip("link set dev aaa0 up")?;
    let other = Receiver::pass(site.wire.gateway.path(), "aaa0")?;
    let before = site.controller.json(&["config", "show"])?;
    // Once over the maps that are there, once over new ones.
    for (number, memory) in ["", "memory = \"16 MiB\"\n"].into_iter().enumerate() {
        let file = format!("{memory}{}", named("[\"lan0\", \"aaa0\"]"));
        site.controller.write_config(&file.replace("10.2.0.0/24", "10.3.0.0/24"))?;
        let said = site.refused("reload", 1)?;
        ensure!(said.contains("aaa0 is taken by another XDP program"), "{said}");
        ensure!(next(&site, BLOCKED)? == DROPPED, "what was blocked passes");
        ensure!(next(&site, "10.3.0.9")? == ADMITTED, "what was refused is in force");
        ensure!(site.controller.json(&["config", "show"])? == before, "the controller believes in what it refused");
        // What is in force is what it goes on working with.
        site.run(&format!("block add 10.4.{number}.0/24"))?;
        ensure!(next(&site, &format!("10.4.{number}.9"))? == DROPPED, "the controller changes maps that nobody uses");
        site.run(&format!("block remove 10.4.{number}.0/24"))?;
    }
    drop(other);
    site.run("reload")?;
    ensure!(next(&site, "10.3.0.9")? == DROPPED);
    let names: Vec<String> = site.controller.status()?.interfaces.into_iter().map(|one| one.name).collect();
    ensure!(names == ["aaa0", "lan0"], "{names:?}");
    Ok(())
}

#[test]
fn a_hangup_signal_reloads() -> Result<()> {
    let site = Site::configured(CONFIG)?;
    let hang_up = || -> Result<()> {
        let id = site.controller.id().context("no controller")?;
        Ok(kill(Pid::from_raw(id.try_into()?), Signal::SIGHUP)?)
    };
    site.controller.write_config(&CONFIG.replace("10.2.0.0/24", "10.3.0.0/24"))?;
    hang_up()?;
    eventually("the new file is in force", SOON, || Ok(next(&site, "10.3.0.9")? == DROPPED))?;
    ensure!(next(&site, BLOCKED)? == ADMITTED);
    site.controller.write_config("mode = \"enforced\"\n")?;
    hang_up()?;
    eventually("the broken file is noticed", SOON, || Ok(site.controller.status()?.config_error.is_some()))?;
    ensure!(next(&site, "10.3.0.9")? == DROPPED);
    Ok(())
}

#[test]
fn automatic_interfaces_are_those_with_a_default_route() -> Result<()> {
    let wire = Wire::new(1500)?;
    let interfaces = vec!["auto".to_owned()];
    let options = Options { config: Some(CONFIG.to_owned()), interfaces, ..Options::default() };
    let site = Site { controller: Controller::start(&wire.gateway, &options)?, wire };
    let names: Vec<String> = site.controller.status()?.interfaces.into_iter().map(|one| one.name).collect();
    ensure!(names == [LAN], "{names:?}");
    ensure!(next(&site, BLOCKED)? == DROPPED);
    Ok(())
}
