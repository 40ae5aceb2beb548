//! What the controller and its clients say to each other: HTTP and JSON on a Unix socket.
//!
//! | method and path | asks | answers |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/events` | | one [`Event`] a line (NDJSON), as they come |
//! | `GET /v1/events?recent=N` | | `[Event]`, the last N at most |
//! | `GET /v1/explain?address=A&service=S` | | [`Explanation`] |
//! | `PUT /v1/mode` | [`SetMode`] | [`ModeView`] |
//! | `GET /v1/mode` | | [`ModeView`] |
//! | `POST /v1/confirm` | | [`ModeView`] |
//! | `GET /v1/limits` | | [`LimitsView`] |
//! | `PUT /v1/limits/SERVICE` | [`SetLimit`] | [`LimitsView`] |
//! | `DELETE /v1/limits/SERVICE?level=L` | | [`LimitsView`]; one level, with `connections=true` the connections, without either everything |
//! | `GET /v1/entries/KIND` | | `[EntryView]` |
//! | `POST /v1/entries/KIND` | [`EntryRequest`] | `[EntryView]` |
//! | `DELETE /v1/entries/KIND` | [`EntryRequest`], of which only the network counts | `[EntryView]` |
//! | `GET /v1/bans` | | `[BanView]` |
//! | `POST /v1/bans` | [`BanRequest`] | [`Banned`]; with `kill_failed` the ban is in force, and connections are left |
//! | `DELETE /v1/bans` | [`UnbanRequest`] | [`Unbanned`] |
//! | `GET /v1/sources?by=B&most=N` | | `[SourceView]` |
//! | `GET /v1/lists` | | `[ListView]` |
//! | `GET /v1/lists/test?address=A` | | `[ListMatch]` |
//! | `POST /v1/lists/refresh?list=L` | | one [`ListProgress`] a line (NDJSON) until all are done; all lists if none is named |
//! | `POST /v1/lists/accept?list=L` | | the same |
//! | `GET /v1/dnsbl` | | [`ReputationView`] |
//! | `GET /v1/dnsbl/check?address=A` | | [`DnsblCheck`]; asks the zones, within their budgets |
//! | `POST /v1/dnsbl/pause` | [`PauseRequest`] | [`ReputationView`] |
//! | `POST /v1/dnsbl/resume` | [`ResumeRequest`] | [`ReputationView`] |
//! | `GET /v1/config` | | [`ConfigView`] |
//! | `POST /v1/reload` | | [`Reloaded`] |
//! | `POST /v1/detach` | | [`Detached`] |
//!
//! A client that runs under an SSH connection names its peer in the header [`PEER_HEADER`]; nothing blocks that address then.
//!
//! Whatever is refused comes with status 4xx or 5xx and a [`Refused`].

mod list;
mod proof;
mod reputation;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::bans::By;
use crate::config::{Burst, Connections, Duration, EntryKind, Level, Limit, Mode, Network, Rate};

pub use list::{BadLine, ListMatch, ListProgress, ListState, ListView, WaitingCopy};
pub use proof::{Challenges, Pressure, ProofStatus, ProvenView, SourceView, SourcesBy};
pub use reputation::{
    DnsblAnswer, DnsblCheck, DnsblView, ListingView, Pause, PauseRequest, ReputationView, ResumeRequest, ServiceOutcome,
};

/// One address. What cannot be read is ignored.
pub const PEER_HEADER: &str = "x-ratelimit-peer";

/// Why a request was not carried out. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is wrong and what to do, for a human.
    pub error: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// False when the answer comes from the pinned maps because no controller runs.
    pub controller: bool,
    pub pid: Option<u32>,
    /// Seconds since the controller started.
    pub uptime_s: Option<u64>,
    pub mode: ModeView,
    pub config: Option<PathBuf>,
    /// The last reload that was refused, while what was in force before stays in force.
    pub config_error: Option<String>,
    pub interfaces: Vec<InterfaceStatus>,
    pub services: Vec<ServiceStatus>,
    /// Frames that belong to no service, by reason.
    pub other: BTreeMap<String, Count>,
    pub memory_bytes: u64,
    pub entries: EntryCounts,
    pub proof: ProofStatus,
    /// None where no DNSBL is asked, and without a controller.
    #[serde(default)]
    pub reputation: Option<ReputationView>,
    /// Counts the configurations put in force since the gate was made.
    pub generation: u64,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    /// `native_frags`, `native` or `generic`; none if nothing is attached.
    pub attached: Option<String>,
    /// Why not in a better way.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: String,
    pub ports: Vec<u16>,
    /// What holds: `observe` at any level wins.
    pub mode: Mode,
    /// By reason; only reasons that occurred.
    pub counts: BTreeMap<String, Count>,
    /// New connections that were let in.
    pub admitted: u64,
    /// New connections of suspects that were asked to prove themselves, or would have been in enforce. Those who did are
    /// admitted by their next SYN.
    pub asked: u64,
    /// Frames that were dropped.
    pub refused: u64,
    /// Frames that would have been dropped in enforce.
    pub would_refuse: u64,
    pub pressure: Pressure,
}

/// Frames, since the gate was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub passed: u64,
    pub dropped: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryCounts {
    pub trust: usize,
    pub allow: usize,
    pub block: usize,
    /// Networks of all lists in force, those of trust, allow and block included.
    pub lists: u64,
    /// Those in force.
    pub bans: u64,
}

/// A sampled verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339, UTC, with milliseconds.
    pub at: String,
    pub reason: String,
    /// `pass`, `drop`, `reset` or `challenge`.
    pub action: String,
    pub mode: Mode,
    pub service: Option<String>,
    /// None where the frame did not show one.
    pub source: Option<IpAddr>,
    pub source_port: u16,
    pub destination: Option<IpAddr>,
    pub port: u16,
    /// Empty where no frame is told of.
    pub interface: String,
    /// What was found out, of `listed`: what the zones say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What would happen to the next connection of an address, service by service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub address: IpAddr,
    /// False when the answer comes from the pinned maps because no controller runs.
    pub controller: bool,
    pub services: Vec<ServiceExplanation>,
    /// Since when and by what it is proven; none if it is not.
    pub proven: Option<ProvenView>,
    /// The latest sampled verdicts about this address, newest first.
    pub recent: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceExplanation {
    pub service: String,
    pub mode: Mode,
    pub reason: String,
    /// The reason in a sentence.
    pub meaning: String,
    /// Whether it is refused where that is enforced. Who is only asked to prove itself is not.
    pub refused: bool,
    /// What happens in the mode that holds: `pass`, `drop`, `reset` or `challenge`.
    pub action: String,
    /// Every trust, allow and block entry the address is in.
    pub entries: Vec<EntryView>,
    /// Every ban the address is under.
    pub bans: Vec<BanView>,
    /// Every line of a list that says something of the address.
    pub lists: Vec<ListMatch>,
    /// What follows from what DNSBLs say of it, where that is anything.
    #[serde(default)]
    pub listing: Option<ListingView>,
    pub levels: Vec<LevelExplanation>,
    /// Connections that it has open.
    pub connections: u64,
    /// How many it may have.
    pub connections_most: Option<u64>,
    /// Whether the service is suspect, so that unproven sources are challenged.
    pub suspect: bool,
}

/// How far a source or network is into a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelExplanation {
    pub level: Level,
    /// The source or network that is counted.
    pub counted: Network,
    pub limit: Limit,
    /// Connections of the burst that are used up now.
    pub used: f64,
    /// Milliseconds until one more connection is admitted; 0 if one is now.
    pub wait_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMode {
    pub mode: Mode,
    /// One service, or all.
    pub service: Option<String>,
    /// Back to what was before after this time.
    #[serde(rename = "for")]
    pub for_: Option<Duration>,
    /// Back to what was before after this time unless confirmed.
    pub confirm: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeView {
    /// Of the gate as a whole.
    pub mode: Mode,
    /// Services with a mode of their own.
    pub services: BTreeMap<String, Mode>,
    /// Changes that go back to what was before by themselves.
    pub ends: Vec<ModeEnd>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeEnd {
    /// One service, or the gate as a whole.
    pub service: Option<String>,
    /// RFC 3339.
    pub until: String,
    /// Whether `ratelimit confirm` can still keep it.
    pub awaits_confirmation: bool,
}

/// Service by service in their order, levels from the source up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitsView {
    pub limits: Vec<LimitView>,
    pub connections: Vec<ConnectionsView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitView {
    pub service: String,
    pub level: Level,
    /// Empty when off; the short window first.
    pub limits: Vec<Limit>,
    /// What the configuration file (or the default) says, where a command changed it.
    pub configured: Option<Vec<Limit>>,
    /// RFC 3339: when the change by command ends.
    pub until: Option<String>,
    /// Forged connections a second from random sources that the cells of this level absorb before honest
    /// bursts lose more than one connection in a thousand. None for a whole service.
    pub capacity_per_s: Option<f64>,
}

/// How many connections one source may hold open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsView {
    pub service: String,
    /// A number or `off`.
    pub connections: Connections,
    /// What the configuration file (or the default) says, where a command changed it.
    pub configured: Option<Connections>,
    /// RFC 3339: when the change by command ends.
    pub until: Option<String>,
    /// Whether the service is `to` networks: connections are counted only where its listener is on this
    /// machine all the same.
    pub to_networks: bool,
}

/// A rate, a burst or both; or connections and nothing else of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLimit {
    /// Whose rate and burst; those of a source if none is named.
    pub level: Option<Level>,
    pub rate: Option<Rate>,
    pub burst: Option<Burst>,
    /// A number or `off`.
    pub connections: Option<Connections>,
    /// Back to what is configured after this time.
    #[serde(rename = "for")]
    pub for_: Option<Duration>,
}

/// What goes back to what is configured: everything if nothing is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetLimit {
    pub level: Option<Level>,
    #[serde(default)]
    pub connections: bool,
}

/// A network to add to or remove from `trust`, `allow` or `block`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRequest {
    pub network: Network,
    /// Empty means all services.
    #[serde(default)]
    pub services: Vec<String>,
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    pub kind: EntryKind,
    pub network: Network,
    /// Empty means all services.
    pub services: Vec<String>,
    pub note: Option<String>,
    /// `config` or `command`.
    pub by: String,
    /// RFC 3339, for those added by command.
    pub since: Option<String>,
    /// What a block takes in and spares all the same, each with why: this machine, and what it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<String>,
}

/// A ban to put in force; an earlier one of the same network for the same services is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRequest {
    pub network: Network,
    #[serde(rename = "for")]
    pub for_: Duration,
    /// Empty means all services.
    #[serde(default)]
    pub services: Vec<String>,
    #[serde(default)]
    pub note: Option<String>,
    /// Ends its open connections to these services too, except those that are allowed.
    #[serde(default)]
    pub kill: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanView {
    pub network: Network,
    /// Empty means all services.
    pub services: Vec<String>,
    pub by: By,
    pub note: Option<String>,
    /// RFC 3339.
    pub since: String,
    /// RFC 3339.
    pub until: String,
    /// Connections that it stopped, or would have in enforce. Bans of the same network are counted together: each has what
    /// came for any of them since it began.
    pub hits: u64,
    /// RFC 3339.
    pub last_hit: Option<String>,
}

/// A ban that was put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banned {
    #[serde(flatten)]
    pub ban: BanView,
    /// What it does not act on because it is allowed: the services, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<String>,
    /// Open connections that were ended, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed: Option<u64>,
    /// Why not all of them were. The ban is in force all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_failed: Option<String>,
}

/// Bans to end: those around an address and inside a network, or all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnbanRequest {
    pub network: Option<Network>,
    /// Of this author alone.
    pub by: Option<By>,
    /// Keeps automatic bans off the network for this time.
    pub protect: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unbanned {
    pub ended: Vec<BanView>,
    /// Sources that DNSBLs list, one for each service, to whom more was left than to who is banned: nothing is held against
    /// them any more.
    #[serde(default)]
    pub let_go: u64,
    /// The services that still refuse the address, each with why.
    pub still_refused: Vec<ServiceExplanation>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    /// The whole effective configuration, changes by command included.
    pub toml: String,
    /// Only what differs from the built-in defaults.
    pub changed: String,
    pub origin: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Services and networks that differ from what was in force, a line each.
    pub changes: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    pub interfaces: Vec<String>,
}

impl Event {
    /// That DNSBLs speak against a source, and what follows from it.
    pub fn of_listing(
        source: IpAddr,
        service: &str,
        action: crate::config::Verdict,
        mode: Mode,
        detail: String,
    ) -> Self {
        Self {
            at: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
            reason: "listed".to_owned(),
            action: action.name().to_owned(),
            mode,
            service: Some(service.to_owned()),
            source: Some(source),
            source_port: 0,
            destination: None,
            port: 0,
            interface: String::new(),
            detail: Some(detail),
        }
    }
}
