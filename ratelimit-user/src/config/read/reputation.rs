use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::de::DeValue;

use super::list::is_list_name;
use super::node::{Fields, Node, nearest};
use super::{Reader, quoted};
use crate::config::dnsbl_preset::{DnsblPreset, dead_zone, is_below};
use crate::config::grammar::{Code, Duration};
use crate::config::limit::Level;
use crate::config::problem::{KeyProblem, ReputationProblem, ValueProblem};
use crate::config::reputation::{
    Dnsbl, FEWEST_ANSWERS, LONGEST_ZONE, LONGEST_ZONE_WITH_KEY, MOST_ANSWERS, MOST_DNSBLS, Reputation,
    ServiceReputation, Tests, Verdict,
};

const KEYS: &[&str] = &[
    "threshold",
    "action",
    "mode",
    "limit",
    "ttl",
    "kill",
    "timeout",
    "test_every",
    "resolvers",
    "answers",
    "services",
    "dnsbl",
];
const TTL_KEYS: &[&str] = &["min", "max"];
const SERVICE_KEYS: &[&str] = &["threshold", "action"];
const DNSBL_KEYS: &[&str] = &[
    "name",
    "preset",
    "zone",
    "key_file",
    "codes",
    "weight",
    "services",
    "test",
    "queries_per_day",
    "concurrency",
    "force_ban",
];
const TEST_KEYS: &[&str] = &["listed", "unlisted"];

const NAME_EXAMPLE: &str = "name = \"zen\"";
const ZONE_EXAMPLE: &str = "zone = \"bl.example.org\"";
const TTL_EXAMPLE: &str = "ttl = { min = \"60s\", max = \"1h\" }";
const TEST_EXAMPLE: &str = "test = { listed = [\"127.0.0.2\"], unlisted = [\"127.0.0.1\"] }";
const QUERIES_EXAMPLE: &str = "queries_per_day = 100000";
const DNS_PORT: u16 = 53;
const THRESHOLDS: RangeInclusive<i32> = 1..=1_000_000;
const MOST_RESOLVERS: usize = 8;
const MOST_CODES: usize = 256;
const MOST_TESTS: usize = 16;
const MOST_QUERIES: u64 = 1_000_000_000;
const MOST_CONCURRENT: u64 = 1024;
/// Where the zones of Spamhaus' key service lie, behind the key.
const KEY_SERVICE: &str = "dq.spamhaus.net";
const LONGEST_LABEL: usize = 63;

impl Reader {
    pub fn reputation(&mut self, node: &Node<'_>, reputation: &mut Reputation) {
        let Some(fields) = self.fields(node, KEYS, "[reputation]") else { return };
        reputation.threshold = self.threshold(&fields).unwrap_or(reputation.threshold);
        reputation.action = self.verdict(&fields).unwrap_or(reputation.action);
        reputation.mode = fields.get("mode").and_then(|node| self.mode(node));
        let limit = fields.get("limit").and_then(|node| self.limit(node, Level::Source));
        reputation.limit = limit.unwrap_or(reputation.limit);
        let kill = fields.get("kill").and_then(|node| self.boolean(node, "kill = true"));
        reputation.kill = kill.unwrap_or(reputation.kill);
        self.times(&fields, reputation);
        if let Some(node) = fields.get("resolvers") {
            reputation.resolvers = self.resolvers(node);
        }
        let range = u64::from(FEWEST_ANSWERS)..=u64::from(MOST_ANSWERS);
        let answers = fields.get("answers").and_then(|node| self.integer(node, range, "answers = 262144"));
        reputation.answers = answers.and_then(|read| u32::try_from(read).ok()).unwrap_or(reputation.answers);
        if let Some(node) = fields.get("services") {
            reputation.services = self.service_reputations(node);
        }
        if let Some(node) = fields.get("dnsbl") {
            reputation.dnsbl = self.dnsbls(node);
        }
    }

    fn threshold(&mut self, fields: &Fields<'_>) -> Option<i32> {
        fields.get("threshold").and_then(|node| self.signed(node, THRESHOLDS, "threshold = 3"))
    }

    fn verdict(&mut self, fields: &Fields<'_>) -> Option<Verdict> {
        let node = fields.get("action")?;
        let text = self.text(node, "action = \"limit\"")?;
        let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.name() == text);
        if verdict.is_none() {
            self.problem(node, ReputationProblem::Verdict { value: quoted(text) });
        }
        verdict
    }

    fn times(&mut self, fields: &Fields<'_>, reputation: &mut Reputation) {
        // A sender waits for an answer meanwhile, and no test is worth a query every second.
        let range = ("100ms", "30s");
        if let Some(read) = self.time(fields, "timeout", range, "timeout = \"2s\"") {
            reputation.timeout = read;
        }
        if let Some(read) = self.time(fields, "test_every", ("30s", "1d"), "test_every = \"5m\"") {
            reputation.test_every = read;
        }
        let Some(node) = fields.get("ttl") else { return };
        let Some(fields) = self.fields(node, TTL_KEYS, TTL_EXAMPLE) else { return };
        for (key, ttl) in [("min", &mut reputation.ttl_min), ("max", &mut reputation.ttl_max)] {
            *ttl = self.time(&fields, key, ("1s", "7d"), TTL_EXAMPLE).unwrap_or(*ttl);
        }
        let (min, max) = (reputation.ttl_min, reputation.ttl_max);
        if min > max {
            self.problem(node, ReputationProblem::TtlOrder { min, max });
        }
    }

    pub(super) fn time(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        (lowest, highest): (&str, &str),
        example: &'static str,
    ) -> Option<Duration> {
        let node = fields.get(key)?;
        let time: Duration = self.word(node, example)?;
        let bound = |text: &str| text.parse::<Duration>().ok();
        if bound(lowest).is_none_or(|lowest| time >= lowest) && bound(highest).is_none_or(|highest| time <= highest) {
            return Some(time);
        }
        let (lowest, highest) = (lowest.to_owned(), highest.to_owned());
        self.problem(node, ValueProblem::OutOfRange { value: time.to_string(), lowest, highest });
        None
    }

    fn resolvers(&mut self, node: &Node<'_>) -> Vec<SocketAddr> {
        let example = "resolvers = [\"127.0.0.1\"]";
        let items = self.items(node, "a list of addresses", example).unwrap_or_default();
        if items.len() > MOST_RESOLVERS {
            self.problem(node, ReputationProblem::TooManyResolvers { most: MOST_RESOLVERS });
        }
        let read = |text: &str| match text.parse::<IpAddr>() {
            Ok(address) => Some(SocketAddr::new(address, DNS_PORT)),
            Err(_) => text.parse().ok(),
        };
        let is_one = |resolver: &SocketAddr| {
            resolver.port() != 0 && !resolver.ip().is_unspecified() && !resolver.ip().is_multicast()
        };
        self.distinct(&items, example, |text| {
            let problem = || ReputationProblem::Resolver { value: quoted(text) };
            read(text).filter(is_one).ok_or_else(problem)
        })
    }

    /// What each text of a list reads as, none twice.
    fn distinct<T: PartialEq>(
        &mut self,
        items: &[Node<'_>],
        example: &'static str,
        read: impl Fn(&str) -> Result<T, ReputationProblem>,
    ) -> Vec<T> {
        let mut all: Vec<T> = Vec::new();
        for item in items {
            let Some(text) = self.text(item, example) else { continue };
            match read(text) {
                Ok(one) if all.contains(&one) => {
                    self.problem(item, ValueProblem::Repeated { value: quoted(text) });
                }
                Ok(one) => all.push(one),
                Err(problem) => self.problem(item, problem),
            }
        }
        all
    }

    fn service_reputations(&mut self, node: &Node<'_>) -> BTreeMap<String, ServiceReputation> {
        let example = "[reputation.services.smtp]";
        let Some(tables) = self.table(node, example) else { return BTreeMap::new() };
        let mut services = BTreeMap::new();
        for (name, node) in tables.in_order() {
            let Some(fields) = self.fields(node, SERVICE_KEYS, example) else { continue };
            let read = ServiceReputation { threshold: self.threshold(&fields), action: self.verdict(&fields) };
            if read != ServiceReputation::default() {
                services.insert(name.to_owned(), read);
                self.reputation_services.push((name.to_owned(), node.key.clone(), node.at));
            }
        }
        services
    }

    fn dnsbls(&mut self, node: &Node<'_>) -> Vec<Dnsbl> {
        let items = self.items(node, "tables under [[reputation.dnsbl]]", "[[reputation.dnsbl]]").unwrap_or_default();
        let mut dnsbls: Vec<Dnsbl> = Vec::new();
        let mut keys = Vec::new();
        for item in &items {
            let Some(dnsbl) = self.dnsbl(item) else { continue };
            if dnsbls.iter().any(|known| known.name == dnsbl.name) {
                self.problem(item, ReputationProblem::NameTaken { name: dnsbl.name });
            } else if dnsbls.len() == MOST_DNSBLS {
                self.problem(item, ReputationProblem::TooMany);
            } else {
                dnsbls.push(dnsbl);
                keys.push(item.key.clone());
            }
        }
        self.entry_keys.insert(DNSBL_ENTRIES, keys);
        dnsbls
    }

    fn dnsbl(&mut self, node: &Node<'_>) -> Option<Dnsbl> {
        let fields = self.fields(node, DNSBL_KEYS, "[[reputation.dnsbl]]")?;
        let preset = fields.get("preset").map(|node| self.dnsbl_preset(node));
        let usual = preset.flatten().map(|preset| preset.facts().zone);
        let zone = fields.get("zone").map(|node| self.zone(node, usual));
        let name = self.dnsbl_name(node, &fields);
        let mut dnsbl = match (preset, zone) {
            (Some(preset), None) => Dnsbl::of_preset(&name?, preset?),
            (Some(preset), Some(zone)) => Dnsbl { zone: zone?, ..Dnsbl::of_preset(&name?, preset?) },
            (None, Some(zone)) => Dnsbl::new(&name?, &zone?),
            (None, None) => {
                self.problem(node, KeyProblem::Missing { key: "zone", example: ZONE_EXAMPLE });
                return None;
            }
        };
        dnsbl.key_file = fields.get("key_file").and_then(|node| self.path(node));
        self.key(node, &fields, &dnsbl);
        self.codes(&fields, &mut dnsbl);
        self.asking(&fields, &mut dnsbl);
        Some(dnsbl)
    }

    fn dnsbl_name(&mut self, node: &Node<'_>, fields: &Fields<'_>) -> Option<String> {
        let Some(named) = fields.get("name") else {
            self.problem(node, KeyProblem::Missing { key: "name", example: NAME_EXAMPLE });
            return None;
        };
        let name = self.text(named, NAME_EXAMPLE)?;
        if is_list_name(name) {
            return Some(name.to_owned());
        }
        self.problem(named, ReputationProblem::Name { value: quoted(name) });
        None
    }

    fn dnsbl_preset(&mut self, node: &Node<'_>) -> Option<DnsblPreset> {
        let name = self.text(node, "preset = \"spamhaus-zen\"")?;
        let preset = DnsblPreset::named(name);
        if preset.is_none() {
            let known: Vec<&str> = DnsblPreset::names().collect();
            let nearest = nearest(name, known.iter().copied());
            self.problem(node, ReputationProblem::UnknownPreset { value: quoted(name), nearest, known });
        }
        preset
    }

    /// A zone written by hand; `usual` is what its preset has.
    fn zone(&mut self, node: &Node<'_>, usual: Option<&str>) -> Option<String> {
        let text = self.text(node, ZONE_EXAMPLE)?;
        let zone = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // The key may be in it, so it is not repeated.
        if is_below(&zone, KEY_SERVICE) && usual != Some(&zone) {
            self.problem(node, ReputationProblem::KeyInZone);
            return None;
        }
        if !is_zone(&zone) {
            self.problem(node, ReputationProblem::Zone { value: quoted(text) });
            return None;
        }
        if let (Some(usual), Some(other)) = (usual, DnsblPreset::of_zone(&zone))
            && zone != usual
        {
            self.problem(node, ReputationProblem::ZoneOfOther { preset: other.facts().name });
            return None;
        }
        if let Some(dead) = dead_zone(&zone) {
            self.problem(node, ReputationProblem::Dead { zone, end: dead.end, instead: dead.instead });
            return None;
        }
        Some(zone)
    }

    fn key(&mut self, node: &Node<'_>, fields: &Fields<'_>, dnsbl: &Dnsbl) {
        let name = |preset: DnsblPreset| preset.facts().name;
        let own = dnsbl.preset.filter(|preset| preset.facts().zone == dnsbl.zone);
        match (own, fields.get("key_file")) {
            (Some(preset), None) if preset.facts().needs_key => {
                self.problem(node, ReputationProblem::KeyMissing { preset: name(preset) });
            }
            (Some(preset), Some(node)) if preset.facts().key_zone.is_none() => {
                self.problem(node, ReputationProblem::KeyUnused { preset: name(preset) });
            }
            (_, Some(node)) if dnsbl.zone.len() > LONGEST_ZONE_WITH_KEY => {
                self.problem(node, ReputationProblem::NoRoomForKey);
            }
            (_, Some(_) | None) => {}
        }
    }

    /// A weight is that of every code that says none of its own.
    fn codes(&mut self, fields: &Fields<'_>, dnsbl: &mut Dnsbl) {
        let weight = fields.get("weight").and_then(|node| self.weight(node));
        if let Some(weight) = weight {
            dnsbl.codes.iter_mut().for_each(|code| code.weight = weight);
        }
        let Some(node) = fields.get("codes") else { return };
        let example = "codes = [\"127.0.0.2*3\"]";
        let items = self.items(node, "a list of codes", example).unwrap_or_default();
        if items.is_empty() || items.len() > MOST_CODES {
            self.problem(node, ReputationProblem::Codes { most: MOST_CODES });
        }
        let codes = self.distinct(&items, example, |text| {
            let code = Code::read(text, weight.unwrap_or(1));
            match code.map_err(|error| ReputationProblem::Code { value: quoted(text), error })? {
                code if code.pattern.is_of_loopback() => Ok(code),
                _ => Err(ReputationProblem::NeverMatches { value: quoted(text) }),
            }
        });
        dnsbl.codes = codes;
    }

    fn weight(&mut self, node: &Node<'_>) -> Option<i32> {
        let weight = self.signed(node, Code::LEAST..=Code::MOST, "weight = 2")?;
        if weight == 0 {
            self.problem(node, ReputationProblem::WeightZero);
        }
        Some(weight).filter(|weight| *weight != 0)
    }

    /// What is asked, and how much of it.
    fn asking(&mut self, fields: &Fields<'_>, dnsbl: &mut Dnsbl) {
        if let Some(services) = fields.get("services").and_then(|node| self.scope(node)) {
            dnsbl.services = services;
        }
        if let Some(tests) = fields.get("test").and_then(|node| self.tests(node)) {
            dnsbl.tests = tests;
        }
        if let Some(queries) = fields.get("queries_per_day").and_then(|node| self.queries(node)) {
            dnsbl.queries_per_day = queries;
        }
        let concurrency = fields.get("concurrency");
        let concurrency = concurrency.and_then(|node| self.integer(node, 1..=MOST_CONCURRENT, "concurrency = 64"));
        dnsbl.concurrency = concurrency.and_then(|read| u32::try_from(read).ok()).unwrap_or(dnsbl.concurrency);
        let force = fields.get("force_ban").and_then(|node| self.boolean(node, "force_ban = true"));
        dnsbl.force_ban = force.unwrap_or(dnsbl.force_ban);
    }

    fn tests(&mut self, node: &Node<'_>) -> Option<Tests> {
        match node.value {
            DeValue::String(text) if text == "none" => return Some(Tests::default()),
            DeValue::Table(_) => {}
            _ => {
                self.wrong_type(node, "a table or \"none\"", TEST_EXAMPLE);
                return None;
            }
        }
        let fields = self.fields(node, TEST_KEYS, TEST_EXAMPLE)?;
        let mut addresses = |key| fields.get(key).map_or_else(Vec::new, |node| self.test_entries(node));
        let tests = Tests { listed: addresses("listed"), unlisted: addresses("unlisted") };
        if let Some(address) = tests.listed.iter().find(|address| tests.unlisted.contains(address)) {
            self.problem(node, ReputationProblem::TestBoth { address: *address });
        }
        Some(tests)
    }

    fn test_entries(&mut self, node: &Node<'_>) -> Vec<IpAddr> {
        let items = self.items(node, "a list of addresses", TEST_EXAMPLE).unwrap_or_default();
        if items.len() > MOST_TESTS {
            self.problem(node, ReputationProblem::TooManyTests { most: MOST_TESTS });
        }
        // A mapped address stays one: it is looked up as IPv6.
        self.distinct(&items, TEST_EXAMPLE, |text| {
            IpAddr::from_str(text).map_err(|_| ReputationProblem::Test { value: quoted(text) })
        })
    }

    fn queries(&mut self, node: &Node<'_>) -> Option<Option<u64>> {
        match node.value {
            DeValue::String(text) if text == "unlimited" => Some(None),
            DeValue::Integer(_) => self.integer(node, 1..=MOST_QUERIES, QUERIES_EXAMPLE).map(Some),
            _ => {
                self.wrong_type(node, "a whole number or \"unlimited\"", QUERIES_EXAMPLE);
                None
            }
        }
    }
}

/// Under which the keys of the zones are kept.
pub(in crate::config) const DNSBL_ENTRIES: &str = "reputation.dnsbl";

/// A name as hosts have them, and no address.
fn is_zone(zone: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    zone.len() <= LONGEST_ZONE && zone.split('.').all(label) && !zone.rsplit('.').next().is_some_and(is_number)
}
