use std::fmt;
use std::num::NonZeroU32;

use serde::{Serialize, Serializer};

use super::grammar::{Burst, Mode, Network, Period, Rate};
use super::limit::Limit;

/// A named set of ports and destinations with its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: String,
    /// At least one, none twice, in the order written.
    pub ports: Vec<u16>,
    /// Where its listener really listens if the ports are mapped, as into a container; none means at
    /// `ports`. At most [`MOST_LISTEN_PORTS`], none twice, none in two services.
    pub listen_ports: Vec<u16>,
    pub to: Destination,
    /// `observe` here or in [`super::Config::mode`] wins.
    pub mode: Option<Mode>,
    /// At most two, a short and a long window; none is `off`.
    pub source: Vec<Limit>,
    /// At most two, a short and a long window; none is `off`.
    pub network: Vec<Limit>,
    /// Over all sources. Raises suspicion and refuses nobody; none is `off`.
    pub service: Option<Limit>,
    /// How many connections one source may hold open; none is `off`. Counted where the listener is on
    /// this machine.
    pub connections: Option<NonZeroU32>,
    pub source_prefix: Prefix,
    pub network_prefix: Prefix,
    /// Who alone may connect; none means everybody may. Trusted networks and own addresses always may.
    pub only_from: Vec<Permit>,
    pub deny: Deny,
}

/// Who may connect to a restricted service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Permit {
    Network(Network),
    /// Whoever is in the list of this name, which must be one that allows.
    List(String),
}

impl fmt::Display for Permit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(out),
            Self::List(name) => out.pad(name),
        }
    }
}

/// What becomes of a connection from outside of `only_from`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deny {
    /// Answered with a TCP reset: a mail server that went astray tries the next exchanger at once.
    #[default]
    Reset,
    Drop,
}

impl Deny {
    pub const ALL: [Self; 2] = [Self::Reset, Self::Drop];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Drop => "drop",
        }
    }
}

/// Whose connections a service judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This machine's own addresses, as they change.
    Local,
    /// Addresses behind this gateway. Never empty.
    Networks(Vec<Network>),
}

/// How many leading bits of an address make one source, or one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Prefix {
    pub v4: u8,
    pub v6: u8,
}

pub const MOST_SERVICES: usize = 16;
pub const LONGEST_SERVICE_NAME: usize = 31;
pub const MOST_LISTEN_PORTS: usize = 16;

const SMTP: &str = "smtp";
pub(super) const SMTP_PORT: u16 = 25;

/// The built-in services in their order, with the IANA names.
pub const DEFAULT_SERVICES: [(&str, u16); 8] = [
    (SMTP, SMTP_PORT),
    ("submissions", 465),
    ("submission", 587),
    ("imap", 143),
    ("imaps", 993),
    ("pop3", 110),
    ("pop3s", 995),
    ("sieve", 4190),
];

impl Service {
    /// The built-in service of this name.
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, port) = DEFAULT_SERVICES.into_iter().find(|(known, _)| *known == name)?;
        Some(Self::like(name, name, vec![port]))
    }

    /// What a service that is not built in starts from: mail between servers where port 25 is
    /// among its ports, a client service otherwise.
    pub fn starting_point(name: &str, ports: Vec<u16>) -> Self {
        let model = if ports.contains(&SMTP_PORT) { SMTP } else { "submission" };
        Self::like(model, name, ports)
    }

    /// The same for other destinations. Behind a gateway connections cannot be counted, so none are by default.
    pub(super) fn with_destination(self, to: Destination) -> Self {
        let connections = match to {
            Destination::Local => self.connections,
            Destination::Networks(_) => None,
        };
        Self { to, connections, ..self }
    }

    /// The ports of its listener on this machine.
    pub fn listens_at(&self) -> &[u16] {
        match self.to {
            Destination::Local if self.listen_ports.is_empty() => &self.ports,
            Destination::Local | Destination::Networks(_) => &self.listen_ports,
        }
    }

    fn like(model: &str, name: &str, ports: Vec<u16>) -> Self {
        let (source, network, connections) = match model {
            SMTP => (per_minute(300, 300), per_minute(3000, 3000), 50),
            // An office of 50 behind one address, with 5 connections each, twice over.
            "imap" | "imaps" => (per_minute(240, 300), per_minute(2400, 5000), 500),
            "pop3" | "pop3s" => (per_minute(120, 120), per_minute(1200, 2400), 60),
            "sieve" => (per_minute(60, 60), per_minute(240, 240), 20),
            _ => (per_minute(120, 120), per_minute(1200, 2400), 100),
        };
        let (source_prefix, network_prefix) = if model == SMTP {
            // All of Gmail's senders of a region share one /64: on port 25 that is a network.
            (Prefix { v4: 32, v6: 128 }, Prefix { v4: 24, v6: 64 })
        } else {
            // One customer's host owns at least a /64, an end site a /56 or /48 (RIPE-690).
            (Prefix { v4: 32, v6: 64 }, Prefix { v4: 24, v6: 48 })
        };
        Self {
            name: name.to_owned(),
            ports,
            listen_ports: Vec::new(),
            to: Destination::Local,
            mode: None,
            source: Vec::from_iter(source),
            network: Vec::from_iter(network),
            service: limit(1000, Period::Second, 5000),
            connections: NonZeroU32::new(connections),
            source_prefix,
            network_prefix,
            only_from: Vec::new(),
            deny: Deny::default(),
        }
    }
}

fn per_minute(rate: u32, burst: u32) -> Option<Limit> {
    limit(rate, Period::Minute, burst)
}

fn limit(rate: u32, period: Period, burst: u32) -> Option<Limit> {
    Some(Limit { rate: Rate::new(rate, period)?, burst: Burst::new(burst)? })
}

impl Destination {
    /// Whether one packet may be for both. This machine's own addresses are not known here: local
    /// meets only local.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local, Self::Local) => true,
            (Self::Networks(ours), Self::Networks(theirs)) => {
                ours.iter().any(|our| theirs.iter().any(|their| our.overlaps(*their)))
            }
            (Self::Local, Self::Networks(_)) | (Self::Networks(_), Self::Local) => false,
        }
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Local => out.serialize_str("local"),
            Self::Networks(networks) => networks.serialize(out),
        }
    }
}
