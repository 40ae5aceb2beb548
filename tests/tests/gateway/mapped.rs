//! A listener in a namespace of its own, behind a port that nftables maps to it, as containers have them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::debian::DebianRoot;
use ratelimit_tests::gateway::{LAN, Site, Wire, eventually, gateway_for, ip};
use ratelimit_tests::netns::{End as Side, Namespace, veth};
use ratelimit_tests::open::{Listened, Open};
use ratelimit_tests::pairs::{Door, End, Pair};
use ratelimit_tests::process::Process;
use ratelimit_user::api::{Banned, Explanation};
use serde_json::json;

const CONFIG: &str = r#"
mode = "enforce"
[proof]
namespaces = "all"
[services.smtp]
listen_ports = [2525]
connections = 3
"#;
const SMTP: u16 = 25;
const INSIDE: Listened = Listened { port: 2525, service: "smtp", v6_source: 128 };
const RULES: &str = r#"
table inet lab {
    chain mapping {
        type nat hook prerouting priority dstnat
        iifname "lan0" meta nfproto ipv4 tcp dport 25 dnat ip to 198.51.100.2:2525
        iifname "lan0" meta nfproto ipv6 tcp dport 25 dnat ip6 to [2001:db8:b::2]:2525
    }
}
"#;
const SOON: Duration = Duration::from_secs(10);
const REFUSED: (Reason, bool) = (Reason::ConnectionCap, false);
const ADMITTED: (Reason, bool) = (Reason::Admitted, true);
/// Of networks that no other test has: the gate of one test sees the sockets of all that run.
const SOURCES: [&str; 2] = ["10.231.7.1", "2001:db8:1:e707::1"];
const OTHERS: [&str; 2] = ["10.231.7.2", "2001:db8:1:e708::1"];

/// A container behind a wire's gateway.
struct Container {
    inside: Namespace,
    /// A namespace without a process is nobody's, and nobody looks into it.
    _process: Process,
}

impl Container {
    fn behind(wire: &Wire) -> Result<Self> {
        let inside = Namespace::new("container")?;
        veth(
            Side { namespace: &wire.gateway, interface: "box0", addresses: &["198.51.100.1/24", "2001:db8:b::1/64"] },
            Side { namespace: &inside, interface: "eth0", addresses: &["198.51.100.2/24", "2001:db8:b::2/64"] },
            1500,
        )?;
        wire.gateway.sysctl("net.ipv4.ip_forward", "1")?;
        wire.gateway.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        inside.route("default", ip("198.51.100.1"))?;
        inside.route("default", ip("2001:db8:b::1"))?;
        let root = DebianRoot::new()?;
        root.command(&wire.gateway, "nft").args(["-f", "-"]).input(RULES).check(SOON).context(
            "this kernel maps no ports: it needs nf_tables with connection tracking (CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT)",
        )?;
        let process = inside.command("sleep").arg("600").spawn()?;
        Ok(Self { inside, _process: process })
    }

    fn door(&self, family: IpAddr) -> Result<Door> {
        let port = INSIDE.port;
        let at = match family {
            IpAddr::V4(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            IpAddr::V6(_) => SocketAddr::new(ip("2001:db8:b::2"), port),
        };
        Door::open(&self.inside, at, SocketAddr::new(gateway_for(family), SMTP))
    }

    /// Waits until the gate counts what is open inside for a source, and so many.
    fn agree(&self, site: &Site, source: &str, expected: u64) -> Result<()> {
        let mut seen = [0; 3];
        let agreed = eventually("the gate counts what is open inside", SOON, || {
            let open = Open::in_namespace(&self.inside, &[INSIDE])?;
            let told = [&open, &Open::counted(&site.controller.pins())?, &Open::shown(&site.controller)?]
                .map(|open| open.of("smtp", source));
            for (seen, told) in seen.iter_mut().zip(told) {
                *seen = told?;
            }
            Ok(seen == [expected; 3])
        });
        agreed.map(drop).with_context(|| format!("{source} should have {expected}: kernel, gate, controller: {seen:?}"))
    }
}

fn start(wire: Wire, config: &str) -> Result<Site> {
    let options = Options { config: Some(config.to_owned()), interfaces: vec![LAN.to_owned()], ..Options::default() };
    Ok(Site { controller: Controller::start(&wire.gateway, &options)?, wire })
}

fn is_proven(site: &Site, source: &str) -> Result<bool> {
    let explained: Explanation = serde_json::from_value(site.controller.json(&["explain", source])?)?;
    Ok(explained.proven.is_some())
}

#[test]
fn connections_of_a_mapped_listener_are_counted_and_capped_and_prove() -> Result<()> {
    let wire = Wire::new(1500)?;
    let container = Container::behind(&wire)?;
    let mut site = start(wire, CONFIG)?;
    for (source, other) in SOURCES.into_iter().zip(OTHERS) {
        let door = container.door(ip(source))?;
        for (number, end) in End::ALL.into_iter().filter(|end| is_possible(*end)).enumerate() {
            let mut pairs = door.pairs(&site.wire.outside, &[ip(source); 3])?;
            container.agree(&site, source, 3)?;
            let next = site.next(ip(source), SMTP)?;
            ensure!(next == REFUSED, "{source} has three: {next:?}");
            ensure!(site.next(ip(other), SMTP)? == ADMITTED, "{other} has none");
            if number == 0 {
                ensure!(is_proven(&site, source)? && !is_proven(&site, other)?, "who connected is proven");
            }
            end.of(&site.wire, pairs.split_off(2), &mut |_| Ok(()))?;
            container.agree(&site, source, 2).with_context(|| format!("{end:?}"))?;
            ensure!(site.next(ip(source), SMTP)? == ADMITTED, "{source} has two");
            end.of(&site.wire, pairs, &mut |_| Ok(()))?;
            container.agree(&site, source, 0).with_context(|| format!("{end:?}"))?;
        }
        outlives_the_controller(&mut site, &container, &door, source)?;
        is_killed(&site, &container, &door, source)?;
    }
    Ok(())
}

/// Those that need no more of the gateway than to forward.
fn is_possible(end: End) -> bool {
    match end {
        End::ClientFirst
        | End::ServerFirst
        | End::ClientReset
        | End::ServerReset
        | End::Simultaneous
        | End::HalfByClient
        | End::HalfByServer
        | End::Unread => true,
        End::Killed | End::Destroyed | End::Vanished | End::Reused => false,
    }
}

fn outlives_the_controller(site: &mut Site, container: &Container, door: &Door, source: &str) -> Result<()> {
    let mut pairs = door.pairs(&site.wire.outside, &[ip(source); 3])?;
    site.controller.restart()?;
    container.agree(site, source, 3)?;
    ensure!(site.next(ip(source), SMTP)? == REFUSED, "after a restart");
    site.controller.stop()?;
    site.controller.restart()?;
    container.agree(site, source, 3)?;
    ensure!(site.next(ip(source), SMTP)? == REFUSED, "they are older than the gate now");
    End::ServerFirst.of(&site.wire, pairs.split_off(2), &mut |_| Ok(()))?;
    container.agree(site, source, 2)?;
    End::ClientFirst.of(&site.wire, pairs, &mut |_| Ok(()))?;
    container.agree(site, source, 0)
}

fn is_killed(site: &Site, container: &Container, door: &Door, source: &str) -> Result<()> {
    let pairs = door.pairs(&site.wire.outside, &[ip(source); 2])?;
    let request = json!({ "network": source, "for": "1h", "kill": true });
    let banned: Banned = serde_json::from_value(site.controller.ask("POST", "/v1/bans", &request)?)?;
    ensure!(banned.killed == Some(2), "{banned:?}");
    for pair in &pairs {
        ensure!(pair.converse().is_err(), "{pair:?} goes on");
    }
    container.agree(site, source, 0)
}

#[test]
fn with_namespaces_host_the_connections_of_others_are_not_counted() -> Result<()> {
    let wire = Wire::new(1500)?;
    let container = Container::behind(&wire)?;
    let source = SOURCES[0];
    let door = container.door(ip(source))?;
    // One from before, which is no concern either.
    let older = door.pair(&wire.outside, ip(source))?;
    let site = start(wire, &CONFIG.replace("\"all\"", "\"host\""))?;
    let pairs = door.pairs(&site.wire.outside, &[ip(source); 4])?;
    pairs.iter().chain([&older]).try_for_each(Pair::converse)?;
    ensure!(Open::in_namespace(&container.inside, &[INSIDE])?.of("smtp", source)? == 5);
    ensure!(Open::counted(&site.controller.pins())?.total() == 0 && Open::shown(&site.controller)?.total() == 0);
    ensure!(site.next(ip(source), SMTP)? == ADMITTED && !is_proven(&site, source)?);
    Ok(())
}
