//! Addresses from one to another, as lists write them.

use std::net::IpAddr;

use super::{Problem, count};
use crate::{
    config::{Network, fold_address},
    lists::{V4, V6, spans::Span},
};

/// Addresses of either family. What IPv6 writes for IPv4 addresses is held as those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    V4(Span<u32>),
    V6(Span<u128>),
}

impl Range {
    pub fn host(address: IpAddr) -> Self {
        match fold_address(address) {
            IpAddr::V4(v4) => Self::V4(Span::of(v4.to_bits(), 0)),
            IpAddr::V6(v6) => Self::V6(Span::of(v6.to_bits(), 0)),
        }
    }

    /// Host bits are cleared, as feeds leave them set.
    pub fn network(address: IpAddr, prefix: u8) -> Result<Self, Problem> {
        let network = Network::truncated(address, prefix).ok_or(Problem::PrefixTooLong)?;
        Ok(match network.address() {
            IpAddr::V4(v4) => Self::V4(Span::of(v4.to_bits(), u32::BITS as u8 - network.prefix_len())),
            IpAddr::V6(v6) => Self::V6(Span::of(v6.to_bits(), u128::BITS as u8 - network.prefix_len())),
        })
    }

    pub fn between(first: IpAddr, last: IpAddr) -> Result<Self, Problem> {
        let range = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Span::new(first.to_bits(), last.to_bits()).map(Self::V4),
            (IpAddr::V6(first), IpAddr::V6(last)) => match (first.to_bits(), last.to_bits()) {
                // Within one prefix of 96 bits, both are IPv4 addresses or neither is.
                (a, b) if a >> 32 == b >> 32 && fold_address(first.into()).is_ipv4() => {
                    Span::new(a as u32, b as u32).map(Self::V4)
                }
                (a, b) => Span::new(a, b).map(Self::V6),
            },
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return Err(Problem::MixedFamilies),
        };
        range.ok_or(Problem::Backwards)
    }

    /// The one of its networks that holds an address.
    pub fn part_with(self, address: IpAddr) -> Option<Network> {
        match (self, fold_address(address)) {
            (Self::V4(span), IpAddr::V4(v4)) if span.holds(v4.to_bits()) => {
                span.networks::<V4>().map(Network::from).find(|part| part.contains_address(address))
            }
            (Self::V6(span), IpAddr::V6(v6)) if span.holds(v6.to_bits()) => {
                span.networks::<V6>().map(Network::from).find(|part| part.contains_address(address))
            }
            (Self::V4(_) | Self::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => None,
        }
    }
}

/// The first octets of an IPv4 address.
pub struct Octets<'a> {
    /// Those that are missing are 0.
    pub address: u32,
    /// 1 to 4.
    pub count: u8,
    /// What is behind them.
    pub rest: &'a [u8],
}

impl<'a> Octets<'a> {
    /// Reads as many as there are; `None` if there are none or one of them is none.
    pub fn read(mut text: &'a [u8]) -> Option<Self> {
        let (mut address, mut count) = (0, 0);
        loop {
            let (octet, rest) = octet(text)?;
            count += 1;
            address |= u32::from(octet) << (32 - 8 * count);
            match rest {
                [b'.', next @ ..] if count < 4 => text = next,
                _ => return Some(Self { address, count: count as u8, rest }),
            }
        }
    }
}

/// A number up to 255. None with a leading 0, which some read as octal.
fn octet(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| Some(byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9);
    let (first, mut rest) = text.split_first()?;
    let mut octet = digit(*first)?;
    while let Some((digit, behind)) = rest.split_first().and_then(|(next, behind)| Some((digit(*next)?, behind))) {
        if octet == 0 {
            return None;
        }
        octet = octet.checked_mul(10)?.checked_add(digit)?;
        rest = behind;
    }
    Some((octet, rest))
}

/// A prefix length, in digits alone.
pub fn prefix(digits: &[u8]) -> Result<u8, Problem> {
    let number = count::number(digits).ok_or(Problem::NotNetwork)?;
    u8::try_from(number).map_err(|_| Problem::PrefixTooLong)
}
