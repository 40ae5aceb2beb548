use std::net::{IpAddr, Ipv4Addr};

use super::{config, expect, refused, warnings};
use crate::config::{
    Code, Config, Dnsbl, DnsblPreset, Duration, Fault, Listed, Mode, Pattern, Reading, Reputation, ServiceReputation,
    Tests, Verdict,
};

fn dnsbl(text: &str) -> Dnsbl {
    let mut dnsbls = config(&format!("[[reputation.dnsbl]]\nname = \"it\"\n{text}\n")).reputation.dnsbl;
    assert_eq!(dnsbls.len(), 1, "{text}");
    dnsbls.remove(0)
}

fn preset(name: &str) -> Dnsbl {
    Dnsbl::of_preset(name, DnsblPreset::named(name).expect("a preset"))
}

fn records(text: &str) -> Vec<Ipv4Addr> {
    text.split_whitespace().map(|record| record.parse().expect("an address")).collect()
}

fn listed(dnsbl: &Dnsbl, answer: &str) -> Listed {
    match dnsbl.read(&records(answer)) {
        Reading::Listed(listed) => listed,
        other => panic!("{}: {answer}: {other:?}", dnsbl.name),
    }
}

#[derive(Clone, Copy, Debug)]
enum Says {
    /// Its weight, and its weight for a ban.
    Listed(i32, i32),
    Nothing,
    Outside,
    Refused,
}

#[test]
fn what_answers_mean() {
    use Says::{Listed as Weighs, Nothing, Outside, Refused};
    for (name, answer, says) in [
        ("spamhaus-zen", "", Nothing),
        ("spamhaus-zen", "127.0.0.2", Weighs(3, 3)),
        ("spamhaus-zen", "127.0.0.3", Weighs(3, 3)),
        ("spamhaus-zen", "127.0.0.4", Weighs(3, 3)),
        ("spamhaus-zen", "127.0.0.2 127.0.0.9", Weighs(3, 3)),
        ("spamhaus-zen", "127.0.0.9", Weighs(3, 3)),
        ("spamhaus-zen", "127.0.0.10", Weighs(3, 0)),
        ("spamhaus-zen", "127.0.0.11 127.0.0.10", Weighs(3, 0)),
        ("spamhaus-zen", "127.0.0.4 127.0.0.11", Weighs(6, 3)),
        ("spamhaus-zen", "127.0.0.30", Nothing),
        ("spamhaus-zen", "127.0.0.20", Nothing),
        ("spamhaus-zen", "127.255.255.252", Refused),
        ("spamhaus-zen", "127.255.255.254", Refused),
        ("spamhaus-zen", "127.255.255.255", Refused),
        ("spamhaus-zen", "127.255.255.0", Refused),
        ("spamhaus-zen", "127.0.0.2 127.255.255.255", Refused),
        ("spamhaus-zen", "127.0.0.2 192.0.2.1", Outside),
        ("spamhaus-zen", "128.0.0.2", Outside),
        ("spamhaus-sbl", "127.0.0.2 127.0.0.3", Weighs(6, 6)),
        ("spamhaus-xbl", "127.0.0.4", Weighs(3, 3)),
        ("cbl", "127.0.0.4", Weighs(3, 3)),
        ("spamhaus-xbl", "127.0.0.2", Nothing),
        ("spamhaus-authbl", "127.0.0.20", Weighs(3, 3)),
        ("spamhaus-authbl", "127.0.0.4", Nothing),
        ("spamhaus-drop", "127.0.0.2 127.0.0.9", Weighs(3, 3)),
        ("spamhaus-drop", "127.0.0.2 127.0.0.4 127.0.0.10", Nothing),
        ("spamcop", "127.0.0.2", Weighs(2, 2)),
        ("spamcop", "127.0.0.3", Nothing),
        ("spamcop", "127.255.255.1", Refused),
        ("barracuda", "127.0.0.2", Weighs(2, 2)),
        ("tornevall", "127.0.0.1", Nothing),
        ("tornevall", "127.0.0.2", Weighs(2, 2)),
        ("tornevall", "127.0.0.4", Weighs(2, 2)),
        ("tornevall", "127.0.0.8", Nothing),
        ("tornevall", "127.0.0.16", Weighs(2, 2)),
        ("tornevall", "127.0.0.22", Weighs(2, 2)),
        ("tornevall", "127.0.0.32", Nothing),
        ("tornevall", "127.0.0.64", Nothing),
        ("tornevall", "127.0.0.66", Weighs(2, 2)),
        ("tornevall", "127.0.0.128", Nothing),
        ("dnswl", "127.0.5.0", Nothing),
        ("dnswl", "127.0.5.1", Weighs(-1, -1)),
        ("dnswl", "127.0.3.2", Weighs(-2, -2)),
        ("dnswl", "127.0.20.3", Weighs(-3, -3)),
        ("dnswl", "127.0.0.255", Refused),
        ("dnswl", "127.0.10.0", Refused),
        ("dnswl", "127.0.10.3", Refused),
    ] {
        let read = preset(name).read(&records(answer));
        let as_said = match (&read, says) {
            (Reading::Listed(listed), Weighs(weight, ban)) => (listed.weight, listed.weight_for_ban) == (weight, ban),
            (Reading::Unlisted, Nothing) => true,
            (Reading::Faulty(Fault::Outside(_)), Outside) | (Reading::Faulty(Fault::Refused(_)), Refused) => true,
            _ => false,
        };
        assert!(as_said, "{name}: {answer}: {read:?}, not {says:?}");
    }
}

#[test]
fn every_pattern_weighs_once_and_several_add_up() {
    let both = dnsbl("zone = \"bl.test\"\ncodes = [\"127.0.0.[2..9]*2\", \"127.0.0.4*-5\", \"127.0.1.&6\"]");
    let read = listed(&both, "127.0.0.9 127.0.0.2 127.0.0.2 127.0.0.50 127.0.1.3");
    assert_eq!((read.weight, read.weight_for_ban), (3, 3));
    assert_eq!(read.codes, records("127.0.0.2 127.0.0.9 127.0.1.3"), "in order, none twice, none that counts not");
    assert_eq!(listed(&both, "127.0.0.4").weight, -3);
    let mut heavy = both.clone();
    let code = |weight| Code { pattern: "127.0.0.2".parse().expect("a pattern"), weight };
    heavy.codes = vec![code(i32::MAX), code(i32::MAX)];
    assert_eq!((listed(&heavy, "127.0.0.2").weight, heavy.greatest_weight()), (i32::MAX, i32::MAX));
    heavy.codes = vec![code(i32::MIN), code(-1)];
    assert_eq!((listed(&heavy, "127.0.0.2").weight, heavy.greatest_weight()), (i32::MIN, 0));
}

#[test]
fn ordinary_customers_are_banned_only_by_force() {
    let text = "zone = \"zen.spamhaus.org\"\ncodes = [\"127.0.0.[2..11]*3\", \"127.0.0.11*-1\"]";
    let zen = dnsbl(text);
    let weights = |dnsbl: &Dnsbl, answer| {
        let read = listed(dnsbl, answer);
        (read.weight, read.weight_for_ban)
    };
    assert_eq!(weights(&zen, "127.0.0.10"), (3, 0));
    assert_eq!(weights(&zen, "127.0.0.10 127.0.0.4"), (3, 3));
    assert_eq!(weights(&zen, "127.0.0.11"), (2, -1), "what speaks for a source counts always");
    assert_eq!(weights(&dnsbl(&format!("{text}\nforce_ban = true")), "127.0.0.11"), (2, 2));
}

#[test]
fn faults_name_their_remedy() {
    let zen = preset("spamhaus-zen");
    for (answer, said) in [
        ("127.255.255.252", "the name of the zone has a typing error"),
        ("127.255.255.254", "run an own resolver whose address has a PTR record with a name of yours, or use a key"),
        ("127.255.255.255", "there were too many"),
        ("192.0.2.1", "192.0.2.1 is outside of 127.0.0.0/8"),
    ] {
        let fault = zen.check(&records(answer)).expect_err("a fault").to_string();
        assert!(fault.contains(said), "{answer}: {fault}");
    }
    let two = Ipv4Addr::new(127, 0, 0, 2);
    assert_eq!(zen.check(&[two; 64]), Ok(()));
    assert_eq!(zen.read(&[two; 65]), Reading::Faulty(Fault::TooMany(65)));
}

#[test]
fn codes_have_meanings() {
    let meaning = |name: &str, code: [u8; 4]| preset(name).meaning(Ipv4Addr::from(code)).unwrap_or("nothing");
    for (last, begins) in
        [(2, "SBL"), (3, "CSS"), (4, "XBL"), (9, "DROP"), (10, "PBL"), (11, "PBL"), (20, "AuthBL"), (30, "BCL")]
    {
        assert!(meaning("spamhaus-zen", [127, 0, 0, last]).starts_with(begins), "{last}");
    }
    assert_eq!(meaning("spamhaus-zen", [127, 0, 0, 5]), "nothing");
    assert_eq!(meaning("spamhaus-zen", [127, 0, 1, 2]), "nothing");
    assert_eq!(meaning("tornevall", [127, 0, 0, 66]), "TornevallNET: an open proxy");
    assert_eq!(meaning("tornevall", [127, 0, 0, 0]), "nothing");
    assert_eq!(meaning("dnswl", [127, 0, 5, 3]), "DNSWL: high trust");
    assert_eq!(dnsbl("zone = \"bl.test\"").meaning(Ipv4Addr::new(127, 0, 0, 2)), None);
    assert!(dnsbl("zone = \"zen.spamhaus.org\"").meaning(Ipv4Addr::new(127, 0, 0, 2)).is_some());
}

#[test]
fn nobody_is_asked_unless_it_is_configured() {
    let default = Reputation::default();
    assert_eq!(Config::default().reputation, default);
    assert_eq!(config("[reputation]\n").reputation, default);
    assert_eq!((default.threshold, default.action, default.mode), (3, Verdict::Limit, None));
    assert_eq!(default.limit.to_string(), "6/min burst 3");
    assert_eq!((default.ttl_min, default.ttl_max), (Duration::seconds(60), Duration::hours(1)));
    assert_eq!((default.timeout, default.test_every), (Duration::seconds(2), Duration::seconds(300)));
    assert_eq!((default.kill, default.answers), (false, 262_144));
    assert!(default.dnsbl.is_empty() && default.resolvers.is_empty() && default.services.is_empty());
}

#[test]
fn every_key_of_reputation_is_read() {
    let read = config(
        "[reputation]
threshold = 5
action = \"note\"
mode = \"enforce\"
limit = { rate = \"10/min\", burst = 4 }
ttl = { min = \"90s\", max = \"2h\" }
kill = true
timeout = \"500ms\"
test_every = \"10m\"
resolvers = [\"127.0.0.1\", \"[::1]:5353\"]
answers = 1024

[reputation.services.smtp]
threshold = 2
action = \"ban\"

[[reputation.dnsbl]]
name = \"mine\"
zone = \"BL.Example.ORG.\"
key_file = \"/etc/ratelimit/key\"
codes = [\"127.0.0.2\", \"127.0.0.[4;6..8]*3\", \"127.0.0.&2|16*-1\"]
weight = 2
services = [\"smtp\", \"imap\"]
test = { listed = [\"127.0.0.2\", \"::ffff:7f00:2\"], unlisted = [] }
queries_per_day = \"unlimited\"
concurrency = 8
force_ban = true
",
    )
    .reputation;
    assert_eq!((read.threshold, read.action, read.mode), (5, Verdict::Note, Some(Mode::Enforce)));
    assert_eq!((read.limit.to_string().as_str(), read.kill, read.answers), ("10/min burst 4", true, 1024));
    assert_eq!((read.ttl_min, read.ttl_max), (Duration::seconds(90), Duration::hours(2)));
    assert_eq!(read.timeout.to_string(), "500ms");
    assert_eq!(read.resolvers, ["127.0.0.1:53", "[::1]:5353"].map(|text| text.parse().expect("an address")));
    let smtp = ServiceReputation { threshold: Some(2), action: Some(Verdict::Ban) };
    assert_eq!(read.services.get("smtp"), Some(&smtp));
    assert_eq!((read.threshold_of("smtp"), read.action_of("smtp")), (2, Verdict::Ban));
    assert_eq!((read.threshold_of("imap"), read.action_of("imap")), (5, Verdict::Note));
    let [mine] = read.dnsbl.as_slice() else { panic!("{:?}", read.dnsbl) };
    assert_eq!((mine.zone.as_str(), mine.preset), ("bl.example.org", None));
    assert_eq!(mine.key_file.as_deref(), Some("/etc/ratelimit/key".as_ref()));
    let codes = ["127.0.0.2*2", "127.0.0.[4;6..8]*3", "127.0.0.&18*-1"];
    assert_eq!(mine.codes, codes.map(|code| code.parse().expect("a code")));
    assert!(mine.is_asked_for("imap") && mine.is_asked_for("smtp") && !mine.is_asked_for("imaps"));
    let mapped: IpAddr = "::ffff:127.0.0.2".parse().expect("an address");
    assert!(mapped.is_ipv6());
    assert_eq!(mine.tests, Tests { listed: vec![IpAddr::from([127, 0, 0, 2]), mapped], unlisted: Vec::new() });
    assert_eq!((mine.queries_per_day, mine.concurrency, mine.force_ban), (None, 8, true));
    assert!(mine.never_ban.is_empty() && mine.errors.is_empty());
}

#[test]
fn presets_are_what_is_known_of_them() {
    for (name, zone, with_key, budget, entries) in [
        ("spamhaus-zen", "zen.spamhaus.org", "k.zen.dq.spamhaus.net", 300_000, 4),
        ("spamhaus-sbl", "sbl.spamhaus.org", "k.sbl.dq.spamhaus.net", 300_000, 4),
        ("spamhaus-xbl", "xbl.spamhaus.org", "k.xbl.dq.spamhaus.net", 300_000, 4),
        ("cbl", "xbl.spamhaus.org", "k.xbl.dq.spamhaus.net", 300_000, 4),
        ("spamhaus-authbl", "authbl.dq.spamhaus.net", "k.authbl.dq.spamhaus.net", 300_000, 2),
        ("spamhaus-drop", "zen.spamhaus.org", "k.zen.dq.spamhaus.net", 300_000, 4),
        ("spamcop", "bl.spamcop.net", "k.bl.spamcop.net", 100_000, 2),
        ("barracuda", "b.barracudacentral.org", "k.b.barracudacentral.org", 100_000, 2),
        ("tornevall", "dnsbl.tornevall.org", "k.dnsbl.tornevall.org", 100_000, 2),
        ("dnswl", "list.dnswl.org", "k.list.dnswl.org", 100_000, 1),
    ] {
        let key = if name.starts_with("spamhaus") { "\nkey_file = \"/key\"" } else { "" };
        let read = dnsbl(&format!("preset = \"{name}\"{key}"));
        assert_eq!((read.zone.as_str(), read.zone_with_key(None).as_str()), (zone, zone));
        assert_eq!(read.zone_with_key(Some("k")), with_key);
        assert_eq!((read.queries_per_day, read.concurrency), (Some(budget), 64), "{name}");
        assert_eq!(read.tests.listed.len() + read.tests.unlisted.len(), entries, "{name}");
        assert!(read.tests.listed.iter().chain(&read.tests.unlisted).all(|entry| match entry {
            IpAddr::V4(entry) => entry.is_loopback(),
            IpAddr::V6(entry) => entry.to_ipv4_mapped().is_some_and(|entry| entry.is_loopback()),
        }));
        assert_eq!(read.services, ["smtp"]);
    }
    for facts in DnsblPreset::ALL {
        let read = preset(facts.name);
        assert_eq!(read.codes.len(), facts.codes.len(), "every code of {} reads", facts.name);
        assert_eq!(read.errors.len(), facts.errors.len(), "{}", facts.name);
        assert_eq!(read.never_ban.len(), facts.never_ban.len(), "{}", facts.name);
    }
    let pbl: Pattern = "127.0.0.[10;11]".parse().expect("a pattern");
    assert_eq!(preset("spamhaus-zen").never_ban, [pbl]);
    assert_eq!(DnsblPreset::named("cbl"), DnsblPreset::named("spamhaus-xbl"));
}

#[test]
fn a_zone_written_by_hand_is_known_all_the_same() {
    for facts in DnsblPreset::ALL.iter().filter(|facts| !facts.needs_key && facts.name != "spamhaus-drop") {
        let by_hand = dnsbl(&format!("zone = \"{}.\"", facts.zone.to_uppercase()));
        assert_eq!(by_hand, Dnsbl { name: "it".into(), preset: None, ..preset(facts.name) });
    }
    // An own mirror is still what its preset says.
    let mirror = dnsbl("preset = \"spamhaus-zen\"\nzone = \"zen.mirror.test\"");
    assert_eq!(mirror, Dnsbl { name: "it".into(), zone: "zen.mirror.test".into(), ..preset("spamhaus-zen") });
    assert_eq!(mirror.zone_with_key(Some("k")), "k.zen.mirror.test");
    let unknown = dnsbl("zone = \"bl.test\"");
    assert_eq!(listed(&unknown, "127.0.0.2 127.0.7.9").weight, 1);
    assert_eq!((unknown.tests.listed.len(), unknown.queries_per_day), (1, Some(100_000)));
}

#[test]
fn a_weight_is_that_of_every_code_without_one() {
    let codes = |text: &str| dnsbl(text).codes.iter().map(|code| code.weight).collect::<Vec<_>>();
    assert_eq!(codes("preset = \"spamhaus-sbl\"\nweight = 7"), [7, 7]);
    assert_eq!(codes("preset = \"dnswl\"\nweight = -9"), [-9; 3]);
    assert_eq!(codes("preset = \"spamcop\"\ncodes = [\"127.0.0.2\", \"127.0.0.3*4\"]\nweight = 5"), [5, 4]);
    assert_eq!(codes("preset = \"spamcop\"\ncodes = [\"127.0.0.2\"]"), [1]);
    assert_eq!(dnsbl("preset = \"spamcop\"\ntest = \"none\"").tests, Tests::default());
}

#[test]
fn wrong_values_of_reputation() {
    for (line, said) in [
        ("threshold = 0", "threshold: 0 is out of range\n    write 1 to 1000000"),
        (
            "action = \"block\"",
            "action: \"block\" is nothing that can be done about a listed source\n    write action = \"note\", action = \
             \"limit\" or action = \"ban\"",
        ),
        (
            "ttl = { min = \"2h\" }",
            "ttl: answers would be remembered for 2h at least and 1h at most\n    write a min that is not longer than max",
        ),
        ("ttl = { max = \"8d\" }", "ttl.max: 8d is out of range\n    write 1s to 7d"),
        ("timeout = \"1m\"", "timeout: 1m is out of range\n    write 100ms to 30s"),
        ("test_every = \"1s\"", "test_every: 1s is out of range\n    write 30s to 1d"),
        (
            "resolvers = [\"dns.test\"]",
            "resolvers[0]: \"dns.test\" is not the address of a resolver\n    write an address, with a port unless it is \
             53: \"127.0.0.1\", \"[::1]:5353\"",
        ),
        (
            "resolvers = [\"127.0.0.1\", \"127.0.0.1:53\"]",
            "resolvers[1]: \"127.0.0.1:53\" is written twice\n    remove one of the two",
        ),
        ("answers = 1023", "answers: 1023 is out of range\n    write 1024 to 16777216"),
        (
            "limit = { rate = \"6/min\" }",
            "limit: the key burst is missing\n    add it, as in { rate = \"300/min\", burst = 300 }",
        ),
        (
            "services = { smpt = { action = \"ban\" } }",
            "services.smpt: no service is called \"smpt\"\n    did you mean smtp?",
        ),
        ("treshold = 3", "treshold: unknown key\n    did you mean threshold?"),
    ] {
        let all = refused(&format!("[reputation]\n{line}\n"));
        let (_, rest) = all.split_once("reputation.").expect("a key");
        assert_eq!(rest, said, "{line}");
    }
}

#[test]
fn wrong_values_of_a_dnsbl() {
    let zone_remedy = "write a DNS name of at most 180 bytes; what answers mean belongs into `codes`";
    let zone = |zone: &str| {
        (format!("zone = \"{zone}\""), format!("zone: \"{zone}\" is not the name of a zone\n    {zone_remedy}"))
    };
    let with = |lines: &str, said: &str| (lines.to_owned(), said.to_owned());
    let good = "zone = \"bl.test\"\n";
    for (lines, said) in [
        zone("127.0.0.2"),
        zone("bl..test"),
        zone("-bl.test"),
        zone("bl test"),
        zone("zen.spamhaus.org=127.0.0.2"),
        zone(""),
        zone("."),
        with(
            &format!("{good}codes = []"),
            "codes: not one to 256 codes\n    write at least one, or join several into one: 127.0.0.[2;4..7]",
        ),
        with(
            &format!("{good}codes = [\"127.0.0\"]"),
            "codes[0]: \"127.0.0\" is not a pattern of answers\n    write 127.0.0.2, 127.0.0.[2;4..7], or bits of the last \
             number: 127.0.0.&2|4",
        ),
        with(
            &format!("{good}codes = [\"127.0.0.2*0\"]"),
            "codes[0]: \"127.0.0.2*0\" is a code with a weight that is none\n    write a weight from -1000 to 1000 that is \
             not 0, as in 127.0.0.2*3",
        ),
        with(
            &format!("{good}codes = [\"10.0.0.2\"]"),
            "codes[0]: \"10.0.0.2\" matches nothing in 127.0.0.0/8, where all answers lie\n    write a code that begins \
             with 127",
        ),
        with(&format!("{good}weight = 0"), "weight: a weight of 0\n    leave out what should not count"),
        with(&format!("{good}weight = 1001"), "weight: 1001 is out of range\n    write -1000 to 1000"),
        with(
            &format!("{good}test = {{ listed = [\"a\"] }}"),
            "test.listed[0]: \"a\" is not an address\n    write an address: 127.0.0.2, ::ffff:127.0.0.2",
        ),
        with(
            &format!("{good}test = {{ listed = [\"127.0.0.1\"], unlisted = [\"127.0.0.1\"] }}"),
            "test: 127.0.0.1 would have to be listed and not listed\n    remove it from one of the two",
        ),
        with(
            &format!("{good}test = \"off\""),
            "test: must be a table or \"none\", not a text\n    write it as in test = { listed = [\"127.0.0.2\"], unlisted \
             = [\"127.0.0.1\"] }",
        ),
        with(&format!("{good}queries_per_day = 0"), "queries_per_day: 0 is out of range\n    write 1 to 1000000000"),
        with(&format!("{good}concurrency = 2000"), "concurrency: 2000 is out of range\n    write 1 to 1024"),
        with(
            &format!("{good}services = [\"imapp\"]"),
            "services: no service is called \"imapp\"\n    did you mean imap?",
        ),
        with("preset = \"spamhaus\"", "preset: no preset is called \"spamhaus\"\n    did you mean spamhaus-zen?"),
        with(
            "preset = \"spamcop\"\nkey_file = \"/key\"",
            "key_file: spamcop is asked without a key\n    remove key_file",
        ),
        with(
            "preset = \"spamcop\"\nzone = \"zen.spamhaus.org\"",
            "zone: the zone of another preset, spamhaus-zen\n    leave the zone out, or write preset = \"spamhaus-zen\"",
        ),
        with(
            "preset = \"dnswl\"\nweight = 3",
            "weight: dnswl lists good senders, so 127.0.[0..255].1*3 cannot weigh against one\n    write a negative weight",
        ),
    ] {
        let all = refused(&format!("[[reputation.dnsbl]]\nname = \"it\"\n{lines}\n"));
        let (_, rest) = all.split_once("reputation.dnsbl[0].").unwrap_or_else(|| panic!("{all}"));
        assert_eq!(rest, said, "{lines}");
    }
    for (text, said) in [
        ("preset = \"spamcop\"", "the key name is missing\n    add it, as in name = \"zen\""),
        ("name = \"a\"", "the key zone is missing\n    add it, as in zone = \"bl.example.org\""),
        (
            "name = \"a\"\npreset = \"spamhaus-authbl\"",
            "spamhaus-authbl answers nobody without a key\n    write the key into a file, and name it as in key_file = \
             \"/etc/ratelimit/spamhaus.key\"",
        ),
    ] {
        let said = format!("t.toml:1:1: reputation.dnsbl[0]: {said}");
        expect(&[(&format!("[[reputation.dnsbl]]\n{text}\n"), &said)]);
    }
}

#[test]
fn zones_leave_room_for_an_address() {
    let zone = |length: usize| {
        let labels = [("a", 59), ("b", 60), ("c", length - 121)].map(|(letter, count)| letter.repeat(count));
        labels.join(".")
    };
    assert_eq!(dnsbl(&format!("zone = \"{}\"", zone(180))).zone.len(), 180);
    let said = refused(&format!("[[reputation.dnsbl]]\nname = \"a\"\nzone = \"{}\"\n", zone(181)));
    assert!(said.contains("is not the name of a zone"), "{said}");
    let keyed = refused(&format!("[[reputation.dnsbl]]\nname = \"a\"\nkey_file = \"/k\"\nzone = \"{}\"\n", zone(122)));
    assert!(keyed.contains("leaves no room for a key"), "{keyed}");
}

#[test]
fn a_key_in_a_zone_is_refused_and_not_repeated() {
    for zone in ["secretkey.zen.dq.spamhaus.net", "zen.dq.spamhaus.net", "SecretKey.ZEN.dq.spamhaus.NET."] {
        let said = refused(&format!("[[reputation.dnsbl]]\nname = \"a\"\nzone = \"{zone}\"\n"));
        assert!(said.contains("is a secret and not for this file"), "{said}");
        assert!(!said.to_lowercase().contains("secretkey"), "{said}");
    }
}

#[test]
fn dead_zones_are_refused_with_their_end() {
    for (zone, said) in [
        ("dnsbl.sorbs.net", "June 2024"),
        ("spam.dnsbl.sorbs.net", "June 2024"),
        ("ix.dnsbl.manitu.net", "January 2025"),
        ("dnsbl.ahbl.org", "AHBL"),
        ("dnsbl.njabl.org", "NJABL"),
        ("relays.ordb.org.", "ORDB"),
        ("CBL.abuseat.org", "use preset spamhaus-xbl"),
    ] {
        let all = refused(&format!("[[reputation.dnsbl]]\nname = \"a\"\nzone = \"{zone}\"\n"));
        assert!(all.contains("must not be asked: it was") && all.contains(said), "{zone}: {all}");
    }
    assert_eq!(dnsbl("zone = \"notdnsbl.sorbs.net\"").zone, "notdnsbl.sorbs.net");
}

#[test]
fn lists_of_home_connections_act_on_port_25_alone() {
    let text = |preset: &str, service: &str| {
        let key = if preset.starts_with("spamhaus") { "key_file = \"/k\"\n" } else { "" };
        format!(
            "[services.mine]\nports = [25, 2525]\nto = [\"10.0.0.1\"]\n[[reputation.dnsbl]]\nname = \"a\"\n\
             preset = \"{preset}\"\n{key}services = [\"smtp\", \"{service}\"]\n"
        )
    };
    for preset in DnsblPreset::names() {
        for (service, port) in [("imaps", 993), ("submission", 587), ("mine", 2525)] {
            let text = text(preset, service);
            if ["spamhaus-authbl", "spamhaus-drop", "dnswl"].contains(&preset) {
                config(&text);
                continue;
            }
            let all = refused(&text);
            let said = format!("may act on port 25 alone, and {service} has port {port}: it lists home connections");
            assert!(all.contains(&said) && all.contains(".services: "), "{preset}: {all}");
        }
    }
    for zone in ["zone = \"zen.spamhaus.org\"", "preset = \"spamhaus-drop\"\ncodes = [\"127.0.0.[2..9]\"]"] {
        let all = refused(&format!("[[reputation.dnsbl]]\nname = \"a\"\n{zone}\nservices = [\"imap\"]\n"));
        assert!(all.contains("may act on port 25 alone, and imap has port 143"), "{zone}: {all}");
    }
}

#[test]
fn no_data_counts_twice() {
    let two = |first: &str, second: &str| {
        format!("[[reputation.dnsbl]]\nname = \"a\"\n{first}\n[[reputation.dnsbl]]\nname = \"b\"\n{second}\n")
    };
    let (zen, sbl, xbl) = ("preset = \"spamhaus-zen\"", "preset = \"spamhaus-sbl\"", "preset = \"spamhaus-xbl\"");
    let cbl = "preset = \"cbl\"";
    for (first, second, data) in [
        (zen, cbl, "XBL"),
        (cbl, zen, "XBL"),
        (zen, xbl, "XBL"),
        (xbl, cbl, "XBL"),
        (sbl, zen, "SBL"),
        (zen, zen, "SBL"),
        (zen, "zone = \"xbl.spamhaus.org\"", "XBL"),
    ] {
        let said = format!(
            "t.toml:4:1: reputation.dnsbl[1]: a scores the same {data} data for smtp already\n    remove one of the two, or give them different services"
        );
        expect(&[(&two(first, second), &said)]);
    }
    config(&two(sbl, xbl));
    config(&two(zen, "preset = \"spamhaus-drop\""));
    config(&two(zen, "preset = \"spamcop\""));
    config(&two("preset = \"spamhaus-zen\"\ncodes = [\"127.0.0.3\"]", xbl));
    let mine = "[services.mine]\nports = [25]\nto = [\"10.0.0.1\"]\n";
    config(&format!("{mine}{}", two(zen, &format!("{xbl}\nservices = [\"mine\"]"))));
    let names = two("preset = \"spamcop\"", "preset = \"barracuda\"").replace("\"b\"", "\"a\"");
    expect(&[(
        &names,
        "t.toml:4:1: reputation.dnsbl[1]: another DNSBL is called a already\n    give one of the two another name",
    )]);
}

#[test]
fn what_never_acts_is_warned_of() {
    let spamcop = "[[reputation.dnsbl]]\nname = \"a\"\npreset = \"spamcop\"\n";
    let said = "t.toml:1:1: reputation.dnsbl[0]: nothing is ever done for smtp: all its DNSBLs together weigh 2, less than its threshold 3
    add another DNSBL, give its codes more weight, or lower the threshold";
    assert_eq!(warnings(spamcop), said);
    assert_eq!(warnings(&format!("[reputation]\nthreshold = 2\n{spamcop}")), "");
    assert_eq!(warnings(&format!("{spamcop}[reputation.services.smtp]\nthreshold = 2\n")), "");
    assert_eq!(warnings(&format!("{spamcop}[[reputation.dnsbl]]\nname = \"b\"\npreset = \"barracuda\"\n")), "");
}

#[test]
fn reputation_is_shown_where_it_differs() {
    let text = "[reputation]
action = \"ban\"
ttl = { min = \"1m\", max = \"2h\" }
resolvers = [\"127.0.0.1:53\"]

[reputation.services.imap]
threshold = 9

[[reputation.dnsbl]]
name = \"zen\"
preset = \"spamhaus-zen\"
key_file = \"/etc/ratelimit/spamhaus.key\"

[[reputation.dnsbl]]
name = \"mine\"
zone = \"bl.test\"
codes = [\"127.0.0.[2;4..6]*3\", \"127.0.0.&2|4\"]
test = \"none\"
queries_per_day = \"unlimited\"
";
    assert_eq!(config(text).changed(), text);
    let json = serde_json::to_value(config(text)).expect("serializes");
    assert_eq!(json["reputation"]["dnsbl"][0]["preset"], "spamhaus-zen");
    assert_eq!(json["reputation"]["dnsbl"][1]["codes"][0], "127.0.0.[2;4..6]*3");
}
