use super::{config, expect, warnings};
use crate::config::{Action, Config, Duration, Format, List, Mode, Permit, Preset, Scope, Source};

fn list(text: &str) -> List {
    let mut lists = config(text).lists;
    assert_eq!(lists.len(), 1, "{text}");
    lists.remove(0)
}

#[test]
fn every_key_of_a_list_is_read() {
    let read = list(
        "[[lists]]
name = \"bad\"
from = [\"/etc/bad\", \"https://lists.test/bad?key=7\"]
format = \"count\"
refresh = \"2h\"
services = [\"smtp\", \"imap\"]
all_packets = true
mode = \"observe\"
max_age = \"3d\"
min_count = 3
private = true
change = { lost_percent = 90, grown_times = 0 }
timeout = \"5s\"
max_size = \"1 MiB\"
",
    );
    assert_eq!(read.from.len(), 2);
    assert_eq!(read.from[0], Source::Path("/etc/bad".into()));
    assert_eq!(read.from[1].to_string(), "https://lists.test/bad?***");
    assert_eq!((read.format, read.min_count, read.private), (Some(Format::Count), 3, true));
    assert_eq!((read.refresh, read.max_age), (Duration::hours(2), Duration::hours(72)));
    assert_eq!(read.services, Scope::Services(vec!["smtp".into(), "imap".into()]));
    assert_eq!((read.action, read.all_packets, read.mode), (Action::Block, true, Some(Mode::Observe)));
    assert_eq!((read.change.lost_percent, read.change.grown_times), (90, 0));
    assert_eq!((read.timeout, read.max_size.bytes()), (Duration::seconds(5), 1 << 20));
}

#[test]
fn secrets_of_a_url_are_not_shown() {
    for (url, shown) in [
        ("https://key@lists.test/a", "https://***@lists.test/a"),
        ("https://me:secret@lists.test/a?b=c", "https://***@lists.test/a?***"),
        ("https://lists.test/a", "https://lists.test/a"),
    ] {
        assert_eq!(Source::Url(url.parse().expect("a URL")).to_string(), shown);
    }
}

#[test]
fn a_list_acts_on_smtp_alone_unless_it_says_otherwise() {
    let read = list("[[lists]]\nname = \"bad\"\nfrom = \"/bad\"\n");
    assert_eq!(read, List::new("bad", vec![Source::Path("/bad".into())]));
    assert_eq!(read.services, Scope::Services(vec!["smtp".into()]));
    assert_eq!(list("[[lists]]\nname = \"a\"\nfrom = \"/a\"\nservices = \"all\"\n").services, Scope::All);
}

#[test]
fn presets_know_their_publishers_wishes() {
    for facts in Preset::ALL {
        let read = list(&format!("[[lists]]\nname = \"it\"\npreset = \"{}\"\n", facts.name));
        assert_eq!(read.from.len(), facts.from.len(), "every address of {} is a URL", facts.name);
        assert!(read.refresh.as_std() >= read.least_refresh(), "{}", facts.name);
        assert_eq!(read.services == Scope::All, facts.all_services, "{}", facts.name);
    }
    let drop = list("[[lists]]\nname = \"drop\"\npreset = \"spamhaus-drop\"\n");
    assert_eq!((drop.format, drop.services), (Some(Format::DropJson), Scope::All));
}

#[test]
fn nothing_is_fetched_unless_it_is_configured() {
    assert!(Config::default().lists.is_empty());
}

#[test]
fn a_list_may_say_who_alone_may_connect() {
    let read = config(
        "[[lists]]\nname = \"office\"\nfrom = \"/office\"\naction = \"allow\"\n\
         [services.imap]\nonly_from = [\"192.0.2.0/24\", \"office\"]\n",
    );
    let imap = read.service("imap").expect("a service");
    assert_eq!(
        imap.only_from,
        [Permit::Network("192.0.2.0/24".parse().expect("a network")), Permit::List("office".into())]
    );
    assert!(read.is_permit("office") && !read.is_permit("smtp"));
}

#[test]
fn what_is_wrong_with_lists() {
    let with = |rest: &str| format!("[[lists]]\nname = \"bad\"\nfrom = \"/bad\"\n{rest}");
    for (text, said) in [
        (
            "[[lists]]\nfrom = \"/bad\"\n".to_owned(),
            "t.toml:1:1: lists[0]: the key name is missing\n    add it, as in name = \"drop\"",
        ),
        (
            "[[lists]]\nname = \"bad\"\n".to_owned(),
            "t.toml:1:1: lists[0]: the key from is missing\n    add it, as in from = \"/etc/ratelimit/blocked.txt\"",
        ),
        (
            "[[lists]]\nname = \"Bad!\"\nfrom = \"/bad\"\n".to_owned(),
            "t.toml:2:8: lists[0].name: \"Bad!\" is not the name of a list\n    write at most 31 of the characters a-z, \
             0-9, - and _, and not only digits",
        ),
        (
            "[[lists]]\nname = \"a\"\nfrom = \"bad.txt\"\n".to_owned(),
            "t.toml:3:8: lists[0].from: \"bad.txt\" is neither an absolute path nor an http or https URL\n    write \
             from = \"/path\", or from = \"https://example.org/list.txt\"",
        ),
        (
            "[[lists]]\nname = \"a\"\npreset = \"spamhaus-dorp\"\n".to_owned(),
            "t.toml:3:10: lists[0].preset: no preset is called \"spamhaus-dorp\"\n    did you mean spamhaus-drop?",
        ),
        (
            with("format = \"rbl\"\n"),
            "t.toml:4:10: lists[0].format: \"rbl\" is not a format\n    write one of plain, count, drop, drop-json, \
             rbldnsd, crowdsec, shadowserver, auto",
        ),
        (
            with("action = \"ban\"\n"),
            "t.toml:4:10: lists[0].action: \"ban\" is nothing a list can do\n    write action = \"block\" or \
             action = \"allow\"",
        ),
        (
            with("services = [\"smpt\"]\n"),
            "t.toml:4:13: lists[0].services: no service is called \"smpt\"\n    did you mean smtp?",
        ),
        (
            with("action = \"allow\"\nall_packets = true\n"),
            "t.toml:5:15: lists[0].all_packets: a list that allows has no packets to stop\n    remove all_packets, or \
             write action = \"block\"",
        ),
        (
            with("refresh = \"30s\"\n"),
            "t.toml:4:11: lists[0].refresh: fetched more often than its publisher allows\n    write at least 60 s, or \
             leave the key out",
        ),
        (
            "[[lists]]\nname = \"a\"\nfrom = \"https://www.spamhaus.org/drop/drop.txt\"\nrefresh = \"10m\"\n"
                .to_owned(),
            "t.toml:4:11: lists[0].refresh: fetched more often than its publisher allows\n    write at least 60 min, or \
             leave the key out",
        ),
        (
            with("[[lists]]\nname = \"bad\"\nfrom = \"/worse\"\n"),
            "t.toml:4:1: lists[1]: another list is called bad already\n    give one of the two another name",
        ),
        (
            with("[services.imap]\nonly_from = [\"bad\"]\n"),
            "t.toml:5:14: services.imap.only_from: the list bad blocks, so it cannot say who may connect\n    give the \
             list action = \"allow\"",
        ),
        (
            with("[services.imap]\nonly_from = [\"bda\"]\n"),
            "t.toml:5:14: services.imap.only_from: no list is called \"bda\"\n    did you mean bad?",
        ),
    ] {
        expect(&[(&text, said)]);
    }
}

#[test]
fn feeds_of_home_machines_on_customers_services_are_warned_of() {
    let text = "[[lists]]\nname = \"it\"\npreset = \"blocklist-de\"\nservices = \"all\"\n";
    assert!(warnings(text).contains("home connections of ordinary customers"), "{}", warnings(text));
    assert_eq!(warnings("[[lists]]\nname = \"it\"\npreset = \"spamhaus-drop\"\n"), "");
}
