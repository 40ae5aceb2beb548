//! What the configuration does not say and the machine does.

use std::{fs, net::IpAddr, ops::RangeInclusive};

use crate::{config::Config, interface::own_addresses};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Ascending.
    pub own_addresses: Vec<IpAddr>,
    pub processors: u32,
}

impl Machine {
    /// Looks at the machine as it is now.
    pub fn look() -> anyhow::Result<Self> {
        let processors = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
        let mut own_addresses = own_addresses()?;
        own_addresses.sort_unstable();
        own_addresses.dedup();
        Ok(Self { own_addresses, processors: u32::try_from(processors).unwrap_or(u32::MAX) })
    }
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
}
