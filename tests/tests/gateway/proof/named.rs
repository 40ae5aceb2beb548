//! Floods in the name of somebody who is there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::flood::{Flood, Pattern, RunningFlood};
use ratelimit_tests::gateway::{GATEWAY_V4, Listener, gateway_for, ip, is_long, net};
use ratelimit_tests::load::{Load, Running};
use ratelimit_user::config::Config;
use ratelimit_user::machine::Machine;
use serde_json::{Value, json};

use super::{BANNER, Field, HOUR, NAP, SMTP, SOON, connecting, ensure_nearly_all, honest, report};

const MAIL_SERVER: &str = "10.40.7.9";
const ITS_NETWORK: &str = "10.40.7.0/24";
/// What a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Shorter than any timer of TCP.
const PROMPT: Duration = Duration::from_millis(500);
/// Of the mail server: as many as its limit refills.
const CONNECTIONS_PER_S: f64 = 5.0;
/// More than the burst of a network, so that limits are used up from the start.
const PRELUDE: u64 = 4_000;
const PRELUDE_PER_S: u64 = 20_000;
const ALLOWED: &str = "10.60.0.0/16";
/// Each of its addresses belongs to the outside, whose kernel answers what it has not asked for.
const ALIVE: &str = "10.77.0.0/16";

fn seconds() -> u64 {
    if is_long() { 120 } else { 10 }
}

/// SYNs in the name of a proven mail server, or of all around it, and nothing else; it goes on connecting.
fn named(network: &str, per_second: u64) -> Result<()> {
    let field = Field::guarded("")?;
    let _listener = Listener::saying(BANNER, &field.wire.gateway, SMTP)?;
    let source = ip(MAIL_SERVER);
    field.prove(&[source])?;
    let flood = || field.wire.flood(SMTP, Pattern::round_robin([net(network)]), source);
    flood()?.rate(Some(PRELUDE_PER_S)).limit(PRELUDE, SOON).start()?.join()?;
    let before = field.counters()?;
    let running = flood()?.rate(Some(per_second)).limit(u64::MAX, HOUR).start()?;
    let count = seconds() * CONNECTIONS_PER_S as u64;
    let load = connecting(vec![source], GATEWAY_V4.into(), CONNECTIONS_PER_S, PATIENCE);
    let tally = Load { count: Some(count), ..load }.run(&field.wire.outside)?;
    running.stop();
    let flood = running.join()?;
    let moved = field.counters()?.since(&before);
    report(
        "forged in the name of a mail server",
        &json!({ "named": network, "per_second": per_second, "forged": flood.packets, "honest": honest(&tally),
            "challenged": moved.of(Reason::Challenged), "ticketed": moved.of(Reason::Ticketed) }),
    );
    ensure_nearly_all(&tally).with_context(|| format!("{per_second} a second for {network}\n{moved}"))?;
    // Else the limits would not have been met at all.
    ensure!(moved.of(Reason::Challenged) > 0 && moved.of(Reason::Ticketed) > 0, "nobody was asked\n{moved}");
    ensure!(field.bans()?.is_empty() && field.proof()?.proven == 1, "{:?}", field.proof()?);
    Ok(())
}

/// At the same time, each on a machine of its own.
#[test]
fn forged_syns_in_its_name_cost_a_mail_server_nothing() -> Result<()> {
    let cases = [(MAIL_SERVER, 5), (MAIL_SERVER, 50), (MAIL_SERVER, 5_000), (ITS_NETWORK, 5_000)];
    thread::scope(|scope| {
        let running = cases.map(|(named_as, per_second)| {
            let network = if named_as.contains('/') { named_as.to_owned() } else { format!("{named_as}/32") };
            scope.spawn(move || named(&network, per_second))
        });
        for case in running {
            case.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}

/// Networks of whom the gateway depends on, and of those who may always come.
fn claimed() -> Result<Vec<String>> {
    let machine = Machine::look(&Config::default(), &BTreeMap::new())?;
    let resolver = machine.resolvers.into_iter().find(IpAddr::is_ipv4).unwrap_or(ip("198.51.100.53"));
    Ok(vec![ITS_NETWORK.to_owned(), ALLOWED.to_owned(), format!("{resolver}/32"), "192.0.2.2/32".to_owned()])
}

#[test]
fn whatever_forged_syns_claim_nobody_is_banned_or_proven_by_them() -> Result<()> {
    let packets = if is_long() { 100_000_000 } else { 3_000_000 };
    let claimed = claimed()?;
    let field = Field::guarded(&format!("allow = [\"{ALLOWED}\"]\n"))?;
    let _listener = Listener::saying(BANNER, &field.wire.gateway, SMTP)?;
    let known: Vec<IpAddr> =
        (1..=20).flat_map(|host| [ip(&format!("10.40.7.{host}")), ip(&format!("10.60.{host}.7"))]).collect();
    let known: Vec<IpAddr> = known.into_iter().chain([ip("192.0.2.2")]).collect();
    field.prove(&known)?;
    let before = field.counters()?;
    let flood = field.far.syns(Pattern::random(claimed.iter().map(|network| net(network))))?;
    let (outcome, arrived) = (amid(&field, flood, |_| Ok(field.arrived()? >= packets), &known)?, field.arrived()?);
    let moved = field.counters()?.since(&before);
    report(
        "forged in the name of whom the gateway depends on",
        &json!({ "claimed": claimed, "forged": outcome.packets, "arrived": arrived, "honest": outcome.honest, "newcomers": outcome.newcomers,
            "challenged": moved.of(Reason::Challenged), "over_budget": moved.of(Reason::ChallengeRate) }),
    );
    let judged = moved.connections("smtp");
    ensure!(judged.passed + judged.dropped >= packets, "{arrived} frames came in\n{moved}");
    // Else their SYNs would have been lost to the limits, and only repetitions have come through.
    ensure!(outcome.slow <= PROMPT && moved.of(Reason::Challenged) > 0, "half took {:?}\n{moved}", outcome.slow);
    Ok(())
}

struct Outcome {
    packets: u64,
    /// What half of the connections took at most.
    slow: Duration,
    honest: Value,
    newcomers: Value,
}

/// A flood, and meanwhile connections of those that are known and of those that are not. Nobody is banned, and nobody proven
/// but who connects.
fn amid(
    field: &Field,
    flood: Flood,
    is_over: impl Fn(&RunningFlood) -> Result<bool>,
    known: &[IpAddr],
) -> Result<Outcome> {
    let before = field.proof()?;
    let flood = flood.start()?;
    thread::sleep(Duration::from_millis(500));
    // Never the same one twice.
    let strangers = |count: u32| -> Vec<IpAddr> {
        (0..count).map(|host| ip(&format!("10.{}.{}.7", 100 + host / 250, host % 250))).collect()
    };
    let loads = [
        connecting(known.to_vec(), GATEWAY_V4.into(), 10.0, SOON).start(&field.wire.outside)?,
        connecting(strangers(20_000), GATEWAY_V4.into(), 10.0, SOON).start(&field.wire.outside)?,
    ];
    while !is_over(&flood)? {
        thread::sleep(NAP);
    }
    flood.stop();
    let [honest_tally, new_tally] = loads.map(Running::stop);
    let packets = flood.join()?.packets;
    let after = field.proof()?;
    let slow = honest_tally.connect_quantile(0.5).max(new_tally.connect_quantile(0.5));
    let outcome = Outcome { packets, slow, honest: honest(&honest_tally), newcomers: honest(&new_tally) };
    for tally in [&honest_tally, &new_tally] {
        ensure_nearly_all(tally)?;
    }
    ensure!(field.bans()?.is_empty(), "{:?}", field.bans()?);
    let newly = after.proven - before.proven;
    // A client may have given up just when its handshake was complete.
    let came = new_tally.completed..=new_tally.attempts;
    ensure!(came.contains(&newly), "{newly} are proven anew, {} have connected", new_tally.completed);
    Ok(outcome)
}

/// Those named answer the challenges in earnest.
#[test]
fn forged_syns_in_the_name_of_live_addresses_prove_nobody() -> Result<()> {
    let (per_second, seconds) = if is_long() { (50_000, 60) } else { (20_000, 5) };
    for doubled in [false, true] {
        let field = Field::guarded("")?;
        let _listener = Listener::saying(BANNER, &field.wire.gateway, SMTP)?;
        let known: Vec<IpAddr> = (1..=20).map(|host| ip(&format!("10.41.{host}.7"))).collect();
        field.prove(&known)?;
        let before = field.counters()?;
        let flood = field.wire.flood(SMTP, Pattern::random([net(ALIVE)]), GATEWAY_V4.into())?;
        let flood = flood.rate(Some(per_second)).limit(u64::MAX, Duration::from_secs(seconds));
        let flood = if doubled { flood.doubled(Duration::from_secs(1)) } else { flood };
        let outcome = amid(&field, flood, |flood| Ok(flood.is_finished()), &known)?;
        let moved = field.counters()?.since(&before);
        report(
            "forged in the name of a network that answers",
            &json!({ "doubled": doubled, "forged": outcome.packets, "honest": outcome.honest,
                "newcomers": outcome.newcomers, "challenged": moved.of(Reason::Challenged),
                "answered": moved.of(Reason::Answered), "ticketed": moved.of(Reason::Ticketed) }),
        );
        let (challenged, answered) = (moved.of(Reason::Challenged), moved.of(Reason::Answered));
        ensure!(challenged > 0 && answered * 2 >= challenged, "nobody is alive\n{moved}");
        ensure!(!doubled || moved.of(Reason::Ticketed) > 1_000, "no forged SYN came twice\n{moved}");
    }
    Ok(())
}

/// IPv6 has no other rules.
#[test]
fn forged_syns_in_its_name_cost_a_mail_server_nothing_by_ipv6() -> Result<()> {
    let field = Field::guarded("")?;
    let _listener = Listener::saying(BANNER, &field.wire.gateway, SMTP)?;
    let source = ip("2001:db8:1:9::7");
    field.prove(&[source])?;
    let before = field.counters()?;
    let flood = field.wire.flood(SMTP, Pattern::random([net("2001:db8:1:9::/124")]), source)?;
    let flood = flood.rate(Some(5_000)).limit(u64::MAX, HOUR).start()?;
    let load = connecting(vec![source], gateway_for(source), CONNECTIONS_PER_S, PATIENCE);
    let tally = Load { count: Some(20), ..load }.run(&field.wire.outside)?;
    drop(flood);
    let moved = field.counters()?.since(&before);
    report("forged in the name of an IPv6 mail server", &json!({ "honest": honest(&tally) }));
    ensure_nearly_all(&tally)?;
    ensure!(moved.of(Reason::Ticketed) > 0 && field.proof()?.proven == 1, "nobody was asked\n{moved}");
    Ok(())
}
