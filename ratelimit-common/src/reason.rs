//! Why a frame was passed or dropped, and what each reason does in each mode.

/// What is done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Action {
    Pass,
    Drop,
    /// Dropped, and answered with a TCP reset if there is one to spare.
    Reset,
    /// Dropped, and answered with a challenge.
    Challenge,
}

/// What a reason is, whatever the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Passes,
    Refuses,
    /// Whoever means it is let in with the next attempt.
    Asks,
    /// It was for the gate, and what it says has been noted.
    Absorbs,
}

/// Whether refusals are carried out or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Everything is judged and counted, nothing is dropped.
    Observe = 0,
    Enforce = 1,
}

impl Mode {
    /// Anything but the exact value of `Enforce` observes, so that a zeroed map drops nothing.
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Enforce,
            _ => Self::Observe,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $kind:ident, $meaning:literal;)*) => {
        /// Why a frame left the gate the way it did. Every exit has exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $meaning] $(#[$doc])* $name),* }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// How many there are; the size of every table that is indexed by a reason.
            pub const COUNT: usize = Self::ALL.len();

            /// The one name used in maps, metrics, JSON and text.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// A sentence for an administrator.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),* }
            }

            #[inline(always)]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind),* }
            }

            /// The reason a raw number from a map or an event stands for.
            pub const fn from_raw(raw: u8) -> Option<Self> {
                if (raw as usize) < Self::COUNT { Some(Self::ALL[raw as usize]) } else { None }
            }
        }
    };
}

reasons! {
    NotIp = "not_ip", Passes, "not an IPv4 or IPv6 packet";
    NotTcp = "not_tcp", Passes, "not TCP, a fragment of something that is not TCP included";
    LaterFragment = "later_fragment", Passes, "a fragment behind the first; it is worth nothing without the first";
    NotServed = "not_served", Passes, "TCP to a port or an address that no service claims";
    Established = "established", Passes, "a packet of an open connection; only new connections are judged";
    Trusted = "trusted", Passes, "a new connection from a trusted network: no limit, no list";
    Admitted = "admitted", Passes, "a new connection within every limit";
    ServiceLimit = "service_limit", Passes,
        "a new connection within its own limits while the whole service is over its limit; it passes and is counted";
    Ticketed = "ticketed", Passes, "a new connection of a suspect source that answered a challenge";
    Repeated = "repeated", Passes,
        "a new connection of a suspect source that did not answer a challenge, but repeated its SYN in time";
    Challenged = "challenged", Asks,
        "a new connection of a suspect source, which is asked whether it is alive; if it is, its next SYN passes";
    Awaited = "awaited", Asks, "the first SYN of a suspect source, which passes when it repeats it";
    Answered = "answered", Absorbs, "the answer to a challenge";
    Malformed = "malformed", Refuses, "headers that cannot be read: truncated, a wrong length, or an extension chain that is too long";
    FragmentedSyn = "fragmented_syn", Refuses, "a first fragment that holds a SYN or too little of the TCP header";
    BadFlags = "bad_flags", Refuses, "TCP flags that no honest stack sends: SYN+FIN, SYN+RST, FIN without ACK, none";
    MappedSource = "mapped_source", Refuses, "an IPv6 packet that claims an IPv4-mapped source (::ffff:0:0/96)";
    StraySynAck = "stray_syn_ack", Refuses, "a SYN+ACK to a service port; servers send those, they do not receive them";
    Restricted = "restricted", Refuses, "a new connection from outside the networks that alone may reach the service (only_from)";
    Blocked = "blocked", Refuses, "a new connection from a blocked network";
    Banned = "banned", Refuses, "a new connection from a banned source or network";
    ListedLimit = "listed_limit", Refuses,
        "a new connection of a source that DNSBLs list, over what is left to such a source";
    ConnectionCap = "connection_cap", Refuses,
        "a new connection of a source that has as many open to the service as it may";
    SourceLimit = "source_limit", Refuses, "a new connection over the limit of its source";
    NetworkLimit = "network_limit", Refuses, "a new connection over the limit of its network";
    ChallengeRate = "challenge_rate", Refuses,
        "a new connection of a suspect source that could not be asked because the challenges are used up (challenge_rate)";
    RetryRate = "retry_rate", Refuses,
        "a repeated SYN of a suspect source, when as many as may be have been let in (retry_rate)";
    Stray = "stray", Refuses, "a packet of no connection: an acknowledgement, data or a reset from nowhere";
}

impl Reason {
    /// What is done with a frame for this reason in a mode.
    #[inline(always)]
    pub const fn action(self, mode: Mode) -> Action {
        match (mode, self.kind()) {
            (Mode::Enforce, Kind::Asks) if matches!(self, Self::Challenged) => Action::Challenge,
            (Mode::Enforce, Kind::Refuses | Kind::Asks | Kind::Absorbs) => Action::Drop,
            (Mode::Enforce, Kind::Passes) | (Mode::Observe, _) => Action::Pass,
        }
    }

    /// Whether a frame is lost for this reason when the gate enforces.
    #[inline(always)]
    pub const fn refuses(self) -> bool {
        matches!(self.kind(), Kind::Refuses)
    }

    /// Whether this reason is about a new connection to a service.
    pub const fn is_new_connection(self) -> bool {
        match self {
            Self::Trusted
            | Self::Admitted
            | Self::ServiceLimit
            | Self::Ticketed
            | Self::Repeated
            | Self::Challenged
            | Self::Awaited
            | Self::ListedLimit
            | Self::ConnectionCap
            | Self::ChallengeRate
            | Self::RetryRate
            | Self::Restricted
            | Self::Blocked
            | Self::Banned
            | Self::SourceLimit
            | Self::NetworkLimit => true,
            Self::NotIp
            | Self::NotTcp
            | Self::LaterFragment
            | Self::NotServed
            | Self::Established
            | Self::Answered
            | Self::Stray
            | Self::Malformed
            | Self::FragmentedSyn
            | Self::BadFlags
            | Self::MappedSource
            | Self::StraySynAck => false,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn raw_numbers_and_labels_are_unique_and_lead_back() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::COUNT);
        for reason in Reason::ALL {
            assert_eq!(Reason::from_raw(*reason as u8), Some(*reason));
        }
        assert_eq!(Reason::from_raw(Reason::COUNT as u8), None);
    }

    #[test]
    fn observe_drops_nothing_and_enforce_drops_every_refusal() {
        for reason in Reason::ALL {
            assert_eq!(reason.action(Mode::Observe), Action::Pass);
            let expected = match reason.kind() {
                Kind::Passes => Action::Pass,
                Kind::Asks if *reason == Reason::Challenged => Action::Challenge,
                Kind::Refuses | Kind::Asks | Kind::Absorbs => Action::Drop,
            };
            assert_eq!(reason.action(Mode::Enforce), expected);
        }
    }

    #[test]
    fn a_mode_nobody_wrote_observes() {
        assert_eq!(Mode::from_raw(0), Mode::Observe);
        assert_eq!(Mode::from_raw(255), Mode::Observe);
        assert_eq!(Mode::from_raw(Mode::Enforce as u8), Mode::Enforce);
    }
}
