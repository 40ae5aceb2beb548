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
//! | `GET /v1/config` | | [`ConfigView`] |
//! | `POST /v1/reload` | | [`Reloaded`] |
//! | `POST /v1/detach` | | [`Detached`] |
//!
//! A client that runs under an SSH connection names its peer in the header [`PEER_HEADER`]; nothing blocks that address then.
//!
//! Whatever is refused comes with status 4xx or 5xx and a [`Refused`].

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::bans::By;
use crate::config::{Action, Burst, Connections, Duration, EntryKind, Level, Limit, Mode, Network, Rate};
use crate::lists::screen::Refusals;

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

/// How hard pressed a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Whether completed handshakes of it were ever seen; without, it is suspect for nothing but its own limit.
    pub watched: bool,
    /// Whether unproven sources are challenged.
    pub suspect: bool,
    /// Connections that wait for their handshake, estimated.
    pub half_open: u32,
    /// How many of them make it suspect: half of what its listener can hold.
    pub half_open_most: u32,
    /// Connections that are open, of all sources.
    pub connections: u64,
}

/// What is known of sources, and what suspects were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStatus {
    /// Why handshakes are not watched, where they should be.
    pub unwatched: Option<String>,
    /// Sources that completed a handshake in the last 30 days: IPv4 addresses and IPv6 /64s.
    pub proven: u64,
    /// How many there is room for.
    pub proven_most: u64,
    /// Sources that were not noted as proven: no room, or too many of their /48.
    pub not_noted: u64,
    pub not_noted_of_site: u64,
    /// Handshakes seen since the filter was first loaded.
    pub handshakes: u64,
    /// Connections that are open now, and those of them that are older than the filter.
    pub connections: u64,
    pub older: u64,
    /// Connections that were not counted: no room.
    pub not_counted: u64,
    pub challenges: Challenges,
}

/// What suspects were asked, since the filter was first loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenges {
    pub sent: u64,
    pub answered: u64,
    /// Sent and not answered (yet).
    pub unanswered: u64,
    /// Suspects that could not be asked (`challenge_rate`).
    pub over_budget: u64,
    /// First SYNs that were dropped to see whether they are repeated.
    pub awaited: u64,
    /// Tickets that are good now.
    pub tickets: u64,
    /// Connections let in with a ticket, and as repetitions.
    pub ticketed: u64,
    pub repeated: u64,
    /// Repetitions that were not let in (`retry_rate`).
    pub retries_over_budget: u64,
    /// Packets of no connection that were dropped.
    pub strays: u64,
}

/// By what sources are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SourcesBy {
    /// Those with the most open connections
    #[default]
    Connections,
    /// Those with the most refusals among the latest sampled events
    Drops,
    /// Those of the latest sampled events
    Last,
}

impl SourcesBy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Drops => "drops",
            Self::Last => "last",
        }
    }
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    pub source: Network,
    pub service: String,
    /// Connections that are open now, and how many may be.
    pub connections: u64,
    pub most: Option<u64>,
    /// Sampled events in which it was refused: at any rate only some of the refusals.
    pub drops: u64,
    /// The latest sampled event: when (RFC 3339), and its reason.
    pub last: Option<String>,
    pub reason: Option<String>,
    pub proven: bool,
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
    pub interface: String,
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
    pub levels: Vec<LevelExplanation>,
    /// Connections that it has open.
    pub connections: u64,
    /// How many it may have.
    pub connections_most: Option<u64>,
    /// Whether the service is suspect, so that unproven sources are challenged.
    pub suspect: bool,
}

/// What a source has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenView {
    /// RFC 3339: its last handshake.
    pub last: String,
    /// RFC 3339: when a connection ended in which both sides said something.
    pub exchanged: Option<String>,
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
    /// The services that still refuse the address, each with why.
    pub still_refused: Vec<ServiceExplanation>,
}

/// Whether a list weighs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListState {
    InForce,
    /// Its last good copy is older than its `max_age`.
    Expired,
    /// It was never read.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListView {
    pub name: String,
    pub preset: Option<String>,
    /// Files and URLs, without secrets.
    pub from: Vec<String>,
    /// What its parts were read as.
    pub formats: Vec<String>,
    /// Empty means all services.
    pub services: Vec<String>,
    pub action: Action,
    pub all_packets: bool,
    pub mode: Option<Mode>,
    pub state: ListState,
    /// Lines or records that name networks.
    pub entries: u64,
    /// Networks that they come to, after refusals.
    pub networks: u64,
    /// RFC 3339: when the copy in force came.
    pub fetched: Option<String>,
    /// RFC 3339: when the sources last held this copy.
    pub confirmed: Option<String>,
    /// RFC 3339: when the copy weighs nothing any more unless it is confirmed.
    pub expires: Option<String>,
    /// RFC 3339.
    pub next_refresh: String,
    /// Why the latest refresh brought nothing new into force.
    pub problem: Option<String>,
    /// Good lines that list nothing: too small a count, a time that is over, a country.
    pub left_out: u64,
    pub bad_lines: u64,
    /// The first bad lines.
    pub bad: Vec<BadLine>,
    pub refused: Refusals,
    pub waiting: Option<WaitingCopy>,
    /// Copyright and terms, as the publisher writes them.
    pub notices: Vec<String>,
    /// Connections that it stopped, or would have in enforce.
    pub hits: u64,
    /// RFC 3339.
    pub last_hit: Option<String>,
}

/// A line of a list that does not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    pub file: String,
    pub line: u64,
    pub text: String,
    pub problem: String,
}

/// A copy that differs suddenly from the last good one, and waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCopy {
    pub entries: u64,
    pub why: String,
    /// RFC 3339: when it came.
    pub seen: Vec<String>,
}

/// What a list says of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMatch {
    pub list: String,
    pub action: Action,
    /// Empty means all services.
    pub services: Vec<String>,
    pub network: Network,
    /// Whether the list acts on the address.
    pub in_force: bool,
    /// Whether the line takes the address out of the list.
    pub excludes: bool,
    pub file: Option<String>,
    pub line: Option<u64>,
    pub text: Option<String>,
    /// RFC 3339: when the copy of the list weighs nothing any more unless it is confirmed.
    pub expires: Option<String>,
}

/// How far a refresh is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ListProgress {
    Receiving { list: String, received_bytes: u64, total_bytes: Option<u64> },
    Done { list: String, outcome: String, failed: bool },
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
