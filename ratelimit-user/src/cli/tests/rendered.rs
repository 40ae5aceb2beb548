use std::path::Path;

use super::{assert_text, counts, dnsbls, lists, parse};
use crate::api::{
    BanView, Banned, Challenges, ConnectionsView, Detached, EntryCounts, EntryView, Event, InterfaceStatus, LimitView,
    LimitsView, ListingView, ModeEnd, ModeView, Pressure, ProofStatus, Reloaded, ServiceExplanation, ServiceStatus,
    SourceView, SourcesBy, Status, Unbanned,
};
use crate::bans::By;
use crate::cli::{ban, config, detach, entry, events, limit, mode, reload, sources, status};
use crate::config::{Config, EntryKind, Level, Limit, Mode, Verdict};

fn gate(mode: Mode) -> ModeView {
    ModeView { mode, services: [].into(), ends: Vec::new() }
}

fn service(name: &str, ports: &[u16], admitted: u64, would_refuse: u64, refused: u64) -> ServiceStatus {
    ServiceStatus {
        name: name.into(),
        ports: ports.into(),
        mode: Mode::Observe,
        counts: [].into(),
        admitted,
        asked: 0,
        refused,
        would_refuse,
        pressure: Pressure::default(),
    }
}

fn observing() -> Status {
    let mut smtp = service("smtp", &[25, 2525], 1_234_567, 678, 0);
    smtp.counts = counts([
        ("admitted", 1_234_560, 0),
        ("established", 9_999_999, 0),
        ("source_limit", 600, 0),
        ("bad_flags", 70, 0),
        ("service_limit", 7, 0),
        ("blocked", 8, 0),
    ]);
    Status {
        version: "0.1.0".into(),
        controller: true,
        pid: Some(812),
        uptime_s: Some(7_505),
        mode: gate(Mode::Observe),
        config: Some("/etc/ratelimit/ratelimit.toml".into()),
        config_error: None,
        interfaces: vec![
            InterfaceStatus { name: "eth0".into(), attached: Some("native".into()), notes: Vec::new() },
            InterfaceStatus {
                name: "eth1".into(),
                attached: Some("generic".into()),
                notes: vec!["not native: the driver has no XDP".into()],
            },
        ],
        services: vec![smtp, service("sieve", &[4190], 3, 0, 0)],
        other: counts([("malformed", 3, 0), ("not_served", 1_000, 0)]),
        memory_bytes: 32 << 20,
        entries: EntryCounts { trust: 2, allow: 0, block: 1, lists: 1_000_003, bans: 1200 },
        proof: ProofStatus::default(),
        reputation: None,
        generation: 3,
        warnings: Vec::new(),
    }
}

/// The connections of a service that are seen.
fn open(connections: u64) -> Pressure {
    Pressure { watched: true, half_open: 1, half_open_most: 64, connections, suspect: false }
}

#[test]
fn status_says_first_whether_anything_is_dropped() {
    assert_text(
        &status::text(&observing()),
        &[
            "observe: everything is judged and counted, nothing is dropped",
            "",
            "controller     running for 2 h 5 min, process 812, version 0.1.0",
            "configuration  /etc/ratelimit/ratelimit.toml",
            "lists          trust 2, allow 0, block 1; networks in all 1,000,003; bans 1,200",
            "attached       eth0: native",
            "               eth1: generic, much slower than native",
            "                 not native: the driver has no XDP",
            "memory         32 MiB, whatever comes",
            "",
            "service  ports    mode      admitted  would be dropped  dropped  mostly for",
            "smtp     25,2525  observe  1,234,567               678        0  source_limit 600, bad_flags 70, blocked 8",
            "sieve    4190     observe          3                 0        0",
            "all                        1,234,570               678        0",
            "",
            "other frames  passed  would be dropped  dropped  that is",
            "malformed          0                 3        0  headers that cannot be read: truncated, a wrong length, \
             or an extension chain that is too long",
            "not_served     1,000                 0        0  TCP to a port or an address that no service claims",
            "",
            "new connections and frames since the filter was first loaded",
        ],
    );
}

/// What proof adds to the facts, and the table of services.
fn proof_and_services(status: &Status) -> (String, String) {
    let text = status::text(status);
    let facts = text.split("\nproof ").nth(1).unwrap_or_default();
    let facts = format!("proof {}", facts.split("\nmemory").next().unwrap());
    let table = text.split("\nservice ").nth(1).unwrap();
    (facts, format!("service {}", table.split("\n\n").next().unwrap()))
}

#[test]
fn on_a_quiet_day_proof_is_a_line_and_a_column() {
    let mut status = observing();
    status.proof = ProofStatus {
        proven: 214,
        proven_most: 262_144,
        handshakes: 12_345,
        connections: 17,
        ..ProofStatus::default()
    };
    status.services[0].pressure = open(17);
    let (proof, services) = proof_and_services(&status);
    assert_text(&proof, &["proof          214 of 262,144 sources proven, 12,345 handshakes seen, 17 connections open"]);
    assert_text(
        &services,
        &[
            "service  ports    mode     open now   admitted  would be dropped  dropped  mostly for",
            "smtp     25,2525  observe        17  1,234,567               678        0  source_limit 600, bad_flags 70, blocked 8",
            "sieve    4190     observe                    3                 0        0",
            "all                              17  1,234,570               678        0",
        ],
    );
}

#[test]
fn under_a_flood_status_says_who_is_suspect_and_what_became_of_the_challenges() {
    let mut status = observing();
    let [smtp, sieve] = &mut status.services[..] else { panic!("two services") };
    (smtp.mode, smtp.asked, smtp.admitted, smtp.refused, smtp.would_refuse) = (Mode::Enforce, 12_000, 1_500, 74, 0);
    smtp.pressure = Pressure { suspect: true, half_open: 90, ..open(40) };
    smtp.counts = counts([
        ("admitted", 500, 0),
        ("ticketed", 990, 0),
        ("repeated", 10, 0),
        ("challenged", 0, 11_995),
        ("awaited", 0, 5),
        ("answered", 0, 1_000),
        ("challenge_rate", 0, 70),
        ("retry_rate", 0, 4),
    ]);
    sieve.pressure = Pressure { suspect: true, ..open(0) };
    let mut imap = service("imap", &[143], 5_000, 0, 0);
    imap.pressure = Pressure { watched: false, ..open(0) };
    let mut pop3 = service("pop3", &[110], 5_000, 0, 0);
    pop3.pressure = Pressure { half_open: 40, ..open(7) };
    status.services.extend([imap, pop3]);
    status.proof = ProofStatus {
        unwatched: None,
        proven: 262_144,
        proven_most: 262_144,
        not_noted: 3,
        not_noted_of_site: 2_000,
        handshakes: 300_000,
        connections: 47,
        older: 2,
        not_counted: 1,
        challenges: Challenges {
            sent: 11_995,
            answered: 1_000,
            unanswered: 10_995,
            over_budget: 70,
            awaited: 5,
            tickets: 12,
            ticketed: 990,
            repeated: 10,
            retries_over_budget: 4,
            strays: 1_234,
        },
    };
    let (proof, services) = proof_and_services(&status);
    assert_text(
        &proof,
        &[
            "proof          262,144 of 262,144 sources proven, 300,000 handshakes seen, 47 connections open, 2 of them older than the filter",
            "               no room: 3 sources not noted as proven (`sources` under [proof]), 2,000 IPv6 /64 not noted as proven, \
             because their /48 has enough, 1 connections not counted",
            "               no handshake seen of imap: is its listener on this machine, and in this network namespace?",
            "               challenges: 11,995 sent, 1,000 answered, 10,995 not answered, 70 not sent, being over challenge_rate",
            "               SYNs dropped to see whether they are repeated: 5",
            "               let in: 990 with a ticket, 10 for repeating their SYN, 4 not, being over retry_rate",
            "               tickets good now: 12",
            "               packets of no connection dropped: 1,234",
        ],
    );
    assert_text(
        &services,
        &[
            "service  ports    mode     state                        open now  admitted   asked  would be dropped  dropped  mostly for",
            "smtp     25,2525  enforce  suspect, 90 of 64 half-open        40     1,500  12,000                 0       74  challenge_rate 70, retry_rate 4",
            "sieve    4190     observe  suspect                             0         3       0                 0        0",
            "imap     143      observe                                            5,000       0                 0        0",
            "pop3     110      observe  40 of 64 half-open                  7     5,000       0                 0        0",
            "all                                                           47    11,503  12,000                 0       74",
        ],
    );
}

#[test]
fn where_handshakes_are_not_watched_status_says_why() {
    let mut status = observing();
    let unwatched = Some("the control groups cannot be reached: no such device".to_owned());
    status.proof = ProofStatus { unwatched, proven_most: 262_144, ..ProofStatus::default() };
    assert_text(
        &proof_and_services(&status).0,
        &[
            "proof          handshakes are NOT watched: nobody is asked to prove himself, no connection is counted",
            "                 the control groups cannot be reached: no such device",
        ],
    );
}

#[test]
fn sources_show_what_is_known_of_each() {
    let known = SourceView {
        source: parse("192.0.2.7"),
        service: "smtp".into(),
        connections: 49,
        most: Some(50),
        drops: 1_200,
        last: Some("2026-11-22T04:17:24.123Z".into()),
        reason: Some("source_limit".into()),
        proven: true,
    };
    let nothing = SourceView { drops: 0, last: None, reason: None, ..known.clone() };
    let (source, service) = (parse("2001:db8:7::/64"), "submissions".into());
    let other = SourceView { source, service, connections: 3, most: None, proven: false, ..nothing };
    assert_text(
        &sources::text(SourcesBy::Connections, &[known, other.clone()]),
        &[
            "source           service      open now  refused (sampled)  last event                reason        proven",
            "192.0.2.7        smtp         49 of 50              1,200  2026-11-22T04:17:24.123Z  source_limit  yes",
            "2001:db8:7::/64  submissions         3                                                             no",
        ],
    );
    assert_text(
        &sources::text(SourcesBy::Connections, &[other]),
        &["source           service      open now  proven", "2001:db8:7::/64  submissions         3  no"],
    );
    assert_text(&sources::text(SourcesBy::Connections, &[]), &["no source has a connection open"]);
    assert_text(&sources::text(SourcesBy::Drops, &[]), &["no source was refused among the latest sampled events"]);
    assert_text(&sources::text(SourcesBy::Last, &[]), &["no events yet"]);
}

#[test]
fn status_shows_what_is_wrong_before_the_figures() {
    let mut status = observing();
    status.mode = ModeView {
        mode: Mode::Enforce,
        services: [("sieve".to_owned(), Mode::Observe), ("smtp".to_owned(), Mode::Enforce)].into(),
        ends: vec![ModeEnd { service: None, until: "2026-11-22T05:00:00Z".into(), awaits_confirmation: true }],
    };
    status.config_error = Some("r.toml:3:1: mode: \"enforced\" is not a mode\n    write observe or enforce".into());
    status.warnings = vec!["port 4190 is one that this machine uses for its own connections".into()];
    let text = status::text(&status);
    assert_text(
        text.split("\nservice ").next().unwrap(),
        &[
            "enforce: what is refused is dropped, but not on sieve",
            "until 2026-11-22T05:00:00Z, then what was before; `ratelimit confirm` keeps it",
            "",
            "controller     running for 2 h 5 min, process 812, version 0.1.0",
            "configuration  /etc/ratelimit/ratelimit.toml",
            "lists          trust 2, allow 0, block 1; networks in all 1,000,003; bans 1,200",
            "attached       eth0: native",
            "               eth1: generic, much slower than native",
            "                 not native: the driver has no XDP",
            "memory         32 MiB, whatever comes",
            "",
            "the configuration is broken; the last good one stays in force",
            "  r.toml:3:1: mode: \"enforced\" is not a mode",
            "      write observe or enforce",
            "",
            "warnings",
            "  port 4190 is one that this machine uses for its own connections",
        ],
    );
}

#[test]
fn status_says_which_dnsbls_weigh_nothing_and_why() {
    let mut status = observing();
    let reputation = |status: &Status| {
        let text = status::text(status);
        let facts = text.split("\nreputation ").nth(1).unwrap().split("\nmemory").next().unwrap();
        format!("reputation {facts}")
    };
    status.reputation = Some(dnsbls::view(vec![dnsbls::zone("zen")]));
    assert_text(&reputation(&status), &["reputation     1 DNSBL well; 12 listed sources in force"]);
    let mut troubled = dnsbls::troubled();
    (troubled.mode, troubled.not_asked) = (Some(Mode::Observe), 7);
    status.reputation = Some(troubled);
    assert_text(
        &reputation(&status),
        &[
            "reputation     1 of 4 DNSBLs well, 1 in trouble, 1 untested, 1 paused; 12 listed sources in force; observes: refuses nobody",
            "                 TROUBLE mine: weighs nothing for 12 min now: it lists 127.0.0.1, which no list may: it lists everything",
            "                 guessers: weighs nothing for 2 s now: its test entries have not answered yet",
            "                 spamcop is not asked and weighs nothing until 2026-11-22T06:00:00Z",
            "                 not asked of zen: 1,200 sources over the budget (30 still waiting) and 1 source of which the network had \
             its share",
            "                 not asked of mine: 4 sources for which it is too slow",
            "                 not asked at all: 7 sources, because too many were asked about at once",
        ],
    );
}

#[test]
fn status_of_the_pins_claims_nothing_it_does_not_know() {
    let mut status = observing();
    status.controller = false;
    (status.pid, status.uptime_s, status.config) = (None, None, None);
    status.interfaces.clear();
    let text = status::text(&status);
    assert_text(
        text.split("\nservice ").next().unwrap(),
        &[
            "observe: everything is judged and counted, nothing is dropped",
            "",
            "controller     not running; what is in force stays in force",
            "attached       to nothing: nothing is filtered",
            "memory         32 MiB, whatever comes",
        ],
    );
}

#[test]
fn a_service_that_is_held_back_by_the_gate_says_so() {
    let view = ModeView { services: [("smtp".to_owned(), Mode::Enforce)].into(), ..gate(Mode::Observe) };
    assert_text(
        &mode::text(&view),
        &[
            "observe: everything is judged and counted, nothing is dropped",
            "",
            "service  mode",
            "smtp     enforce  observes nevertheless, because the gate does",
        ],
    );
    assert_text(&mode::text(&gate(Mode::Enforce)), &["enforce: what is refused is dropped"]);
}

fn event() -> Event {
    Event {
        at: "2026-11-22T04:17:24.123Z".into(),
        reason: "source_limit".into(),
        action: "drop".into(),
        mode: Mode::Enforce,
        service: Some("smtp".into()),
        source: Some(parse("2001:db8::4")),
        source_port: 51234,
        destination: Some(parse("2001:db8::25")),
        port: 25,
        interface: "eth0".into(),
        detail: None,
    }
}

#[test]
fn an_event_is_one_line() {
    let line = "2026-11-22T04:17:24.123Z  drop        source_limit    smtp         [2001:db8::4]:51234 > \
                [2001:db8::25]:25  eth0\n";
    assert_eq!(events::line(&event()), line);
    let observed = Event { action: "pass".into(), mode: Mode::Observe, ..event() };
    assert_eq!(events::line(&observed), line.replace("drop        ", "would drop  "));
    let admitted = Event { reason: "admitted".into(), action: "pass".into(), source: None, service: None, ..event() };
    let line = "2026-11-22T04:17:24.123Z  pass        admitted        -            - > [2001:db8::25]:25  eth0\n";
    assert_eq!(events::line(&admitted), line);
    let challenged = Event { reason: "challenged".into(), action: "challenge".into(), ..event() };
    let line = "2026-11-22T04:17:24.123Z  challenge   challenged      smtp         [2001:db8::4]:51234 > \
                [2001:db8::25]:25  eth0\n";
    assert_eq!(events::line(&challenged), line);
    let observed = Event { action: "pass".into(), mode: Mode::Observe, ..challenged };
    assert_eq!(events::line(&observed), line.replace("challenge   ", "would ask   "));
}

#[test]
fn an_event_without_a_frame_is_about_a_source_and_what_was_found_out() {
    let because = "zen XBL: hijacked, or infected with malware (127.0.0.4)";
    let listed = |action, mode| Event {
        at: "2026-11-22T04:17:24.123Z".into(),
        ..Event::of_listing(parse("192.0.2.4"), "smtp", action, mode, because.into())
    };
    let line = |verdict: &str| {
        format!("2026-11-22T04:17:24.123Z  {verdict:<10}  listed          smtp         192.0.2.4  {because}\n")
    };
    assert_eq!(events::line(&listed(Verdict::Limit, Mode::Enforce)), line("limit"));
    assert_eq!(events::line(&listed(Verdict::Ban, Mode::Enforce)), line("ban"));
    assert_eq!(events::line(&listed(Verdict::Note, Mode::Enforce)), line("note"));
    assert_eq!(events::line(&listed(Verdict::Note, Mode::Observe)), line("note"));
    assert_eq!(events::line(&listed(Verdict::Ban, Mode::Observe)), line("would ban"));
    // One letter more than usual takes one of the two blanks, so that the columns stay.
    let observed = events::line(&listed(Verdict::Limit, Mode::Observe));
    assert_eq!(observed, line("would limi").replace("would limi  ", "would limit "));
}

fn limit_of(rate: &str, burst: &str) -> Limit {
    Limit { rate: parse(rate), burst: parse(burst) }
}

#[test]
fn limits_show_what_a_command_changed() {
    let view = |level, limits: &[Limit], capacity_per_s| LimitView {
        service: "smtp".into(),
        level,
        limits: limits.to_vec(),
        configured: None,
        until: None,
        capacity_per_s,
    };
    let mut source = view(Level::Source, &[limit_of("10/s", "50"), limit_of("1000/h", "500")], Some(3_987_654.3));
    source.configured = Some(vec![limit_of("300/min", "300")]);
    source.until = Some("2026-11-22T05:00:00Z".into());
    let limits =
        vec![source, view(Level::Network, &[], None), view(Level::Service, &[limit_of("1000/s", "5000")], None)];
    let connections = |service: &str, connections| ConnectionsView {
        service: service.into(),
        connections: parse(connections),
        configured: None,
        until: None,
        to_networks: false,
    };
    let changed = ConnectionsView { configured: Some(parse("50")), ..connections("smtp", "off") };
    let blind = ConnectionsView { to_networks: true, ..connections("behind", "20") };
    let off = ConnectionsView { to_networks: true, ..connections("far", "off") };
    let view = LimitsView { limits, connections: vec![changed, blind, off] };
    assert_text(
        &limit::text(&view),
        &[
            "service  level        limit                            configured         until                 absorbs forged/s",
            "smtp     source       10/s burst 50, 1000/h burst 500  300/min burst 300  2026-11-22T05:00:00Z         3,900,000",
            "         network      off",
            "         service      1000/s burst 5000",
            "         connections  off                              50",
            "behind   connections  20",
            "far      connections  off",
            "",
            "The limit of a whole service refuses nobody; what exceeds it is counted as service_limit.",
            "Connections are those that one source may hold open at the same time.",
            "Those of behind are counted only where the listener is on this machine.",
        ],
    );
}

#[test]
fn estimates_are_rounded_down_to_two_digits() {
    for (estimate, text) in [(0.0, "0"), (7.9, "7"), (99.0, "99"), (123.0, "120"), (3_987_654.3, "3,900,000")] {
        assert_eq!(limit::rounded(estimate), text);
    }
    assert_eq!(limit::rounded(f64::NAN), "0");
}

#[test]
fn a_change_of_entries_shows_the_network_it_was_about() {
    let entry = |network, services: &[&str], by: &str, note: Option<&str>| EntryView {
        kind: EntryKind::Block,
        network: parse(network),
        services: services.iter().map(|name| (*name).to_owned()).collect(),
        note: note.map(str::to_owned),
        by: by.into(),
        since: (by == "command").then(|| "2026-11-22T04:00:00Z".to_owned()),
        spares: Vec::new(),
    };
    let mut entries = [
        entry("198.51.100.0/24", &[], "config", None),
        entry("203.0.113.7", &["imap", "imaps"], "command", Some("guesses passwords")),
    ];
    assert_text(
        &entry::changed(EntryKind::Block, parse("203.0.113.7"), "added", &entries),
        &[
            "203.0.113.7/32 added; block has 2 entries now",
            "",
            "network         services     by       since                 note",
            "203.0.113.7/32  imap, imaps  command  2026-11-22T04:00:00Z  guesses passwords",
        ],
    );
    assert_text(
        &entry::shown(EntryKind::Block, &entries),
        &[
            "network          services     by       since                 note",
            "198.51.100.0/24  all          config",
            "203.0.113.7/32   imap, imaps  command  2026-11-22T04:00:00Z  guesses passwords",
        ],
    );
    let gone = entry::changed(EntryKind::Block, parse("203.0.113.7"), "removed", &entries[..1]);
    assert_text(&gone, &["203.0.113.7/32 removed; block has 1 entry now"]);
    assert_text(&entry::shown(EntryKind::Trust, &[]), &["trust: no entries"]);
    entries[0].spares = vec!["198.51.100.1/32, an address of this machine".into()];
    assert_text(
        &entry::changed(EntryKind::Block, parse("198.51.100.0/24"), "added", &entries),
        &[
            "198.51.100.0/24 added; block has 2 entries now",
            "",
            "network          services  by",
            "198.51.100.0/24  all       config",
            "",
            "in it, and never blocked",
            "  198.51.100.1/32, an address of this machine",
        ],
    );
}

fn banned(network: &str, services: &[&str], hits: u64) -> BanView {
    BanView {
        network: parse(network),
        services: services.iter().map(|name| (*name).to_owned()).collect(),
        by: By::Admin,
        note: (hits > 0).then(|| "guesses passwords".to_owned()),
        since: "2026-11-22T04:00:00Z".into(),
        until: "2026-11-22T05:00:00Z".into(),
        hits,
        last_hit: (hits > 0).then(|| "2026-11-22T04:30:00Z".to_owned()),
    }
}

#[test]
fn a_ban_says_what_it_does_not_act_on() {
    let ban = banned("203.0.113.0/24", &[], 0);
    let mut answer = Banned { ban, spares: Vec::new(), killed: None, kill_failed: None };
    assert_text(&ban::banned(&answer), &["203.0.113.0/24 banned for all until 2026-11-22T05:00:00Z"]);
    answer.spares.push("imap: 203.0.113.7/32 is allowed".into());
    assert_text(
        &ban::banned(&answer),
        &[
            "203.0.113.0/24 banned for all until 2026-11-22T05:00:00Z",
            "",
            "not banned, because it is allowed",
            "  imap: 203.0.113.7/32 is allowed",
        ],
    );
}

#[test]
fn a_ban_says_how_many_connections_it_ended_and_is_in_force_if_that_fails() {
    let said = |killed, kill_failed: Option<&str>| {
        let ban = banned("203.0.113.0/24", &[], 0);
        let answer = Banned { ban, spares: Vec::new(), killed, kill_failed: kill_failed.map(str::to_owned) };
        let text = ban::banned(&answer);
        text.strip_prefix("203.0.113.0/24 banned for all until 2026-11-22T05:00:00Z\n").unwrap().to_owned()
    };
    assert_text(&said(Some(0), None), &["it had no open connection to end"]);
    assert_text(&said(Some(1), None), &["1 open connection of it ended"]);
    assert_text(&said(Some(1_200), None), &["1,200 open connections of it ended"]);
    let failed = ["", "the ban is in force, but connections may be left open", "  why"];
    assert_text(&said(Some(0), Some("why")), &failed);
    assert_text(&said(Some(2), Some("why")), &[&["2 open connections of it ended"], &failed[..]].concat());
}

#[test]
fn bans_show_what_they_stopped() {
    let bans = [banned("198.51.100.0/24", &[], 0), banned("203.0.113.7", &["imap", "imaps"], 12_345)];
    assert_text(
        &ban::table(&bans),
        &[
            "network          services     since                 until                 by     stopped  last                  note",
            "198.51.100.0/24  all          2026-11-22T04:00:00Z  2026-11-22T05:00:00Z  admin        0",
            "203.0.113.7/32   imap, imaps  2026-11-22T04:00:00Z  2026-11-22T05:00:00Z  admin   12,345  2026-11-22T04:30:00Z  guesses passwords",
        ],
    );
}

#[test]
fn unban_says_what_ended_and_every_rule_that_still_refuses() {
    let network = Some(parse("203.0.113.7"));
    let none = Unbanned { ended: Vec::new(), let_go: 0, still_refused: Vec::new() };
    assert_text(&ban::ended(network, &none), &["no ban ended: there was none"]);
    let block = EntryView {
        kind: EntryKind::Block,
        network: parse("203.0.113.0/24"),
        services: Vec::new(),
        note: None,
        by: "config".into(),
        since: None,
        spares: Vec::new(),
    };
    let refused = ServiceExplanation {
        service: "imap".into(),
        mode: Mode::Enforce,
        reason: "blocked".into(),
        meaning: "meaning".into(),
        refused: true,
        action: "drop".into(),
        entries: vec![block],
        lists: vec![lists::found(true)],
        listing: Some(ListingView {
            score: 3,
            threshold: 3,
            action: Verdict::Limit,
            because: "zen XBL (127.0.0.4)".into(),
            rest_s: 60,
        }),
        bans: vec![banned("203.0.0.0/16", &["imap"], 0)],
        levels: Vec::new(),
        connections: 0,
        connections_most: None,
        suspect: false,
    };
    let listed = Unbanned { ended: Vec::new(), let_go: 1, still_refused: Vec::new() };
    assert_text(
        &ban::ended("203.0.113.7".parse().ok(), &listed),
        &["1 listing ended: what DNSBLs say of it is not held against it"],
    );
    let some = Unbanned { ended: vec![banned("203.0.113.7", &["imap"], 0)], let_go: 0, still_refused: vec![refused] };
    assert_text(
        &ban::ended(network, &some),
        &[
            "1 ban ended",
            "",
            "network         services  since                 until                 by     stopped",
            "203.0.113.7/32  imap      2026-11-22T04:00:00Z  2026-11-22T05:00:00Z  admin        0",
            "",
            "still refused: 203.0.113.7",
            "service  reason   by",
            "imap     blocked  block 203.0.113.0/24, ban 203.0.0.0/16 until 2026-11-22T05:00:00Z, list bad (/etc/bad:3), \
             DNSBLs: zen XBL (127.0.0.4)",
            "",
            "`ratelimit explain 203.0.113.7` says what would change it",
        ],
    );
}

#[test]
fn reload_and_detach_say_what_they_did() {
    let nothing = Reloaded { changes: Vec::new(), warnings: Vec::new() };
    assert_text(&reload::text(&nothing), &["reloaded: nothing has changed"]);
    let something = Reloaded {
        changes: vec!["mode: observe -> enforce".into(), "service smtp: changed".into()],
        warnings: vec!["r.toml:9:1: allow[0]: never acts".into()],
    };
    assert_text(
        &reload::text(&something),
        &[
            "reloaded, in force now:",
            "  mode: observe -> enforce",
            "  service smtp: changed",
            "",
            "warnings",
            "  r.toml:9:1: allow[0]: never acts",
        ],
    );
    let detached = Detached { interfaces: vec!["eth0".into(), "eth1".into()] };
    assert_text(&detach::text(&detached), &["detached from eth0 and eth1: nothing is filtered any more"]);
    assert_text(&detach::text(&Detached { interfaces: Vec::new() }), &["nothing was attached"]);
}

#[test]
fn a_good_configuration_is_summed_up() {
    let toml = r#"
        interfaces = ["eth0"]
        mode = "enforce"
        allow = ["10.1.0.0/16"]
        trust = ["10.0.0.0/8"]
        [services.smtp]
        mode = "observe"
        [services.sieve]
        source = "off"
        network = "off"
        to = ["192.0.2.25"]
        [services.imap]
        listen_ports = [1143, 2143]
        [proof]
        challenge = "retry"
        namespaces = "all"
    "#;
    let loaded = Config::parse(toml, "r.toml").unwrap();
    let text = config::check::text(Path::new("r.toml"), &loaded);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "r.toml is good, with one warning");
    assert!(lines[2].starts_with("  r.toml:4:"), "{text}");
    let line = |start: &str| *lines.iter().find(|line| line.starts_with(start)).unwrap();
    assert_eq!(line("mode"), "mode        enforce");
    assert_eq!(line("entries"), "entries     trust 1, allow 1, block 0");
    assert_eq!(line("lists"), "lists       none");
    let proof = "suspects repeat their SYN (at most 200/s for each service); handshakes are seen of listeners in all network \
                 namespaces; up to 262,144 proven sources";
    assert_eq!(line("proof"), format!("proof       {proof}"));
    let blind = "            nobody is asked on sieve, and no connection counted: `to` names networks";
    assert!(lines.contains(&blind), "{text}");
    assert_eq!(line("memory"), "memory      32 MiB, whatever comes");
    assert!(line("smtp  ").contains("observe  300/min burst 300  3000/min burst 3000"), "{text}");
    assert!(line("sieve  ").contains("192.0.2.25/32  enforce  off "), "{text}");
    assert!(line("smtp  ").ends_with("  50") && line("sieve  ").ends_with("  off"), "{text}");
    assert!(line("imap  ").contains("  143 -> 1143,2143  local"), "{text}");
    let collisions = text.split("under forged sources").nth(1).unwrap();
    assert!(collisions.contains("smtp ") && !collisions.contains("sieve"), "{text}");
}
