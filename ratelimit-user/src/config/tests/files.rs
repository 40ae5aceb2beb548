use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::config::{Config, ConfigErrors, DEFAULT_PATH, Dnsbl, DnsblPreset, List, Origin, Preset};

const SHIPPED: &str = include_str!("../../../../ratelimit.toml");

#[test]
fn the_shipped_file_is_the_defaults() {
    let loaded = Config::parse(SHIPPED, "ratelimit.toml").expect("the shipped file is right");
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
}

/// A `#` directly before a word hides a setting; before a blank it begins a sentence.
#[test]
fn every_setting_of_the_shipped_file_stands_at_its_default() {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|first: char| first.is_ascii_alphabetic()) => setting.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    let all: Vec<String> = SHIPPED.lines().map(uncomment).collect();
    let loaded = Config::parse(&all.join("\n"), "ratelimit.toml").expect("every setting is right");
    assert_eq!(loaded.config, Config::default());
    for written in Config::default().to_toml().lines().filter(|line| !line.is_empty()) {
        assert!(all.iter().any(|line| line == written), "the shipped file lacks: {written}");
    }
    for (index, line) in SHIPPED.lines().enumerate().filter(|(_, line)| uncomment(line) != **line) {
        let mut one: Vec<&str> = SHIPPED.lines().collect();
        let setting = uncomment(line);
        one[index] = &setting;
        let loaded = Config::parse(&one.join("\n"), "ratelimit.toml").expect("each setting is right alone");
        assert_eq!(loaded.config, Config::default(), "{setting}");
    }
}

/// Whoever takes the "#" away from an example must find that it works.
#[test]
fn every_list_of_the_shipped_file_is_right() {
    let start = SHIPPED.find("#     [[lists]]").expect("an example");
    let end = SHIPPED.find("[paths]").expect("the next table");
    let example =
        |line: &str| line.strip_prefix("#     ").map(|line| line.split("   ").next().unwrap_or(line).to_owned());
    let keys = ["name", "preset", "from", "format", "refresh", "services", "action", "all_packets", "mode", "max_age"];
    let more = ["min_count", "private", "change", "timeout", "max_size", "[[lists]]"];
    let is_setting = |line: &String| keys.iter().chain(&more).any(|key| line.starts_with(key));
    let text: Vec<String> = SHIPPED[start..end].lines().filter_map(example).filter(is_setting).collect();
    let lists = Config::parse(&text.join("\n"), "ratelimit.toml").expect("every example is right").config.lists;
    let presets = lists.iter().filter_map(|list| list.preset).map(|preset| preset.to_string());
    assert!(presets.eq(Preset::ALL.iter().map(|facts| facts.name.to_owned())), "every preset is shown once");
    let mine = lists.last().expect("one of all keys");
    let with_defaults = List { mode: mine.mode, ..List::new("mine", mine.from.clone()) };
    assert_eq!(*mine, with_defaults, "all keys stand at their defaults");
}

#[test]
fn the_export_of_the_shipped_file_is_right() {
    let start = SHIPPED.find("# Bans, written as").expect("the table");
    let end = SHIPPED.find("# The services. All keys").expect("the next table");
    let example = SHIPPED[start..end].lines().filter_map(|line| line.strip_prefix("#     "));
    let text = format!("[export]\n{}", example.collect::<Vec<_>>().join("\n"));
    let export = Config::parse(&text, "ratelimit.toml").expect("it is right").config.export;
    assert!(export.path.is_some() && !export.contact.is_empty());
}

#[test]
fn every_dnsbl_of_the_shipped_file_is_right() {
    let start = SHIPPED.find("#     [reputation.services.imap]").expect("an example");
    let end = SHIPPED.find("# Bans, written as").expect("the next table");
    let example =
        |line: &str| line.strip_prefix("#     ").map(|line| line.split("    ").next().unwrap_or(line).to_owned());
    let is_setting = |line: &String| line.starts_with('[') || line.contains(" = ");
    let text: Vec<String> = SHIPPED[start..end].lines().filter_map(example).filter(is_setting).collect();
    let read = Config::parse(&text.join("\n"), "ratelimit.toml").expect("every example is right");
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    let dnsbls = read.config.reputation.dnsbl;
    let presets = dnsbls.iter().filter_map(|dnsbl| dnsbl.preset).map(|preset| preset.to_string());
    let parts = ["spamhaus-sbl", "spamhaus-xbl"];
    let whole = DnsblPreset::ALL.iter().map(|facts| facts.name).filter(|name| !parts.contains(name));
    assert_eq!(BTreeSet::from_iter(presets), whole.map(str::to_owned).collect(), "every preset but the parts of one");
    let mine = dnsbls.last().expect("one of all keys");
    let base = Dnsbl::new("mine", &mine.zone);
    let with_defaults = Dnsbl { key_file: mine.key_file.clone(), codes: mine.codes.clone(), ..base };
    assert_eq!(*mine, with_defaults, "all keys stand at their defaults");
}

#[test]
fn a_file_is_read_from_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ratelimit.toml");
    fs::write(&path, "events_per_second = 7\n").expect("written");
    let loaded = Config::load(&path).expect("a configuration");
    assert_eq!(loaded.config.events_per_second, 7);
    assert_eq!(loaded.origin, Origin::File(path.clone()));
    fs::write(&path, "mode = 1\n").expect("written");
    let said = Config::load(&path).expect_err("refused").to_string();
    assert!(said.starts_with(&format!("{}:1:8: mode: ", path.display())), "{said}");
}

fn said(path: &Path) -> String {
    let errors: ConfigErrors = Config::load(path).expect_err("refused");
    errors.to_string().replace(&path.display().to_string(), "FILE")
}

#[test]
fn files_that_are_no_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ratelimit.toml");
    assert_eq!(said(&path), "FILE: no such file\n    create the file, or name none to run with the built-in defaults");
    assert_eq!(
        said(directory.path()),
        "FILE: cannot be read: Is a directory (os error 21)\n    check the path and its permissions"
    );
    fs::write(&path, b"# \xc3\xa4\n# \xe4\n").expect("written");
    assert_eq!(said(&path), "FILE:2:3: not UTF-8 text\n    save the file as UTF-8");
    assert_eq!(
        said(Path::new("/dev/zero")),
        "FILE: too large for a configuration\n    check the path: this is no configuration"
    );
}

/// Only where no such file is installed can its absence be seen.
#[test]
fn without_the_default_file_the_defaults_hold() {
    if Path::new(DEFAULT_PATH).exists() {
        assert!(Config::load(Path::new(DEFAULT_PATH)).is_ok_and(|loaded| loaded.origin != Origin::BuiltIn));
    } else {
        let loaded = Config::load(Path::new(DEFAULT_PATH)).expect("the defaults");
        assert_eq!((loaded.config, loaded.origin), (Config::default(), Origin::BuiltIn));
    }
}

#[test]
fn errors_serialize_with_their_words() {
    let errors = Config::parse("mod = 1\n", "t.toml").expect_err("refused");
    let json = serde_json::to_value(&errors).expect("serializes");
    assert_eq!(
        json,
        serde_json::json!([{ "file": "t.toml", "line": 1, "column": 1, "key": "mod",
            "problem": "unknown key", "remedy": "did you mean mode?" }])
    );
}
