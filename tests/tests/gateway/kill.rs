//! A ban that ends what is open, and one that does not.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ratelimit_tests::clients::{Cause, Stage};
use ratelimit_tests::gateway::{Site, client, gateway_for, ip};
use ratelimit_tests::open::agree_and_show;
use ratelimit_tests::pairs::{Door, Pair, end_of};
use ratelimit_tests::servers::{Extra, MailServer};
use ratelimit_user::api::Banned;
use serde_json::json;

const ENFORCE: &str = "mode = \"enforce\"\n";
const TIMEOUT: Duration = Duration::from_secs(30);
/// For what happens at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Bans for an hour; says how many connections that has ended.
fn ban(site: &Site, network: &str, services: &[&str], kill: bool) -> Result<Option<u64>> {
    let request = json!({ "network": network, "for": "1h", "services": services, "kill": kill });
    let banned: Banned = serde_json::from_value(site.controller.ask("POST", "/v1/bans", &request)?)?;
    Ok(banned.killed)
}

fn pair(site: &Site, door: &Door, source: &str) -> Result<Pair> {
    let pair = door.pair(&site.wire.outside, ip(source))?;
    pair.converse()?;
    Ok(pair)
}

/// Both ends are told at once.
fn is_ended(pair: &Pair) -> Result<()> {
    let start = Instant::now();
    let told = (end_of(&pair.client)?, end_of(&pair.server)?);
    ensure!(told == (Some(libc::ECONNRESET), Some(libc::ECONNABORTED)), "{pair:?} was told {told:?}");
    ensure!(start.elapsed() < AT_ONCE, "{pair:?} was told after {:?}", start.elapsed());
    Ok(())
}

#[test]
fn a_ban_ends_open_connections_of_its_network_only_if_it_is_to() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    let door = |at: IpAddr, family: &str, port| {
        let to = SocketAddr::new(gateway_for(ip(family)), port);
        Door::open(&site.wire.gateway, SocketAddr::new(at, port), to)
    };
    let smtp = door(gateway_for(ip("10.0.0.1")), "10.0.0.1", 25)?;
    let submission = door(Ipv6Addr::UNSPECIFIED.into(), "10.0.0.1", 587)?;
    let imap = door(gateway_for(ip("::1")), "::1", 143)?;

    let of_one = [pair(&site, &smtp, "10.81.0.1")?, pair(&site, &smtp, "10.81.0.1")?];
    let mapped = pair(&site, &submission, "10.81.0.1")?;
    let neighbour = pair(&site, &smtp, "10.81.0.2")?;
    let stranger = pair(&site, &smtp, "10.82.0.1")?;
    let v6 = [pair(&site, &imap, "2001:db8:1:81::1")?, pair(&site, &imap, "2001:db8:1:81::2")?];
    let v6_stranger = pair(&site, &imap, "2001:db8:1:82::1")?;

    ensure!(ban(&site, "10.81.0.1", &[], false)?.is_none());
    let all = || of_one.iter().chain(&v6).chain([&mapped, &neighbour, &stranger, &v6_stranger]);
    all().try_for_each(Pair::converse).context("a ban alone ended a connection")?;

    ensure!(ban(&site, "10.81.0.1", &["submission"], true)? == Some(1), "one to submission");
    is_ended(&mapped)?;
    of_one.iter().try_for_each(Pair::converse).context("the ban was about submission alone")?;
    ensure!(ban(&site, "10.81.0.1", &[], true)? == Some(2), "two to smtp");
    of_one.iter().try_for_each(is_ended)?;
    neighbour.converse()?;
    ensure!(ban(&site, "10.81.0.0/24", &[], true)? == Some(1), "the rest of the network");
    is_ended(&neighbour)?;
    ensure!(ban(&site, "10.81.0.0/24", &[], true)? == Some(0), "there is nothing more");

    ensure!(ban(&site, "2001:db8:1:81::1", &[], true)? == Some(1), "one address");
    is_ended(&v6[0])?;
    v6[1].converse()?;
    ensure!(ban(&site, "2001:db8:1:81::/64", &[], true)? == Some(1), "its network");
    is_ended(&v6[1])?;
    [&stranger, &v6_stranger].into_iter().try_for_each(Pair::converse).context("strangers go on")?;
    agree_and_show(&site.wire.gateway, &site.controller, 2)
}

/// Somebody else delivers his message meanwhile.
#[test]
fn a_killing_ban_cuts_a_message_and_leaves_the_others() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    let server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    for (number, (banned, other)) in
        [("10.81.0.1", "10.81.0.2"), ("2001:db8:1:81::1", "2001:db8:1:81::2")].into_iter().enumerate()
    {
        let (mut killed, mut delivered) = (None, None);
        let outcome = site.wire.outside.enter(|| {
            client(ip(banned), 25, TIMEOUT).deliver(|| {
                delivered =
                    Some(client(ip(other), 25, TIMEOUT).deliver(|| killed = Some(ban(&site, banned, &[], true))));
            })
        })?;
        ensure!(killed.context("nobody was banned")?? == Some(1), "one message was under way");
        delivered.context("nobody delivered")?.with_context(|| format!("{other} was not banned"))?;
        let Err(failure) = outcome else { bail!("{banned} delivered its message") };
        ensure!(failure.stage == Stage::Message && matches!(failure.cause, Cause::Network(_)), "{failure}");
        server.wait_delivered(number + 1, TIMEOUT)?;
    }
    ensure!(server.delivered()? == 2);
    Ok(())
}
