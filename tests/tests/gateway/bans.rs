//! Bans: by command, over restarts, and without a controller; and who alone may connect.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratelimit_common::{
    Address, Moment, Reason,
    ban::{Ban, BanKey, MAX_BANS},
};
use ratelimit_tests::clients::{Cause, Conversation};
use ratelimit_tests::gateway::{Listener, OUT, Site, client, eventually, ip};
use ratelimit_tests::receiver::Receiver;
use ratelimit_user::api::{BanView, Banned, Unbanned};
use ratelimit_user::config::Config;
use ratelimit_user::machine::Machine;
use ratelimit_user::plane::{Pins, open_in_force};

const SMTP: u16 = 25;
const IMAP: u16 = 143;
const SOON: Duration = Duration::from_secs(10);
const ENFORCE: &str = "mode = \"enforce\"\n";

/// Why the next SYN of a source leaves the gate as it does, and whether it passes.
fn next(site: &Site, source: &str, port: u16) -> Result<(Reason, bool)> {
    let before = site.counters()?;
    site.wire.attempt(ip(source), port, 1)?;
    let moved = site.settled(&before, 1)?;
    let reason = moved.only_reason().with_context(|| format!("one SYN of {source} moved\n{moved}"))?;
    Ok((reason, moved.total_passed() == 1))
}

const BANNED: (Reason, bool) = (Reason::Banned, false);
const ADMITTED: (Reason, bool) = (Reason::Admitted, true);

fn bans(site: &Site) -> Result<Vec<BanView>> {
    Ok(serde_json::from_value(site.controller.json(&["bans"])?)?)
}

#[test]
fn bans_of_every_length_take_effect_at_once_and_are_counted() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    for (banned, inside, outside) in [
        ("10.1.1.7", "10.1.1.7", "10.1.1.8"),
        ("10.2.1.0/24", "10.2.1.200", "10.2.2.1"),
        ("10.3.0.0/16", "10.3.77.1", "10.4.0.1"),
        ("2001:db8:1:1::7", "2001:db8:1:1::7", "2001:db8:1:1::8"),
        ("2001:db8:1:2::/64", "2001:db8:1:2:9::9", "2001:db8:1:3::9"),
        ("2001:db8:1:a00::/56", "2001:db8:1:a77::9", "2001:db8:1:b00::9"),
    ] {
        ensure!(next(&site, inside, SMTP)? == ADMITTED, "{banned}: not yet");
        site.run(&format!("ban {banned} --for 1h --note test"))?;
        ensure!(next(&site, inside, SMTP)? == BANNED, "{banned}");
        ensure!(next(&site, outside, SMTP)? == ADMITTED, "beside {banned}");
    }
    let shown = bans(&site)?;
    ensure!(shown.len() == 6 && shown.iter().all(|ban| ban.hits == 1 && ban.last_hit.is_some()), "{shown:?}");
    let text = site.run("bans")?;
    ensure!(text.contains("10.3.0.0/16") && text.contains("test"), "{text}");
    Ok(())
}

#[test]
fn a_ban_of_one_service_leaves_the_others_alone_and_explain_names_it() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    site.run("ban ::ffff:10.1.1.7 --for 1h --service imap")?;
    ensure!(next(&site, "10.1.1.7", IMAP)? == BANNED && next(&site, "10.1.1.7", SMTP)? == ADMITTED);
    let explained = site.controller.cli(&["explain", "10.1.1.7", "--service", "imap"])?;
    let text = &explained.stdout;
    ensure!(
        explained.status.code() == Some(3) && text.contains("banned") && text.contains("ratelimit unban 10.1.1.7"),
        "{text}"
    );
    Ok(())
}

#[test]
fn unban_ends_what_an_address_is_under_and_says_what_is_left() -> Result<()> {
    let site = Site::configured("mode = \"enforce\"\nblock = [\"10.1.0.0/20\"]\n")?;
    for network in ["10.1.1.7", "10.1.1.0/24", "10.9.9.9"] {
        site.run(&format!("ban {network} --for 1h"))?;
    }
    let unbanned = site.controller.json(&["unban", "10.1.1.7"])?;
    let unbanned: Unbanned = serde_json::from_value(unbanned)?;
    ensure!(unbanned.ended.len() == 2, "{unbanned:?}");
    ensure!(unbanned.still_refused.iter().all(|service| service.reason == "blocked"), "{unbanned:?}");
    ensure!(!unbanned.still_refused.is_empty() && next(&site, "10.1.1.7", SMTP)?.0 == Reason::Blocked);
    ensure!(next(&site, "10.9.9.9", SMTP)? == BANNED);
    let text = site.run("unban 10.1.1.7")?;
    ensure!(text.contains("there was none") && text.contains("block 10.1.0.0/20"), "{text}");
    site.run("unban --all --by log")?;
    ensure!(next(&site, "10.9.9.9", SMTP)? == BANNED, "nobody banned by log");
    // A second one of the same network goes with it.
    site.run("ban 10.9.9.9 --for 1h --service imap")?;
    site.run("unban --all")?;
    ensure!(next(&site, "10.9.9.9", SMTP)? == ADMITTED && bans(&site)?.is_empty());
    Ok(())
}

#[test]
fn bans_outlive_the_controller_and_end_without_it() -> Result<()> {
    let mut site = Site::configured(ENFORCE)?;
    site.run("ban 10.1.1.7 --for 1h")?;
    site.run("ban 10.1.1.8 --for 3s")?;
    ensure!(next(&site, "10.1.1.7", SMTP)? == BANNED);
    site.controller.kill9()?;
    ensure!(next(&site, "10.1.1.7", SMTP)? == BANNED && next(&site, "10.1.1.8", SMTP)? == BANNED);
    let explained = site.controller.cli(&["explain", "10.1.1.7", "--service", "smtp"])?;
    ensure!(explained.status.code() == Some(3) && explained.stdout.contains("banned"), "{explained:?}");
    eventually("the short ban is over", SOON, || Ok(next(&site, "10.1.1.8", SMTP)? == ADMITTED))?;
    site.controller.restart()?;
    ensure!(next(&site, "10.1.1.7", SMTP)? == BANNED);
    let shown = bans(&site)?;
    ensure!(shown.len() == 1 && shown[0].hits == 3, "{shown:?}");
    // Stopped and started anew, as after a reboot: only the disk knows.
    site.controller.stop()?;
    site.controller.restart()?;
    ensure!(next(&site, "10.1.1.7", SMTP)? == BANNED);
    ensure!(bans(&site)?[0].hits >= 3);
    Ok(())
}

#[test]
fn bans_stay_when_the_maps_are_made_anew() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    site.run("ban 10.1.1.7 --for 1h")?;
    for _ in 0..7 {
        ensure!(next(&site, "10.1.1.7", SMTP)? == BANNED);
    }
    site.controller.write_config("mode = \"enforce\"\nmemory = \"8 MiB\"\n")?;
    site.run("reload")?;
    let shown = bans(&site)?;
    ensure!(shown[0].hits == 7 && shown[0].last_hit.is_some(), "what was stopped is known still: {shown:?}");
    ensure!(next(&site, "10.1.1.7", SMTP)? == BANNED && bans(&site)?[0].hits == 8);
    site.run("unban 10.1.1.7")?;
    ensure!(next(&site, "10.1.1.7", SMTP)? == ADMITTED);
    Ok(())
}

#[test]
fn what_cannot_be_banned_is_refused_with_the_reason() -> Result<()> {
    let site = Site::configured("trust = [\"10.5.0.0/24\"]\n")?;
    for (words, says) in [
        ("ban 10.0.0.0/8 --for 1h", "/32, /24, /16"),
        ("ban 192.0.2.0/24 --for 1h", "an address of this machine"),
        ("ban 192.0.2.2 --for 1h", "a default gateway"),
        ("ban 10.5.0.9 --for 1h", "a trusted network"),
        ("ban 127.0.0.1 --for 1h", "this machine itself"),
        ("ban 10.1.1.7 --for 1h --service smpt", "did you mean smtp"),
    ] {
        let said = site.refused(words, 1)?;
        ensure!(said.contains(says), "`{words}` said {said}");
    }
    ensure!(bans(&site)?.is_empty());
    Ok(())
}

#[test]
fn bans_of_several_services_of_one_network_end_each_by_itself() -> Result<()> {
    let mut site = Site::configured(ENFORCE)?;
    site.run("ban 10.1.1.7 --for 1h --service imap --note long")?;
    site.run("ban 10.1.1.7 --for 9s --service smtp --note short")?;
    ensure!(next(&site, "10.1.1.7", IMAP)? == BANNED && next(&site, "10.1.1.7", SMTP)? == BANNED);
    let shown = bans(&site)?;
    let notes: Vec<_> = shown.iter().filter_map(|ban| ban.note.as_deref()).collect();
    ensure!(notes == ["long", "short"] && shown.iter().all(|ban| ban.hits == 2), "{shown:?}");
    eventually("the short ban is over and the long one has no gap", SOON, || {
        ensure!(next(&site, "10.1.1.7", IMAP)? == BANNED, "a gap");
        Ok(next(&site, "10.1.1.7", SMTP)? == ADMITTED)
    })?;
    eventually("the short ban is struck out", SOON, || Ok(bans(&site)?.len() == 1))?;
    ensure!(next(&site, "10.1.1.7", IMAP)? == BANNED);

    // Without a controller the entry ends with the first of its bans, and comes back with the next controller.
    site.run("ban 10.1.1.7 --for 8s --service smtp")?;
    site.controller.kill9()?;
    ensure!(next(&site, "10.1.1.7", IMAP)? == BANNED && next(&site, "10.1.1.7", SMTP)? == BANNED);
    eventually("the entry is over", SOON, || Ok(next(&site, "10.1.1.7", SMTP)? == ADMITTED))?;
    ensure!(next(&site, "10.1.1.7", IMAP)? == ADMITTED, "early, but never late");
    site.controller.restart()?;
    ensure!(next(&site, "10.1.1.7", IMAP)? == BANNED && next(&site, "10.1.1.7", SMTP)? == ADMITTED);
    Ok(())
}

#[test]
fn a_ban_of_what_is_allowed_is_refused_or_says_where_it_does_not_act() -> Result<()> {
    let site = Site::configured("mode = \"enforce\"\nallow = [\"10.5.0.0/24\"]\n")?;
    site.run("allow add 10.6.0.0/16 --service imap")?;
    for (words, says) in [
        ("ban 10.5.0.9 --for 1h", "remove 10.5.0.0/24 from `allow` in the configuration"),
        ("ban 10.6.1.7 --for 1h --service imap", "ratelimit allow remove 10.6.0.0/16"),
    ] {
        let said = site.refused(words, 1)?;
        ensure!(said.contains("do nothing") && said.contains(says), "`{words}` said {said}");
    }
    ensure!(bans(&site)?.is_empty());

    let banned: Banned = serde_json::from_value(site.controller.json(&["ban", "10.6.1.7", "--for", "1h"])?)?;
    ensure!(banned.spares == ["imap: 10.6.1.7/32 lies in 10.6.0.0/16, which is allowed"], "{banned:?}");
    ensure!(next(&site, "10.6.1.7", SMTP)? == BANNED && next(&site, "10.6.1.7", IMAP)? == ADMITTED);
    let said = site.run("ban 10.5.0.0/16 --for 1h")?;
    ensure!(said.contains("10.5.0.0/24 is allowed"), "{said}");
    ensure!(next(&site, "10.5.0.9", SMTP)? == ADMITTED && next(&site, "10.5.1.9", SMTP)? == BANNED);
    Ok(())
}

/// Fills the kernel's table behind the controller's back.
#[test]
fn a_ban_that_the_kernel_refuses_leaves_nothing_behind() -> Result<()> {
    let mut site = Site::configured(ENFORCE)?;
    let mut maps = open_in_force(&Pins::at(&site.controller.pins()))?;
    let key = |host: usize| BanKey::new(Address::from_words(0x2001_0db8_0009_0000, host as u64), 128);
    let stopped = Ban { until_ns: 1, services: 0, hits: 1, last_hit_ns: 1 };
    let full: Vec<_> = (0..MAX_BANS).map(|host| (key(host), stopped)).collect();
    maps.bans_mut().put(&full)?;

    let start = Instant::now();
    let hit = maps.bans().reader()?.hit_since(Moment(0))?.len();
    println!("{hit} of {MAX_BANS} bans read in {} ms", start.elapsed().as_millis());
    ensure!(hit == MAX_BANS && start.elapsed() < Duration::from_secs(20));
    let start = Instant::now();
    ensure!(bans(&site)?.is_empty());
    println!("all of them looked at again by the controller in {} ms", start.elapsed().as_millis());

    let said = site.refused("ban 10.1.1.7 --for 1h", 1)?;
    ensure!(said.contains("10.1.1.7/32 is not banned, and nothing has changed"), "{said}");
    ensure!(bans(&site)?.is_empty() && next(&site, "10.1.1.7", SMTP)? == ADMITTED);
    drop(maps);
    site.controller.restart()?;
    ensure!(bans(&site)?.is_empty() && next(&site, "10.1.1.7", SMTP)? == ADMITTED, "it must not come back");
    site.run("ban 10.1.1.7 --for 1h")?;
    ensure!(next(&site, "10.1.1.7", SMTP)? == BANNED, "a start clears the table");
    Ok(())
}

/// What a real client meets: connected, told at once that nobody listens, or left waiting.
fn connect(site: &Site, source: &str) -> Result<Option<ErrorKind>> {
    let client = client(ip(source), SMTP, Duration::from_secs(2));
    match site.wire.outside.enter(|| client.converse(Conversation::Connect))? {
        Ok(_) => Ok(None),
        Err(failure) => match failure.cause {
            Cause::Network(error) => Ok(Some(error.kind())),
            Cause::Refused(said) => anyhow::bail!("{said}"),
        },
    }
}

#[test]
fn only_those_named_may_connect_and_others_are_reset_or_dropped() -> Result<()> {
    let config = |deny: &str| {
        format!(
            "mode = \"enforce\"\ntrust = [\"10.3.0.0/24\"]\n[services.smtp]\n\
             only_from = [\"10.1.0.0/24\", \"2001:db8:1:1::/64\"]\ndeny = \"{deny}\"\n"
        )
    };
    let site = Site::configured(&config("reset"))?;
    let _server = Listener::start(&site.wire.gateway, SMTP)?;
    let _receives = Receiver::pass(site.wire.outside.path(), OUT)?;
    let refused = |source: &str, kind: ErrorKind| -> Result<()> {
        let met = connect(&site, source)?;
        ensure!(met == Some(kind), "{source} met {met:?}, not {kind}");
        Ok(())
    };
    for source in ["10.1.0.9", "10.3.0.9", "2001:db8:1:1::9"] {
        ensure!(connect(&site, source)?.is_none(), "{source} may connect");
    }
    refused("10.2.0.9", ErrorKind::ConnectionRefused)?;
    refused("2001:db8:1:2::9", ErrorKind::ConnectionRefused)?;
    let explained = site.controller.cli(&["explain", "10.2.0.9", "--service", "smtp"])?;
    ensure!(explained.stdout.contains("restricted") && explained.stdout.contains("only_from"), "{explained:?}");

    site.controller.write_config(&config("drop"))?;
    site.run("reload")?;
    refused("10.2.0.9", ErrorKind::TimedOut)?;
    Ok(())
}

/// A flood from outside gets at most a thousand resets a second, and a burst.
#[test]
fn resets_are_limited() -> Result<()> {
    let site = Site::configured("mode = \"enforce\"\n[services.smtp]\nonly_from = [\"10.1.0.0/24\"]\n")?;
    let receives = Receiver::count(site.wire.outside.path(), OUT)?;
    let sent: u32 = 20_000;
    let before = site.counters()?;
    let start = std::time::Instant::now();
    site.wire.attempt(ip("10.2.0.9"), SMTP, sent)?;
    let moved = site.settled(&before, u64::from(sent))?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(moved.of(Reason::Restricted) == u64::from(sent), "{moved}");
    thread::sleep(Duration::from_millis(100));
    let resets = receives.counts()?.tcp_v4;
    let most = 1000.0 * seconds + 100.0;
    ensure!(resets > 0 && resets as f64 <= most, "{resets} resets in {seconds:.2} s, at most {most:.0}");
    Ok(())
}

#[test]
fn an_own_address_is_never_blocked() -> Result<()> {
    let site = Site::configured("mode = \"enforce\"\nblock = [\"192.0.2.0/24\"]\n")?;
    let own: IpAddr = ip("192.0.2.1");
    let met = site.controller.json(&["explain", &own.to_string(), "--service", "smtp"])?;
    ensure!(met["services"][0]["reason"] == "admitted", "{met}");
    ensure!(next(&site, "192.0.2.9", SMTP)?.0 == Reason::Blocked);
    Ok(())
}

const BLOCKED: (Reason, bool) = (Reason::Blocked, false);

#[test]
fn the_gateway_and_the_resolvers_are_never_blocked() -> Result<()> {
    // The lab's namespaces share the machine's resolv.conf.
    let resolvers = Machine::look(&Config::default(), &BTreeMap::new())?.resolvers;
    let around: BTreeSet<String> = resolvers.iter().filter_map(|address| wider(*address)).collect();
    let blocked: Vec<String> = around.iter().map(|network| format!(", \"{network}\"")).collect();
    let site = Site::configured(&format!("mode = \"enforce\"\nblock = [\"192.0.2.0/24\"{}]\n", blocked.concat()))?;
    ensure!(next(&site, "192.0.2.2", SMTP)? == ADMITTED && next(&site, "192.0.2.9", SMTP)? == BLOCKED);
    for resolver in resolvers {
        ensure!(next(&site, &resolver.to_string(), SMTP)? == ADMITTED, "{resolver}");
    }
    let shown = site.run("block show --json")?;
    ensure!(shown.contains("192.0.2.2/32, a default gateway"), "{shown}");

    // Another gateway, noticed by the next minute at the latest.
    site.wire.gateway.ip("route replace default via 192.0.2.77")?;
    site.run("reload")?;
    ensure!(next(&site, "192.0.2.77", SMTP)? == ADMITTED && next(&site, "192.0.2.2", SMTP)? == BLOCKED);
    Ok(())
}

fn wider(address: IpAddr) -> Option<String> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    Some(ratelimit_user::config::Network::truncated(address, length)?.to_string())
}

#[test]
fn where_an_administrator_sits_is_never_blocked_or_banned() -> Result<()> {
    let mut site = Site::configured("mode = \"enforce\"\nblock = [\"203.0.113.0/24\"]\n")?;
    site.run("ban 10.7.0.0/16 --for 1h")?;
    ensure!(next(&site, "203.0.113.7", SMTP)? == BLOCKED);
    for peer in ["203.0.113.7", "::ffff:10.7.7.7", "nobody"] {
        let answered = site.controller.cli_over_ssh(peer, &["status"])?;
        ensure!(answered.status.success(), "{peer}: {answered:?}");
    }
    let is_spared = |site: &Site| -> Result<bool> {
        Ok(next(site, "203.0.113.7", SMTP)? == ADMITTED && next(site, "10.7.7.7", SMTP)? == ADMITTED)
    };
    ensure!(is_spared(&site)? && next(&site, "203.0.113.8", SMTP)? == BLOCKED);
    ensure!(bans(&site)?.is_empty(), "a ban that held the peer has ended");

    for (words, says) in [
        ("ban 203.0.113.0/24 --for 1h", "203.0.113.7/32, where an administrator's SSH connection comes from"),
        ("block add 203.0.113.7", "that is never blocked"),
        ("block add 192.0.2.2", "a default gateway"),
    ] {
        let said = site.refused(words, 1)?;
        ensure!(said.contains(says), "`{words}` said {said}");
    }
    let said = site.run("block add 10.7.0.0/16")?;
    ensure!(said.contains("never blocked") && said.contains("10.7.7.7/32"), "{said}");
    // The very first command of an administrator cannot lock him out either.
    let refused = site.controller.cli_over_ssh("198.51.100.9", &["ban", "198.51.100.9", "--for", "1h"])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("SSH connection"), "{refused:?}");
    site.controller.restart()?;
    ensure!(is_spared(&site)?, "it is remembered");
    Ok(())
}
