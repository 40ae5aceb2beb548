//! What nothing may block: this machine, and what it needs to be reached and to work.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::{
    config::{Config, Diagnostic, Entry, EntryProblem, Network},
    lists::Networks,
    machine::Machine,
};

/// A network that nothing may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    pub network: Network,
    pub what: What,
}

/// Why it may not be blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Loopback,
    OwnAddress,
    Gateway,
    Resolver,
    SshPeer,
    Configured,
}

/// Everything that nothing may block, whoever asks for it: lists, entries and bans spare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverBlock {
    guarded: Vec<Guarded>,
    networks: Arc<Networks>,
}

impl NeverBlock {
    /// `peers` are those of administrators' SSH connections, `configured` what the configuration adds.
    pub fn of(machine: &Machine, peers: &[IpAddr], configured: &[Network]) -> Self {
        let loopback = [(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)];
        let loopback = loopback.into_iter().filter_map(|(address, length)| Network::truncated(address, length));
        let mut guarded: Vec<Guarded> = loopback.map(|network| Guarded { network, what: What::Loopback }).collect();
        let hosts = [
            (machine.own_addresses.as_slice(), What::OwnAddress),
            (&machine.gateways, What::Gateway),
            (&machine.resolvers, What::Resolver),
            (peers, What::SshPeer),
        ];
        for (addresses, what) in hosts {
            guarded.extend(addresses.iter().map(|address| Guarded { network: Network::host(*address), what }));
        }
        guarded.extend(configured.iter().map(|network| Guarded { network: *network, what: What::Configured }));
        let networks = Arc::new(guarded.iter().map(|one| one.network).collect());
        Self { guarded, networks }
    }

    pub fn networks(&self) -> impl Iterator<Item = (Network, &What)> {
        self.guarded.iter().map(|one| (one.network, &one.what))
    }

    /// The same as a list.
    pub fn as_list(&self) -> &Arc<Networks> {
        &self.networks
    }

    /// The first that has an address in common with a network.
    pub fn meeting(&self, network: Network) -> Option<&Guarded> {
        self.all_meeting(network).next()
    }

    /// All that have an address in common with a network.
    pub fn all_meeting(&self, network: Network) -> impl Iterator<Item = &Guarded> {
        self.guarded.iter().filter(move |one| one.network.overlaps(network))
    }

    /// The first that a network lies in entirely: to block it would do nothing.
    pub fn around(&self, network: Network) -> Option<&Guarded> {
        self.guarded.iter().find(|one| one.network.contains(network))
    }

    /// Entries of `block` that do nothing because all they name is never blocked.
    pub fn idle_blocks(&self, file: &str, config: &Config) -> Vec<Diagnostic> {
        let idle = |(index, entry): (usize, &Entry)| {
            let guarded = self.around(entry.network)?.to_string();
            let problem = EntryProblem::Guarded { network: entry.network, guarded }.into();
            Some(Diagnostic { file: file.to_owned(), position: None, key: format!("block[{index}]"), problem })
        };
        config.block.iter().enumerate().filter_map(idle).collect()
    }

    /// Those inside a network, which a block of it spares.
    pub fn inside(&self, network: Network) -> impl Iterator<Item = &Guarded> {
        self.guarded.iter().filter(move |one| network.contains(one.network))
    }
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Loopback => "this machine itself",
            Self::OwnAddress => "an address of this machine",
            Self::Gateway => "a default gateway",
            Self::Resolver => "a resolver of this machine",
            Self::SshPeer => "where an administrator's SSH connection comes from",
            Self::Configured => "in never_block",
        })
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, {}", self.network, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn set() -> NeverBlock {
        let machine = Machine {
            own_addresses: vec![ip("192.0.2.1"), ip("fe80::1")],
            gateways: vec![ip("192.0.2.2")],
            resolvers: vec![ip("198.51.100.53")],
            processors: 1,
            ..Machine::default()
        };
        NeverBlock::of(&machine, &[ip("::ffff:203.0.113.7")], &[network("10.7.0.0/16")])
    }

    #[test]
    fn everything_that_is_needed_is_met_with_its_reason() {
        for (blocked, guarded, what) in [
            ("127.0.0.1", "127.0.0.0/8", What::Loopback),
            ("::1", "::1", What::Loopback),
            ("192.0.2.0/24", "192.0.2.1", What::OwnAddress),
            ("fe80::/10", "fe80::1", What::OwnAddress),
            ("192.0.2.2", "192.0.2.2", What::Gateway),
            ("198.51.0.0/16", "198.51.100.53", What::Resolver),
            ("203.0.113.7", "203.0.113.7", What::SshPeer),
            ("10.7.1.0/24", "10.7.0.0/16", What::Configured),
        ] {
            let expected = Guarded { network: network(guarded), what };
            assert_eq!(set().meeting(network(blocked)), Some(&expected), "{blocked}");
        }
        assert_eq!(set().meeting(network("203.0.113.8")), None);
        assert_eq!(set().networks().count(), set().as_list().len());
    }

    #[test]
    fn a_block_that_can_never_act_is_told_with_what_it_lies_in() {
        let block = r#"block = ["192.0.2.0/24", "10.7.1.0/24", "203.0.113.8", "192.0.2.2"]"#;
        let config = Config::parse(block, "test").unwrap().config;
        let told: Vec<String> = set().idle_blocks("r.toml", &config).iter().map(Diagnostic::to_string).collect();
        assert_eq!(
            told,
            [
                "r.toml: block[1]: block 10.7.1.0/24 can never act: nothing blocks 10.7.0.0/16, in never_block\n    \
                 remove it from block",
                "r.toml: block[3]: block 192.0.2.2/32 can never act: nothing blocks 192.0.2.2/32, a default gateway\n    \
                 remove it from block",
            ]
        );
    }

    #[test]
    fn inside_and_around_are_told_apart() {
        let set = set();
        let inside: Vec<String> = set.inside(network("192.0.2.0/24")).map(Guarded::to_string).collect();
        assert_eq!(inside, ["192.0.2.1/32, an address of this machine", "192.0.2.2/32, a default gateway"]);
        assert_eq!(set.around(network("192.0.2.0/24")), None);
        assert_eq!(set.around(network("10.7.9.0/24")).map(|one| one.what), Some(What::Configured));
    }
}
