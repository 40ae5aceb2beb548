//! The words a person writes, in the configuration and on the command line alike: rates, bursts,
//! numbers of connections, durations, networks, amounts of memory, modes, answers of DNSBLs. Each reads
//! with `FromStr` and prints what it reads.

mod amount;
mod connections;
mod duration;
mod error;
mod mode;
mod network;
mod pattern;
mod rate;

pub use amount::ByteSize;
pub use connections::Connections;
pub use duration::Duration;
pub use error::GrammarError;
pub use mode::Mode;
pub use network::{Network, fold_address};
pub use pattern::{Code, Pattern};
pub use rate::{Burst, Period, Rate};

/// A whole decimal number and nothing else: no sign, no blanks, no separators.
/// More than fits is as much as fits, which every caller finds too large.
fn decimal(text: &str) -> Option<u64> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Splits `90s` into its digits and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

/// Serde as the text that `FromStr` reads and `Display` writes.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(input)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use serde_as_text;
