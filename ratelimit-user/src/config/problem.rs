//! Everything that can be wrong with a configuration. A problem displays as what is wrong; its
//! remedy is an instruction that says what to do.

use std::net::IpAddr;
use std::time::Duration;

use super::EntryKind;
use super::export::LONGEST_CONTACT;
use super::grammar::{Code, Duration as Span, GrammarError, Network, Rate};
use super::limit::{LONGEST_DRAIN, Level, Limit};
use super::list::{LONGEST_LIST_NAME, MOST_LISTS};
use super::reputation::{LONGEST_ZONE, LONGEST_ZONE_WITH_KEY, MOST_DNSBLS};
use super::service::{LONGEST_SERVICE_NAME, MOST_LISTEN_PORTS, MOST_SERVICES};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub enum Problem {
    File(#[from] FileProblem),
    Key(#[from] KeyProblem),
    Value(#[from] ValueProblem),
    Service(#[from] ServiceProblem),
    Limit(#[from] LimitProblem),
    Entry(#[from] EntryProblem),
    List(#[from] ListProblem),
    Reputation(#[from] ReputationProblem),
    Export(#[from] ExportProblem),
}

impl Problem {
    /// The same where there is no file that a line could be looked up in.
    pub fn without_line(mut self) -> Self {
        if let Self::Entry(
            EntryProblem::Contradiction { line, .. }
            | EntryProblem::NeverActs { line, .. }
            | EntryProblem::ListedTwice { line, .. },
        ) = &mut self
        {
            *line = None;
        }
        self
    }

    pub fn remedy(&self) -> String {
        match self {
            Self::File(problem) => problem.remedy(),
            Self::Key(problem) => problem.remedy(),
            Self::Value(problem) => problem.remedy(),
            Self::Service(problem) => problem.remedy(),
            Self::Limit(problem) => problem.remedy(),
            Self::Entry(problem) => problem.remedy(),
            Self::List(problem) => problem.remedy(),
            Self::Reputation(problem) => problem.remedy(),
            Self::Export(problem) => problem.remedy(),
        }
    }
}

/// The file as a whole, or its TOML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    #[error("no such file")]
    Missing,
    #[error("cannot be read: {error}")]
    Unreadable { error: String },
    #[error("too large for a configuration")]
    TooLarge,
    #[error("not UTF-8 text")]
    NotUtf8,
    #[error("broken TOML: {message}")]
    Syntax { message: String, remedy: String },
}

impl FileProblem {
    fn remedy(&self) -> String {
        match self {
            Self::Missing => "create the file, or name none to run with the built-in defaults".into(),
            Self::Unreadable { .. } => "check the path and its permissions".into(),
            Self::TooLarge => "check the path: this is no configuration".into(),
            Self::NotUtf8 => "save the file as UTF-8".into(),
            Self::Syntax { remedy, .. } => remedy.clone(),
        }
    }
}

/// Keys and the types of their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    #[error("unknown key")]
    Unknown { nearest: Option<&'static str>, known: &'static [&'static str] },
    #[error("the key {key} is missing")]
    Missing { key: &'static str, example: &'static str },
    #[error("must be {expected}, not {found}")]
    Type { expected: &'static str, found: &'static str, example: &'static str },
}

impl KeyProblem {
    fn remedy(&self) -> String {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::Unknown { nearest: None, known } => format!("remove it; known here: {}", known.join(", ")),
            Self::Missing { example, .. } => format!("add it, as in {example}"),
            Self::Type { example, .. } => format!("write it as in {example}"),
        }
    }
}

/// A value that is wrong whatever else the file says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    #[error("{value} is {}", error.problem())]
    Grammar { value: String, error: GrammarError },
    #[error("{value} is out of range")]
    OutOfRange { value: String, lowest: String, highest: String },
    #[error("{value} is written twice")]
    Repeated { value: String },
    #[error("an empty list")]
    Empty { remedy: &'static str },
    #[error("{value} is not the name of a network interface")]
    InterfaceName { value: String },
    #[error("{value} is not an absolute path")]
    RelativePath { value: String },
    #[error("the path is too long for a socket")]
    SocketPathTooLong { most: usize },
    #[error("{value} is nothing that can be done")]
    Deny { value: String },
    #[error("{value} is nothing a list can do")]
    Action { value: String },
    #[error("{value} is no way to challenge a source")]
    Challenge { value: String },
    #[error("{value} is nowhere to look for listeners")]
    Namespaces { value: String },
    #[error("not a note of one line and at most {most} characters")]
    Note { most: usize },
}

impl ValueProblem {
    fn remedy(&self) -> String {
        match self {
            Self::Grammar { error, .. } => error.remedy(),
            Self::OutOfRange { lowest, highest, .. } => format!("write {lowest} to {highest}"),
            Self::Repeated { .. } => "remove one of the two".into(),
            Self::Empty { remedy } => (*remedy).into(),
            Self::InterfaceName { .. } => {
                "write interfaces = \"auto\", or a list of names as `ip link` shows them, as in [\"eth0\"]".into()
            }
            Self::RelativePath { .. } => "write the whole path, from / on".into(),
            Self::SocketPathTooLong { most } => format!("write a path of at most {most} bytes"),
            Self::Deny { .. } => "write deny = \"reset\" or deny = \"drop\"".into(),
            Self::Action { .. } => "write action = \"block\" or action = \"allow\"".into(),
            Self::Challenge { .. } => {
                "write challenge = \"reset\", challenge = \"retry\" or challenge = \"off\"".into()
            }
            Self::Namespaces { .. } => {
                "write namespaces = \"host\", or namespaces = \"all\" where listeners run in containers".into()
            }
            Self::Note { .. } => "shorten it, and leave out line breaks and other control characters".into(),
        }
    }
}

/// A service as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceProblem {
    #[error("{value} is not the name of a service")]
    Name { value: String },
    #[error("a service without ports")]
    NoPorts { nearest: Option<String> },
    #[error("port {port} to the same destination belongs to {service} already ({})", place(*line))]
    PortTaken { port: u16, service: String, line: Option<usize> },
    #[error("{service} listens on port {port} already ({})", place(*line))]
    ListenerTaken { port: u16, service: String, line: Option<usize> },
    #[error("{count} listen ports, but at most {MOST_LISTEN_PORTS} fit")]
    TooManyListenPorts { count: usize },
    /// Only ever a warning.
    #[error("connections are counted only where the listener is on this machine, and `to` names networks")]
    ListenerElsewhere,
    #[error("service number {count}, but at most {MOST_SERVICES} fit")]
    TooMany { count: usize },
    #[error("no service is left")]
    None,
    #[error("the IPv{family} prefix of a source, /{source_len}, is shorter than that of its network, /{network_len}")]
    PrefixOrder { family: u8, source_len: u8, network_len: u8 },
}

impl ServiceProblem {
    fn remedy(&self) -> String {
        match self {
            Self::Name { .. } => {
                format!("write at most {LONGEST_SERVICE_NAME} of the characters a-z, 0-9, - and _")
            }
            Self::NoPorts { nearest: Some(nearest) } => {
                format!("did you mean services.{nearest}? A new service needs its ports, as in ports = [2525]")
            }
            Self::NoPorts { nearest: None } => "add the ports, as in ports = [2525]".into(),
            Self::PortTaken { .. } => {
                "give the port to one of the two, or separate their destinations with `to`".into()
            }
            Self::ListenerTaken { .. } => {
                "give each service listen ports of its own: by them its connections are told apart".into()
            }
            Self::TooManyListenPorts { .. } => "divide them between several services".into(),
            Self::ListenerElsewhere => "remove it, unless `to` names addresses of this machine".into(),
            Self::TooMany { .. } => {
                "put ports with the same limits into one service, or switch a built-in one off with enabled = false"
                    .into()
            }
            Self::None => "leave at least one service enabled".into(),
            Self::PrefixOrder { network_len, .. } => {
                format!("write a source prefix of at least {network_len}, or a shorter network prefix")
            }
        }
    }
}

/// A rate and a burst that do not work together, or not at their level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitProblem {
    #[error("{value} is not a limit")]
    Form { value: String },
    #[error("{count} limits, but the {level} level holds at most {}", level.most_limits())]
    TooMany { level: Level, count: usize },
    #[error("{rate} is too fast for the {level} level")]
    TooFast { rate: Rate, level: Level, fastest: u32 },
    #[error("{rate} is too slow: no burst drains within {}", seconds(LONGEST_DRAIN))]
    TooSlow { rate: Rate },
    #[error(
        "a burst of {} is too small for {}: the kernel clock ticks every {}",
        limit.burst, limit.rate, seconds(*clock_tick)
    )]
    BurstTooSmall { limit: Limit, clock_tick: Duration, smallest: u64 },
    #[error(
        "a burst of {} at {} takes {} to drain, more than {}",
        limit.burst, limit.rate, seconds(limit.drain()), seconds(LONGEST_DRAIN)
    )]
    DrainTooLong { limit: Limit, largest: u64 },
    /// Only ever a warning.
    #[error("the network limit {network} is smaller than the source limit {source_limit}")]
    NetworkSmaller { network: Limit, source_limit: Limit },
    /// Only ever a warning.
    #[error("{loose} never acts beside {tight}")]
    NeverActs { loose: Limit, tight: Limit },
}

impl LimitProblem {
    fn remedy(&self) -> String {
        match self {
            Self::Form { .. } => "write { rate = \"300/min\", burst = 300 }, or \"off\"".into(),
            Self::TooMany { level, .. } => match level.most_limits() {
                1 => "keep one".into(),
                most => format!("keep {most}, a short and a long window"),
            },
            Self::TooFast { fastest, .. } => format!("write a rate of at most {fastest}/s"),
            Self::TooSlow { .. } => "write a rate of at least 2/day".into(),
            Self::BurstTooSmall { smallest, .. } => format!("write a burst of at least {smallest}"),
            Self::DrainTooLong { largest, .. } => {
                format!("write a burst of at most {largest}, or a faster rate")
            }
            Self::NetworkSmaller { .. } => {
                "one source alone can use up what its whole network may: write a larger network limit".into()
            }
            Self::NeverActs { .. } => {
                "of two limits let one have the faster rate and the other the larger burst, or remove one".into()
            }
        }
    }
}

/// The lists `trust`, `allow` and `block`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    #[error("no service is called {value}")]
    UnknownService { value: String, nearest: Option<String>, known: Vec<String> },
    #[error("{network} stands in {kind} and in {other}{}", at_line(*line))]
    Contradiction { kind: EntryKind, network: Network, other: EntryKind, line: Option<usize> },
    /// An error for `block`, a warning for `allow`, which is merely superfluous then.
    #[error("{kind} {network} can never act: it lies inside {other} {outer}{}", at_line(*line))]
    NeverActs { kind: EntryKind, network: Network, other: EntryKind, outer: Network, line: Option<usize> },
    /// Only ever a warning: another machine may not need it.
    #[error("block {network} can never act: nothing blocks {guarded}")]
    Guarded { network: Network, guarded: String },
    /// Only ever a warning.
    #[error("{network} stands in {kind} already{}", at_line(*line))]
    ListedTwice { kind: EntryKind, network: Network, line: Option<usize> },
    /// Only ever a warning.
    #[error("{network} blocks every {} address that is neither trusted nor allowed", family(*network))]
    BlocksEverything { network: Network },
}

impl EntryProblem {
    fn remedy(&self) -> String {
        match self {
            Self::UnknownService { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::UnknownService { nearest: None, known, .. } => format!("write one of {}", known.join(", ")),
            Self::Contradiction { .. } => "keep it in one of the two, or give them different services".into(),
            Self::NeverActs { kind, other, .. } => {
                format!("remove it from {kind}, or make the network in {other} smaller")
            }
            Self::Guarded { .. } => "remove it from block".into(),
            Self::ListedTwice { .. } => "remove one of the two".into(),
            Self::BlocksEverything { .. } => "write a smaller network, or only the services it is meant for".into(),
        }
    }
}

/// The tables under `[[lists]]`, and what names them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListProblem {
    #[error("{value} is not the name of a list")]
    Name { value: String },
    #[error("another list is called {name} already")]
    NameTaken { name: String },
    #[error("more than {MOST_LISTS} lists")]
    TooMany,
    #[error("{value} is neither an absolute path nor an http or https URL")]
    Source { value: String },
    #[error("not one to {most} sources")]
    Sources { most: usize },
    #[error("no preset is called {value}")]
    UnknownPreset { value: String, nearest: Option<&'static str>, known: Vec<&'static str> },
    #[error("{value} is not a format")]
    Format { value: String, nearest: Option<&'static str>, known: Vec<&'static str> },
    #[error("fetched more often than its publisher allows")]
    TooOften { least_s: u64 },
    #[error("no list is called {value}")]
    Unknown { value: String, nearest: Option<String> },
    #[error("the list {name} blocks, so it cannot say who may connect")]
    NotAllowing { name: String },
    #[error("a list that allows has no packets to stop")]
    AllPacketsOfAllow,
    /// Only ever a warning.
    #[error("the list acts on {service}, and such feeds hold many home connections of ordinary customers")]
    Customers { service: String },
    /// Only ever a warning.
    #[error("{network}, a network of this machine, is not among those who may connect")]
    CutsOff { network: Network },
}

impl ListProblem {
    fn remedy(&self) -> String {
        match self {
            Self::Name { .. } => {
                format!("write at most {LONGEST_LIST_NAME} of the characters a-z, 0-9, - and _, and not only digits")
            }
            Self::NameTaken { .. } => "give one of the two another name".into(),
            Self::TooMany => "read several files as one list: from = [\"/one\", \"/two\"], or a directory".into(),
            Self::Source { .. } => "write from = \"/path\", or from = \"https://example.org/list.txt\"".into(),
            Self::Sources { .. } => "write at least one, or split the list".into(),
            Self::UnknownPreset { nearest: Some(nearest), .. } | Self::Format { nearest: Some(nearest), .. } => {
                format!("did you mean {nearest}?")
            }
            Self::UnknownPreset { nearest: None, known, .. } | Self::Format { nearest: None, known, .. } => {
                format!("write one of {}", known.join(", "))
            }
            Self::TooOften { least_s } => {
                format!("write at least {}, or leave the key out", seconds(Duration::from_secs(*least_s)))
            }
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::Unknown { nearest: None, .. } => "write a network, or define the list under [[lists]]".into(),
            Self::NotAllowing { .. } => "give the list action = \"allow\"".into(),
            Self::AllPacketsOfAllow => "remove all_packets, or write action = \"block\"".into(),
            Self::Customers { .. } => "leave `services` out to act on smtp alone".into(),
            Self::CutsOff { .. } => "add it to only_from or to trust if it should reach the service".into(),
        }
    }
}

/// The table `[export]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportProblem {
    #[error("bans are exported, and nobody to write to is named")]
    NoContact,
    #[error("{value} is not a contact")]
    Contact { value: String },
}

impl ExportProblem {
    fn remedy(&self) -> String {
        match self {
            Self::NoContact => "add contact = \"postmaster@example.org\": who is banned by mistake needs it".into(),
            Self::Contact { .. } => {
                format!("write an address or a URL of at most {LONGEST_CONTACT} characters, without spaces and $")
            }
        }
    }
}

/// The tables under `[reputation]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReputationProblem {
    #[error("{value} is nothing that can be done about a listed source")]
    Verdict { value: String },
    #[error("answers would be remembered for {min} at least and {max} at most")]
    TtlOrder { min: Span, max: Span },
    #[error("{value} is not the address of a resolver")]
    Resolver { value: String },
    #[error("more than {most} resolvers")]
    TooManyResolvers { most: usize },
    #[error("{value} is not the name of a DNSBL")]
    Name { value: String },
    #[error("another DNSBL is called {name} already")]
    NameTaken { name: String },
    #[error("more than {MOST_DNSBLS} DNSBLs")]
    TooMany,
    #[error("no preset is called {value}")]
    UnknownPreset { value: String, nearest: Option<&'static str>, known: Vec<&'static str> },
    #[error("{value} is not the name of a zone")]
    Zone { value: String },
    #[error("{zone} must not be asked: it was {end}")]
    Dead { zone: String, end: &'static str, instead: Option<&'static str> },
    #[error("the zone of another preset, {preset}")]
    ZoneOfOther { preset: &'static str },
    /// Without the zone: it may hold the key.
    #[error("a zone under dq.spamhaus.net is asked with a key, which is a secret and not for this file")]
    KeyInZone,
    #[error("{preset} answers nobody without a key")]
    KeyMissing { preset: &'static str },
    #[error("{preset} is asked without a key")]
    KeyUnused { preset: &'static str },
    /// Only ever a warning: the file may be there by the time it is needed.
    #[error("{error}")]
    KeyUnreadable { error: String },
    #[error("the name of the zone leaves no room for a key")]
    NoRoomForKey,
    #[error("not one to {most} codes")]
    Codes { most: usize },
    #[error("{value} is {}", error.problem())]
    Code { value: String, error: GrammarError },
    #[error("{value} matches nothing in 127.0.0.0/8, where all answers lie")]
    NeverMatches { value: String },
    #[error("a weight of 0")]
    WeightZero,
    #[error("{preset} lists good senders, so {code} cannot weigh against one")]
    AgainstGood { preset: &'static str, code: Code },
    #[error("{value} is not an address")]
    Test { value: String },
    #[error("{address} would have to be listed and not listed")]
    TestBoth { address: IpAddr },
    #[error("more than {most} test entries")]
    TooManyTests { most: usize },
    #[error(
        "{preset} may act on port 25 alone, and {service} has port {port}: it lists home connections of ordinary \
         customers, who would be locked out"
    )]
    Port25Alone { preset: &'static str, service: String, port: u16 },
    #[error("{other} scores the same {data} data for {service} already")]
    SameData { other: String, data: &'static str, service: String },
    /// Only ever a warning.
    #[error(
        "nothing is ever done for {service}: all its DNSBLs together weigh {most}, less than its threshold {threshold}"
    )]
    NeverReached { service: String, most: i32, threshold: i32 },
}

impl ReputationProblem {
    fn remedy(&self) -> String {
        match self {
            Self::Verdict { .. } => "write action = \"note\", action = \"limit\" or action = \"ban\"".into(),
            Self::TtlOrder { .. } => "write a min that is not longer than max".into(),
            Self::Resolver { .. } => {
                "write an address, with a port unless it is 53: \"127.0.0.1\", \"[::1]:5353\"".into()
            }
            Self::TooManyResolvers { most } => format!("keep at most {most}"),
            Self::Name { .. } => {
                format!("write at most {LONGEST_LIST_NAME} of the characters a-z, 0-9, - and _, and not only digits")
            }
            Self::NameTaken { .. } => "give one of the two another name".into(),
            Self::TooMany => "remove those that tell least".into(),
            Self::UnknownPreset { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::UnknownPreset { nearest: None, known, .. } => format!("write one of {}", known.join(", ")),
            Self::Zone { .. } => {
                format!("write a DNS name of at most {LONGEST_ZONE} bytes; what answers mean belongs into `codes`")
            }
            Self::Dead { instead: Some(preset), .. } => format!("use preset {preset}"),
            Self::Dead { instead: None, .. } => "remove it".into(),
            Self::ZoneOfOther { preset } => format!("leave the zone out, or write preset = \"{preset}\""),
            Self::KeyInZone => {
                "write the preset, as in preset = \"spamhaus-zen\", and the key into a file that key_file names".into()
            }
            Self::KeyMissing { .. } => {
                "write the key into a file, and name it as in key_file = \"/etc/ratelimit/spamhaus.key\"".into()
            }
            Self::KeyUnused { .. } => "remove key_file".into(),
            Self::KeyUnreadable { .. } => "without it the DNSBL is not asked, and weighs nothing".into(),
            Self::NoRoomForKey => format!("write a zone of at most {LONGEST_ZONE_WITH_KEY} bytes"),
            Self::Codes { .. } => "write at least one, or join several into one: 127.0.0.[2;4..7]".into(),
            Self::Code { error, .. } => error.remedy(),
            Self::NeverMatches { .. } => "write a code that begins with 127".into(),
            Self::WeightZero => "leave out what should not count".into(),
            Self::AgainstGood { .. } => "write a negative weight".into(),
            Self::Test { .. } => "write an address: 127.0.0.2, ::ffff:127.0.0.2".into(),
            Self::TestBoth { .. } => "remove it from one of the two".into(),
            Self::TooManyTests { most } => format!("keep at most {most}"),
            Self::Port25Alone { .. } => {
                "take the service out; on ports of your customers only spamhaus-authbl and spamhaus-drop may act".into()
            }
            Self::SameData { .. } => "remove one of the two, or give them different services".into(),
            Self::NeverReached { .. } => "add another DNSBL, give its codes more weight, or lower the threshold".into(),
        }
    }
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(|| "built in".into(), |line| format!("line {line}"))
}

fn family(network: Network) -> &'static str {
    if network.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// In the largest unit that leaves no fraction worth reading.
fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0 if duration.subsec_nanos().is_multiple_of(1_000_000) => format!("{} ms", duration.subsec_millis()),
        0 => format!("{} µs", duration.subsec_micros()),
        1..=119 => format!("{whole} s"),
        120..=7_199 => format!("{} min", whole / 60),
        _ => format!("{} h", whole / 3_600),
    }
}
