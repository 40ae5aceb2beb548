//! The configuration: one TOML file becomes a validated, typed [`Config`], or a list of everything
//! that is wrong with it. Nothing here looks at the machine; whether an interface exists is asked
//! by whoever attaches to it.

mod check;
mod diagnostic;
mod dnsbl_preset;
mod export;
pub mod grammar;
mod limit;
mod list;
mod preset;
mod problem;
mod proof;
mod read;
mod render;
mod reputation;
mod service;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration as StdDuration;

use serde::{Deserialize, Serialize, Serializer};

pub use diagnostic::{ConfigErrors, Diagnostic, Position};
pub use dnsbl_preset::{DnsblFacts, DnsblPreset};
pub use export::{Export, LONGEST_CONTACT};
pub use grammar::{
    Burst, ByteSize, Code, Connections, Duration, GrammarError, Mode, Network, Pattern, Period, Rate, fold_address,
};
pub use limit::{FASTEST_CELL_PER_SECOND, FASTEST_SERVICE_PER_SECOND, LONGEST_DRAIN, Level, Limit};
pub use list::{Action, Change, Format, LONGEST_LIST_NAME, List, MOST_LISTS, Source};
pub use preset::{Facts, Preset};
pub use problem::{
    EntryProblem, FileProblem, KeyProblem, LimitProblem, ListProblem, Problem, ReputationProblem, ServiceProblem,
    ValueProblem,
};
pub use proof::{Challenge, FEWEST_PROVEN_SOURCES, MOST_PROVEN_SOURCES, Namespaces, Proof};
pub use reputation::{
    Dnsbl, FEWEST_ANSWERS, Fault, LONGEST_ZONE, LONGEST_ZONE_WITH_KEY, Listed, MOST_ANSWERS, MOST_DNSBLS, MOST_RECORDS,
    Reading, Reputation, ServiceReputation, Tests, Verdict,
};
pub use service::{
    DEFAULT_SERVICES, Deny, Destination, LONGEST_SERVICE_NAME, MOST_LISTEN_PORTS, MOST_SERVICES, Permit, Prefix,
    Service,
};

/// Where the configuration is looked for. A file missing here means the built-in defaults.
pub const DEFAULT_PATH: &str = "/etc/ratelimit/ratelimit.toml";
/// The kernel's coarse clock at HZ=250, the most common setting.
pub const DEFAULT_CLOCK_TICK: StdDuration = StdDuration::from_millis(4);

/// Everything the gate is told, checked. `Config::default()` observes the mail ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    pub interfaces: Interfaces,
    pub mode: Mode,
    /// For the cells of all services together.
    pub memory: ByteSize,
    /// The most sampled events the kernel reports; 0 reports none.
    pub events_per_second: u32,
    pub trust: Vec<Entry>,
    pub allow: Vec<Entry>,
    pub block: Vec<Entry>,
    /// Networks that nothing blocks, besides those that are found: own addresses, gateways, resolvers.
    pub never_block: Vec<Network>,
    /// At most [`MOST_LISTS`], no name twice.
    pub lists: Vec<List>,
    pub paths: Paths,
    pub proof: Proof,
    pub export: Export,
    /// Asks nobody unless it names a DNSBL.
    pub reputation: Reputation,
    /// The built-in ones first in their own order, then the file's in its order. 1 to 16.
    pub services: Vec<Service>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// Those that hold a default route.
    Auto,
    /// Never empty, none twice.
    Named(Vec<String>),
}

/// A network in `trust`, `allow` or `block`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub network: Network,
    pub services: Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The services an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Names of configured services. Never empty, none twice.
    Services(Vec<String>),
}

/// The three hand-made lists, in the order they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    Trust,
    Allow,
    Block,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Paths {
    pub socket: PathBuf,
    /// A directory in a bpffs.
    pub pins: PathBuf,
    pub state: PathBuf,
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// In file order. What works, but perhaps not as meant.
    pub warnings: Vec<Diagnostic>,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    BuiltIn,
    File(PathBuf),
}

impl Config {
    /// Reads a file, for a kernel with the usual clock. A file missing at [`DEFAULT_PATH`] is the
    /// built-in configuration; missing anywhere else it is an error.
    pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
        Self::load_for(path, DEFAULT_CLOCK_TICK)
    }

    /// [`Config::load`] for a kernel whose coarse clock advances every `clock_tick`.
    pub fn load_for(path: &Path, clock_tick: StdDuration) -> Result<Loaded, ConfigErrors> {
        let name = path.display().to_string();
        let bytes = match read_file(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => {
                return Ok(Loaded { config: Self::default(), warnings: Vec::new(), origin: Origin::BuiltIn });
            }
            Err(error) => return Err(ConfigErrors::unreadable(name, &error)),
        };
        if bytes.len() as u64 > LARGEST_FILE_BYTES {
            return Err(ConfigErrors::of_file(name, FileProblem::TooLarge));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            ConfigErrors::not_utf8(name.clone(), error.as_bytes(), valid)
        })?;
        let mut loaded = Self::parse_for(&text, &name, clock_tick)?;
        loaded.origin = Origin::File(path.to_path_buf());
        Ok(loaded)
    }

    /// Reads a text; `name` stands for the file in what is said about it.
    pub fn parse(text: &str, name: &str) -> Result<Loaded, ConfigErrors> {
        Self::parse_for(text, name, DEFAULT_CLOCK_TICK)
    }

    /// [`Config::parse`] for a kernel whose coarse clock advances every `clock_tick`.
    pub fn parse_for(text: &str, name: &str, clock_tick: StdDuration) -> Result<Loaded, ConfigErrors> {
        let (config, warnings) = read::read(text, name, clock_tick)?;
        Ok(Loaded { config, warnings, origin: Origin::File(PathBuf::from(name)) })
    }

    /// The whole of it as TOML that reads back as the same configuration.
    pub fn to_toml(&self) -> String {
        render::whole(self)
    }

    /// Only what differs from the built-in defaults, as TOML that reads back as the same
    /// configuration. Empty for the defaults.
    pub fn changed(&self) -> String {
        render::changed(self)
    }

    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.name == name)
    }

    /// Whether a service admits only who is in a list.
    pub fn is_permit(&self, list: &str) -> bool {
        let names = |permit: &Permit| matches!(permit, Permit::List(name) if name == list);
        self.services.iter().flat_map(|service| &service.only_from).any(names)
    }

    /// What holds for a service: `observe` at either level wins.
    pub fn mode_of(&self, service: &Service) -> Mode {
        service.mode.map_or(self.mode, |mode| mode.and(self.mode))
    }

    pub fn entries(&self, kind: EntryKind) -> &[Entry] {
        match kind {
            EntryKind::Trust => &self.trust,
            EntryKind::Allow => &self.allow,
            EntryKind::Block => &self.block,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Interfaces::Auto,
            mode: Mode::Observe,
            memory: ByteSize::from_mib(32),
            events_per_second: 200,
            trust: Vec::new(),
            allow: Vec::new(),
            block: Vec::new(),
            never_block: Vec::new(),
            lists: Vec::new(),
            paths: Paths::default(),
            proof: Proof::default(),
            export: Export::default(),
            reputation: Reputation::default(),
            services: DEFAULT_SERVICES.into_iter().filter_map(|(name, _)| Service::built_in(name)).collect(),
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/ratelimit/control.sock"),
            pins: PathBuf::from("/sys/fs/bpf/ratelimit"),
            state: PathBuf::from("/var/lib/ratelimit"),
        }
    }
}

impl EntryKind {
    pub const ALL: [Self; 3] = [Self::Trust, Self::Allow, Self::Block];

    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl Scope {
    pub fn includes(&self, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::Services(names) => names.iter().any(|name| name == service),
        }
    }
}

impl Serialize for Interfaces {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => out.serialize_str("auto"),
            Self::Named(names) => names.serialize(out),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => out.serialize_str("all"),
            Self::Services(names) => names.serialize(out),
        }
    }
}

/// Far above any hand-written file; a device node given by mistake must not fill the memory.
const LARGEST_FILE_BYTES: u64 = 4 << 20;

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
