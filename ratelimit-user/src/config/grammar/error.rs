use super::{Code, Connections, Duration, Network};

/// Why a word does not read. The problem completes "is …", the remedy is an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.problem(), self.remedy())]
pub enum GrammarError {
    Rate,
    RateZero,
    RateTooLarge,
    Burst,
    BurstZero,
    BurstTooLarge,
    Connections,
    ConnectionsZero,
    ConnectionsTooMany,
    Duration,
    DurationTooLong,
    ByteSize,
    ByteSizeTooLarge,
    Mode,
    Level,
    Pattern,
    Weight,
    Network,
    PrefixTooLong {
        longest: u8,
    },
    /// With the two things that may have been meant.
    HostBits {
        network: Network,
        address: Network,
    },
}

impl GrammarError {
    pub fn problem(&self) -> &'static str {
        match self {
            Self::Rate => "not a rate",
            Self::RateZero => "zero, a rate that would refuse everything",
            Self::RateTooLarge => "too large for a rate",
            Self::Burst => "not a burst",
            Self::BurstZero => "zero, a burst that would refuse everything",
            Self::BurstTooLarge => "too large for a burst",
            Self::Connections => "not a number of connections",
            Self::ConnectionsZero => "zero, which would refuse every connection",
            Self::ConnectionsTooMany => "too large for a number of connections",
            Self::Duration => "not a duration",
            Self::DurationTooLong => "too long for a duration",
            Self::ByteSize => "not an amount of memory",
            Self::ByteSizeTooLarge => "too large for an amount of memory",
            Self::Mode => "not a mode",
            Self::Level => "not a level",
            Self::Pattern => "not a pattern of answers",
            Self::Weight => "a code with a weight that is none",
            Self::Network => "not a network",
            Self::PrefixTooLong { .. } => "a network with a prefix longer than its address",
            Self::HostBits { .. } => "a network with host bits set",
        }
    }

    pub fn remedy(&self) -> String {
        match self {
            Self::Rate => "write a number over s, min, h or day: 10/s, 120/min, 1000/h, 5000/day".into(),
            Self::RateZero => "write a rate of at least 1, as in 1/min".into(),
            Self::RateTooLarge | Self::BurstTooLarge => {
                format!("write a number of at most {}", u32::MAX)
            }
            Self::Burst => "write a whole number, as in 60".into(),
            Self::BurstZero => "write a burst of at least 1".into(),
            Self::Connections | Self::ConnectionsZero | Self::ConnectionsTooMany => {
                format!("write 1 to {}, or \"off\"", Connections::MOST)
            }
            Self::Duration => "write a number with ms, s, m, h or d: 500ms, 90s, 10m, 1h, 7d".into(),
            Self::DurationTooLong => format!("write at most {}d", Duration::LONGEST_DAYS),
            Self::ByteSize => "write a number with KiB, MiB or GiB, as in \"32 MiB\", or plain bytes".into(),
            Self::ByteSizeTooLarge => "write a smaller amount".into(),
            Self::Mode => "write observe or enforce".into(),
            Self::Level => "write source, network or service".into(),
            Self::Pattern => "write 127.0.0.2, 127.0.0.[2;4..7], or bits of the last number: 127.0.0.&2|4".into(),
            Self::Weight => {
                format!("write a weight from {} to {} that is not 0, as in 127.0.0.2*3", Code::LEAST, Code::MOST)
            }
            Self::Network => "write an address or a network: 192.0.2.1, 10.0.0.0/8, 2001:db8::/32".into(),
            Self::PrefixTooLong { longest } => format!("write a prefix of at most /{longest}"),
            Self::HostBits { network, address } => {
                format!("write {network} for the network, or {address} for the one address")
            }
        }
    }
}
