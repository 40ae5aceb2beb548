use super::{assert_text, parse};
use crate::api::{EntryView, Explanation, LevelExplanation, ServiceExplanation};
use crate::cli::explain;
use crate::config::{EntryKind, Level, Limit, Mode};

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
        levels: Vec::new(),
    }
}

fn entry(kind: EntryKind, network: &str, by: &str) -> EntryView {
    let (services, spares) = (Vec::new(), Vec::new());
    EntryView { kind, network: parse(network), services, note: None, by: by.into(), since: None, spares }
}

fn explanation(services: Vec<ServiceExplanation>) -> Explanation {
    Explanation { address: parse("192.0.2.4"), controller: true, services, recent: Vec::new() }
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
