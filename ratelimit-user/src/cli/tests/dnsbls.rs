use super::{assert_text, parse};
use crate::api::{DnsblAnswer, DnsblCheck, DnsblView, Pause, ReputationView, ServiceOutcome};
use crate::cli::dnsbl;
use crate::config::{Config, Mode, Verdict};

pub(super) fn zone(name: &str) -> DnsblView {
    DnsblView {
        name: name.into(),
        zone: "bl.example.org".into(),
        services: vec!["smtp".into()],
        trouble: None,
        is_untested: false,
        since_s: 7_505,
        paused: None,
        queries: 1_300,
        listed: 150,
        unlisted: 1_149,
        failed: 1,
        from_cache: 11_700,
        over_budget: 0,
        waiting: 0,
        too_busy: 0,
        of_one_network: 0,
        spent_today: 1_300,
        per_day: Some(300_000),
        mean_ms: 4.25,
        slowest_ms: 812.4,
    }
}

pub(super) fn view(zones: Vec<DnsblView>) -> ReputationView {
    ReputationView {
        mode: None,
        threshold: 3,
        zones,
        answers: 1_299,
        answers_most: 262_144,
        in_force: 12,
        handshakes: 13_000,
        not_asked: 0,
        not_told: 0,
        no_room: 0,
    }
}

/// One that is well, one in trouble, one that is not tested yet, and one that is paused.
pub(super) fn troubled() -> ReputationView {
    let trouble = "it lists 127.0.0.1, which no list may: it lists everything".to_owned();
    let untested = "its test entries have not answered yet".to_owned();
    let (services, until) = (vec!["smtp".into(), "imaps".into()], Some("2026-11-22T06:00:00Z".into()));
    let mut view = view(vec![
        zone("zen"),
        DnsblView { trouble: Some(trouble), since_s: 720, from_cache: 0, ..zone("mine") },
        DnsblView {
            trouble: Some(untested),
            is_untested: true,
            since_s: 2,
            services,
            per_day: None,
            ..zone("guessers")
        },
        DnsblView { paused: Some(Pause { until }), ..zone("spamcop") },
    ]);
    (view.zones[0].over_budget, view.zones[0].waiting, view.zones[0].of_one_network) = (1_200, 30, 1);
    view.zones[1].too_busy = 4;
    view
}

#[test]
fn dnsbls_are_a_line_each_and_what_they_are_as_a_whole_below() {
    assert_text(
        &dnsbl::all(&view(vec![zone("zen"), DnsblView { from_cache: 0, per_day: None, ..zone("mine") }])),
        &[
            "DNSBL  services  state  queries  listed  unlisted  failed     from cache       spent today    mean  slowest",
            "zen    smtp      well     1,300     150     1,149       1  11,700 (90 %)  1,300 of 300,000  4.2 ms   812 ms",
            "mine   smtp      well     1,300     150     1,149       1              0             1,300  4.2 ms   812 ms",
            "",
            "the mode of each service holds; threshold 3; 1,299 of 262,144 answers remembered; 12 listed sources in force; \
             13,000 handshakes seen",
        ],
    );
}

#[test]
fn who_weighs_nothing_says_why_and_what_was_not_asked_is_counted() {
    let mut view = troubled();
    view.mode = Some(Mode::Observe);
    (view.in_force, view.handshakes, view.not_asked, view.not_told, view.no_room) = (1, 1, 7, 1, 2);
    assert_text(
        &dnsbl::all(&view),
        &[
            "DNSBL     services     state                              queries  listed  unlisted  failed     from cache       spent \
             today    mean  slowest",
            "zen       smtp         well                                 1,300     150     1,149       1  11,700 (90 %)  1,300 of \
             300,000  4.2 ms   812 ms",
            "mine      smtp         in trouble                           1,300     150     1,149       1              0  1,300 of \
             300,000  4.2 ms   812 ms",
            "guessers  smtp, imaps  untested                             1,300     150     1,149       1  11,700 (90 %)             \
             1,300  4.2 ms   812 ms",
            "spamcop   smtp         paused until 2026-11-22T06:00:00Z    1,300     150     1,149       1  11,700 (90 %)  1,300 of \
             300,000  4.2 ms   812 ms",
            "",
            "mine: weighs nothing for 12 min now: it lists 127.0.0.1, which no list may: it lists everything",
            "guessers: weighs nothing for 2 s now: its test entries have not answered yet",
            "spamcop is not asked and weighs nothing until 2026-11-22T06:00:00Z",
            "",
            "observe: refusals for listings are counted, not carried out; threshold 3; 1,299 of 262,144 answers remembered; \
             1 listed source in force; 1 handshake seen",
            "not asked of zen: 1,200 sources over the budget (30 still waiting) and 1 source of which the network had its share",
            "not asked of mine: 4 sources for which it is too slow",
            "not asked at all: 7 sources, because too many were asked about at once",
            "not looked at: 1 handshake that came faster than they were read",
            "no room: 2 sources listed, and nothing follows",
        ],
    );
}

#[test]
fn one_dnsbl_is_shown_with_everything_that_is_known_of_it() {
    let view = troubled();
    assert_text(
        &dnsbl::one(&view.zones[1]),
        &[
            "mine",
            "",
            "zone        bl.example.org",
            "asked for   smtp",
            "state       in trouble for 12 min",
            "queries     1,300",
            "answers     150 listed, 1,149 not listed, 1 failed",
            "from cache  0",
            "budget      1,300 of 300,000 spent today",
            "mean        4.2 ms",
            "slowest     812 ms",
            "trouble     it lists 127.0.0.1, which no list may: it lists everything",
            "not asked   4 sources for which it is too slow",
        ],
    );
    let state = |zone: &DnsblView| dnsbl::one(zone).lines().find(|line| line.starts_with("state")).unwrap().to_owned();
    assert_eq!(state(&view.zones[0]), "state       well for 2 h 5 min");
    assert_eq!(state(&view.zones[3]), "state       paused until 2026-11-22T06:00:00Z");
    let unlimited = dnsbl::one(&view.zones[2]);
    assert!(unlimited.contains("\nbudget      unlimited, 1,300 spent today\n"), "{unlimited}");
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    assert_eq!(dnsbl::find(&troubled(), "zen").unwrap().name, "zen");
    let error = dnsbl::find(&troubled(), "Zen").unwrap_err();
    assert_eq!(error, "there is no DNSBL \"Zen\" (zen, mine, guessers, spamcop)");
    assert_eq!(dnsbl::find(&view(Vec::new()), "zen").unwrap_err(), "there is no DNSBL \"zen\" (none at all)");
}

#[test]
fn where_none_is_configured_it_is_said_how_to() {
    let none = [
        "no DNSBLs: the configuration names none. Nobody is looked up until it does, as with",
        "",
        "  [[reputation.dnsbl]]",
        "  name = \"zen\"",
        "  preset = \"spamhaus-zen\"",
        "",
        "in ratelimit.toml, and `ratelimit reload`",
    ];
    assert_text(&dnsbl::all(&view(Vec::new())), &none);
    let check = DnsblCheck { address: parse("192.0.2.4"), zones: Vec::new(), services: Vec::new() };
    assert_text(&dnsbl::checked(&check), &none);
}

#[test]
fn pause_and_resume_say_what_holds_now() {
    let holds = |trouble: Option<&str>, paused| {
        let trouble = trouble.map(str::to_owned);
        dnsbl::standing(&view(vec![DnsblView { trouble, paused, since_s: 3, ..zone("zen") }]))
    };
    let until = Some("2026-11-22T06:00:00Z".to_owned());
    let paused = holds(Some("no answer within 2000 ms"), Some(Pause { until }));
    assert_text(&paused, &["zen is not asked and weighs nothing until 2026-11-22T06:00:00Z"]);
    let paused = holds(None, Some(Pause { until: None }));
    assert_text(&paused, &["zen is not asked and weighs nothing until `ratelimit dnsbl resume zen`"]);
    assert_text(&holds(None, None), &["zen is asked, and what it says counts"]);
    let in_trouble = holds(Some("no answer within 2000 ms"), None);
    assert_text(&in_trouble, &["zen: weighs nothing for 3 s now: no answer within 2000 ms"]);
}

fn answer(name: &str, listed: Option<bool>) -> DnsblAnswer {
    DnsblAnswer {
        name: name.into(),
        listed,
        codes: Vec::new(),
        text: None,
        weight: 0,
        counts: true,
        ttl_s: listed.map(|_| 300),
        took_ms: 12.4,
        problem: None,
    }
}

fn outcome(service: &str, score: i32, action: Option<Verdict>) -> ServiceOutcome {
    ServiceOutcome { service: service.into(), score, threshold: 3, action }
}

#[test]
fn a_check_says_what_each_answers_and_what_would_follow() {
    let mut zen = answer("zen", Some(true));
    let xbl = "XBL: hijacked, or infected with malware (127.0.0.4)";
    (zen.weight, zen.codes) = (6, vec![xbl.into(), "SBL: a known source of spam (127.0.0.2)".into()]);
    zen.text = Some("https://check.spamhaus.org/query/ip/192.0.2.4".into());
    let mut mine = answer("mine", None);
    mine.problem = Some("no answer within 2000 ms".into());
    let mut far = answer("far", None);
    (far.took_ms, far.problem) = (0.0, Some("not asked: the budget of the day is used up".into()));
    let check = DnsblCheck {
        address: parse("192.0.2.4"),
        zones: vec![zen, answer("spamcop", Some(false)), mine, far],
        services: vec![
            outcome("smtp", 6, Some(Verdict::Limit)),
            outcome("submission", 6, Some(Verdict::Ban)),
            outcome("imap", 6, Some(Verdict::Note)),
            outcome("imaps", -1, None),
        ],
    };
    assert_text(
        &dnsbl::checked(&check),
        &[
            "192.0.2.4 is listed by 1 of 4 DNSBLs",
            "",
            "DNSBL    answer      weight  good for   took  codes",
            "zen      listed           6     5 min  12 ms  XBL: hijacked, or infected with malware (127.0.0.4), SBL: a known source of \
             spam (127.0.0.2)",
            "spamcop  not listed             5 min  12 ms",
            "mine     no answer                     12 ms",
            "far      not asked",
            "",
            "zen says: https://check.spamhaus.org/query/ip/192.0.2.4",
            "mine: no answer within 2000 ms",
            "far: not asked: the budget of the day is used up",
            "",
            "smtp: score 6 reaches the threshold 3: limit (it gets the tight limit of listed sources)",
            "submission: score 6 reaches the threshold 3: ban (everything of it is refused)",
            "imap: score 6 reaches the threshold 3: note (it is told, and nothing is refused)",
            "imaps: score -1 is below the threshold 3: nothing follows",
            "",
            "`ratelimit explain 192.0.2.4` says what is in force",
        ],
    );
}

/// What the README shows is what is said.
#[test]
fn the_samples_in_the_readme_are_true() {
    let readme = include_str!("../../../../README.md");
    let mut zen = answer("zen", Some(true));
    (zen.weight, zen.codes) = (3, vec!["XBL: hijacked, or infected with malware (127.0.0.4)".into()]);
    zen.text = Some("https://check.spamhaus.org/query/ip/192.0.2.4".into());
    let zones = vec![zen, answer("mine", Some(false))];
    let services = vec![outcome("smtp", 3, Some(Verdict::Limit))];
    let check = DnsblCheck { address: parse("192.0.2.4"), zones, services };
    let until = Some("2026-11-22T06:00:00Z".into());
    let zones = vec![zone("zen"), DnsblView { from_cache: 0, per_day: Some(100_000), ..zone("mine") }];
    for said in [
        dnsbl::all(&ReputationView { mode: Some(Mode::Observe), ..view(zones) }),
        dnsbl::checked(&check),
        dnsbl::standing(&view(vec![DnsblView { paused: Some(Pause { until }), ..zone("zen") }])),
        dnsbl::problem(&troubled().zones[1]).unwrap(),
    ] {
        assert!(readme.contains(&said), "not in README.md:\n{said}");
    }
    let configuration = readme.split("```toml\n[reputation]").nth(1).unwrap().split("```").next().unwrap();
    let read = Config::parse(&format!("[reputation]{configuration}"), "r.toml").unwrap();
    let names: Vec<&str> = read.config.reputation.dnsbl.iter().map(|dnsbl| dnsbl.name.as_str()).collect();
    assert_eq!((names, read.warnings.len()), (vec!["zen", "mine"], 0));
}

#[test]
fn what_a_dnsbl_says_cannot_write_to_the_terminal() {
    let mut evil = answer("evil", Some(true));
    evil.text = Some("\u{1b}]0;owned\u{7}\nsmtp: score 0\u{202e}".into());
    evil.codes = vec!["\u{1b}[2J".into()];
    let mut bad = answer("bad", None);
    bad.problem = Some("\u{9b}2J".into());
    let check = DnsblCheck { address: parse("192.0.2.4"), zones: vec![evil, bad], services: Vec::new() };
    let text = dnsbl::checked(&check);
    assert!(text.contains(r"evil says: \u{1b}]0;owned\u{7}\nsmtp: score 0\u{202e}"), "{text}");
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}'), "{text:?}");
}
