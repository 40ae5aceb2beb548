use super::{assert_text, parse};
use crate::api::{EntryView, Event, Explanation, LevelExplanation, ListingView, ProvenView, ServiceExplanation};
use crate::cli::explain;
use crate::config::{EntryKind, Level, Limit, Mode, Verdict};

fn level(level: Level, counted: &str, rate: &str, burst: &str, used: f64, wait_ms: u64) -> LevelExplanation {
    let limit = Limit { rate: parse(rate), burst: parse(burst) };
    LevelExplanation { level, counted: parse(counted), limit, used, wait_ms }
}

fn service(name: &str, reason: &str, refused: bool, action: &str) -> ServiceExplanation {
    ServiceExplanation {
        service: name.into(),
        mode: if refused && action == "pass" { Mode::Observe } else { Mode::Enforce },
        reason: reason.into(),
        meaning: "meaning".into(),
        refused,
        action: action.into(),
        entries: Vec::new(),
        bans: Vec::new(),
        lists: Vec::new(),
        listing: None,
        levels: Vec::new(),
        connections: 0,
        connections_most: None,
        suspect: false,
    }
}

fn entry(kind: EntryKind, network: &str, by: &str) -> EntryView {
    let (services, spares) = (Vec::new(), Vec::new());
    EntryView { kind, network: parse(network), services, note: None, by: by.into(), since: None, spares }
}

fn explanation(services: Vec<ServiceExplanation>) -> Explanation {
    Explanation { address: parse("192.0.2.4"), controller: true, services, proven: None, recent: Vec::new() }
}

fn remedies(services: Vec<ServiceExplanation>) -> Vec<String> {
    let text = explain::text(&explanation(services));
    let part = text.split("what would change it\n").nth(1).unwrap_or("");
    part.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_refusal_comes_with_its_limits_and_what_would_change_it() {
    let mut smtp = service("smtp", "source_limit", true, "drop");
    smtp.levels = vec![
        level(Level::Source, "192.0.2.4", "300/min", "300", 300.2, 250),
        level(Level::Network, "192.0.2.0/24", "3000/min", "3000", 301.0, 0),
    ];
    let imap = service("imap", "admitted", false, "pass");
    assert_text(
        &explain::text(&explanation(vec![smtp, imap])),
        &[
            "192.0.2.4: its next connection is refused on smtp",
            "not proven: no handshake was seen in the last 30 days",
            "",
            "service  mode     verdict  reason        that is",
            "smtp     enforce  refused  source_limit  meaning",
            "imap     enforce  let in   admitted      meaning",
            "",
            "service  counted       of one   limit                       used  next",
            "smtp     192.0.2.4     source   300/min burst 300     300 of 300  in 250 ms",
            "smtp     192.0.2.0/24  network  3000/min burst 3000  301 of 3000  now",
            "",
            "what would change it",
            "  ratelimit limit set smtp --level source --rate 600/min --burst 600 --for 2h  doubles the limit for everyone",
            "  ratelimit trust add 192.0.2.4 --service smtp                                 for machines of your own: no limit, no list",
        ],
    );
}

#[test]
fn observing_is_told_from_refusing() {
    let headline = |services| explain::text(&explanation(services)).lines().next().unwrap().to_owned();
    let (dropped, observed, open) = (
        service("smtp", "blocked", true, "drop"),
        service("imap", "blocked", true, "pass"),
        service("sieve", "admitted", false, "pass"),
    );
    assert_eq!(
        headline(vec![open.clone(), service("pop3", "trusted", false, "pass")]),
        "192.0.2.4: its next connection is let in to every service"
    );
    assert_eq!(
        headline(vec![observed.clone(), open]),
        "192.0.2.4: its next connection is let in; enforcing would refuse it on imap"
    );
    assert_eq!(
        headline(vec![dropped, observed]),
        "192.0.2.4: its next connection is refused on smtp; enforcing would refuse it on imap"
    );
}

#[test]
fn who_is_asked_first_is_not_refused() {
    let mut smtp = service("smtp", "challenged", false, "challenge");
    (smtp.suspect, smtp.connections, smtp.connections_most) = (true, 3, Some(50));
    smtp.levels = vec![level(Level::Source, "192.0.2.4", "300/min", "300", 4.0, 0)];
    let imap = service("imap", "admitted", false, "pass");
    assert_text(
        &explain::text(&explanation(vec![smtp.clone(), imap.clone()])),
        &[
            "192.0.2.4: its next connection is asked first whether it is alive on smtp",
            "not proven: no handshake was seen in the last 30 days",
            "",
            "service  mode     verdict      reason      that is",
            "smtp     enforce  asked first  challenged  meaning",
            "imap     enforce  let in       admitted    meaning",
            "",
            "suspect: smtp, so sources that are not proven are asked first",
            "a live host answers by itself and is let in with its next SYN; behind a firewall that swallows the question it is let in \
             when it repeats its SYN",
            "",
            "service  counted    of one  limit                  used  next",
            "smtp     192.0.2.4  source  300/min burst 300  4 of 300  now",
            "smtp     192.0.2.4  source  50 open at once     3 of 50  now",
            "",
            "what would change it",
            "  ratelimit trust add 192.0.2.4 --service smtp  for machines of your own: never asked",
        ],
    );
    let headline = |services| explain::text(&explanation(services)).lines().next().unwrap().to_owned();
    let refused = service("pop3", "source_limit", true, "drop");
    let awaited = service("sieve", "awaited", false, "pass");
    assert_eq!(
        headline(vec![smtp, imap, refused, awaited]),
        "192.0.2.4: its next connection is refused on pop3, and asked first whether it is alive on smtp; enforcing would ask it first \
         on sieve"
    );
}

#[test]
fn who_is_over_a_limit_by_others_word_is_told_so() {
    let mut smtp = service("smtp", "awaited", false, "drop");
    smtp.levels = vec![
        level(Level::Source, "192.0.2.4", "300/min", "300", 3.0, 0),
        level(Level::Network, "192.0.2.0/24", "3000/min", "3000", 3000.5, 20),
    ];
    let mut proven = explanation(vec![ServiceExplanation { suspect: true, ..smtp.clone() }]);
    proven.proven = Some(ProvenView { last: "2026-11-22T04:00:00Z".into(), exchanged: None });
    let text = explain::text(&proven);
    assert!(text.contains("asked first\nover its limit on smtp by SYNs"), "{text}");
    let text = explain::text(&explanation(vec![smtp]));
    let says = "\nover its limit on smtp by SYNs that others may have sent in its name, so it is asked first\n\
                a live host repeats its SYN by itself and is let in then\n";
    assert!(text.contains(says), "{text}");
    let raising = "ratelimit limit set smtp --level network --rate 6000/min --burst 6000 --for 2h  doubles the limit";
    assert!(text.contains(raising), "{text}");
}

#[test]
fn under_suspicion_the_proven_and_the_trusted_are_told_that_they_are_not_asked() {
    let (mut smtp, mut imap) = (service("smtp", "admitted", false, "pass"), service("imap", "trusted", false, "pass"));
    (smtp.suspect, imap.suspect) = (true, true);
    let mut explained = explanation(vec![smtp, imap]);
    explained.address = parse("2001:db8::4");
    let (last, exchanged) = ("2026-11-22T04:00:00Z".to_owned(), Some("2026-11-22T03:00:00Z".to_owned()));
    explained.proven = Some(ProvenView { last: last.clone(), exchanged });
    assert_text(
        explain::text(&explained).split("\nwhat would").next().unwrap(),
        &[
            "2001:db8::4: its next connection is let in to every service",
            "proven: the last handshake of its /64 was at 2026-11-22T04:00:00Z, the last exchange of data ended at 2026-11-22T03:00:00Z",
            "",
            "service  mode     verdict  reason    that is",
            "smtp     enforce  let in   admitted  meaning",
            "imap     enforce  let in   trusted   meaning",
            "",
            "suspect: smtp and imap, so sources that are not proven are asked first",
            "this one is proven, and not asked on smtp",
            "this one is trusted, and not asked on imap",
        ],
    );
    explained.proven = Some(ProvenView { last, exchanged: None });
    let text = explain::text(&explained);
    assert!(text.contains("at 2026-11-22T04:00:00Z; no data was exchanged in a connection that is over\n"), "{text}");
}

#[test]
fn a_source_at_its_connection_cap_sees_what_makes_room() {
    let mut smtp = service("smtp", "connection_cap", true, "drop");
    (smtp.connections, smtp.connections_most) = (50, Some(50));
    let text = explain::text(&explanation(vec![smtp.clone()]));
    assert!(text.contains("\nsmtp     source  50 open at once  50 of 50  when one ends\n"), "{text}");
    assert_eq!(
        remedies(vec![smtp.clone()]),
        [
            "ratelimit limit set smtp --connections 100 --for 2h  doubles the number for everyone",
            "ratelimit sources --by connections                   shows who else holds how many; one that is closed makes room for one",
            "ratelimit trust add 192.0.2.4 --service smtp         for machines of your own: no limit, no list",
        ]
    );
    smtp.connections_most = Some(600_000);
    assert!(!remedies(vec![smtp.clone()]).iter().any(|line| line.contains("limit set")), "more than there may be");
    // Where there is no cap, connections are shown if there are any.
    (smtp.reason, smtp.refused, smtp.connections_most) = ("admitted".into(), false, None);
    let text = explain::text(&explanation(vec![smtp.clone(), smtp]));
    assert!(text.contains("\nsmtp     source  off      50  now\n"), "{text}");
}

#[test]
fn what_a_flood_does_now_and_then_is_told_from_the_latest_verdicts() {
    let mut explained = explanation(vec![service("smtp", "trusted", false, "pass")]);
    let event = |reason: &str| Event {
        at: "2026-11-22T04:17:24.123Z".into(),
        reason: reason.into(),
        action: "drop".into(),
        mode: Mode::Enforce,
        service: Some("smtp".into()),
        source: Some(explained.address),
        source_port: 1,
        destination: None,
        port: 25,
        interface: "eth0".into(),
        detail: None,
    };
    explained.recent = ["retry_rate", "stray", "retry_rate"].map(event).into();
    let text = explain::text(&explained);
    let part = text.split("what would change it\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut lines = part.lines().map(str::trim).filter(|line| line.contains("[proof]"));
    let expected = "raise retry_rate under [proof] in the configuration, then ratelimit reload          lets in more";
    assert!(lines.next().unwrap().starts_with(expected), "{text}");
    assert!(lines.next().unwrap().starts_with("write namespaces = \"all\" under [proof]"), "{text}");
    assert_eq!(lines.next(), None);
}

fn listing(action: Verdict) -> Option<ListingView> {
    let because = "zen XBL: hijacked, or infected with malware (127.0.0.4)".into();
    Some(ListingView { score: 3, threshold: 3, action, because, rest_s: 2_460 })
}

#[test]
fn who_is_refused_for_what_dnsbls_say_is_told_what_they_say_and_for_how_long() {
    let mut smtp = service("smtp", "listed_limit", true, "drop");
    smtp.listing = listing(Verdict::Limit);
    let imap = service("imap", "admitted", false, "pass");
    assert_text(
        &explain::text(&explanation(vec![smtp.clone(), imap])),
        &[
            "192.0.2.4: its next connection is refused because DNSBLs list it on smtp",
            "not proven: no handshake was seen in the last 30 days",
            "",
            "service  mode     verdict  reason        that is",
            "smtp     enforce  refused  listed_limit  meaning",
            "imap     enforce  let in   admitted      meaning",
            "",
            "DNSBLs list it on smtp: score 3 reaches the threshold 3: zen XBL: hijacked, or infected with malware (127.0.0.4)",
            "  limit (it gets the tight limit of listed sources) for 41 min more",
            "",
            "what would change it",
            "  ratelimit dnsbl check 192.0.2.4               shows which DNSBL says what, and often where to be taken off",
            "  ratelimit allow add 192.0.2.4 --service smtp  lifts it, the other limits stay",
            "  ratelimit dnsbl pause NAME --for 2h           leaves the DNSBL of this name alone, for everyone",
            "  ratelimit trust add 192.0.2.4 --service smtp  for machines of your own: no limit, no list",
        ],
    );
    let observed = service("submission", "listed_limit", true, "pass");
    let blocked = service("imap", "blocked", true, "drop");
    let headline = |services| explain::text(&explanation(services)).lines().next().unwrap().to_owned();
    assert_eq!(
        headline(vec![smtp, observed, blocked]),
        "192.0.2.4: its next connection is refused on imap, and refused because DNSBLs list it on smtp; enforcing would \
         refuse it because DNSBLs list it on submission"
    );
}

#[test]
fn what_dnsbls_say_is_shown_once_where_it_is_the_same_and_also_where_it_refuses_nothing() {
    let mut smtp = service("smtp", "admitted", false, "pass");
    smtp.listing = listing(Verdict::Limit);
    let mut imap = service("imap", "admitted", false, "pass");
    imap.listing = listing(Verdict::Note);
    let submission = ServiceExplanation { service: "submission".into(), ..smtp.clone() };
    let text = explain::text(&explanation(vec![smtp, imap, submission]));
    let says = "score 3 reaches the threshold 3: zen XBL: hijacked, or infected with malware (127.0.0.4)";
    let expected = format!(
        "\n\nDNSBLs list it on smtp and submission: {says}\n  limit (it gets the tight limit of listed sources) for 41 min more\n\
         DNSBLs list it on imap: {says}\n  note (it is told, and nothing is refused) for 41 min more\n\n"
    );
    assert!(text.contains(&expected), "{text}");
    assert!(text.starts_with("192.0.2.4: its next connection is let in to every service\n"), "{text}");
}

#[test]
fn a_block_is_lifted_by_allowing_or_by_removing_it() {
    let mut smtp = service("smtp", "blocked", true, "drop");
    smtp.entries =
        vec![entry(EntryKind::Block, "192.0.2.0/24", "command"), entry(EntryKind::Block, "192.0.0.0/16", "config")];
    let mut imap = smtp.clone();
    imap.service = "imap".into();
    assert_eq!(
        remedies(vec![smtp, imap]),
        [
            "ratelimit allow add 192.0.2.4                                                 lifts the block, limits stay",
            "ratelimit block remove 192.0.2.0/24                                           ends the block, for all services of the entry",
            "remove 192.0.0.0/16 from `block` in the configuration, then ratelimit reload  ends the block",
        ]
    );
}

#[test]
fn what_the_controller_would_refuse_is_not_suggested() {
    // The address itself is blocked: allowing it too would be a contradiction.
    let mut smtp = service("smtp", "blocked", true, "drop");
    smtp.entries = vec![entry(EntryKind::Block, "192.0.2.4", "command")];
    assert_eq!(
        remedies(vec![smtp]),
        ["ratelimit block remove 192.0.2.4  ends the block, for all services of the entry"]
    );
    // The double of the fastest rate there is, and the long one of two windows.
    let mut fast = service("smtp", "source_limit", true, "drop");
    fast.levels = vec![level(Level::Source, "192.0.2.4", "1000/s", "300", 300.0, 1)];
    let mut long = service("smtp", "source_limit", true, "drop");
    long.levels = vec![
        level(Level::Source, "192.0.2.4", "10/s", "50", 3.0, 0),
        level(Level::Source, "192.0.2.4", "1000/h", "500", 500.0, 2_000),
    ];
    for service in [fast, long] {
        let trust = "ratelimit trust add 192.0.2.4 --service smtp  for machines of your own: no limit, no list";
        assert_eq!(remedies(vec![service]), [trust]);
    }
    let mut trusted = service("smtp", "trusted", false, "pass");
    trusted.entries = vec![entry(EntryKind::Trust, "192.0.0.0/16", "config")];
    assert!(remedies(vec![trusted]).is_empty());
}

#[test]
fn an_open_address_can_be_blocked_where_nothing_lets_it_in() {
    let open = service("smtp", "admitted", false, "pass");
    let mut allowed = service("imap", "admitted", false, "pass");
    allowed.entries = vec![entry(EntryKind::Allow, "192.0.2.0/24", "config")];
    assert_eq!(
        remedies(vec![open, allowed]),
        ["ratelimit block add 192.0.2.4 --service smtp  refuses its new connections"]
    );
}

#[test]
fn of_several_services_only_used_limits_are_shown() {
    let mut smtp = service("smtp", "admitted", false, "pass");
    smtp.levels = vec![level(Level::Source, "192.0.2.4", "300/min", "300", 0.0, 0)];
    let mut imap = service("imap", "admitted", false, "pass");
    imap.levels = vec![level(Level::Source, "192.0.2.4", "240/min", "300", 4.9, 0)];
    let text = |services| explain::text(&explanation(services));
    let both = text(vec![smtp.clone(), imap]);
    assert!(both.contains("burst 300  4 of 300  now\nnothing is used of the other limits\n"), "{both}");
    assert!(text(vec![smtp.clone()]).contains("burst 300  0 of 300  now\n"));
    assert!(text(vec![smtp.clone(), smtp]).contains("\nnothing is used of any limit\n"));
}

#[test]
fn the_pins_alone_give_the_verdict_and_no_advice() {
    let mut pinned = explanation(vec![service("smtp", "blocked", true, "drop")]);
    pinned.controller = false;
    assert_text(
        &explain::text(&pinned),
        &[
            "192.0.2.4: its next connection is refused on smtp",
            "not proven: no handshake was seen in the last 30 days",
            "",
            "service  mode     verdict  reason   that is",
            "smtp     enforce  refused  blocked  meaning",
            "",
            "only a running controller knows the limits and the entries behind this",
        ],
    );
}

#[test]
fn an_entry_of_several_services_is_shown_once() {
    let mut smtp = service("smtp", "admitted", false, "pass");
    smtp.entries = vec![entry(EntryKind::Allow, "192.0.2.4", "config")];
    let mut imap = smtp.clone();
    imap.service = "imap".into();
    let text = explain::text(&explanation(vec![smtp, imap]));
    assert_eq!(text.matches("allow").count(), 1, "{text}");
    assert!(text.contains("\nentry  network    services  by\nallow  192.0.2.4  all       config\n"), "{text}");
}
