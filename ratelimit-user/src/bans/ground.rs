//! Why somebody may be banned.

use std::net::IpAddr;

use ratelimit_common::{
    Address,
    proof::{Proven, proven_source},
};

use super::By;
use crate::config::Network;

/// What a ban rests on. Without one there is none: a SYN that anybody can send in another's name is no ground.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// An administrator's word.
    Word,
    /// Something a program found out about a source that has proved itself.
    Finding { finder: Finder, proof: Proof },
}

/// Who finds things out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    Dnsbl,
    Log,
}

/// That a source is who it says: it completed a handshake, and both sides said something in that connection.
///
/// The handshake alone could be guessed while the kernel answers with SYN cookies, once in 2^29 tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    source: Address,
}

impl Proof {
    /// By what the kernel noted of a source.
    pub fn of(source: IpAddr, proven: &Proven, now_ns: u64) -> Option<Self> {
        (proven.exchanged_ns != 0 && proven.is_good(now_ns)).then(|| Self { source: Address::from(source) })
    }

    /// By a connection that is open, with the bytes that came and those of ours that were acknowledged.
    pub fn of_connection(source: IpAddr, received: u64, acknowledged: u64) -> Option<Self> {
        // The end of a connection counts as a byte of whoever closes it.
        (received > 1 && acknowledged > 1).then(|| Self { source: Address::from(source) })
    }

    /// Whether it says something of a network: a wider one holds others, who have shown nothing.
    fn is_about(&self, network: Network) -> bool {
        let shown = proven_source(self.source);
        let length = if shown.is_v4() { 32 } else { 64 };
        Network::truncated(shown.to_ip(), length).is_some_and(|shown| shown.contains(network))
    }
}

impl Ground {
    /// Whether a ban of a network may rest on it.
    pub fn carries(&self, network: Network) -> bool {
        match self {
            Self::Word => true,
            Self::Finding { proof, .. } => proof.is_about(network),
        }
    }

    pub const fn by(&self) -> By {
        match self {
            Self::Word => By::Admin,
            Self::Finding { finder: Finder::Dnsbl, .. } => By::Dnsbl,
            Self::Finding { finder: Finder::Log, .. } => By::Log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_handshake_without_an_exchange_is_no_proof() {
        let source = "192.0.2.7".parse().unwrap();
        let noted = Proven { last_ns: 5, exchanged_ns: 0 };
        assert_eq!(Proof::of(source, &noted, 6), None);
        assert!(Proof::of(source, &Proven { exchanged_ns: 6, ..noted }, 7).is_some());
        assert_eq!(Proof::of_connection(source, 1, 40), None, "it closed and said nothing");
        assert_eq!(Proof::of_connection(source, 40, 1), None);
        assert!(Proof::of_connection(source, 2, 2).is_some());
    }

    #[test]
    fn what_one_source_has_shown_carries_no_ban_of_others() {
        let ground = |source: &str| Ground::Finding {
            finder: Finder::Log,
            proof: Proof::of_connection(source.parse().unwrap(), 2, 2).unwrap(),
        };
        assert!(ground("192.0.2.7").carries(network("192.0.2.7")));
        assert!(!ground("192.0.2.7").carries(network("192.0.2.0/24")));
        assert!(!ground("192.0.2.7").carries(network("192.0.2.8")));
        assert!(ground("2001:db8:1:2::7").carries(network("2001:db8:1:2::/64")));
        assert!(!ground("2001:db8:1:2::7").carries(network("2001:db8:1::/56")));
        assert!(Ground::Word.carries(network("192.0.0.0/16")));
    }
}
