use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::config;
use crate::config::{
    Action, Burst, ByteSize, Challenge, Change, Code, Config, DEFAULT_SERVICES, Deny, Destination, Dnsbl, DnsblPreset,
    Duration, Entry, Export, Format, Interfaces, Limit, List, Mode, Namespaces, Network, Paths, Period, Permit, Prefix,
    Preset, Proof, Rate, Reputation, Scope, Service, ServiceReputation, Source, Tests, Verdict,
};

fn limit() -> impl Strategy<Value = Limit> {
    let period = select(vec![Period::Second, Period::Minute, Period::Hour]);
    (10..=1000_u32, period, 5..=240_u32).prop_map(|(rate, period, burst)| Limit {
        rate: Rate::new(rate, period).expect("not zero"),
        burst: Burst::new(burst).expect("not zero"),
    })
}

fn network() -> impl Strategy<Value = Network> {
    (any::<IpAddr>(), 1..=32_u8)
        .prop_map(|(address, prefix)| Network::truncated(address, prefix).expect("short enough"))
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Observe, Mode::Enforce])
}

fn prefixes() -> impl Strategy<Value = (Prefix, Prefix)> {
    (1..=32_u8, 1..=32_u8, 1..=128_u8, 1..=128_u8)
        .prop_map(|(a, b, c, d)| (Prefix { v4: a.max(b), v6: c.max(d) }, Prefix { v4: a.min(b), v6: c.min(d) }))
}

/// The destination comes from the first port, so that no two services meet.
fn service(name: String, port: u16) -> impl Strategy<Value = Service> {
    let networks = vec(0..=255_u8, 1..3).prop_map(move |hosts| {
        let [high, low] = port.to_be_bytes();
        let hosts = BTreeSet::from_iter(hosts);
        let network = |host| Network::host(IpAddr::from([10, high, low, host]));
        Destination::Networks(hosts.into_iter().map(network).collect())
    });
    let to = prop_oneof![Just(Destination::Local), networks];
    let limits = || vec(limit(), 0..=2);
    let access = (btree_set(network(), 0..3), select(Deny::ALL.to_vec()));
    // Those that listen elsewhere are as far apart as their ports.
    let counted = (option::of(1..=1_000_000_u32), any::<bool>());
    (to, option::of(mode()), limits(), limits(), option::of(limit()), prefixes(), access, counted).prop_map(
        move |(
            to,
            mode,
            source,
            network,
            service,
            (source_prefix, network_prefix),
            (only_from, deny),
            (connections, mapped),
        )| Service {
            name: name.clone(),
            ports: vec![port, port + 1],
            listen_ports: if mapped { vec![port + 20_001, port + 20_000] } else { Vec::new() },
            connections: connections.and_then(NonZeroU32::new),
            to,
            mode,
            source,
            network,
            service,
            source_prefix,
            network_prefix,
            only_from: only_from.into_iter().map(Permit::Network).collect(),
            deny,
        },
    )
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    let built_in: Vec<Service> = DEFAULT_SERVICES.into_iter().filter_map(|(name, _)| Service::built_in(name)).collect();
    let names = btree_set("[a-z0-9_-]{5,31}", 1..=8);
    let new = names.prop_flat_map(|names| {
        let numbered = names.into_iter().filter(|name| Service::built_in(name).is_none()).enumerate();
        numbered.map(|(index, name)| service(name, 20_000 + 2 * index as u16)).collect::<Vec<_>>()
    });
    let changed: Vec<_> = (0_u16..)
        .zip(built_in)
        .map(|(index, built_in)| {
            let other = service(built_in.name.clone(), 10_000 + 2 * index);
            prop_oneof![Just(built_in), other]
        })
        .collect();
    let kept = changed.prop_flat_map(|all| subsequence(all, 1..=8));
    (kept, new).prop_map(|(mut kept, new)| {
        kept.extend(new);
        kept
    })
}

/// Distinct networks, none inside another, dealt to the three lists.
fn entries(names: Vec<String>) -> impl Strategy<Value = [Vec<Entry>; 3]> {
    let scope = prop_oneof![Just(Scope::All), subsequence(names.clone(), 1..=names.len()).prop_map(Scope::Services),];
    let note = option::of("[^\\p{Cc}]{0,40}");
    vec((network(), scope, note, 0..3_usize), 0..12).prop_map(|drawn| {
        let mut lists: [Vec<Entry>; 3] = Default::default();
        let mut taken: Vec<Network> = Vec::new();
        for (network, services, note, list) in drawn {
            if taken.iter().all(|other| !other.overlaps(network)) {
                taken.push(network);
                lists[list].push(Entry { network, services, note });
            }
        }
        lists
    })
}

/// For all services, because those of a configuration are not known here.
fn lists() -> impl Strategy<Value = (Vec<List>, Vec<Network>)> {
    let path = "/[^\\p{Cc}]{0,20}".prop_map(|path| Source::Path(PathBuf::from(path)));
    let url = select(vec!["http://lists.test/a?key=1", "https://lists.test:8443/b"])
        .prop_map(|url| Source::Url(url.parse().expect("a URL")));
    let from = vec(prop_oneof![path, url], 1..3);
    let preset = option::of(0..Preset::ALL.len());
    let reads = (option::of(select(Format::ALL.to_vec())), 1..=9_u64, any::<bool>());
    let change = (0..=100_u32, 0..=99_u32).prop_map(|(lost_percent, grown_times)| Change { lost_percent, grown_times });
    let times = (1..=400_u64, 1..=400_u64, 1..=400_u64);
    let does = (select(Action::ALL.to_vec()), any::<bool>(), option::of(mode()));
    let list = (preset, from, reads, change, times, does).prop_map(
        |(preset, from, (format, min_count, private), change, (refresh, max_age, timeout), (action, all, mode))| {
            let list = match preset.and_then(|index| Preset::named(Preset::ALL[index].name)) {
                Some(preset) => List::of_preset("", preset),
                None => List::new("", from),
            };
            let all_packets = all && action == Action::Block;
            let (refresh, max_age) = (Duration::hours(11 + refresh), Duration::hours(max_age));
            let (timeout, max_size) = (Duration::seconds(timeout), ByteSize::from_mib(9));
            let read = List { format, min_count, private, change, refresh, max_age, timeout, max_size, ..list };
            List { action, all_packets, mode, services: Scope::All, ..read }
        },
    );
    let named = vec(list, 0..4).prop_map(|lists| {
        let name = |(index, list)| List { name: format!("list-{index}"), ..list };
        lists.into_iter().enumerate().map(name).collect()
    });
    (named, btree_set(network(), 0..3).prop_map(|networks| networks.into_iter().collect()))
}

fn code() -> impl Strategy<Value = Code> {
    let octet = || {
        let range = (0..=255_u8, 0..=255_u8).prop_map(|(a, b)| format!("{}..{}", a.min(b), a.max(b)));
        let choice = vec(range, 1..4).prop_map(|ranges| format!("[{}]", ranges.join(";")));
        prop_oneof![(0..=255_u8).prop_map(|number| number.to_string()), choice]
    };
    let last = prop_oneof![octet(), (1..=255_u8).prop_map(|mask| format!("&{mask}"))];
    (octet(), octet(), last, 1..=1000_i32).prop_map(|(second, third, last, weight)| {
        format!("127.{second}.{third}.{last}*{}", -weight).parse().expect("a code")
    })
}

/// Asked for services by the names of those that are there.
fn dnsbl(names: Vec<String>) -> impl Strategy<Value = Dnsbl> {
    let preset = option::of(select(vec!["dnswl", "spamhaus-drop"]));
    let tests = (btree_set(any::<IpAddr>(), 0..3), btree_set(any::<IpAddr>(), 0..3)).prop_map(|(listed, unlisted)| {
        Tests { unlisted: unlisted.difference(&listed).copied().collect(), listed: listed.into_iter().collect() }
    });
    let codes = btree_set(code().prop_map(|code| code.to_string()), 1..4)
        .prop_map(|codes| codes.iter().map(|code| code.parse().expect("a code")).collect::<Vec<Code>>());
    let asks = (option::of(1..=1_000_000_u64), 1..=1024_u32, any::<bool>(), option::of("/[^\\p{Cc}]{0,20}"));
    let services = subsequence(names.clone(), 1..=names.len());
    (preset, "[a-z]{1,9}\\.test", option::of(codes), tests, services, asks).prop_map(
        |(preset, zone, codes, tests, services, (queries_per_day, concurrency, force_ban, key_file))| {
            let (base, codes) = match preset.and_then(DnsblPreset::named) {
                // Whatever else it took of the combined zone it might have to be refused.
                Some(preset) if preset.facts().name == "spamhaus-drop" => (Dnsbl::of_preset("", preset), None),
                Some(preset) => (Dnsbl { zone, ..Dnsbl::of_preset("", preset) }, codes),
                None => (Dnsbl::new("", &zone), codes),
            };
            let codes = codes.unwrap_or_else(|| base.codes.clone());
            let key_file = key_file.map(PathBuf::from);
            Dnsbl { codes, tests, services, queries_per_day, concurrency, force_ban, key_file, ..base }
        },
    )
}

fn reputation(names: Vec<String>) -> impl Strategy<Value = Reputation> {
    let verdict = || select(Verdict::ALL.to_vec());
    let acts = (1..=9_i32, verdict(), option::of(mode()), limit(), any::<bool>());
    let times = (1..=60_u64, 60..=6_000_u64, 1..=30_u64, 30..=3_600_u64, 1024..=4096_u32);
    let resolvers = btree_set((1..=223_u8, 1..=u16::MAX), 0..3)
        .prop_map(|all| all.into_iter().map(|(host, port)| SocketAddr::from(([host, 0, 0, 1], port))).collect());
    let services = (subsequence(names.clone(), 0..=names.len()), option::of(1..=9_i32), verdict()).prop_map(
        |(names, threshold, action)| {
            let service = ServiceReputation { threshold, action: Some(action) };
            names.into_iter().map(|name| (name, service)).collect()
        },
    );
    let dnsbl = vec(dnsbl(names), 0..4).prop_map(|dnsbls| {
        let name = |(index, dnsbl)| Dnsbl { name: format!("zone-{index}"), ..dnsbl };
        dnsbls.into_iter().enumerate().map(name).collect()
    });
    (acts, times, resolvers, services, dnsbl).prop_map(
        |(
            (threshold, action, mode, limit, kill),
            (min, max, timeout, test_every, answers),
            resolvers,
            services,
            dnsbl,
        )| {
            Reputation {
                threshold,
                action,
                mode,
                limit,
                ttl_min: Duration::seconds(min),
                ttl_max: Duration::seconds(max),
                kill,
                timeout: Duration::seconds(timeout),
                test_every: Duration::seconds(test_every),
                resolvers,
                answers,
                services,
                dnsbl,
            }
        },
    )
}

fn proof() -> impl Strategy<Value = Proof> {
    let rate = |most: u32| (1..=most).prop_map(|count| Rate::new(count, Period::Second).expect("not zero"));
    let words = (select(Challenge::ALL.to_vec()), select(Namespaces::ALL.to_vec()));
    (words, rate(200_000_000), rate(10_000), 1024..=1_u32 << 24).prop_map(
        |((challenge, namespaces), challenge_rate, retry_rate, sources)| Proof {
            challenge,
            challenge_rate,
            retry_rate,
            sources,
            namespaces,
        },
    )
}

fn export() -> impl Strategy<Value = Export> {
    let path = "/[a-z]{1,10}".prop_map(PathBuf::from);
    (option::of(path), "[a-z@.]{1,20}", any::<bool>(), 10..=3_600_u64).prop_map(
        |(path, contact, include_third_party, ttl)| Export {
            path,
            contact,
            include_third_party,
            ttl_max: Duration::seconds(ttl),
        },
    )
}

fn any_config() -> impl Strategy<Value = Config> {
    let interfaces = prop_oneof![
        Just(Interfaces::Auto),
        btree_set("[a-z]{2,8}[0-9]{1,3}", 1..4).prop_map(|names| Interfaces::Named(names.into_iter().collect())),
    ];
    let path = || "/[^\\p{Cc}]{0,20}".prop_map(PathBuf::from);
    let paths = (path(), path(), path()).prop_map(|(socket, pins, state)| Paths { socket, pins, state });
    let with_entries = services().prop_flat_map(|services| {
        let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
        (Just(services), entries(names.clone()), reputation(names))
    });
    let memory = (1_u64 << 20..=1 << 30).prop_map(ByteSize::from_bytes);
    (interfaces, mode(), memory, 0..=10_000_u32, paths, with_entries, lists(), (proof(), export())).prop_map(
        |(
            interfaces,
            mode,
            memory,
            events_per_second,
            paths,
            (services, [trust, allow, block], reputation),
            (lists, never_block),
            (proof, export),
        )| Config {
            lists,
            never_block,
            interfaces,
            mode,
            memory,
            events_per_second,
            trust,
            allow,
            block,
            paths,
            proof,
            export,
            reputation,
            services,
        },
    )
}

fn mutated(text: &str, edits: &[(Index, String)]) -> String {
    let mut text = text.to_owned();
    for (place, insert) in edits {
        let from = text.floor_char_boundary(place.index(text.len().max(1)));
        let to = text.floor_char_boundary((from + insert.len()).min(text.len()));
        text.replace_range(from..to, insert);
    }
    text
}

/// Whatever is said must be printable, and what is accepted must be stable.
fn survives(text: &str) {
    match Config::parse(text, "t.toml") {
        Ok(loaded) => assert_eq!(config(&loaded.config.to_toml()), loaded.config),
        Err(errors) => assert!(!errors.to_string().is_empty() && errors.iter().count() > 0),
    }
}

#[test]
fn the_defaults_change_nothing() {
    assert_eq!(Config::default().changed(), "");
    assert_eq!(config(&Config::default().to_toml()), Config::default());
}

#[test]
fn only_changes_are_shown() {
    let text = "mode = \"enforce\"
trust = [
    \"10.0.0.0/8\",
    { network = \"192.0.2.1/32\", services = [\"smtp\"], note = \"say \\\"hi\\\"\" },
]

[services.sieve]
enabled = false

[services.smtp]
source = \"off\"

[services.mine]
ports = [2525]
mode = \"observe\"
network = [{ rate = \"10/s\", burst = 50 }, { rate = \"1000/h\", burst = 500 }]
";
    assert_eq!(config(text).changed(), text);
}

proptest! {
    #[test]
    fn every_configuration_reads_back(original in any_config()) {
        prop_assert_eq!(&config(&original.to_toml()), &original);
        prop_assert_eq!(&config(&original.changed()), &original);
        prop_assert!(serde_json::to_string(&original).is_ok());
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}|[\\[\\]{}=\"'.,#a-z0-9\n -]{0,200}") {
        survives(&text);
    }

    #[test]
    fn mutated_configurations_never_panic(
        original in any_config(),
        edits in vec((any::<Index>(), "[\\[\\]{}=\"'.,#a-z0-9/:\n é-]{0,6}"), 1..6),
    ) {
        survives(&mutated(&original.to_toml(), &edits));
    }
}
