//! Interfaces, addresses and news of them, in throw-away namespaces; and what a machine must offer.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ratelimit_tests::netns::{Bpffs, End, Namespace, veth};
use ratelimit_user::interface::{AddressWatch, Interface, InterfaceError, default_route_interfaces, own_addresses};
use ratelimit_user::preflight;

fn connected() -> Result<(Namespace, Namespace)> {
    let (gateway, other) = (Namespace::new("gateway")?, Namespace::new("other")?);
    veth(
        End { namespace: &gateway, interface: "lan", addresses: &["192.0.2.1/24", "2001:db8::1/64"] },
        End { namespace: &other, interface: "wan", addresses: &["192.0.2.2/24"] },
        1500,
    )?;
    wait_for_link_local(&gateway)?;
    Ok((gateway, other))
}

/// The kernel adds this address by itself once the link is up, at a time of its own choosing.
fn wait_for_link_local(namespace: &Namespace) -> Result<()> {
    for _ in 0..500 {
        if namespace.enter(own_addresses)??.iter().any(is_link_local) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("no link-local address after five seconds")
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn refused(namespace: &Namespace, name: &str) -> Result<InterfaceError> {
    Ok(namespace.enter(|| Interface::find(name))?.unwrap_err())
}

#[test]
fn an_interface_is_described() -> Result<()> {
    let (gateway, _other) = connected()?;
    let lan = gateway.enter(|| Interface::find("lan"))??;
    assert_eq!((lan.name.as_str(), lan.mtu), ("lan", 1500));
    assert_eq!((lan.kind.as_deref(), lan.driver.as_deref()), (Some("veth"), Some("veth")));
    assert_eq!(lan.lower, None, "the peer of a veth is not below it");
    let mac = lan.mac.context("no address")?.map(|octet| format!("{octet:02x}")).join(":");
    assert_eq!(mac, gateway.mac("lan")?);

    gateway.ip("link add link lan name upper type macvlan")?;
    let upper = gateway.enter(|| Interface::find("upper"))??;
    assert_eq!((upper.kind.as_deref(), upper.lower.as_deref()), (Some("macvlan"), Some("lan")));
    Ok(())
}

#[test]
fn interfaces_that_cannot_be_judged_are_refused_with_the_reason() -> Result<()> {
    let (gateway, _other) = connected()?;
    let said = refused(&gateway, "lna")?.to_string();
    assert!(said.starts_with("there is no interface \"lna\", did you mean \"lan\"?; this machine has lo"), "{said}");
    assert!(matches!(refused(&gateway, "")?, InterfaceError::Unknown { nearest: None, .. }));

    gateway.ip("tuntap add dev vpn mode tun")?;
    let said = refused(&gateway, "vpn")?.to_string();
    assert!(said.contains("\"vpn\" (tun) has no Ethernet headers"), "{said}");
    assert!(said.contains("name the physical interface"), "{said}");

    gateway.ip("tuntap add dev tap0 mode tap")?;
    gateway.enter(|| Interface::find("tap0"))??;
    assert!(matches!(refused(&gateway, "lo")?, InterfaceError::Loopback { .. }));
    Ok(())
}

#[test]
fn the_interfaces_with_a_default_route_are_found() -> Result<()> {
    let (gateway, _other) = connected()?;
    let error = gateway.enter(default_route_interfaces)?.unwrap_err();
    assert!(matches!(error, InterfaceError::NoDefaultRoute), "{error}");
    assert!(error.to_string().contains("name the interfaces"), "{error}");

    gateway.ip("route add default via 192.0.2.2 table 100")?;
    gateway.ip("-6 route add unreachable default metric 4000")?;
    assert!(gateway.enter(default_route_interfaces)?.is_err());

    gateway.ip("-6 route add default via 2001:db8::2")?;
    assert_eq!(gateway.enter(default_route_interfaces)??, ["lan"]);
    gateway.ip("route add default via 192.0.2.2")?;
    assert_eq!(gateway.enter(default_route_interfaces)??, ["lan"], "each interface once");

    gateway.ip("-6 route delete default via 2001:db8::2")?;
    gateway.ip("route delete default via 192.0.2.2")?;
    gateway.ip("link add two type veth peer name three")?;
    gateway.ip("link set two up")?;
    gateway.ip("link set three up")?;
    gateway.ip("address add 198.51.100.1/24 dev two")?;
    gateway.ip("route add default nexthop via 192.0.2.2 nexthop via 198.51.100.2")?;
    let mut both = gateway.enter(default_route_interfaces)??;
    both.sort();
    assert_eq!(both, ["lan", "two"]);
    Ok(())
}

#[test]
fn own_addresses_are_all_but_loopback() -> Result<()> {
    let (gateway, _other) = connected()?;
    gateway.ip("address add 203.0.113.9/32 dev lo")?;
    let addresses = gateway.enter(own_addresses)??;
    for own in ["192.0.2.1", "2001:db8::1", "203.0.113.9"] {
        assert!(addresses.contains(&own.parse()?), "{own}: {addresses:?}");
    }
    assert!(addresses.iter().any(is_link_local), "{addresses:?}");
    assert!(!addresses.iter().any(IpAddr::is_loopback), "{addresses:?}");
    Ok(())
}

#[test]
fn the_watch_wakes_for_what_changes_and_for_nothing_else() -> Result<()> {
    let (gateway, _other) = connected()?;
    gateway.enter(|| -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(watch(&gateway))
    })?
}

async fn watch(gateway: &Namespace) -> Result<()> {
    const SOON: Duration = Duration::from_secs(1);
    const QUIET: Duration = Duration::from_millis(400);
    let mut watch = AddressWatch::new();
    assert!(watch.is_subscribed());
    assert!(tokio::time::timeout(QUIET, watch.changed()).await.is_err(), "nothing has changed");
    for change in [
        "address add 192.0.2.9/24 dev lan",
        "-6 address add 2001:db8::9/64 dev lan nodad",
        "address delete 192.0.2.9/24 dev lan",
        "link add two type veth peer name three",
        "link delete two",
    ] {
        gateway.ip(change)?;
        tokio::time::timeout(SOON, watch.changed()).await.with_context(|| format!("no news of: {change}"))?;
        assert!(tokio::time::timeout(QUIET, watch.changed()).await.is_err(), "{change}: one piece of news, not two");
    }

    gateway.ip("link set lan mtu 1400")?;
    assert!(tokio::time::timeout(QUIET, watch.changed()).await.is_err(), "no address has changed");

    gateway.ip("address add 192.0.2.10/24 dev lan")?;
    assert!(tokio::time::timeout(Duration::from_millis(20), watch.changed()).await.is_err(), "not before the debounce");
    tokio::time::timeout(SOON, watch.changed()).await.context("news is lost when a waiting future is dropped")?;
    Ok(())
}

#[test]
fn the_preflight_makes_the_directory_for_pins() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pins = bpffs.path().join("ratelimit");
    preflight::check(&pins)?;
    preflight::check(&pins)?;
    assert_eq!(std::fs::metadata(&pins)?.permissions().mode() & 0o777, 0o700);

    let elsewhere = std::env::temp_dir().join("ratelimit-pins");
    let said = preflight::check(&elsewhere).unwrap_err().to_string();
    assert!(said.contains("mount -t bpf bpf "), "{said}");
    assert!(!elsewhere.exists());
    Ok(())
}
