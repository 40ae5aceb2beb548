use std::num::NonZeroU32;

use super::{config, expect, warnings};
use crate::config::{Challenge, Config, DEFAULT_SERVICES, Namespaces, Proof, Rate};

fn rate(text: &str) -> Rate {
    text.parse().expect("a rate")
}

fn connections(text: &str, service: &str) -> Option<u32> {
    config(text).service(service).expect("is there").connections.map(NonZeroU32::get)
}

#[test]
fn proof_is_asked_for_by_resets_unless_it_says_otherwise() {
    let default = Proof {
        challenge: Challenge::Reset,
        challenge_rate: rate("2000000/s"),
        retry_rate: rate("200/s"),
        sources: 262_144,
        namespaces: Namespaces::Host,
    };
    assert_eq!(Config::default().proof, default);
    assert_eq!(config("[proof]\n").proof, default);
    assert_eq!(config("[proof]\nsources = 1024\n").proof, Proof { sources: 1024, ..default });
}

#[test]
fn every_key_of_proof_is_read() {
    let read = config(
        "[proof]
challenge = \"retry\"
challenge_rate = \"100000000/min\"
retry_rate = \"60/min\"
sources = 16_777_216
namespaces = \"all\"
",
    );
    let expected = Proof {
        challenge: Challenge::Retry,
        challenge_rate: rate("100000000/min"),
        retry_rate: rate("1/s"),
        sources: 1 << 24,
        namespaces: Namespaces::All,
    };
    assert_eq!(read.proof, expected);
    assert_eq!(config("[proof]\nchallenge = \"off\"\n").proof.challenge, Challenge::Off);
    let json = serde_json::to_value(&read).expect("serializes");
    let shown = serde_json::json!({ "challenge": "retry", "challenge_rate": "100000000/min", "retry_rate": "60/min",
        "sources": 16_777_216, "namespaces": "all" });
    assert_eq!(json["proof"], shown);
}

#[test]
fn wrong_values_of_proof() {
    let challenges = "write challenge = \"reset\", challenge = \"retry\" or challenge = \"off\"";
    let rates = "write a number over s, min, h or day: 10/s, 120/min, 1000/h, 5000/day";
    let cases = [
        ("chalenge = \"off\"", "1: proof.chalenge: unknown key", "did you mean challenge?"),
        ("challenge = \"cookie\"", "13: proof.challenge: \"cookie\" is no way to challenge a source", challenges),
        (
            "challenge = false",
            "13: proof.challenge: must be a text in quotes, not true or false",
            "write it as in challenge = \"reset\"",
        ),
        ("challenge_rate = \"fast\"", "18: proof.challenge_rate: \"fast\" is not a rate", rates),
        ("challenge_rate = \"0/s\"", "18: proof.challenge_rate: \"0/s\" is out of range", "write 1/s to 200000000/s"),
        (
            "challenge_rate = \"5000000000/s\"",
            "18: proof.challenge_rate: \"5000000000/s\" is out of range",
            "write 1/s to 200000000/s",
        ),
        (
            "challenge_rate = \"200000001/s\"",
            "18: proof.challenge_rate: \"200000001/s\" is out of range",
            "write 1/s to 200000000/s",
        ),
        (
            "challenge_rate = 2000000",
            "18: proof.challenge_rate: must be a text in quotes, not a whole number",
            "write it as in challenge_rate = \"2000000/s\"",
        ),
        ("retry_rate = \"59/min\"", "14: proof.retry_rate: \"59/min\" is out of range", "write 1/s to 10000/s"),
        ("retry_rate = \"10001/s\"", "14: proof.retry_rate: \"10001/s\" is out of range", "write 1/s to 10000/s"),
        ("sources = 1023", "11: proof.sources: 1023 is out of range", "write 1024 to 16777216"),
        ("sources = 16777217", "11: proof.sources: 16777217 is out of range", "write 1024 to 16777216"),
        (
            "sources = \"many\"",
            "11: proof.sources: must be a whole number, not a text",
            "write it as in sources = 262144",
        ),
        (
            "namespaces = \"docker\"",
            "14: proof.namespaces: \"docker\" is nowhere to look for listeners",
            "write namespaces = \"host\", or namespaces = \"all\" where listeners run in containers",
        ),
    ];
    for (line, said, remedy) in cases {
        expect(&[(&format!("[proof]\n{line}\n"), &format!("t.toml:2:{said}\n    {remedy}"))]);
    }
    expect(&[
        ("proof = \"off\"\n", "t.toml:1:9: proof: must be a table, not a text\n    write it as in [proof]"),
        ("[prof]\n", "t.toml:1:2: prof: unknown key\n    did you mean proof?"),
    ]);
}

#[test]
fn each_kind_of_service_has_its_number_of_connections() {
    let of = |name: &str| Config::default().service(name).expect("built in").connections.map(NonZeroU32::get);
    let expected = [50, 100, 100, 500, 500, 60, 60, 20];
    assert_eq!(DEFAULT_SERVICES.map(|(name, _)| of(name)), expected.map(Some));
    assert_eq!(connections("[services.a]\nports = [24, 25]\n[services.smtp]\nports = [26]\n", "a"), Some(50));
    assert_eq!(connections("[services.a]\nports = [2525]\n", "a"), Some(100));
    assert_eq!(connections("[services.smtp]\nconnections = 1_000_000\n", "smtp"), Some(1_000_000));
    assert_eq!(connections("[services.smtp]\nconnections = \"off\"\n", "smtp"), None);
}

#[test]
fn where_the_listener_may_be_elsewhere_connections_are_off() {
    let to = "[services.smtp]\nto = [\"10.0.0.0/8\"]\n";
    assert_eq!(connections(to, "smtp"), None);
    assert_eq!(connections(&format!("{to}connections = 7\n"), "smtp"), Some(7));
    assert_eq!(connections("[services.smtp]\nto = \"local\"\n", "smtp"), Some(50));
    // The order in which the two are written does not matter.
    assert_eq!(connections("[services.smtp]\nconnections = 7\nto = [\"10.0.0.0/8\"]\n", "smtp"), Some(7));
}

#[test]
fn connections_that_do_not_read() {
    let remedy = "write 1 to 1000000, or \"off\"";
    let as_in = "write it as in connections = 50";
    for (value, said, remedy) in [
        ("0", "0 is zero, which would refuse every connection", remedy),
        ("1000001", "1000001 is too large for a number of connections", remedy),
        ("-5", "-5 is not a number of connections", remedy),
        ("\"50\"", "must be a whole number or \"off\", not a text", as_in),
        ("\"none\"", "must be a whole number or \"off\", not a text", as_in),
        ("false", "must be a whole number or \"off\", not true or false", as_in),
        ("[50]", "must be a whole number or \"off\", not a list", as_in),
    ] {
        let said = format!("t.toml:2:15: services.smtp.connections: {said}\n    {remedy}");
        expect(&[(&format!("[services.smtp]\nconnections = {value}\n"), &said)]);
    }
    expect(&[(
        "[services.smtp]\nconnection = 50\n",
        "t.toml:2:1: services.smtp.connection: unknown key\n    did you mean connections?",
    )]);
}

#[test]
fn listeners_are_at_the_ports_unless_they_are_mapped() {
    let read = config(
        "[services.smtp]\nlisten_ports = [2525, 2526]\n[services.imap]\nlisten_ports = []\n\
         [services.behind]\nports = [25]\nto = [\"10.0.0.0/8\"]\n",
    );
    let at = |name: &str| read.service(name).expect("is there").listens_at().to_vec();
    assert_eq!(at("smtp"), [2525, 2526]);
    assert_eq!(at("imap"), [143]);
    assert_eq!(at("behind"), [0_u16; 0]);
    // What one service leaves free another may take, and two may change places.
    config("[services.smtp]\nlisten_ports = [2525]\n[services.mine]\nports = [2526]\nlisten_ports = [25]\n");
    config("[services.imap]\nlisten_ports = [993]\n[services.imaps]\nlisten_ports = [143]\n");
}

#[test]
fn listen_ports_that_do_not_read() {
    let many: Vec<String> = (1..=17).map(|port: u16| (7000 + port).to_string()).collect();
    let at = |place: usize, key: &str, said: &str| format!("t.toml:2:{place}: services.smtp.listen_ports{key}: {said}");
    let example = "\n    write it as in listen_ports = [2525]";
    for (value, said) in [
        ("[0]", at(17, "[0]", "0 is out of range\n    write 1 to 65535")),
        ("[25, 65536]", at(21, "[1]", "65536 is out of range\n    write 1 to 65535")),
        ("[2525, 2525]", at(23, "[1]", "port 2525 is written twice\n    remove one of the two")),
        ("2525", at(16, "", &format!("must be a list of port numbers, not a whole number{example}"))),
        ("[\"smtp\"]", at(17, "[0]", &format!("must be a whole number, not a text{example}"))),
        (
            &format!("[{}]", many.join(", ")),
            at(16, "", "17 listen ports, but at most 16 fit\n    divide them between several services"),
        ),
    ] {
        expect(&[(&format!("[services.smtp]\nlisten_ports = {value}\n"), &said)]);
    }
    config(&format!("[services.smtp]\nlisten_ports = [{}]\n", many[..16].join(", ")));
}

#[test]
fn one_listen_port_in_two_services() {
    let remedy = "give each service listen ports of its own: by them its connections are told apart";
    for (text, said) in [
        (
            "[services.smtp]\nlisten_ports = [2525, 587]\n",
            "2:23: services.smtp.listen_ports: submission listens on port 587 already (built in)",
        ),
        (
            "[services.smtp]\nlisten_ports = [2525]\n[services.imap]\nlisten_ports = [1143, 2525]\n",
            "4:23: services.imap.listen_ports: smtp listens on port 2525 already (line 2)",
        ),
        (
            "[services.smtp]\nlisten_ports = [2525]\n[services.mine]\nports = [2525]\n",
            "4:10: services.mine.ports: smtp listens on port 2525 already (line 2)",
        ),
        (
            "[services.mine]\nports = [2525]\n[services.smtp]\nlisten_ports = [2525]\n",
            "4:17: services.smtp.listen_ports: mine listens on port 2525 already (line 2)",
        ),
        (
            "[services.a]\nports = [2525]\nto = [\"192.0.2.25\"]\nlisten_ports = [143]\n",
            "4:17: services.a.listen_ports: imap listens on port 143 already (built in)",
        ),
    ] {
        expect(&[(text, &format!("t.toml:{said}\n    {remedy}"))]);
    }
}

#[test]
fn connections_that_perhaps_nobody_counts_are_warned_of() {
    let to = "[services.smtp]\nto = [\"10.0.0.0/8\"]\n";
    let said = "connections are counted only where the listener is on this machine, and `to` names networks
    remove it, unless `to` names addresses of this machine";
    for (key, warned) in [("connections = 50", 15), ("listen_ports = [2525]", 16)] {
        let name = key.split(' ').next().unwrap_or_default();
        assert_eq!(warnings(&format!("{to}{key}\n")), format!("t.toml:3:{warned}: services.smtp.{name}: {said}"));
        assert_eq!(warnings(&format!("[services.smtp]\n{key}\n")), "");
    }
    assert_eq!(warnings(&format!("{to}connections = \"off\"\nlisten_ports = []\n")), "");
    assert_eq!(warnings(to), "");
}

#[test]
fn proof_and_connections_are_shown_where_they_differ() {
    let text = "[proof]
challenge = \"retry\"
retry_rate = \"50/s\"

[services.smtp]
listen_ports = [2525]
connections = 20

[services.imap]
connections = \"off\"

[services.behind]
ports = [2526]
to = [\"10.0.0.0/8\"]
connections = 5
";
    assert_eq!(config(text).changed(), text);
    let default = "[services.behind]\nports = [2526]\nto = [\"10.0.0.0/8\"]\n";
    assert_eq!(config(default).changed(), default);
    assert!(config(default).to_toml().contains("connections = \"off\"\n"), "what holds behind a gateway");
}
