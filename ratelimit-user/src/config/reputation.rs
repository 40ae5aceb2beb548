use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dnsbl_preset::{DnsblFacts, DnsblPreset, Family, QUERIES, TestEntries, Weight};
use super::grammar::{Burst, Code, Duration, Mode, Pattern, Period, Rate};
use super::limit::Limit;

/// What DNSBLs say of sources that connected, and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reputation {
    /// The score from which on something is done, itself included.
    pub threshold: i32,
    pub action: Verdict,
    /// `observe` here, at the service or for the whole gate wins.
    pub mode: Option<Mode>,
    /// What a listed source may still do under [`Verdict::Limit`].
    pub limit: Limit,
    /// An answer is remembered for its own time, within these bounds.
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    /// Whether open connections of a listed source end.
    pub kill: bool,
    /// One deadline for all zones.
    pub timeout: Duration,
    /// How often the test entries of a zone are asked for.
    pub test_every: Duration,
    /// None means those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// The most answers that are remembered.
    pub answers: u32,
    pub services: BTreeMap<String, ServiceReputation>,
    /// At most [`MOST_DNSBLS`], no name twice.
    pub dnsbl: Vec<Dnsbl>,
}

/// What differs for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceReputation {
    pub threshold: Option<i32>,
    pub action: Option<Verdict>,
}

/// What is done about a source whose score reaches the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is told.
    Note,
    /// A tight limit: the mail server still answers with the reason, and the flood ends here.
    #[default]
    Limit,
    /// Nothing gets through, so the sender never learns why.
    Ban,
}

/// A zone that is asked, and how its answers count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dnsbl {
    /// At most [`super::LONGEST_LIST_NAME`] of the characters a-z, 0-9, - and _.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<DnsblPreset>,
    /// In lower case, without a final dot and without the key. At most [`LONGEST_ZONE`] bytes.
    pub zone: String,
    /// Holds the key, which is a secret and never part of the configuration.
    pub key_file: Option<PathBuf>,
    /// Never empty.
    pub codes: Vec<Code>,
    /// It is asked only about sources that connected to one of these.
    pub services: Vec<String>,
    pub tests: Tests,
    /// `None` is unlimited.
    pub queries_per_day: Option<u64>,
    /// The most queries that wait for an answer.
    pub concurrency: u32,
    /// Answers that are no reason to ban. Comes from what is known of the zone.
    pub never_ban: Vec<Pattern>,
    /// Whether `never_ban` is overruled.
    pub force_ban: bool,
    /// Answers that mean whoever asks is refused. Comes from what is known of the zone.
    pub errors: Vec<Pattern>,
    /// It is not asked and weighs nothing. By command alone.
    #[serde(skip)]
    pub is_paused: bool,
}

/// What a zone must list and what it must not, to be believed (RFC 5782 section 5). Without any there are no tests.
///
/// An IPv4-mapped address is asked for as IPv6. What must be listed may be so under any code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tests {
    pub listed: Vec<IpAddr>,
    pub unlisted: Vec<IpAddr>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    Unlisted,
    Listed(Listed),
    Faulty(Fault),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub weight: i32,
    /// Without what [`Dnsbl::never_ban`] adds, unless it is overruled.
    pub weight_for_ban: i32,
    /// The records that count, in order, none twice.
    pub codes: Vec<Ipv4Addr>,
}

/// Why an answer says nothing about its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error(
        "{0} is outside of 127.0.0.0/8: the zone is broken or expired, or the resolver invents answers; check the \
         zone and the resolver"
    )]
    Outside(Ipv4Addr),
    #[error("{} means that queries are refused: {}", .0, remedy(*.0))]
    Refused(Ipv4Addr),
    #[error("{0} records, more than the {MOST_RECORDS} that any list answers; check the zone and the resolver")]
    TooMany(usize),
}

pub const MOST_DNSBLS: usize = 16;
/// In front of it 32 nibbles of an IPv6 address fit into the 253 bytes of a name.
pub const LONGEST_ZONE: usize = 180;
/// The same with a label for the key.
pub const LONGEST_ZONE_WITH_KEY: usize = 120;
pub const FEWEST_ANSWERS: u32 = 1 << 10;
pub const MOST_ANSWERS: u32 = 1 << 24;
/// More in one answer are nobody's list.
pub const MOST_RECORDS: usize = 64;

const CONCURRENCY: u32 = 64;
/// Every code that lists use, were one written by hand without saying which.
const ANY_LISTING: &str = "127.[0..255].[0..255].[2..255]";

impl Default for Reputation {
    fn default() -> Self {
        Self {
            threshold: 3,
            action: Verdict::default(),
            mode: None,
            limit: LIMIT,
            ttl_min: Duration::seconds(60),
            ttl_max: Duration::hours(1),
            kill: false,
            timeout: Duration::seconds(2),
            test_every: Duration::seconds(300),
            resolvers: Vec::new(),
            answers: 1 << 18,
            services: BTreeMap::new(),
            dnsbl: Vec::new(),
        }
    }
}

const LIMIT: Limit = match (Rate::new(6, Period::Minute), Burst::new(3)) {
    (Some(rate), Some(burst)) => Limit { rate, burst },
    (None, _) | (_, None) => panic!("a limit of zero"),
};

impl Reputation {
    pub fn threshold_of(&self, service: &str) -> i32 {
        self.services.get(service).and_then(|service| service.threshold).unwrap_or(self.threshold)
    }

    pub fn action_of(&self, service: &str) -> Verdict {
        self.services.get(service).and_then(|service| service.action).unwrap_or(self.action)
    }
}

impl Verdict {
    pub const ALL: [Self; 3] = [Self::Note, Self::Limit, Self::Ban];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Limit => "limit",
            Self::Ban => "ban",
        }
    }
}

impl Dnsbl {
    /// A zone as it is where nothing else is said: as a preset's, if it is one.
    pub fn new(name: &str, zone: &str) -> Self {
        let facts = DnsblPreset::of_zone(zone).map(DnsblPreset::facts);
        Self::with_facts(name, zone, facts)
    }

    pub fn of_preset(name: &str, preset: DnsblPreset) -> Self {
        let facts = preset.facts();
        Self { preset: Some(preset), ..Self::with_facts(name, facts.zone, Some(facts)) }
    }

    fn with_facts(name: &str, zone: &str, facts: Option<&DnsblFacts>) -> Self {
        let patterns = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect();
        Self {
            name: name.to_owned(),
            preset: None,
            zone: zone.to_owned(),
            key_file: None,
            codes: facts.map_or_else(|| ANY_LISTING.parse().into_iter().collect(), codes),
            services: vec!["smtp".to_owned()],
            tests: facts.map_or(TestEntries::V4, |facts| facts.tests).into(),
            queries_per_day: Some(facts.map_or(QUERIES, |facts| facts.queries_per_day)),
            concurrency: CONCURRENCY,
            never_ban: facts.map_or_else(Vec::new, |facts| patterns(facts.never_ban)),
            force_ban: false,
            errors: facts.map_or_else(Vec::new, |facts| patterns(facts.errors)),
            is_paused: false,
        }
    }

    /// What is known of it, be it called by the preset's name or by its zone.
    pub fn facts(&self) -> Option<&'static DnsblFacts> {
        self.preset.or_else(|| DnsblPreset::of_zone(&self.zone)).map(DnsblPreset::facts)
    }

    /// What queries end in. It holds the key, so it is a secret.
    pub fn zone_with_key(&self, key: Option<&str>) -> String {
        let Some(key) = key else { return self.zone.clone() };
        let own = self.facts().filter(|facts| facts.zone == self.zone).and_then(|facts| facts.key_zone);
        format!("{key}.{}", own.unwrap_or(&self.zone))
    }

    pub fn is_asked_for(&self, service: &str) -> bool {
        self.services.iter().any(|name| name == service)
    }

    /// The most that one answer can weigh.
    pub fn greatest_weight(&self) -> i32 {
        self.codes.iter().map(|code| code.weight.max(0)).fold(0, i32::saturating_add)
    }

    /// Whether one of these answers of Spamhaus' combined zone and its parts counts here.
    pub(super) fn scores_of_spamhaus(&self, answers: &[Ipv4Addr]) -> bool {
        let is_spamhaus = self.facts().is_some_and(|facts| facts.family == Family::Spamhaus);
        is_spamhaus && self.codes.iter().any(|code| answers.iter().any(|answer| code.pattern.matches(*answer)))
    }

    /// What the A records of an answer say; no records say that the source is not listed.
    pub fn read(&self, records: &[Ipv4Addr]) -> Reading {
        if let Err(fault) = self.check(records) {
            return Reading::Faulty(fault);
        }
        let mut codes = Vec::from_iter(records.iter().copied().filter(|record| self.counts(*record)));
        codes.sort_unstable();
        codes.dedup();
        if codes.is_empty() {
            return Reading::Unlisted;
        }
        let may_ban = |record: &Ipv4Addr| self.force_ban || !self.never_ban.iter().any(|never| never.matches(*record));
        let for_ban = Vec::from_iter(codes.iter().copied().filter(may_ban));
        // Who speaks for a source does so whatever is said against it.
        let ban_counts = |code: &Code| if code.weight > 0 { &for_ban } else { &codes };
        let weight_for_ban = self.weight(ban_counts);
        Reading::Listed(Listed { weight: self.weight(|_| &codes), weight_for_ban, codes })
    }

    /// Whether an answer can be believed at all, whatever it says.
    pub fn check(&self, records: &[Ipv4Addr]) -> Result<(), Fault> {
        if records.len() > MOST_RECORDS {
            return Err(Fault::TooMany(records.len()));
        }
        if let Some(record) = records.iter().find(|record| !record.is_loopback()) {
            return Err(Fault::Outside(*record));
        }
        match records.iter().find(|record| self.is_error(**record)) {
            Some(record) => Err(Fault::Refused(*record)),
            None => Ok(()),
        }
    }

    fn is_error(&self, record: Ipv4Addr) -> bool {
        matches!(record.octets(), [127, 255, 255, _]) || self.errors.iter().any(|error| error.matches(record))
    }

    fn counts(&self, record: Ipv4Addr) -> bool {
        self.codes.iter().any(|code| code.pattern.matches(record))
    }

    /// Each code weighs once, however many records match it.
    fn weight<'r>(&self, records_of: impl Fn(&Code) -> &'r Vec<Ipv4Addr>) -> i32 {
        let counts = |code: &&Code| records_of(code).iter().any(|record| code.pattern.matches(*record));
        self.codes.iter().filter(counts).map(|code| code.weight).fold(0, i32::saturating_add)
    }

    /// What an answer means, in a few words.
    pub fn meaning(&self, code: Ipv4Addr) -> Option<&'static str> {
        self.facts().and_then(|facts| facts.meaning(code))
    }
}

impl Tests {
    pub fn is_none(&self) -> bool {
        self.listed.is_empty() && self.unlisted.is_empty()
    }
}

fn codes(facts: &DnsblFacts) -> Vec<Code> {
    let weight = |position: i32| match facts.weight {
        Weight::Each(weight) => weight,
        Weight::Allow => -position,
    };
    (1..).zip(facts.codes).filter_map(|(position, text)| Code::read(text, weight(position)).ok()).collect()
}

fn remedy(record: Ipv4Addr) -> &'static str {
    match record.octets() {
        [127, 255, 255, 252] => "the name of the zone has a typing error; correct it",
        [127, 255, 255, 254] => {
            "they come through a public resolver, or one with a generic name; run an own resolver whose address has a \
             PTR record with a name of yours, or use a key"
        }
        [127, 255, 255, 255] => "there were too many; ask for less, or get a key of the operator",
        _ => "the operator blocks them; ask through an own resolver, ask for less, or get a key of the operator",
    }
}
