//! The name under which a DNSBL is asked about an address (RFC 5782).

use std::{fmt::Write as _, net::IpAddr};

/// The octets of an IPv4 address or the nibbles of an IPv6 address, the last one first, under a zone.
///
/// An IPv4-mapped IPv6 address is asked about as IPv6: the test entries of IPv6 zones are such addresses.
pub fn query_name(address: IpAddr, zone: &str) -> String {
    let mut name = String::with_capacity(64 + zone.len() + 1);
    // Writing into a string cannot fail.
    match address {
        IpAddr::V4(address) => address.octets().iter().rev().for_each(|octet| {
            let _ = write!(name, "{octet}.");
        }),
        IpAddr::V6(address) => address.octets().iter().rev().for_each(|octet| {
            let _ = write!(name, "{:x}.{:x}.", octet & 0xf, octet >> 4);
        }),
    }
    name.push_str(zone);
    name.push('.');
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_reversed_as_rfc_5782_shows() {
        let name = |address: &str| query_name(address.parse().unwrap(), "bl.example");
        assert_eq!(name("192.0.2.99"), "99.2.0.192.bl.example.");
        assert_eq!(
            name("2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example."
        );
        assert_eq!(
            name("::ffff:7f00:2"),
            "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.bl.example."
        );
    }
}
