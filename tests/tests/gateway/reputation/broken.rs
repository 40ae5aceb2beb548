//! Every way in which a zone or a resolver breaks: nobody is hindered for it, it is said what is wrong, and it comes back by
//! itself.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::dns::{Impostor, Names, Rbldnsd, SERVERS, Says, Unbound};
use ratelimit_tests::gateway::eventually;
use ratelimit_user::api::ListingView;
use serde_json::Value;

use super::{Place, dnsbl, honest, listed, name_of};

const QUICK: &str = "threshold = 1\ntimeout = \"400ms\"\ntest_every = \"30s\"\n";
/// Between two questions about what no list may hold.
const CONTROL: Duration = Duration::from_secs(11);
/// A test every half minute, and what it takes.
const TESTED: Duration = Duration::from_secs(45);
const FRESH: u8 = 8;

/// What a zone says from some moment on, and what is then said of it; an empty text where it goes on well.
fn ways() -> Vec<(&'static str, Says, &'static [&'static str])> {
    let everybody = |record: [u8; 4]| Says::Everybody(vec![Ipv4Addr::from(record)]);
    vec![
        ("servfail.test", Says::Code(2), &["SERVFAIL"]),
        ("refused.test", Says::Code(5), &["REFUSED", "does not answer"]),
        ("silent.test", Says::Nothing, &["no answer within 400 ms", "check that the resolver"]),
        ("garbage.test", Says::Garbage, &["no answer"]),
        ("othername.test", Says::OfAnotherName, &["127.0.0.2 is not listed"]),
        ("otherid.test", Says::UnderAnotherId, &["no answer"]),
        ("toolarge.test", Says::DoesNotFit, &["no answer"]),
        ("outside.test", everybody([203, 0, 113, 1]), &["203.0.113.1 is outside of 127.0.0.0/8", "broken or expired"]),
        ("typo.test", everybody([127, 255, 255, 252]), &["127.255.255.252", "typing error"]),
        ("public.test", everybody([127, 255, 255, 254]), &["127.255.255.254", "own resolver", "PTR record", "key"]),
        ("toomany.test", everybody([127, 255, 255, 255]), &["127.255.255.255", "ask for less"]),
        ("world.test", everybody([127, 0, 0, 2]), &["lists 127.0.0.1, which no list may"]),
        ("hundred.test", Says::ListsOverTcp, &["100 records"]),
        ("empty.test", Says::Lists, &["127.0.0.2 is not listed", "empty"]),
    ]
}

#[test]
fn whatever_breaks_hinders_nobody_is_said_and_comes_back() -> Result<()> {
    let ways = ways();
    let zones: Vec<&str> = ways.iter().map(|(zone, _, _)| *zone).collect();
    let (place, impostor) = Place::with_impostor(QUICK, &zones)?;
    thread::sleep(CONTROL);
    let sources: Vec<IpAddr> = (1..=FRESH).map(|last| IpAddr::from([10, 68, 0, last])).collect();
    for (zone, says, _) in &ways {
        impostor.say(zone, says.clone());
    }
    let hundred: Vec<String> = (0..100).map(|last| format!("127.0.1.{last}")).collect();
    let hundred: Vec<&str> = hundred.iter().map(String::as_str).collect();
    for source in &sources {
        impostor.list("othername.test", *source, &["127.0.0.2"], 300);
        impostor.list("hundred.test", *source, &hundred, 300);
    }
    let test_entry = IpAddr::from([127, 0, 0, 2]);
    impostor.delist("empty.test", test_entry);
    impostor.list("hundred.test", test_entry, &hundred, 300);

    for source in &sources {
        ensure!(place.connects_of(*source, 25, 8)? == 8, "{source} is hindered; {:#?}", place.view()?);
    }
    for (zone, _, wanted) in &ways {
        let name = name_of(zone);
        eventually(&format!("{zone} is in trouble"), TESTED, || Ok(place.zone(&name)?.trouble.is_some()))?;
        let trouble = place.zone(&name)?.trouble.unwrap_or_default();
        ensure!(wanted.iter().all(|wanted| trouble.contains(wanted)), "{zone}: {trouble}");
        let status = place.site.run("status")?;
        ensure!(status.contains(&trouble), "{trouble} is not in\n{status}");
    }
    for source in &sources {
        ensure!(place.connects_of(*source, 25, 8)? == 8, "{source} is hindered; {:#?}", place.view()?);
    }
    ensure!(place.view()?.in_force == 0);

    for (zone, _, _) in &ways {
        impostor.say(zone, Says::Lists);
    }
    for mended in ["empty.test", "hundred.test"] {
        impostor.list(mended, test_entry, &["127.0.0.2"], 300);
    }
    place.wait_until_well()?;
    impostor.list("servfail.test", listed(), &["127.0.0.2"], 300);
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 4)? == 3, "what works acts again");
    Ok(())
}

#[test]
fn odd_answers_are_read_and_times_to_live_are_held_to_bounds() -> Result<()> {
    let zones = ["tcp.test", "alias.test", "never.test", "forever.test"];
    let (place, impostor) = Place::with_impostor("threshold = 1\n", &zones)?;
    impostor.say("tcp.test", Says::ListsOverTcp);
    impostor.say("alias.test", Says::ByAlias);
    let source = |last: u8| IpAddr::from([10, 69, 0, last]);
    impostor.list("tcp.test", source(1), &["127.0.0.2"], 300);
    impostor.list("alias.test", source(2), &["127.0.0.4", "127.0.0.10"], 300);
    impostor.list("never.test", source(3), &["127.0.0.2"], 0);
    impostor.list("forever.test", source(4), &["127.0.0.2"], 30 * 365 * 86_400);
    for (last, within) in [(1, 290..=300), (2, 290..=300), (3, 50..=60), (4, 3590..=3600)] {
        place.arrive(source(last), 25)?;
        let listing = listing(&place, source(last))?.with_context(|| format!("{} is not listed", source(last)))?;
        ensure!(within.contains(&listing.rest_s), "{listing:?}");
        ensure!(place.connects_of(source(last), 25, 4)? == 3);
    }
    let of_two = listing(&place, source(2))?.context("it is listed")?;
    ensure!(of_two.because.contains("127.0.0.4") && of_two.because.contains("127.0.0.10"), "{of_two:?}");
    Ok(())
}

fn listing(place: &Place, source: IpAddr) -> Result<Option<ListingView>> {
    let explained =
        place.site.controller.ask("GET", &format!("/v1/explain?address={source}&service=smtp"), &Value::Null)?;
    Ok(serde_json::from_value(explained["services"][0]["listing"].clone())?)
}

#[test]
fn a_resolver_that_dies_hinders_nobody_and_what_was_known_holds_until_it_is_back() -> Result<()> {
    let lines = "$SOA 300 bl.test. admin.bl.test. 1 3600 600 86400 300\n$TTL 300\n:127.0.0.4:spam\n127.0.0.2\n10.66.0.1\n10.70.0.0/24\n";
    let mut servers = None;
    let config = format!("{QUICK}{}{}", Names::resolver(SERVERS[0]), dnsbl("bl.test", ""));
    let place = Place::new(&config, |names| {
        let rbldnsd = Rbldnsd::start(names, SERVERS[1], &[("bl.test", "ip4set", lines)])?;
        servers = Some((rbldnsd, Unbound::start(names, SERVERS[0], &[("bl.test", SERVERS[1])])?));
        Ok(())
    })?;
    let (_rbldnsd, unbound) = servers.context("no servers were started")?;
    place.wait_until_well()?;
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 4)? == 3);

    unbound.kill()?;
    for last in 1..=FRESH {
        ensure!(place.connects_of(IpAddr::from([10, 70, 0, last]), 25, 6)? == 6, "nobody knows that it is listed");
    }
    let trouble = || -> Result<Option<String>> { Ok(place.zone("bl-test")?.trouble) };
    eventually("it is said", TESTED, || Ok(trouble()?.is_some()))?;
    let said = trouble()?.unwrap_or_default();
    ensure!(said.contains("check that"), "{said}");
    ensure!(!place.connects(listed(), 25)?, "what was answered before holds for its time");
    ensure!(place.connects_of(honest(), 25, 6)? == 6);

    let _unbound = Unbound::start(&place.names, SERVERS[0], &[("bl.test", SERVERS[1])])?;
    place.wait_until_well()?;
    let late = IpAddr::from([10, 70, 0, 99]);
    place.arrive(late, 25)?;
    ensure!(place.connects_of(late, 25, 4)? == 3);
    Ok(())
}

#[test]
fn of_two_resolvers_one_is_asked_and_the_other_where_that_does_not_answer() -> Result<()> {
    let mut servers = None;
    let resolvers = format!("resolvers = [\"{}\", \"{}\"]\n", SERVERS[0], SERVERS[1]);
    let place = Place::new(&format!("threshold = 1\n{resolvers}{}", dnsbl("bl.test", "")), |names| {
        let both = (Impostor::start(names, SERVERS[0])?, Impostor::start(names, SERVERS[1])?);
        for impostor in [&both.0, &both.1] {
            impostor.zone("bl.test");
            impostor.list("bl.test", listed(), &["127.0.0.2"], 300);
        }
        servers = Some(both);
        Ok(())
    })?;
    place.wait_until_well()?;
    let (one, other) = servers.context("no servers were started")?;
    place.arrive(honest(), 25)?;
    ensure!(one.asked_about("bl.test", honest()) + other.asked_about("bl.test", honest()) == 1, "one question is one");
    one.say("bl.test", Says::Nothing);
    place.arrive(listed(), 25)?;
    ensure!(place.connects_of(listed(), 25, 4)? == 3, "the other one answers");
    Ok(())
}

#[test]
fn the_resolver_of_the_machine_is_asked_where_none_is_named() -> Result<()> {
    // In the namespace of the gateway, whatever the machine's own /etc/resolv.conf says is not reachable: it is said.
    let place = Place::new(&format!("timeout = \"300ms\"\n{}", dnsbl("bl.test", "")), |_| Ok(()))?;
    eventually("it is said", TESTED, || {
        let trouble = place.zone("bl-test")?.trouble.unwrap_or_default();
        Ok(trouble.contains("check") || trouble.contains("name some with `resolvers`"))
    })?;
    ensure!(place.connects_of(honest(), 25, 6)? == 6);
    Ok(())
}

#[test]
fn nobody_is_asked_where_nothing_is_configured() -> Result<()> {
    let mut impostor = None;
    let place = Place::new(&Names::resolver(SERVERS[0]), |names| {
        impostor = Some(Impostor::start(names, SERVERS[0])?);
        Ok(())
    })?;
    ensure!(place.connects_of(listed(), 25, 6)? == 6);
    thread::sleep(Duration::from_secs(2));
    ensure!(place.view()?.handshakes == 0, "handshakes are not even told");
    ensure!(impostor.context("an impostor")?.asked_in_all("test") == 0);
    Ok(())
}
