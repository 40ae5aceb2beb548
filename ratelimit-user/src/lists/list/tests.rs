use super::*;
use crate::config::{Network, Source};

const HOUR_S: u64 = 3600;
const START_S: u64 = 1_800_000_000;

fn list() -> List {
    List::new(config::List::new("bad", vec![Source::Path("/bad".into())]))
}

fn hosts(range: std::ops::Range<u32>) -> Read {
    let host = |host: u32| Network::host(std::net::Ipv4Addr::from_bits(0x0808_0000 + host).into());
    Read { networks: Arc::new(range.map(host).collect()), ..Read::default() }
}

fn good(read: Read, now_s: u64) -> Good {
    let origin = Origin { digest: "d1ce".into(), ..Origin::default() };
    Good { read, origin, fetched_s: now_s, confirmed_s: now_s }
}

fn with(read: Read) -> List {
    let mut list = list();
    list.take(good(read, START_S), START_S);
    list
}

#[test]
fn a_copy_past_its_age_weighs_nothing_but_where_it_says_who_may_connect() {
    let mut list = with(hosts(0..9));
    let week_s = 7 * 24 * HOUR_S;
    assert!(list.weight(START_S + week_s - 1, false).is_some());
    assert!(list.weight(START_S + week_s, false).is_none() && list.weight(START_S + week_s, true).is_some());
    list.confirm(START_S + week_s);
    assert!(list.weight(START_S + week_s, false).is_some());
}

#[test]
fn a_strange_copy_is_believed_when_it_came_three_times_over_a_day() {
    let mut list = with(hosts(0..100));
    let origin = Origin::default();
    for (after_h, belief) in [(1, Belief::Waits), (2, Belief::Waits), (3, Belief::Waits), (24, Belief::Waits)] {
        let few = hosts(0..10 + after_h as u32 % 2);
        assert_eq!(list.judge(&few, &origin, START_S + after_h * HOUR_S), belief, "{after_h}");
    }
    assert!(list.problem.as_ref().unwrap().contains("list accept bad"), "{:?}", list.problem);
    assert_eq!(list.judge(&hosts(0..10), &origin, START_S + 25 * HOUR_S), Belief::Good);
}

#[test]
fn another_strange_copy_starts_anew() {
    let mut list = with(hosts(0..100));
    let origin = Origin::default();
    for after_h in [1, 2, 12] {
        assert_eq!(list.judge(&hosts(0..10), &origin, START_S + after_h * HOUR_S), Belief::Waits);
    }
    assert_eq!(list.judge(&hosts(500..510), &origin, START_S + 26 * HOUR_S), Belief::Waits);
    assert_eq!(list.candidate.as_ref().unwrap().seen_s.len(), 1);
}

#[test]
fn what_is_accepted_is_believed_once() {
    let mut list = with(hosts(0..100));
    list.accept_next();
    assert_eq!(list.judge(&hosts(0..1), &Origin::default(), START_S + 1), Belief::Good);
    list.take(good(hosts(0..1), START_S + 1), START_S + 1);
    assert_eq!(list.judge(&hosts(50..60), &Origin::default(), START_S + 2), Belief::Waits);
}

#[test]
fn a_copy_of_other_sources_is_another_list() {
    let mut list = with(hosts(0..100));
    let elsewhere = Origin { from: vec!["/other".into()], ..Origin::default() };
    assert_eq!(list.judge(&hosts(0..1), &elsewhere, START_S + 1), Belief::Good);
}

#[test]
fn a_confirmation_by_sources_that_went_confirms_nothing() {
    let mut list = with(hosts(0..9));
    list.is_busy = true;
    list.bring_again();
    list.confirm(START_S + HOUR_S);
    assert!(list.is_due(START_S + HOUR_S));
    assert_eq!(list.good.as_ref().unwrap().confirmed_s, START_S);
}

#[test]
fn a_failing_source_is_asked_less_and_less_often_and_never_too_often() {
    let mut list = list();
    list.fail("no route".into(), None, START_S);
    let first = list.next_s - START_S;
    assert!((54..=66).contains(&first), "{first}");
    for _ in 0..20 {
        list.fail("no route".into(), None, START_S);
    }
    let last = list.next_s - START_S;
    assert!((HOUR_S * 9 / 10..=HOUR_S * 11 / 10).contains(&last), "{last}");
    list.fail("come later".into(), Some(Duration::from_secs(5 * HOUR_S)), START_S);
    assert_eq!(list.next_s, START_S + 5 * HOUR_S);

    let url = Source::Url("https://www.spamhaus.org/drop/drop_v4.json".parse().unwrap());
    let mut list = List::new(config::List::new("drop", vec![url]));
    list.fail("no route".into(), None, START_S);
    assert_eq!(list.next_s, START_S + HOUR_S);
    assert_eq!(list.not_before_s(), START_S + HOUR_S);
    assert_eq!(list.not_by_command_before_s(), START_S + HOUR_S);
}

#[test]
fn by_command_only_the_publisher_bars_asking_again() {
    let url = Source::Url("https://lists.example.org/mine".parse().unwrap());
    let mut list = List::new(config::List::new("mine", vec![url]));
    list.fail("no route".into(), None, START_S);
    assert_eq!(list.not_before_s(), START_S + 60);
    assert_eq!(list.not_by_command_before_s(), START_S);
}

#[test]
fn entries_with_an_end_make_the_list_be_read_again() {
    let mut list = with(Read { next_end: Some(Duration::from_secs(90)), ..hosts(0..9) });
    assert!(!list.is_to_be_reread(START_S + 89) && list.is_to_be_reread(START_S + 90));
    list.is_busy = true;
    assert!(!list.is_to_be_reread(START_S + 90));
    // Not over and over.
    list.fail_to_reread("gone".into());
    assert!(!list.is_to_be_reread(START_S + 91) && list.is_due(START_S + 91));
    list.take(good(hosts(0..9), START_S + 91), START_S + 91);
    list.reads_otherwise = true;
    assert!(list.is_to_be_reread(START_S + 92));
}
