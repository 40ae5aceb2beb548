//! Addresses of both families in one shape.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

/// An IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d`.
///
/// Two words in host order, most significant first, so that masking and comparing need no loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address {
    high: u64,
    low: u64,
}

/// The bits of an address that a prefix keeps.
pub type Mask = Address;

/// The family of a packet, as counters tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// No IP header, or none that can be read.
    Other = 0,
    V4 = 1,
    V6 = 2,
}

impl Family {
    pub const ALL: [Self; 3] = [Self::Other, Self::V4, Self::V6];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

const MAPPED: u64 = 0xffff_0000_0000;
/// The well-known NAT64 prefix 64:ff9b::/96 of RFC 6052.
const NAT64_HIGH: u64 = 0x0064_ff9b_0000_0000;

impl Address {
    pub const UNSPECIFIED: Self = Self { high: 0, low: 0 };

    #[inline(always)]
    pub const fn from_words(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    #[inline(always)]
    pub const fn from_v4(address: u32) -> Self {
        Self { high: 0, low: MAPPED | address as u64 }
    }

    /// The two words, most significant first.
    #[inline(always)]
    pub const fn words(self) -> (u64, u64) {
        (self.high, self.low)
    }

    #[inline(always)]
    pub const fn masked(self, mask: Mask) -> Self {
        Self { high: self.high & mask.high, low: self.low & mask.low }
    }

    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == MAPPED >> 32
    }

    /// An address inside 64:ff9b::/96 becomes the IPv4 address it embeds, any other stays.
    ///
    /// RFC 6052 section 3.1 forbids to embed addresses that are not global; those are not folded, so that a
    /// packet cannot claim a private (and perhaps trusted) address by way of the translation prefix.
    #[inline(always)]
    pub const fn fold_nat64(self) -> Self {
        if self.high == NAT64_HIGH && self.low >> 32 == 0 && is_global_v4(self.low as u32) {
            Self::from_v4(self.low as u32)
        } else {
            self
        }
    }

    /// Whether an answer may be sent there: no honest segment comes from an unspecified, loopback, multicast or
    /// reserved address.
    #[inline(always)]
    pub const fn is_answerable(self) -> bool {
        if self.is_v4() {
            return !matches!((self.low >> 24) as u8, 0 | 127 | 224..);
        }
        let multicast = self.high >> 56 == 0xff;
        // ::/96 holds the unspecified address, the loopback and what nobody may use any more.
        let reserved = self.high == 0 && self.low >> 32 == 0;
        !multicast && !reserved
    }

    /// The mask of a prefix of 0 to 128 bits; IPv4 prefixes count from bit 96. A longer one is 128.
    pub const fn mask(prefix: u8) -> Mask {
        let (high, low) = match prefix {
            0 => (0, 0),
            1..64 => (!0 << (64 - prefix), 0),
            64 => (!0, 0),
            65..128 => (!0, !0 << (128 - prefix)),
            _ => (!0, !0),
        };
        Self { high, low }
    }

    pub const fn octets(self) -> [u8; 16] {
        (((self.high as u128) << 64) | self.low as u128).to_be_bytes()
    }

    pub const fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.low as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_octets(self.octets()))
        }
    }
}

#[inline(always)]
const fn is_global_v4(address: u32) -> bool {
    let [a, b, ..] = address.to_be_bytes();
    !(matches!(a, 0 | 10 | 127 | 224..)
        || (a == 100 && b & 0xc0 == 64)
        || (a == 169 && b == 254)
        || (a == 172 && b & 0xf0 == 16)
        || (a == 192 && b == 168))
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_v4(v4.to_bits()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Self::from_words((bits >> 64) as u64, bits as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        assert_eq!(address("::ffff:192.0.2.4"), address("192.0.2.4"));
        assert_eq!(address("::ffff:192.0.2.4").to_ip(), IpAddr::from([192, 0, 2, 4]));
        assert!(!address("::192.0.2.4").is_v4());
    }

    #[test]
    fn nat64_counts_as_the_embedded_address_if_that_is_global() {
        assert_eq!(address("64:ff9b::8.8.8.8").fold_nat64(), address("8.8.8.8"));
        for kept in [
            "64:ff9b::10.0.0.1",
            "64:ff9b::172.31.0.1",
            "64:ff9b::192.168.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::224.0.0.1",
            "64:ff9b::100.64.0.1",
            "64:ff9b::169.254.0.1",
            "64:ff9b:0:0:0:1:808:808",
            "64:ff9b:1::808:808",
            "2001:db8::1",
        ] {
            assert_eq!(address(kept).fold_nat64(), address(kept), "{kept}");
        }
    }

    #[test]
    fn masks_keep_the_leading_bits() {
        for prefix in 0..=128u8 {
            let (high, low) = Address::mask(prefix).words();
            let bits = ((high as u128) << 64) | low as u128;
            assert_eq!(bits.leading_ones(), u32::from(prefix));
            assert_eq!(bits.count_ones(), u32::from(prefix));
        }
        assert_eq!(Address::mask(200), Address::mask(128));
        assert_eq!(address("192.0.2.77").masked(Address::mask(96 + 24)), address("192.0.2.0"));
    }
}
