use std::num::NonZeroU32;
use std::path::Path;

use super::config;
use crate::config::{
    Burst, ByteSize, Config, DEFAULT_SERVICES, Deny, Destination, Entry, Interfaces, Limit, Mode, Network, Permit,
    Prefix, Rate, Scope, Service,
};

fn rate(text: &str) -> Rate {
    text.parse().expect("a rate")
}

fn network(text: &str) -> Network {
    text.parse().expect("a network")
}

fn limit(text: &str, burst: u32) -> Limit {
    Limit { rate: rate(text), burst: Burst::new(burst).expect("not zero") }
}

fn service(config: &Config, name: &str) -> Service {
    config.service(name).unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(config(""), Config::default());
    assert_eq!(config("# nothing\n\n[services]\n[services.imap]\n[paths]\n"), Config::default());
}

/// The table of the mail world, written out once more by hand.
#[test]
fn the_defaults_observe_the_mail_ports() {
    let config = Config::default();
    assert_eq!(config.interfaces, Interfaces::Auto);
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.memory.bytes(), 32 << 20);
    assert_eq!(config.events_per_second, 200);
    assert!(config.trust.is_empty() && config.allow.is_empty() && config.block.is_empty());
    assert_eq!(config.paths.socket, Path::new("/run/ratelimit/control.sock"));
    assert_eq!(config.paths.pins, Path::new("/sys/fs/bpf/ratelimit"));
    assert_eq!(config.paths.state, Path::new("/var/lib/ratelimit"));
    for (name, port, source, network, connections) in [
        ("smtp", 25, limit("300/min", 300), limit("3000/min", 3000), 50),
        ("submissions", 465, limit("120/min", 120), limit("1200/min", 2400), 100),
        ("submission", 587, limit("120/min", 120), limit("1200/min", 2400), 100),
        ("imap", 143, limit("240/min", 300), limit("2400/min", 5000), 500),
        ("imaps", 993, limit("240/min", 300), limit("2400/min", 5000), 500),
        ("pop3", 110, limit("120/min", 120), limit("1200/min", 2400), 60),
        ("pop3s", 995, limit("120/min", 120), limit("1200/min", 2400), 60),
        ("sieve", 4190, limit("60/min", 60), limit("240/min", 240), 20),
    ] {
        let is_smtp = name == "smtp";
        let expected = Service {
            name: name.into(),
            ports: vec![port],
            listen_ports: Vec::new(),
            to: Destination::Local,
            mode: None,
            source: vec![source],
            network: vec![network],
            service: Some(limit("1000/s", 5000)),
            connections: NonZeroU32::new(connections),
            source_prefix: Prefix { v4: 32, v6: if is_smtp { 128 } else { 64 } },
            network_prefix: Prefix { v4: 24, v6: if is_smtp { 64 } else { 48 } },
            only_from: Vec::new(),
            deny: Deny::Reset,
        };
        assert_eq!(service(&config, name), expected);
    }
    assert_eq!(config.services.len(), DEFAULT_SERVICES.len());
}

#[test]
fn every_key_is_read() {
    let read = config(
        "interfaces = [\"eth0\", \"ens3.100\"]
mode = \"enforce\"
memory = 67108864
events_per_second = 0
trust = [\"10.0.0.0/8\", { network = \"192.0.2.1\", services = [\"smtp\", \"mine\"], note = \"webmail\" }]
allow = [\"2001:db8::/32\"]
[[block]]
network = \"::ffff:198.51.100.0/120\"
[[block]]
network = \"203.0.113.7\"
services = [\"imaps\"]
[paths]
socket = \"/run/x.sock\"
pins = \"/sys/fs/bpf/x\"
state = \"/var/x\"
[services.mine]
ports = [2525, 0x9DE]
listen_ports = [12525]
to = [\"10.0.0.0/8\", \"2001:db8::1\"]
mode = \"observe\"
source = [{ rate = \"10/second\", burst = 50 }, { rate = \"1000/h\", burst = 500 }]
network = \"off\"
service = { rate = \"50/s\", burst = 5_000 }
connections = 1_000
source_prefix = { v4 = 31, v6 = 64 }
network_prefix = { v4 = 20, v6 = 40 }
only_from = [\"203.0.113.0/24\", \"2001:db8::/32\"]
deny = \"drop\"
",
    );
    assert_eq!(read.interfaces, Interfaces::Named(vec!["eth0".into(), "ens3.100".into()]));
    assert_eq!((read.mode, read.memory, read.events_per_second), (Mode::Enforce, ByteSize::from_mib(64), 0));
    let scoped = |name: &str, services: &[&str], note: Option<&str>| Entry {
        network: network(name),
        services: Scope::Services(services.iter().map(|name| (*name).into()).collect()),
        note: note.map(Into::into),
    };
    let plain = |name: &str| Entry { network: network(name), services: Scope::All, note: None };
    assert_eq!(read.trust, [plain("10.0.0.0/8"), scoped("192.0.2.1", &["smtp", "mine"], Some("webmail"))]);
    assert_eq!(read.allow, [plain("2001:db8::/32")]);
    assert_eq!(read.block, [plain("198.51.100.0/24"), scoped("203.0.113.7", &["imaps"], None)]);
    assert_eq!(read.paths.socket, Path::new("/run/x.sock"));
    assert_eq!(read.paths.pins, Path::new("/sys/fs/bpf/x"));
    assert_eq!(read.paths.state, Path::new("/var/x"));
    let expected = Service {
        name: "mine".into(),
        ports: vec![2525, 2526],
        listen_ports: vec![12525],
        to: Destination::Networks(vec![network("10.0.0.0/8"), network("2001:db8::1")]),
        mode: Some(Mode::Observe),
        source: vec![limit("10/s", 50), limit("1000/h", 500)],
        network: vec![],
        service: Some(limit("50/s", 5000)),
        connections: NonZeroU32::new(1000),
        source_prefix: Prefix { v4: 31, v6: 64 },
        network_prefix: Prefix { v4: 20, v6: 40 },
        only_from: vec![Permit::Network(network("203.0.113.0/24")), Permit::Network(network("2001:db8::/32"))],
        deny: Deny::Drop,
    };
    assert_eq!(service(&read, "mine"), expected);
}

#[test]
fn a_built_in_service_changes_only_in_the_keys_written() {
    let read = config("[services.smtp]\nports = [25, 2525]\nsource_prefix = { v4 = 30 }\nservice = \"off\"\n");
    let mut expected = Config::default();
    expected.services[0].ports = vec![25, 2525];
    expected.services[0].source_prefix.v4 = 30;
    expected.services[0].service = None;
    assert_eq!(read, expected);
}

#[test]
fn a_disabled_service_is_gone_and_its_port_free() {
    let read = config(
        "[services.sieve]\nenabled = false\n[services.mine]\nports = [4190]\n[services.unused]\nenabled = false\n",
    );
    let names: Vec<_> = read.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["smtp", "submissions", "submission", "imap", "imaps", "pop3", "pop3s", "mine"]);
}

#[test]
fn new_services_follow_in_file_order_from_the_limits_of_their_kind() {
    let read = config("[services.z]\nports = [2525]\n[services.smtp]\nports = [26]\n[services.a]\nports = [25, 24]\n");
    let names: Vec<_> = read.services.iter().skip(8).map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["z", "a"]);
    let like = |name: &str, model: &str, ports: Vec<u16>| {
        let model = Config::default().service(model).cloned().expect("built in");
        Service { name: name.into(), ports, ..model }
    };
    assert_eq!(service(&read, "z"), like("z", "submission", vec![2525]));
    assert_eq!(service(&read, "a"), like("a", "smtp", vec![25, 24]));
}

#[test]
fn one_port_may_serve_separate_destinations() {
    let read = config(
        "[services.behind]\nports = [25]\nto = [\"198.51.100.0/24\"]\n[services.more]\nports = [25]\nto = [\"203.0.113.0/24\"]\n",
    );
    assert_eq!(read.services.len(), 10);
}

#[test]
fn lists_may_nest_where_both_can_act() {
    config("block = [\"10.0.0.0/8\"]\nallow = [\"10.1.0.0/16\"]\ntrust = [\"10.1.1.0/24\"]\n");
    config("allow = [{ network = \"10.0.0.0/8\", services = [\"smtp\"] }]\nblock = [\"10.1.0.0/16\"]\n");
    config(
        "allow = [{ network = \"10.0.0.0/8\", services = [\"smtp\"] }]
block = [{ network = \"10.0.0.0/8\", services = [\"imap\"] }]\n",
    );
}

#[test]
fn observe_wins_at_either_level() {
    let read = config("mode = \"enforce\"\n[services.smtp]\nmode = \"observe\"\n[services.imap]\nmode = \"enforce\"\n");
    let mode = |name: &str| read.mode_of(&service(&read, name));
    assert_eq!([mode("smtp"), mode("imap"), mode("pop3")], [Mode::Observe, Mode::Enforce, Mode::Enforce]);
    let read = config("[services.imap]\nmode = \"enforce\"\n");
    assert_eq!(read.mode_of(&service(&read, "imap")), Mode::Observe);
}

#[test]
fn the_whole_serializes_as_json() {
    let read = config(
        "trust = [{ network = \"10.0.0.0/8\", services = [\"smtp\"], note = \"n\" }]\n[services.imap]\nnetwork = \"off\"\n",
    );
    let json = serde_json::to_value(&read).expect("serializes");
    assert_eq!(json["interfaces"], "auto");
    assert_eq!(json["memory"], "32 MiB");
    assert_eq!(json["trust"][0], serde_json::json!({ "network": "10.0.0.0/8", "services": ["smtp"], "note": "n" }));
    assert_eq!(json["services"][0]["source"], serde_json::json!([{ "rate": "300/min", "burst": 300 }]));
    assert_eq!(json["services"][0]["to"], "local");
    assert_eq!(json["services"][3]["network"], serde_json::json!([]));
}
