//! The gateways this machine sends through.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
};

use super::{InterfaceError, netlink};

/// The gateways of every default route in every routing table, each hop of it; sorted, each once.
///
/// The kernel has no question for default routes alone: this reads all routes, of which a mail gateway has a handful.
pub fn default_gateways() -> Result<Vec<IpAddr>, InterfaceError> {
    let failed = |source| InterfaceError::Netlink { action: "list the routes".into(), source };
    let mut gateways = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        for answer in netlink::dump(RouteNetlinkMessage::GetRoute(question)).map_err(failed)? {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                gateways.extend(gateways_of(&route));
            }
        }
    }
    gateways.sort_unstable();
    gateways.dedup();
    Ok(gateways)
}

fn gateways_of(route: &RouteMessage) -> Vec<IpAddr> {
    if route.header.destination_prefix_length != 0 || route.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let several = route.attributes.iter().filter_map(|it| match it {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let of_hops = several.flatten().flat_map(|hop| &hop.attributes);
    route.attributes.iter().chain(of_hops).filter_map(gateway).filter(|address| !address.is_unspecified()).collect()
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        // An IPv4 route over an IPv6 gateway, or the other way round.
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;
    use crate::interface::tests::route;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_gateway_of_a_default_route_counts_in_every_table() {
        let via = || vec![RouteAttribute::Gateway(ip("192.0.2.2").into())];
        for table in [254, 100] {
            assert_eq!(gateways_of(&route(table, 0, RouteType::Unicast, via())), [ip("192.0.2.2")]);
        }
        assert!(gateways_of(&route(254, 24, RouteType::Unicast, via())).is_empty());
        assert!(gateways_of(&route(254, 0, RouteType::Unreachable, via())).is_empty());
        let none = vec![RouteAttribute::Oif(7), RouteAttribute::Gateway(ip("::").into())];
        assert!(gateways_of(&route(254, 0, RouteType::Unicast, none)).is_empty());
        let over_v6 = vec![RouteAttribute::Via(RouteVia::Inet6("fe80::2".parse().unwrap()))];
        assert_eq!(gateways_of(&route(254, 0, RouteType::Unicast, over_v6)), [ip("fe80::2")]);
    }

    #[test]
    fn every_hop_of_a_default_route_counts() {
        let hop = |address| {
            let mut hop = RouteNextHop::default();
            hop.attributes = vec![RouteAttribute::Gateway(ip(address).into())];
            hop
        };
        let hops = vec![RouteAttribute::MultiPath(vec![hop("192.0.2.2"), hop("198.51.100.2")])];
        let found = gateways_of(&route(254, 0, RouteType::Unicast, hops));
        assert_eq!(found, [ip("192.0.2.2"), ip("198.51.100.2")]);
    }
}
