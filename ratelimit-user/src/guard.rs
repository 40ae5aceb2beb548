//! What is never banned, whoever asks for it: this machine, and what it needs to be reached and to work.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    bans::BanError,
    config::{Config, Network},
    machine::Machine,
};

/// A network and what it is.
type Guarded = (Network, String);

/// Refuses a ban that would take in what is never banned.
pub fn check(network: Network, config: &Config, machine: &Machine) -> Result<(), BanError> {
    match never_banned(config, machine).into_iter().find(|(guarded, _)| guarded.overlaps(network)) {
        Some((guarded, what)) => Err(BanError::Guarded { network, guarded, what }),
        None => Ok(()),
    }
}

fn never_banned(config: &Config, machine: &Machine) -> Vec<Guarded> {
    let hosts = |addresses: Vec<IpAddr>, what: &'static str| {
        addresses.into_iter().map(move |address| (Network::host(address), what.to_owned()))
    };
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let loopback = [(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)];
    let loopback = loopback.into_iter().filter_map(|(address, length)| Network::truncated(address, length));
    let mut guarded: Vec<Guarded> = loopback.map(|network| (network, "this machine itself".to_owned())).collect();
    guarded.extend(hosts(machine.own_addresses.clone(), "an address of this machine"));
    guarded.extend(hosts(gateways(&read("/proc/net/route"), &read("/proc/net/ipv6_route")), "a default gateway"));
    guarded.extend(hosts(resolvers(&read("/etc/resolv.conf")), "a resolver of this machine"));
    let trusted = config.trust.iter().map(|entry| (entry.network, "a trusted network".to_owned()));
    guarded.extend(trusted);
    guarded
}

/// The gateways of default routes, as the kernel lists them.
fn gateways(v4: &str, v6: &str) -> Vec<IpAddr> {
    let of_v4 = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (destination, gateway) = (words.next()?, words.next()?);
        // In the machine's byte order.
        let gateway = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes());
        (destination == "00000000" && !gateway.is_unspecified()).then_some(IpAddr::V4(gateway))
    };
    let of_v6 = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, length, _, _, gateway, ..] = words.as_slice() else { return None };
        let gateway = Ipv6Addr::from_bits(u128::from_str_radix(gateway, 16).ok()?);
        (*length == "00" && !gateway.is_unspecified()).then_some(IpAddr::V6(gateway))
    };
    v4.lines().filter_map(of_v4).chain(v6.lines().filter_map(of_v6)).collect()
}

fn resolvers(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // A link-local one may name its interface behind a percent sign.
        address.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_and_resolvers_are_read_as_the_system_writes_them() {
        let v4 = "Iface\tDestination\tGateway \tFlags\n\
                  lan0\t00000000\t020200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  lan0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  20010db8000000000000000000000002 00000400 00000001 00000000 00000003 lan0\n\
                  20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 lan0\n";
        let expected: [IpAddr; 2] = ["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
        assert_eq!(gateways(v4, v6), expected);
        let text = "# by hand\nnameserver 192.0.2.53\nnameserver fe80::1%lan0\nsearch example\nnameserver\n";
        let expected: [IpAddr; 2] = ["192.0.2.53".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(resolvers(text), expected);
    }

    #[test]
    fn a_ban_that_takes_in_what_is_needed_is_refused_with_the_reason() {
        let config = Config::parse("trust = [\"10.0.0.0/8\"]", "test").unwrap().config;
        let machine = Machine { own_addresses: vec!["192.0.2.1".parse().unwrap()], processors: 1 };
        let said = |network: &str| check(network.parse().unwrap(), &config, &machine).unwrap_err().to_string();
        assert!(said("192.0.2.0/24").contains("192.0.2.1/32, an address of this machine"));
        assert!(said("10.1.2.3").contains("a trusted network"));
        assert!(said("127.0.0.1").contains("this machine itself"));
        assert!(check("198.51.100.7".parse().unwrap(), &config, &machine).is_ok());
    }
}
