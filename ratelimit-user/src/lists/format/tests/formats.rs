//! What each format says.

use super::{super::go_duration, *};

#[test]
fn plain_lists_read() {
    let parsed = read_as(Format::Plain, PLAIN);
    assert_eq!(
        texts(&parsed.networks),
        "10.0.0.0/8 192.0.2.1/32 192.0.2.4/30 192.0.2.99/32 198.51.100.7/32 203.0.113.5/32 2001:db8::/32"
    );
    assert_eq!((parsed.entries, parsed.left_out, parsed.bad.count), (7, 0, 0));
    assert_eq!(parsed.notices, ["Copyright 2026 Example; see the licence"]);
    assert_eq!(parsed.next_end, None);
}

#[test]
fn addresses_in_other_clothes_are_the_same_address() {
    let text =
        "192.0.2.1\n::ffff:192.0.2.1\n64:ff9b::192.0.2.1\n::ffff:192.0.2.1/128\n192.0.2.1/32\n192.0.2.1-192.0.2.1\n";
    let parsed = read_as(Format::Plain, text);
    assert_eq!((texts(&parsed.networks).as_str(), parsed.entries), ("192.0.2.1/32", 6));
    let parsed = read_as(Format::Plain, "64:ff9b::c000:200-64:ff9b::c000:203\n::ffff:10.0.0.0/104");
    assert_eq!(texts(&parsed.networks), "10.0.0.0/8 192.0.2.0/30");
}

#[test]
fn ranges_become_the_fewest_networks() {
    for (range, networks) in [
        ("192.0.2.1-192.0.2.6", "192.0.2.1/32 192.0.2.2/31 192.0.2.4/31 192.0.2.6/32"),
        ("192.0.2.0 - 192.0.2.255", "192.0.2.0/24"),
        ("0.0.0.0-255.255.255.255", "0.0.0.0/0"),
        ("255.255.255.255-255.255.255.255", "255.255.255.255/32"),
        ("2001:db8::-2001:db8::2", "2001:db8::/127 2001:db8::2/128"),
        ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
    ] {
        assert_eq!(texts(&read_as(Format::Plain, range).networks), networks, "{range}");
    }
}

#[test]
fn what_is_no_network_says_why() {
    for (line, problem) in [
        ("example.com", "not an address, a network or a range"),
        ("192.0.2", "not an address, a network or a range"),
        ("192.0.2.256", "not an address, a network or a range"),
        ("192.0.2.010", "not an address, a network or a range"),
        ("192.0.2.1/", "not an address, a network or a range"),
        ("192.0.2.1/+8", "not an address, a network or a range"),
        ("192.0.2.1 spam", "not an address, a network or a range"),
        ("192.0.2.1/33", "a network with a prefix longer than its address"),
        ("2001:db8::/129", "a network with a prefix longer than its address"),
        ("192.0.2.0/999", "a network with a prefix longer than its address"),
        ("192.0.2.9-192.0.2.1", "a range that ends before it begins"),
        ("192.0.2.9-2001:db8::1", "a range from one address family to the other"),
    ] {
        let text = format!("{}{line}\n", "192.0.2.1\n".repeat(19));
        let bad = read_as(Format::Plain, &text).bad;
        let expected = BadLine { line: 20, text: line.to_owned(), problem: problem.to_owned() };
        assert_eq!(bad, Bad { count: 1, lines: vec![expected] });
    }
}

#[test]
fn counts_below_the_least_are_left_out_and_not_bad() {
    let counted = |min_count| {
        let parsed = parse(COUNT.as_bytes(), &Reading { min_count, ..told(Format::Count) }).unwrap();
        (texts(&parsed.networks), parsed.entries, parsed.left_out, parsed.bad.count)
    };
    assert_eq!(counted(3), ("192.0.2.1/32 192.0.2.2/32".to_owned(), 2, 2, 0));
    assert_eq!(counted(0).1, 4);
    assert_eq!(counted(10), (String::new(), 0, 4, 0));
    let huge = format!("192.0.2.1 {}", "9".repeat(30));
    assert_eq!(read_as(Format::Count, &huge).entries, 1);
}

#[test]
fn drop_reads_and_keeps_its_copyright() {
    let parsed = read_as(Format::Drop, DROP);
    assert_eq!((texts(&parsed.networks).as_str(), parsed.entries), ("192.0.2.0/24 2001:db8::/32", 2));
    assert_eq!(parsed.notices, ["Spamhaus DROP List 2026/11/25 - (c) 2026 The Spamhaus Project SLU"]);
}

#[test]
fn a_network_of_drop_that_is_cut_off_is_no_wider_network() {
    let cut = format!("{}192.0.0.0/1", "192.0.2.0/24 ; SBL1\n".repeat(20));
    let parsed = read_as(Format::Drop, &cut);
    assert_eq!((texts(&parsed.networks).as_str(), parsed.bad.count), ("192.0.2.0/24", 1));
    assert_eq!(parsed.bad.lines[0].problem, "without an SBL number behind the network");
}

#[test]
fn drop_as_json_reads_and_keeps_its_terms() {
    let parsed = read_as(Format::DropJson, DROP_JSON);
    assert_eq!((texts(&parsed.networks).as_str(), parsed.entries), ("192.0.2.0/24 198.51.100.0/24", 2));
    assert_eq!(parsed.notices, ["(c) 2026 The Spamhaus Project SLU", "https://www.spamhaus.org/drop/terms/"]);
    let empty = read_as(Format::DropJson, "{\"type\":\"metadata\",\"records\":0}");
    assert_eq!((empty.entries, empty.networks.len()), (0, 0));
}

#[test]
fn bad_records_of_drop_count_towards_its_trailer() {
    let good = "{\"cidr\":\"192.0.2.0/24\"}\n".repeat(38);
    let text = format!("{good}{{\"cidr\":\"nonsense\"}}\n{{\"cidr\":7}}\n{{\"type\":\"metadata\",\"records\":40}}\n");
    let bad = read_as(Format::DropJson, &text).bad;
    assert_eq!((bad.count, bad.lines[0].line, bad.lines[1].line), (2, 39, 40));
    assert!(bad.lines[1].problem.starts_with("not a record of this format (invalid type"), "{bad:?}");
}

#[test]
fn decisions_last_as_long_as_they_say() {
    let aged = |age_s| {
        let age = Duration::from_secs(age_s);
        let parsed = parse(CROWDSEC.as_bytes(), &Reading { age, ..told(Format::Crowdsec) }).unwrap();
        (texts(&parsed.networks), parsed.entries, parsed.left_out, parsed.next_end)
    };
    let (first, second) = ("192.0.2.1/32", "192.0.2.1/32 198.51.100.0/24");
    assert_eq!(aged(0), (second.to_owned(), 2, 3, Some(Duration::from_secs(600))));
    assert_eq!(aged(599), (second.to_owned(), 2, 3, Some(Duration::from_secs(1))));
    assert_eq!(aged(600), (first.to_owned(), 1, 4, Some(Duration::from_millis(13_741_500))));
    assert_eq!(aged(15_000), (String::new(), 0, 5, None));
}

#[test]
fn decisions_come_bare_too_and_what_is_deleted_takes_nothing_back() {
    let decision = r#"{"type":"BAN","scope":"IP","value":"2001:db8::1","duration":"1h"}"#;
    let bare = read_as(Format::Crowdsec, &format!(" [{decision}]\n"));
    assert_eq!(texts(&bare.networks), "2001:db8::1/128");
    let both = read_as(Format::Crowdsec, &format!("{{\"deleted\":[{decision}],\"links\":{{}},\"new\":[{decision}]}}"));
    assert_eq!(both, bare);
    let gone = read_as(Format::Crowdsec, &format!("{{\"new\":null,\"deleted\":[{decision}]}}"));
    assert_eq!((gone.entries, gone.networks.len()), (0, 0));
}

#[test]
fn a_bad_decision_is_one_bad_line() {
    let good = "{\"type\":\"ban\",\"scope\":\"Ip\",\"value\":\"192.0.2.1\",\"duration\":\"1h\"},\n".repeat(60);
    let bad = "{\"type\":\"ban\",\"scope\":\"Ip\",\"value\":\"192.0.2.1\"},\n[1],\n\
               {\"type\":\"ban\",\"scope\":\"Ip\",\"value\":\"host\",\"duration\":\"1h\"}";
    let bad = read_as(Format::Crowdsec, &format!("[\n{good}{bad}\n]")).bad;
    let lines: Vec<_> = bad.lines.iter().map(|bad| (bad.line, bad.problem.as_str())).collect();
    assert_eq!(
        (lines[0], lines[2]),
        ((62, "without a duration like 3h59m1.5s"), (64, "not an address, a network or a range"))
    );
    assert_eq!((bad.count, bad.lines[1].text.as_str(), bad.lines[1].line), (3, "[1]", 63));
}

#[test]
fn durations_of_go_read() {
    for (text, nanoseconds) in [
        ("3h59m1.5s", Some(14_341_500_000_000)),
        ("1h", Some(3_600_000_000_000)),
        ("+1.5h", Some(5_400_000_000_000)),
        (".5s", Some(500_000_000)),
        ("1.s", Some(1_000_000_000)),
        ("100ms", Some(100_000_000)),
        ("1us1µs1μs1ns", Some(3001)),
        ("0.0000000019s", Some(1)),
        ("0", Some(0)),
        ("-3h", Some(0)),
        ("", None),
        ("-", None),
        ("1", None),
        ("h", None),
        (".s", None),
        ("1.2.3s", None),
        ("1d", None),
        ("1 h", None),
        ("99999999999h", None),
        ("99999999999999999999999s", None),
    ] {
        assert_eq!(go_duration::read(text), nanoseconds.map(Duration::from_nanos), "{text}");
    }
}

#[test]
fn reports_of_shadowserver_read() {
    let parsed = read_as(Format::Shadowserver, SHADOWSERVER);
    assert_eq!((texts(&parsed.networks).as_str(), parsed.entries), ("192.0.2.1/32 192.0.2.9/32 2001:db8::1/128", 3));
    for header in ["a,ip", "a,\"SRC_IP\"", "ip,address", "address,ip", "\u{feff}ip,a"] {
        let text = format!("{header}\n192.0.2.1,192.0.2.1\n");
        assert_eq!(texts(&read_as(Format::Shadowserver, &text).networks), "192.0.2.1/32", "{header}");
    }
    let rows = "a,192.0.2.1\n".repeat(40);
    let bad = read_as(Format::Shadowserver, &format!("a,ip\n\n{rows}a\n\n\"a\nb\",host\n")).bad;
    let lines: Vec<_> = bad.lines.iter().map(|bad| (bad.line, bad.text.as_str(), bad.problem.as_str())).collect();
    assert_eq!(
        lines,
        [(43, "a", "without a field for the address"), (45, "\"a\\nb\",host", "not an address, a network or a range"),]
    );
}

#[test]
fn a_list_without_entries_reads() {
    for (format, text) in [
        (Format::Plain, ""),
        (Format::Plain, "\n# nothing today\n"),
        (Format::Count, "#\n"),
        (Format::Drop, "; (c)\n"),
        (Format::Rbldnsd, "$TTL 60\n"),
        (Format::Crowdsec, "[]"),
        (Format::Crowdsec, "{\"new\":[],\"deleted\":[]}"),
        (Format::Shadowserver, ""),
        (Format::Shadowserver, "ip,port\n"),
    ] {
        let parsed = read_as(format, text);
        assert_eq!((parsed.entries, parsed.networks.len(), parsed.bad.count), (0, 0, 0), "{format} {text:?}");
    }
}

#[test]
fn an_address_is_found_where_it_is_written() {
    let found = |text: &str, reading: &Reading, address: &str| {
        let found = find(text.as_bytes(), reading, address.parse().unwrap()).unwrap();
        found.into_iter().map(|found| (found.line, found.network.to_string(), found.excludes)).collect::<Vec<_>>()
    };
    assert_eq!(found(PLAIN, &AUTO, "192.0.2.6"), [(8, "192.0.2.4/30".to_owned(), false)]);
    assert_eq!(found(PLAIN, &AUTO, "::ffff:10.1.2.3"), [(7, "10.0.0.0/8".to_owned(), false)]);
    assert_eq!(found(PLAIN, &AUTO, "192.0.2.8"), []);
    let both = [(8, "127.16.0.0/12".to_owned(), false), (9, "127.17.0.0/16".to_owned(), true)];
    assert_eq!(found(RBLDNSD, &AUTO, "127.17.0.1"), both);
    assert_eq!(found(DROP_JSON, &AUTO, "198.51.100.1"), [(2, "198.51.100.0/24".to_owned(), false)]);
    assert_eq!(found(CROWDSEC, &AUTO, "198.51.100.1"), [(3, "198.51.100.0/24".to_owned(), false)]);
    let later = Reading { age: Duration::from_secs(600), ..AUTO };
    assert_eq!(found(CROWDSEC, &later, "198.51.100.1"), []);
    assert_eq!(found(SHADOWSERVER, &AUTO, "192.0.2.9"), [(5, "192.0.2.9/32".to_owned(), false)]);
    assert_eq!(found(&"192.0.2.1\n".repeat(101), &AUTO, "192.0.2.1").len(), MOST_FOUND);
}
