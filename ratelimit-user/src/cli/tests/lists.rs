use std::path::Path;

use super::{assert_text, parse};
use crate::api::{BadLine, ListMatch, ListState, ListView, WaitingCopy};
use crate::cli::{config::check, list};
use crate::config::{Action, Config, Diagnostic};
use crate::lists::screen::Refusals;

pub(super) fn found(in_force: bool) -> ListMatch {
    ListMatch {
        list: "bad".into(),
        action: Action::Block,
        services: vec!["smtp".into()],
        network: parse("203.0.113.0/24"),
        in_force,
        excludes: false,
        file: Some("/etc/bad".into()),
        line: Some(3),
        text: Some("203.0.113.0/24 # spam".into()),
        expires: Some("2026-11-29T04:00:00Z".into()),
    }
}

fn view() -> ListView {
    ListView {
        name: "bad".into(),
        preset: None,
        from: vec!["/etc/bad".into()],
        formats: vec!["plain".into()],
        services: vec!["smtp".into()],
        action: Action::Block,
        all_packets: false,
        mode: None,
        state: ListState::InForce,
        entries: 1_200,
        networks: 1_199,
        fetched: Some("2026-11-22T04:00:00Z".into()),
        confirmed: Some("2026-11-22T04:00:00Z".into()),
        expires: Some("2026-11-29T04:00:00Z".into()),
        next_refresh: "2026-11-22T05:00:00Z".into(),
        problem: None,
        left_out: 0,
        bad_lines: 0,
        bad: Vec::new(),
        refused: Refusals::default(),
        waiting: None,
        notices: Vec::new(),
        hits: 0,
        last_hit: None,
    }
}

#[test]
fn an_address_is_shown_with_list_file_and_line() {
    let address = parse("203.0.113.7");
    assert_text(&list::tested(address, &[]), &["203.0.113.7 is in no list"]);
    assert_text(
        &list::tested(address, &[found(true)]),
        &[
            "203.0.113.7 is listed",
            "",
            "list  action  services  network         in force  until                 where       line",
            "bad   block   smtp      203.0.113.0/24  yes       2026-11-29T04:00:00Z  /etc/bad:3  203.0.113.0/24 # spam",
            "",
            "`ratelimit explain 203.0.113.7` says what becomes of its next connection",
        ],
    );
    assert!(list::tested(address, &[found(false)]).starts_with("203.0.113.7 is named, but no list acts on it\n"));
}

#[test]
fn lists_are_a_line_each_and_their_problems_below() {
    let mut lists = [view(), ListView { name: "worse".into(), state: ListState::Missing, ..view() }];
    lists[1].problem = Some("/etc/worse: No such file or directory".into());
    lists[0].bad_lines = 1;
    assert_text(
        &list::table(&lists),
        &[
            "list   action  services  state                       entries  confirmed             next refresh          bad lines  stopped",
            "bad    block   smtp      in force                      1,200  2026-11-22T04:00:00Z  2026-11-22T05:00:00Z          1        0",
            "worse  block   smtp      never read, weighs nothing    1,200  2026-11-22T04:00:00Z  2026-11-22T05:00:00Z                   0",
            "",
            "worse: /etc/worse: No such file or directory",
        ],
    );
}

#[test]
fn one_list_is_shown_with_everything_that_is_wrong_with_it() {
    let mut list = view();
    list.refused.add(parse("10.0.0.0/8"), || "lies in 10.0.0.0/8: private".into());
    list.bad_lines = 1;
    let (file, text, problem) = ("/etc/bad".into(), "nonsense".into(), "not an address".into());
    list.bad = vec![BadLine { file, line: 9, text, problem }];
    let why = "it is empty and had 1200 entries".into();
    list.waiting = Some(WaitingCopy { entries: 0, why, seen: vec!["2026-11-22T04:30:00Z".into()] });
    list.notices = vec!["(c) 2026 the publisher".into()];
    let text = list::one(&list);
    for wanted in [
        "entries       1,200 in 1,199 networks\n",
        "a copy of 0 entries waits: it is empty and had 1200 entries\n  it came 2026-11-22T04:30:00Z\n",
        "`ratelimit list accept bad` takes it",
        "1 refused or cut\n  10.0.0.0/8  lies in 10.0.0.0/8: private\n",
        "1 bad lines\n  /etc/bad:9: not an address: nonsense\n",
        "from the publisher\n  (c) 2026 the publisher\n",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
}

#[test]
fn a_check_warns_of_own_networks_that_a_service_would_refuse() {
    let text = "trust = [\"10.2.0.0/16\"]\n[services.imap]\nonly_from = [\"10.1.0.0/16\"]\n";
    let config = Config::parse(text, "r.toml").unwrap().config;
    let warned = |own: &[&str]| {
        let own: Vec<_> = own.iter().map(|network| parse(network)).collect();
        let warnings = check::cut_off(Path::new("r.toml"), &config, &own);
        warnings.iter().map(Diagnostic::to_string).collect::<Vec<_>>()
    };
    assert!(warned(&["10.1.7.0/24", "10.2.0.0/24"]).is_empty());
    assert_eq!(
        warned(&["10.1.7.0/24", "192.0.2.0/24"]),
        [
            "r.toml: services.imap.only_from: 192.0.2.0/24, a network of this machine, is not among those who may connect\n    \
            add it to only_from or to trust if it should reach the service"
        ]
    );
}
