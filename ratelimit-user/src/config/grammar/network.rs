use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use super::{GrammarError, decimal, serde_as_text};

/// A set of addresses with a common prefix, host bits clear. What IPv6 writes for an IPv4 address
/// (`::ffff:192.0.2.1`, and `64:ff9b::192.0.2.1` behind NAT64) is held as that IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// 0.0.0.0/0.
    pub const ALL_V4: Self = Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)));

    /// The network of one address.
    pub fn host(address: IpAddr) -> Self {
        Self(fold_address(address).into())
    }

    /// The network of `prefix_len` that holds `address`; `None` if the prefix is longer than the
    /// address as given. A prefix of a folded address counts from the IPv6 start, as written.
    pub fn truncated(address: IpAddr, prefix_len: u8) -> Option<Self> {
        let (address, prefix_len) = fold(address, prefix_len)?;
        IpNet::new(address, prefix_len).ok().map(|net| Self(net.trunc()))
    }

    /// The network of this prefix around it, or itself where it is no shorter.
    #[must_use]
    pub fn widened(self, prefix_len: u8) -> Self {
        let prefix_len = prefix_len.min(self.prefix_len());
        IpNet::new(self.0.addr(), prefix_len).map_or(self, |net| Self(net.trunc()))
    }

    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    pub fn is_ipv4(self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// Whether it is all of IPv4 or all of IPv6.
    pub fn is_everything(self) -> bool {
        self.0.prefix_len() == 0
    }

    pub fn contains_address(self, address: IpAddr) -> bool {
        self.0.contains(&fold_address(address))
    }

    /// Whether `other` is this network or lies inside it.
    pub fn contains(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    pub fn as_ipnet(self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Network {
    /// Host bits are cleared.
    fn from(net: IpNet) -> Self {
        Self::truncated(net.addr(), net.prefix_len()).unwrap_or(Self(net.trunc()))
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

/// IPv4 where the IPv6 address merely writes one (mapped, or NAT64's well-known prefix).
pub fn fold_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Folds an address with its prefix; `None` if the prefix is longer than the address.
fn fold(address: IpAddr, prefix_len: u8) -> Option<(IpAddr, u8)> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if prefix_len > longest {
        return None;
    }
    Some(match (fold_address(address), address) {
        (IpAddr::V4(v4), IpAddr::V6(_)) if prefix_len >= 96 => (IpAddr::V4(v4), prefix_len - 96),
        _ => (address, prefix_len),
    })
}

fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

impl FromStr for Network {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let text = text.trim();
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| GrammarError::Network);
        };
        let address: IpAddr = address.parse().map_err(|_| GrammarError::Network)?;
        let prefix = decimal(prefix).ok_or(GrammarError::Network)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let too_long = GrammarError::PrefixTooLong { longest };
        let prefix = u8::try_from(prefix).map_err(|_| too_long)?;
        let network = Self::truncated(address, prefix).ok_or(too_long)?;
        let (folded, _) = fold(address, prefix).ok_or(too_long)?;
        if network.address() == folded {
            Ok(network)
        } else {
            Err(GrammarError::HostBits { network, address: Self::host(address) })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0.to_string())
    }
}

serde_as_text!(Network);
