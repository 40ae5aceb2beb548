//! Each thing that can be wrong, with the exact words.

use std::time::Duration;

use super::{expect, refused};
use crate::config::{Config, DEFAULT_CLOCK_TICK};

#[test]
fn all_errors_are_reported_in_file_order() {
    let text = "\
mode = \"enfore\"
memroy = \"32 MiB\"
trust = [\"10.1.2.3/8\", \"10.0.0.0/8\"]
block = [\"10.2.0.0/16\"]
events_per_second = \"many\"
[services.smtp]
source = { rate = \"0/s\", burst = 0 }
prots = [25]
[services.smtp.network]
rate = \"3000\"
[services.new]
to = []
[paths]
state = \"var\"
";
    let said = "\
t.toml:1:8: mode: \"enfore\" is not a mode
    write observe or enforce
t.toml:2:1: memroy: unknown key
    did you mean memory?
t.toml:3:10: trust[0]: \"10.1.2.3/8\" is a network with host bits set
    write 10.0.0.0/8 for the network, or 10.1.2.3/32 for the one address
t.toml:4:10: block[0]: block 10.2.0.0/16 can never act: it lies inside trust 10.0.0.0/8 (line 3)
    remove it from block, or make the network in trust smaller
t.toml:5:21: events_per_second: must be a whole number, not a text
    write it as in events_per_second = 200
t.toml:7:19: services.smtp.source.rate: \"0/s\" is zero, a rate that would refuse everything
    write a rate of at least 1, as in 1/min
t.toml:7:34: services.smtp.source.burst: 0 is zero, a burst that would refuse everything
    write a burst of at least 1
t.toml:8:1: services.smtp.prots: unknown key
    did you mean ports?
t.toml:9:16: services.smtp.network: the key burst is missing
    add it, as in { rate = \"300/min\", burst = 300 }
t.toml:10:8: services.smtp.network.rate: \"3000\" is not a rate
    write a number over s, min, h or day: 10/s, 120/min, 1000/h, 5000/day
t.toml:11:11: services.new: a service without ports
    add the ports, as in ports = [2525]
t.toml:12:6: services.new.to: an empty list
    name a network, or write to = \"local\"
t.toml:14:9: paths.state: \"var\" is not an absolute path
    write the whole path, from / on";
    assert_eq!(refused(text), said);
}

#[test]
fn broken_toml() {
    expect(&[
        (
            "mode = observe\nmemory = 32 MiB\n",
            "t.toml:1:8: mode: broken TOML: string values must be quoted, expected literal string
    put the value in quotes: \"observe\"
t.toml:2:10: memory: broken TOML: string values must be quoted, expected literal string
    put the value in quotes: \"32 MiB\"",
        ),
        (
            "mode = \"observe\"\nmode = \"enforce\"\n",
            "t.toml:2:1: mode: broken TOML: duplicate key\n    keep one of the two",
        ),
        (
            "[services.smtp\nports = [25]\n",
            "t.toml:1:15: services.smtp: broken TOML: unclosed table, expected `]`
    correct the TOML here: texts stand in \"quotes\", lists in [brackets]",
        ),
    ]);
}

/// A fault in the structure hides nothing before it, invents nothing after it, and reading goes on
/// at the next table.
#[test]
fn broken_structure_spoils_one_table_only() {
    let remedy = "correct the TOML here: texts stand in \"quotes\", lists in [brackets]";
    expect(&[
        (
            "mod = 1\ntrust = [\"10.0.0.0/8\"\nports = [25]\nsource = 5\n[services.imap]\nprots = [1]\nmode = on\n",
            &format!(
                "t.toml:1:1: mod: unknown key
    did you mean mode?
t.toml:3:1: ports: broken TOML: missing comma between array elements, expected `,`
    {remedy}
t.toml:6:1: services.imap.prots: unknown key
    did you mean ports?
t.toml:7:8: services.imap.mode: broken TOML: string values must be quoted, expected literal string
    put the value in quotes: \"on\"
t.toml:7:8: services.imap.mode: \"on\" is not a mode
    write observe or enforce"
            ),
        ),
        // A list that never ends takes the next header for an item.
        (
            "trust = [\"10.0.0.0/8\",\n[services.imap]\nprots = [1]\n",
            "t.toml:2:2: services.imap: broken TOML: a table header inside a list or a value
    close what is open above this line with its ] or }
t.toml:3:1: services.imap.prots: unknown key
    did you mean ports?",
        ),
        // The ports are there, behind the fault.
        (
            "[services.mine]\nmode = \"observe\nports = [2525]\n[services.b]\nmode = \"\nports = [2526]\n",
            &format!(
                "t.toml:2:16: services.mine.mode: broken TOML: invalid basic string, expected `\"`
    {remedy}
t.toml:5:9: services.b.mode: broken TOML: invalid basic string, expected `\"`
    {remedy}"
            ),
        ),
    ]);
}

#[test]
fn unknown_keys() {
    expect(&[
        ("interface = \"auto\"\n", "t.toml:1:1: interface: unknown key\n    did you mean interfaces?"),
        (
            "colour = 1\n",
            "t.toml:1:1: colour: unknown key
    remove it; known here: interfaces, mode, memory, events_per_second, trust, allow, block, never_block, lists, paths, proof, reputation, export, services",
        ),
        (
            "[services.smtp]\ncolour = 50\n",
            "t.toml:2:1: services.smtp.colour: unknown key
    remove it; known here: enabled, ports, listen_ports, to, mode, source, network, service, connections, source_prefix, network_prefix, only_from, deny",
        ),
        (
            "[services.smtp]\nsource = { rate = \"1/s\", brust = 5, burst = 5 }\n",
            "t.toml:2:26: services.smtp.source.brust: unknown key\n    did you mean burst?",
        ),
        ("[path]\nstate = 1\n", "t.toml:1:2: path: unknown key\n    did you mean paths?"),
        ("[paths]\nsocks = \"/x\"\n", "t.toml:2:1: paths.socks: unknown key\n    did you mean socket?"),
        (
            "[[trust]]\nnetwork = \"10.0.0.0/8\"\nservice = [\"smtp\"]\n",
            "t.toml:3:1: trust[0].service: unknown key\n    did you mean services?",
        ),
        (
            "[services.smtp]\nsource_prefix = { ipv4 = 24 }\n",
            "t.toml:2:19: services.smtp.source_prefix.ipv4: unknown key\n    remove it; known here: v4, v6",
        ),
        ("\"m\\u001bode\" = 1\n", "t.toml:1:1: \"m\\u{1b}ode\": unknown key\n    did you mean mode?"),
    ]);
}

#[test]
fn words_that_do_not_read() {
    expect(&[
        (
            "[services.smtp]\nsource = { rate = \"300/fortnight\", burst = 300 }\n",
            "t.toml:2:19: services.smtp.source.rate: \"300/fortnight\" is not a rate
    write a number over s, min, h or day: 10/s, 120/min, 1000/h, 5000/day",
        ),
        (
            "block = [\"10.0.0\"]\n",
            "t.toml:1:10: block[0]: \"10.0.0\" is not a network
    write an address or a network: 192.0.2.1, 10.0.0.0/8, 2001:db8::/32",
        ),
        (
            "allow = [{ network = \"10.1.2.3/8\" }]\n",
            "t.toml:1:22: allow[0].network: \"10.1.2.3/8\" is a network with host bits set
    write 10.0.0.0/8 for the network, or 10.1.2.3/32 for the one address",
        ),
        (
            "[services.smtp]\nto = [\"10.0.0.0/40\"]\n",
            "t.toml:2:7: services.smtp.to[0]: \"10.0.0.0/40\" is a network with a prefix longer than its address
    write a prefix of at most /32",
        ),
        (
            "memory = \"32 MB\"\n",
            "t.toml:1:10: memory: \"32 MB\" is not an amount of memory
    write a number with KiB, MiB or GiB, as in \"32 MiB\", or plain bytes",
        ),
        (
            "[services.imap]\nmode = \"drop\"\n",
            "t.toml:2:8: services.imap.mode: \"drop\" is not a mode\n    write observe or enforce",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_type() {
    expect(&[
        (
            "mode = 1\n",
            "t.toml:1:8: mode: must be a text in quotes, not a whole number\n    write it as in mode = \"observe\"",
        ),
        (
            "trust = \"10.0.0.0/8\"\n",
            "t.toml:1:9: trust: must be a list of networks, not a text\n    write it as in trust = [\"10.0.0.0/8\"]",
        ),
        (
            "block = [1]\n",
            "t.toml:1:10: block[0]: must be a network in quotes or a table, not a whole number
    write it as in block = [\"10.0.0.0/8\"]",
        ),
        ("services = []\n", "t.toml:1:12: services: must be a table, not a list\n    write it as in [services.smtp]"),
        (
            "[services]\nsmtp = true\n",
            "t.toml:2:8: services.smtp: must be a table, not true or false\n    write it as in [services.smtp]",
        ),
        (
            "[services.smtp]\nports = 25\n",
            "t.toml:2:9: services.smtp.ports: must be a list of port numbers, not a whole number\n    write it as in ports = [25]",
        ),
        (
            "[services.smtp]\nenabled = \"no\"\n",
            "t.toml:2:11: services.smtp.enabled: must be true or false, not a text\n    write it as in enabled = false",
        ),
        (
            "[services.smtp]\nto = \"here\"\n",
            "t.toml:2:6: services.smtp.to: must be \"local\" or a list of networks, not a text
    write it as in to = [\"192.0.2.0/24\"]",
        ),
        (
            "[services.smtp]\nsource = 5\n",
            "t.toml:2:10: services.smtp.source: must be a limit, a list of limits or \"off\", not a whole number
    write it as in { rate = \"300/min\", burst = 300 }",
        ),
        (
            "[services.smtp]\nsource = \"300/min\"\n",
            "t.toml:2:10: services.smtp.source: \"300/min\" is not a limit
    write { rate = \"300/min\", burst = 300 }, or \"off\"",
        ),
        (
            "[services.smtp]\nsource = { rate = \"1/s\", burst = 1.5 }\n",
            "t.toml:2:34: services.smtp.source.burst: must be a whole number, not a decimal number
    write it as in burst = 300",
        ),
    ]);
}

#[test]
fn values_out_of_range() {
    expect(&[
        ("memory = \"1023 KiB\"\n", "t.toml:1:10: memory: 1023 KiB is out of range\n    write 1 MiB to 1 GiB"),
        ("memory = 1073741825\n", "t.toml:1:10: memory: 1073741825 is out of range\n    write 1 MiB to 1 GiB"),
        ("memory = -1\n", "t.toml:1:10: memory: -1 is out of range\n    write 0 to 18446744073709551615"),
        ("events_per_second = 10001\n", "t.toml:1:21: events_per_second: 10001 is out of range\n    write 0 to 10000"),
        (
            "[services.smtp]\nports = [0]\n",
            "t.toml:2:10: services.smtp.ports[0]: 0 is out of range\n    write 1 to 65535",
        ),
        (
            "[services.smtp]\nports = [25, 65536]\n",
            "t.toml:2:14: services.smtp.ports[1]: 65536 is out of range\n    write 1 to 65535",
        ),
        (
            "[services.smtp]\nsource = { rate = \"1/s\", burst = -1 }\n",
            "t.toml:2:34: services.smtp.source.burst: -1 is out of range\n    write 0 to 18446744073709551615",
        ),
        (
            "[services.smtp]\nsource_prefix = { v4 = 33 }\n",
            "t.toml:2:24: services.smtp.source_prefix.v4: 33 is out of range\n    write 1 to 32",
        ),
        (
            "[services.smtp]\nnetwork_prefix = { v6 = 129 }\n",
            "t.toml:2:25: services.smtp.network_prefix.v6: 129 is out of range\n    write 1 to 128",
        ),
    ]);
}

#[test]
fn interfaces_paths_and_notes() {
    let names = "write interfaces = \"auto\", or a list of names as `ip link` shows them, as in [\"eth0\"]";
    let long = "x".repeat(120);
    let bad = |place: &str, value: &str| {
        format!("t.toml:1:{place}: {value} is not the name of a network interface\n    {names}")
    };
    expect(&[
        ("interfaces = \"eth0\"\n", &bad("14: interfaces", "\"eth0\"")),
        ("interfaces = [\"auto\"]\n", &bad("15: interfaces[0]", "\"auto\"")),
        ("interfaces = [\"eth 0\"]\n", &bad("15: interfaces[0]", "\"eth 0\"")),
        ("interfaces = [\"\"]\n", &bad("15: interfaces[0]", "\"\"")),
        ("interfaces = [\"sixteen-letters0\"]\n", &bad("15: interfaces[0]", "\"sixteen-letters0\"")),
        (
            "interfaces = []\n",
            "t.toml:1:14: interfaces: an empty list\n    name an interface, or write interfaces = \"auto\"",
        ),
        (
            "interfaces = [\"eth0\", \"eth0\"]\n",
            "t.toml:1:23: interfaces[1]: \"eth0\" is written twice\n    remove one of the two",
        ),
        (
            &format!("[paths]\nsocket = \"/{long}\"\n"),
            "t.toml:2:10: paths.socket: the path is too long for a socket\n    write a path of at most 107 bytes",
        ),
        (
            "block = [{ network = \"192.0.2.1\", note = \"two\\nlines\" }]\n",
            "t.toml:1:42: block[0].note: not a note of one line and at most 200 characters
    shorten it, and leave out line breaks and other control characters",
        ),
    ]);
}

#[test]
fn services_as_a_whole() {
    let long = "x".repeat(32);
    let chars = "write at most 31 of the characters a-z, 0-9, - and _";
    expect(&[
        ("[services.smpt]\n", "t.toml:1:11: services.smpt: a service without ports\n    did you mean services.smtp? A new service needs its ports, as in ports = [2525]"),
        ("[services.lmtp-in]\n", "t.toml:1:11: services.lmtp-in: a service without ports\n    add the ports, as in ports = [2525]"),
        ("[services.smtp]\nports = []\n", "t.toml:2:9: services.smtp.ports: a service without ports\n    add the ports, as in ports = [2525]"),
        ("[services.SMTP]\nports = [2525]\n", &format!("t.toml:1:11: services.SMTP: \"SMTP\" is not the name of a service\n    {chars}")),
        (
            &format!("[services.{long}]\nports = [2525]\n"),
            &format!("t.toml:1:11: services.{long}: \"{long}\" is not the name of a service\n    {chars}"),
        ),
        ("[services.smtp]\nports = [25, 26, 25]\n", "t.toml:2:18: services.smtp.ports[2]: port 25 is written twice\n    remove one of the two"),
        (
            "[services.smtp]\nsource_prefix = { v6 = 48 }\n",
            "t.toml:2:24: services.smtp.source_prefix.v6: the IPv6 prefix of a source, /48, is shorter than that of its network, /64
    write a source prefix of at least 64, or a shorter network prefix",
        ),
        (
            "[services.imap]\nnetwork_prefix = { v4 = 24, v6 = 96 }\n",
            "t.toml:2:34: services.imap.network_prefix.v6: the IPv6 prefix of a source, /64, is shorter than that of its network, /96
    write a source prefix of at least 96, or a shorter network prefix",
        ),
    ]);
}

#[test]
fn one_port_and_destination_in_two_services() {
    let remedy = "give the port to one of the two, or separate their destinations with `to`";
    expect(&[
        (
            "[services.mine]\nports = [2525, 587]\n",
            &format!(
                "t.toml:2:16: services.mine.ports: port 587 to the same destination belongs to submission already (built in)\n    {remedy}"
            ),
        ),
        (
            "[services.a]\nports = [2525]\nto = [\"10.0.0.0/8\"]\n[services.b]\nports = [2525]\nto = [\"192.0.2.0/24\", \"10.1.0.0/16\"]\n",
            &format!(
                "t.toml:5:10: services.b.ports: port 2525 to the same destination belongs to a already (line 2)\n    {remedy}"
            ),
        ),
        // The built-in service is the one the file moves here.
        (
            "[services.a]\nports = [2525]\n[services.smtp]\nports = [2525]\n",
            &format!(
                "t.toml:4:10: services.smtp.ports: port 2525 to the same destination belongs to a already (line 2)\n    {remedy}"
            ),
        ),
    ]);
}

#[test]
fn too_many_services_and_none() {
    let mut text = String::new();
    for index in 0..9 {
        text.push_str(&format!("[services.s{index}]\nports = [{}]\n", 3000 + index));
    }
    assert_eq!(
        refused(&text),
        "t.toml:17:11: services.s8: service number 17, but at most 16 fit
    put ports with the same limits into one service, or switch a built-in one off with enabled = false"
    );
    let names = ["smtp", "submissions", "submission", "imap", "imaps", "pop3", "pop3s", "sieve"];
    let off: String = names.map(|name| format!("[services.{name}]\nenabled = false\n")).concat();
    assert_eq!(refused(&off), "t.toml:1:2: services: no service is left\n    leave at least one service enabled");
}

/// A rate that cannot work is reported beside a burst that does not read.
#[test]
fn rate_and_burst_are_judged_apart() {
    expect(&[(
        &limit("source", "5000/s", 0),
        "t.toml:2:19: services.sieve.source.rate: 5000/s is too fast for the source level
    write a rate of at most 1000/s
t.toml:2:37: services.sieve.source.burst: 0 is zero, a burst that would refuse everything
    write a burst of at least 1",
    )]);
}

fn limit(level: &str, rate: &str, burst: u32) -> String {
    format!("[services.sieve]\n{level} = {{ rate = \"{rate}\", burst = {burst} }}\n")
}

#[test]
fn limits_that_cannot_work() {
    expect(&[
        (
            &limit("source", "1001/s", 2000),
            "t.toml:2:19: services.sieve.source.rate: 1001/s is too fast for the source level\n    write a rate of at most 1000/s",
        ),
        (
            &limit("network", "60001/min", 2000),
            "t.toml:2:20: services.sieve.network.rate: 60001/min is too fast for the network level\n    write a rate of at most 1000/s",
        ),
        (
            &limit("service", "1000001/s", 5000),
            "t.toml:2:20: services.sieve.service.rate: 1000001/s is too fast for the service level\n    write a rate of at most 1000000/s",
        ),
        (
            &limit("source", "1000/s", 4),
            "t.toml:2:37: services.sieve.source.burst: a burst of 4 is too small for 1000/s: the kernel clock ticks every 4 ms\n    write a burst of at least 5",
        ),
        (
            &limit("source", "10/min", 1),
            "t.toml:2:37: services.sieve.source.burst: a burst of 1 is too small for 10/min: the kernel clock ticks every 4 ms\n    write a burst of at least 2",
        ),
        (
            &limit("source", "10/h", 241),
            "t.toml:2:35: services.sieve.source.burst: a burst of 241 at 10/h takes 24 h to drain, more than 24 h\n    write a burst of at most 240, or a faster rate",
        ),
        (
            &limit("source", "1/day", 1),
            "t.toml:2:19: services.sieve.source.rate: 1/day is too slow: no burst drains within 24 h\n    write a rate of at least 2/day",
        ),
        (
            "[services.sieve]\nsource = []\n",
            "t.toml:2:10: services.sieve.source: an empty list\n    write a limit, or \"off\"",
        ),
        (
            "[services.sieve]\nsource = [{ rate = \"1/s\", burst = 5 }, { rate = \"9/min\", burst = 9 }, { rate = \"9/h\", burst = 20 }]\n",
            "t.toml:2:10: services.sieve.source: 3 limits, but the source level holds at most 2\n    keep 2, a short and a long window",
        ),
        (
            "[services.sieve]\nservice = [{ rate = \"9/s\", burst = 9 }, { rate = \"8/s\", burst = 10 }]\n",
            "t.toml:2:11: services.sieve.service: 2 limits, but the service level holds at most 1\n    keep one",
        ),
    ]);
}

/// What the message says is the smallest burst does work, and one less does not.
#[test]
fn the_smallest_burst_follows_the_clock() {
    for (tick_ms, rate, smallest) in [(4, "1000/s", 5), (10, "1000/s", 11), (1, "1000/s", 2), (10, "300/min", 2)] {
        let tick = Duration::from_millis(tick_ms);
        let accepted = |burst| Config::parse_for(&limit("source", rate, burst), "t.toml", tick).is_ok();
        assert!(accepted(smallest) && !accepted(smallest - 1), "{rate} at {tick_ms} ms");
    }
    assert_eq!(DEFAULT_CLOCK_TICK, Duration::from_millis(4));
    assert!(Config::parse(&limit("service", "1000000/s", 4001), "t.toml").is_ok());
    assert!(Config::parse(&limit("service", "1000000/s", 4000), "t.toml").is_err());
    assert!(Config::parse(&limit("source", "10/h", 240), "t.toml").is_ok());
    assert!(Config::parse(&limit("source", "2/day", 2), "t.toml").is_ok());
}

#[test]
fn columns_are_characters() {
    expect(&[(
        "trust = [{ note = \"Büro ✉\", network = \"x\" }]\n",
        "t.toml:1:39: trust[0].network: \"x\" is not a network
    write an address or a network: 192.0.2.1, 10.0.0.0/8, 2001:db8::/32",
    )]);
}
