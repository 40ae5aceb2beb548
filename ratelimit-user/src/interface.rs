//! The interfaces of this network namespace, their addresses, and news of both.

mod driver;
mod gateway;
pub(crate) mod netlink;
mod watch;

use std::{fmt, net::IpAddr};

pub use gateway::default_gateways;
pub use netlink::NetlinkError;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage},
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
pub use watch::AddressWatch;

use crate::config::Network;

/// An interface whose frames the gate can judge: one with Ethernet headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub mtu: u32,
    /// `veth`, `vlan`, `bond` and the like; `None` for a network card.
    pub kind: Option<String>,
    /// What `ethtool -i` calls the driver.
    pub driver: Option<String>,
    pub mac: Option<[u8; 6]>,
    /// The interface this one lies on (a VLAN's card), where that is in this network namespace.
    pub lower: Option<String>,
}

/// The indices and hardware addresses of all interfaces that have one, ascending.
pub fn stations() -> Result<Vec<(u32, [u8; 6])>, InterfaceError> {
    let list = |source| InterfaceError::Netlink { action: "list interfaces".to_owned(), source };
    let links = netlink::links().map_err(list)?;
    let mut stations: Vec<(u32, [u8; 6])> =
        links.iter().filter_map(|link| Some((link.header.index, mac_of(link)?))).collect();
    stations.sort_unstable();
    Ok(stations)
}

/// Why an interface cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    #[error("there is no interface \"{name}\"{}; this machine has {}", suggestion(.nearest.as_deref()), .existing.join(", "))]
    Unknown { name: String, nearest: Option<String>, existing: Vec<String> },
    #[error(
        "\"{name}\" is the loopback interface: traffic of this machine to itself is never judged; \
         name the interface that mail arrives on"
    )]
    Loopback { name: String },
    #[error(
        "\"{name}\" ({kind}) has no Ethernet headers, so the gate cannot read its packets; name the physical interface \
         that mail arrives on (what arrives only inside a tunnel cannot be judged)"
    )]
    NotEthernet { name: String, kind: String },
    #[error(
        "no interface has a default route in the main routing table: name the interfaces, `interfaces = [\"eth0\"]`"
    )]
    NoDefaultRoute,
    #[error("cannot {action}: {source}")]
    Netlink { action: String, source: NetlinkError },
    #[error("cannot list the addresses of this machine: {0}")]
    Addresses(#[from] nix::Error),
}

impl Interface {
    /// The interface of this name, if the gate can judge its frames.
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let links = netlink::links()
            .map_err(|source| InterfaceError::Netlink { action: "list the interfaces".into(), source })?;
        let Some(link) = links.iter().find(|link| name_of(link) == Some(name)) else {
            return Err(unknown(name, &links));
        };
        let kind = kind_of(link);
        match link.header.link_layer_type {
            LinkLayerType::Ether => {}
            LinkLayerType::Loopback => return Err(InterfaceError::Loopback { name: name.into() }),
            other => {
                let kind = kind.unwrap_or_else(|| format!("{other:?}").to_lowercase());
                return Err(InterfaceError::NotEthernet { name: name.into(), kind });
            }
        }
        Ok(Self {
            name: name.into(),
            index: link.header.index,
            mtu: attribute(link, |it| if let LinkAttribute::Mtu(mtu) = it { Some(*mtu) } else { None }).unwrap_or(0),
            kind,
            driver: driver::of(name),
            mac: mac_of(link),
            lower: lower_of(link, &links),
        })
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The interfaces with a default route, IPv4 or IPv6, of the main table; at least one.
pub fn default_route_interfaces() -> Result<Vec<String>, InterfaceError> {
    let failed = |source| InterfaceError::Netlink { action: "list the routes".into(), source };
    let mut indexes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        for answer in netlink::dump(RouteNetlinkMessage::GetRoute(question)).map_err(failed)? {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                indexes.extend(default_route(&route));
            }
        }
    }
    let links = netlink::links().map_err(failed)?;
    let names: Vec<String> = links
        .iter()
        .filter(|link| indexes.contains(&link.header.index))
        .filter_map(|link| name_of(link).map(str::to_owned))
        .collect();
    if names.is_empty() { Err(InterfaceError::NoDefaultRoute) } else { Ok(names) }
}

/// All addresses of this network namespace, link-local ones included, 127.0.0.0/8 and ::1 excepted; sorted.
pub fn own_addresses() -> Result<Vec<IpAddr>, InterfaceError> {
    let mut addresses: Vec<IpAddr> = nix::ifaddrs::getifaddrs()?
        .filter_map(|entry| ip(&entry.address?))
        .filter(|address| !address.is_loopback())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The networks that this machine's own addresses are in, those of loopback and link-local ones excepted.
pub fn own_networks() -> Result<Vec<Network>, InterfaceError> {
    let network = |entry: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (ip(&entry.address?)?, ip(&entry.netmask?)?);
        let length = match mask {
            IpAddr::V4(mask) => mask.to_bits().leading_ones(),
            IpAddr::V6(mask) => mask.to_bits().leading_ones(),
        };
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if address.is_loopback() || is_link_local {
            return None;
        }
        Network::truncated(address, u8::try_from(length).ok()?)
    };
    let mut networks: Vec<Network> = nix::ifaddrs::getifaddrs()?.filter_map(network).collect();
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        (None, None) => None,
    }
}

/// The interfaces a route leads to, if it is a default route of the main table that forwards.
fn default_route(route: &RouteMessage) -> Vec<u32> {
    let main = route.header.table == RouteHeader::RT_TABLE_MAIN;
    if !main || route.header.destination_prefix_length != 0 || route.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut indexes = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => indexes.push(*index),
            RouteAttribute::MultiPath(hops) => indexes.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    indexes
}

fn unknown(name: &str, links: &[LinkMessage]) -> InterfaceError {
    let existing: Vec<String> = links.iter().filter_map(name_of).map(str::to_owned).collect();
    let nearest = nearest(name, &existing).map(str::to_owned);
    InterfaceError::Unknown { name: name.into(), nearest, existing }
}

/// The existing name that was probably meant.
fn nearest<'a>(name: &str, existing: &'a [String]) -> Option<&'a str> {
    const ALIKE: f64 = 0.6;
    existing
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate.as_str()))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default()
}

fn attribute<'a, T>(link: &'a LinkMessage, pick: impl Fn(&'a LinkAttribute) -> Option<T>) -> Option<T> {
    link.attributes.iter().find_map(pick)
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    attribute(link, |it| if let LinkAttribute::IfName(name) = it { Some(name.as_str()) } else { None })
}

fn kind_of(link: &LinkMessage) -> Option<String> {
    let infos = attribute(link, |it| if let LinkAttribute::LinkInfo(infos) = it { Some(infos) } else { None })?;
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

fn mac_of(link: &LinkMessage) -> Option<[u8; 6]> {
    attribute(link, |it| if let LinkAttribute::Address(octets) = it { octets.as_slice().try_into().ok() } else { None })
}

/// A veth also names a link, its peer, but that is beside it, not below; an index of another namespace means nothing here.
fn lower_of(link: &LinkMessage, links: &[LinkMessage]) -> Option<String> {
    let elsewhere = link.attributes.iter().any(|it| matches!(it, LinkAttribute::LinkNetNsId(_)));
    if elsewhere || kind_of(link).as_deref() == Some("veth") {
        return None;
    }
    let index = attribute(link, |it| if let LinkAttribute::Link(index) = it { Some(*index) } else { None })?;
    let lower = links.iter().find(|other| other.header.index == index && index != link.header.index)?;
    name_of(lower).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_mistyped_name_finds_the_one_that_was_meant() {
        let existing = names(&["lo", "eth0", "enp3s0", "wg0"]);
        assert_eq!(nearest("eht0", &existing), Some("eth0"));
        assert_eq!(nearest("enp0s3", &existing), Some("enp3s0"));
        assert_eq!(nearest("ol", &names(&["lo"])), None);
        assert_eq!(nearest("lna", &names(&["lo", "lan"])), Some("lan"));
        assert_eq!(nearest("ETH", &existing), None);
        assert_eq!(nearest("", &existing), None);
    }

    #[test]
    fn the_error_for_an_unknown_name_lists_the_existing_ones() {
        let error = InterfaceError::Unknown {
            name: "eht0".into(),
            nearest: Some("eth0".into()),
            existing: names(&["lo", "eth0"]),
        };
        let said = error.to_string();
        assert_eq!(said, r#"there is no interface "eht0", did you mean "eth0"?; this machine has lo, eth0"#);
    }

    #[test]
    fn loopback_is_refused_with_its_reason() {
        let said = Interface::find("lo").unwrap_err().to_string();
        assert!(said.contains("never judged"), "{said}");
    }

    pub(super) fn route(table: u8, prefix: u8, kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.table = table;
        route.header.destination_prefix_length = prefix;
        route.header.kind = kind;
        route.attributes = attributes;
        route
    }

    #[test]
    fn only_default_routes_of_the_main_table_count() {
        let out = || vec![RouteAttribute::Oif(7)];
        assert_eq!(default_route(&route(254, 0, RouteType::Unicast, out())), [7]);
        assert!(default_route(&route(254, 24, RouteType::Unicast, out())).is_empty());
        assert!(default_route(&route(100, 0, RouteType::Unicast, out())).is_empty());
        assert!(default_route(&route(254, 0, RouteType::Unreachable, out())).is_empty());
    }

    #[test]
    fn a_default_route_over_several_hops_counts_for_each() {
        let hop = |index| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop
        };
        let hops = vec![RouteAttribute::MultiPath(vec![hop(2), hop(3)])];
        assert_eq!(default_route(&route(254, 0, RouteType::Unicast, hops)), [2, 3]);
    }
}
