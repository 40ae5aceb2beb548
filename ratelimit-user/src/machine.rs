//! What the configuration does not say and the machine does.

use std::{collections::BTreeMap, fs, net::IpAddr, ops::RangeInclusive};

use crate::{
    config::{Config, fold_address},
    interface::{default_gateways, own_addresses, stations},
    sock_diag::{in_namespaces, listeners, namespace_cookie},
};

/// Lists are ascending, each address once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub own_addresses: Vec<IpAddr>,
    /// Of default routes.
    pub gateways: Vec<IpAddr>,
    /// The DNS servers that this machine asks.
    pub resolvers: Vec<IpAddr>,
    pub processors: u32,
    /// Interfaces and their hardware addresses.
    pub stations: Vec<(u32, [u8; 6])>,
    /// The cookie of this network namespace; 0 where the kernel tells none.
    pub namespace: u64,
    /// How many connections the listener on a port can hold, of those that were ever seen.
    pub backlogs: BTreeMap<u16, u32>,
}

impl Machine {
    /// Looks at the machine as it is now. A listener that is not there keeps the backlog it had `before`: mail servers are
    /// restarted.
    pub fn look(config: &Config, before: &BTreeMap<u16, u32>) -> anyhow::Result<Self> {
        let processors = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
        Ok(Self {
            own_addresses: own_addresses()?,
            gateways: default_gateways()?,
            resolvers: resolvers(|path| fs::read_to_string(path).unwrap_or_default()),
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            stations: stations()?,
            namespace: namespace_cookie().unwrap_or_else(|error| {
                tracing::debug!(%error, "the network namespace has no cookie; sockets of all are watched");
                0
            }),
            backlogs: backlogs(config, before),
        })
    }
}

/// How many connections the listener on each port can hold.
fn backlogs(config: &Config, before: &BTreeMap<u16, u32>) -> BTreeMap<u16, u32> {
    let ports: Vec<u16> = config.services.iter().flat_map(|service| service.listens_at()).copied().collect();
    let mut backlogs = before.clone();
    backlogs.retain(|port, _| ports.contains(port));
    let found = match in_namespaces(config.proof.namespaces, || listeners(&ports)) {
        Ok(found) => found.answers,
        Err(error) => {
            tracing::debug!(%error, "how many connections listeners can hold is not known");
            Vec::new()
        }
    };
    let mut now = BTreeMap::<u16, u32>::new();
    for listener in found.into_iter().flatten() {
        let least = now.entry(listener.address.port()).or_insert(listener.backlog);
        *least = listener.backlog.min(*least);
    }
    backlogs.extend(now);
    backlogs
}

const RESOLVERS: &str = "/etc/resolv.conf";
/// Those behind systemd's own resolver, which is at a loopback address.
const RESOLVERS_BEHIND: &str = "/run/systemd/resolve/resolv.conf";

fn resolvers(read: impl Fn(&str) -> String) -> Vec<IpAddr> {
    let mut resolvers = nameservers(&read(RESOLVERS));
    if resolvers.iter().all(IpAddr::is_loopback) {
        resolvers.extend(nameservers(&read(RESOLVERS_BEHIND)));
    }
    resolvers.retain(|address| !address.is_loopback());
    resolvers.sort_unstable();
    resolvers.dedup();
    resolvers
}

fn nameservers(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // A link-local one may name its interface behind a percent sign.
        address.split('%').next()?.parse().ok().map(fold_address)
    };
    text.lines().filter_map(address).collect()
}

/// Says which service ports this machine may also pick for its own outgoing connections: the answer to such
/// a connection is a SYN+ACK to a service port, which the gate refuses.
pub fn ephemeral_ports_warning(config: &Config) -> Option<String> {
    let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let picked = port_range(&read("ip_local_port_range"))?;
    let reserved = reserved_ports(&read("ip_local_reserved_ports"));
    let at_risk: Vec<String> = config
        .services
        .iter()
        .flat_map(|service| &service.ports)
        .filter(|port| picked.contains(port) && !reserved.iter().any(|range| range.contains(port)))
        .map(u16::to_string)
        .collect();
    (!at_risk.is_empty()).then(|| {
        let ports = at_risk.join(",");
        format!(
            "this machine may use port {ports} for its own outgoing connections, whose answers the gate would refuse; \
             reserve it: sysctl net.ipv4.ip_local_reserved_ports={ports}"
        )
    })
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace();
    Some(words.next()?.parse().ok()?..=words.next()?.parse().ok()?)
}

fn reserved_ports(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(port_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(port_range(""), None);
        assert_eq!(reserved_ports("4190,8000-8010\n"), vec![4190..=4190, 8000..=8010]);
        assert_eq!(reserved_ports("\n"), vec![]);
    }

    fn resolvers_of(first: &str, behind: &str) -> Vec<String> {
        let read = |path: &str| if path == RESOLVERS { first } else { behind }.to_owned();
        resolvers(read).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn resolvers_are_read_as_the_system_writes_them() {
        let text = "# by hand\nnameserver 192.0.2.53\nnameserver fe80::1%lan0\nnameserver 192.0.2.53\n\
                    search example\nnameserver\nnameserver one.example\n  nameserver ::ffff:192.0.2.9\n";
        assert_eq!(resolvers_of(text, "nameserver 198.51.100.53\n"), ["192.0.2.9", "192.0.2.53", "fe80::1"]);
    }

    #[test]
    fn behind_a_resolver_of_its_own_the_machine_asks_others() {
        let behind = "nameserver 198.51.100.53\n";
        for own in ["nameserver 127.0.0.53\noptions edns0\n", "nameserver 127.0.0.1\nnameserver ::1\n", ""] {
            assert_eq!(resolvers_of(own, behind), ["198.51.100.53"]);
        }
        assert!(resolvers_of("nameserver 127.0.0.1\n", "").is_empty());
    }
}
