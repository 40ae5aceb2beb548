//! Networks as lists hold them: small, sorted, each once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Network, fold_address};

/// An IPv4 network in one word: the address above the length, so that it sorts by address and a wider network comes
/// before those inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4(u64);

impl V4 {
    /// Host bits are cleared; a length above 32 is 32.
    pub const fn new(address: u32, length: u8) -> Self {
        let length = if length > 32 { 32 } else { length };
        let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
        Self((((address & mask) as u64) << 8) | length as u64)
    }

    pub const fn first(self) -> u32 {
        (self.0 >> 8) as u32
    }

    pub const fn last(self) -> u32 {
        let length = self.length();
        self.first() | if length == 32 { 0 } else { u32::MAX >> length }
    }

    pub const fn length(self) -> u8 {
        self.0 as u8
    }
}

/// An IPv6 network; sorts like [`V4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6 {
    first: u128,
    length: u8,
}

impl V6 {
    /// Host bits are cleared; a length above 128 is 128.
    pub const fn new(address: u128, length: u8) -> Self {
        let length = if length > 128 { 128 } else { length };
        let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
        Self { first: address & mask, length }
    }

    pub const fn first(self) -> u128 {
        self.first
    }

    pub const fn last(self) -> u128 {
        self.first | if self.length == 128 { 0 } else { u128::MAX >> self.length }
    }

    pub const fn length(self) -> u8 {
        self.length
    }
}

/// The networks of one list. Sorted, each once; one may lie inside another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Vec<V4>,
    v6: Vec<V6>,
}

impl Networks {
    pub fn new(mut v4: Vec<V4>, mut v6: Vec<V6>) -> Self {
        v4.sort_unstable();
        v4.dedup();
        v6.sort_unstable();
        v6.dedup();
        Self { v4, v6 }
    }

    pub fn v4(&self) -> &[V4] {
        &self.v4
    }

    pub fn v6(&self) -> &[V6] {
        &self.v6
    }

    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The networks that an address is in, the widest first.
    pub fn around(&self, address: IpAddr) -> Vec<Network> {
        match fold_address(address) {
            IpAddr::V4(address) => {
                let all = (0..=32).map(|length| V4::new(address.to_bits(), length));
                all.filter(|network| self.v4.binary_search(network).is_ok()).map(Network::from).collect()
            }
            IpAddr::V6(address) => {
                let all = (0..=128).map(|length| V6::new(address.to_bits(), length));
                all.filter(|network| self.v6.binary_search(network).is_ok()).map(Network::from).collect()
            }
        }
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.address() {
                IpAddr::V4(address) => v4.push(V4::new(address.to_bits(), network.prefix_len())),
                IpAddr::V6(address) => v6.push(V6::new(address.to_bits(), network.prefix_len())),
            }
        }
        Self::new(v4, v6)
    }
}

impl From<V4> for Network {
    fn from(network: V4) -> Self {
        let address = Ipv4Addr::from_bits(network.first());
        Self::truncated(address.into(), network.length()).unwrap_or(Self::host(address.into()))
    }
}

impl From<V6> for Network {
    fn from(network: V6) -> Self {
        let address = Ipv6Addr::from_bits(network.first());
        Self::truncated(address.into(), network.length()).unwrap_or(Self::host(address.into()))
    }
}
