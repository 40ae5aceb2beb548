use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Scope;
use super::grammar::{ByteSize, Duration, Mode};
use super::preset::Preset;

/// A list of networks that somebody keeps: where it comes from, how it reads, and what is done by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// At most [`LONGEST_LIST_NAME`] of the characters a-z, 0-9, - and _.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Read or fetched together, and good only together. Never empty.
    pub from: Vec<Source>,
    /// `None` recognises it.
    pub format: Option<Format>,
    /// How often it is fetched; local files are watched besides.
    pub refresh: Duration,
    pub services: Scope,
    pub action: Action,
    /// Whether it also stops packets of open connections.
    pub all_packets: bool,
    /// `observe` here, at the service or for the whole gate wins.
    pub mode: Option<Mode>,
    /// An older copy weighs nothing.
    pub max_age: Duration,
    /// Of an address with a count, the least that is taken.
    pub min_count: u64,
    /// Whether entries may lie in private or reserved space.
    pub private: bool,
    pub change: Change,
    /// For fetching one URL, all in all.
    pub timeout: Duration,
    /// Of one file, and of what one URL gives.
    pub max_size: ByteSize,
}

/// How far a new copy may differ from the last good one before it must be confirmed. 0 switches a side off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Percent of the addresses that may go.
    pub lost_percent: u32,
    /// How many times as many there may be.
    pub grown_times: u32,
}

/// Where a list comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Source {
    /// A file, or a directory of which every file is read.
    Path(PathBuf),
    /// http or https.
    Url(Url),
}

/// What is done about a network of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    #[default]
    Block,
    Allow,
}

/// How a list reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// An address, a network or a range a line; `#` and `;` begin comments. FireHOL's netsets too.
    Plain,
    /// An address, a tab or blanks, and a count.
    Count,
    /// Spamhaus DROP as text: a network, `;`, its SBL number.
    Drop,
    /// Spamhaus DROP as NDJSON, with a trailer that says how many there are.
    DropJson,
    /// A zone of rbldnsd: ip4set, ip4trie, ip6tset, ip6trie.
    Rbldnsd,
    /// Decisions of CrowdSec in JSON.
    Crowdsec,
    /// A report of Shadowserver in CSV.
    Shadowserver,
}

pub const MOST_LISTS: usize = 64;
pub const LONGEST_LIST_NAME: usize = 31;
/// Nobody's file changes more often, and nobody's server likes to be asked more often.
const SHORTEST_REFRESH: std::time::Duration = std::time::Duration::from_secs(60);
/// Spamhaus bars who fetches more often, wherever the address is written.
const SPAMHAUS_H: u64 = 1;

impl List {
    /// A list as it is where nothing else is said of it.
    pub fn new(name: &str, from: Vec<Source>) -> Self {
        Self {
            name: name.to_owned(),
            preset: None,
            from,
            format: None,
            refresh: Duration::hours(1),
            services: Scope::Services(vec!["smtp".to_owned()]),
            action: Action::Block,
            all_packets: false,
            mode: None,
            max_age: Duration::hours(7 * 24),
            min_count: 1,
            private: false,
            change: Change::default(),
            timeout: Duration::seconds(120),
            max_size: ByteSize::from_mib(64),
        }
    }

    /// A list as a preset has it.
    pub fn of_preset(name: &str, preset: Preset) -> Self {
        let facts = preset.facts();
        let list = Self::new(name, facts.from.iter().filter_map(|url| Some(Source::Url(url.parse().ok()?))).collect());
        let services = if facts.all_services { Scope::All } else { list.services.clone() };
        Self {
            preset: Some(preset),
            format: Some(facts.format),
            refresh: Duration::hours(facts.refresh_h),
            max_age: Duration::hours(facts.max_age_h),
            min_count: facts.min_count,
            services,
            ..list
        }
    }

    /// How often it is fetched at most: what its publisher asks for, and a minute in any case.
    pub fn least_refresh(&self) -> std::time::Duration {
        self.publisher_limit().max(SHORTEST_REFRESH)
    }

    /// How often its publisher lets it be fetched, whoever asks; zero if it says nothing about that.
    pub fn publisher_limit(&self) -> std::time::Duration {
        let is_spamhaus = |source: &Source| match source {
            Source::Url(url) => {
                url.host_str().is_some_and(|host| host == "spamhaus.org" || host.ends_with(".spamhaus.org"))
            }
            Source::Path(_) => false,
        };
        let of_preset = self.preset.map_or(0, |preset| preset.facts().least_refresh_h);
        let of_host = if self.from.iter().any(is_spamhaus) { SPAMHAUS_H } else { 0 };
        let hours = if self.is_remote() { of_preset.max(of_host) } else { 0 };
        Duration::hours(hours).as_std()
    }

    /// Whether anything of it is fetched from elsewhere.
    pub fn is_remote(&self) -> bool {
        self.from.iter().any(|source| matches!(source, Source::Url(_)))
    }
}

impl Default for Change {
    fn default() -> Self {
        Self { lost_percent: 50, grown_times: 10 }
    }
}

impl Action {
    pub const ALL: [Self; 2] = [Self::Block, Self::Allow];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Allow => "allow",
        }
    }
}

impl Format {
    pub const ALL: [Self; 7] =
        [Self::Plain, Self::Count, Self::Drop, Self::DropJson, Self::Rbldnsd, Self::Crowdsec, Self::Shadowserver];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Count => "count",
            Self::Drop => "drop",
            Self::DropJson => "drop-json",
            Self::Rbldnsd => "rbldnsd",
            Self::Crowdsec => "crowdsec",
            Self::Shadowserver => "shadowserver",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => out.pad(&path.display().to_string()),
            // A key in it is nobody else's business.
            Self::Url(url) => out.pad(&masked(url)),
        }
    }
}

/// A URL without what may be secret in it: user, password, query.
fn masked(url: &Url) -> String {
    let mut url = url.clone();
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user && (url.set_username("***").is_err() || url.set_password(None).is_err()) {
        return format!("{}://…", url.scheme());
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.to_string()
}
