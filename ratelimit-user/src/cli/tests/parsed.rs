use clap::{CommandFactory, Parser, error::ErrorKind};

use super::parse;
use crate::api::{SetLimit, SourcesBy};
use crate::cli::{Cli, Command, config::ConfigCommand, dnsbl::DnsblCommand, entry::EntryCommand, limit::LimitCommand};
use crate::config::{Level, Mode};

fn cli(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn usage(line: &str) -> clap::Error {
    let error = Cli::try_parse_from(line.split_whitespace()).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}: {error}");
    error
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    fn check(command: &clap::Command, path: &str) {
        let help = command.clone().render_long_help().to_string();
        assert!(command.get_about().is_some() && help.contains("\n  ratelimit "), "{path}: {help}");
        assert!(command.get_after_help().is_some(), "{path} has no example");
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            check(sub, format!("{path} {}", sub.get_name()).trim());
        }
    }
    check(&Cli::command(), "");
}

#[test]
fn examples_in_help_texts_are_commands() {
    fn examples(command: &clap::Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter_map(|line| line.strip_prefix("  ratelimit ")) {
            for part in format!("ratelimit {line}").split(" && ") {
                found.push(part.split("   ").next().unwrap_or(part).replace("'customer, ticket 4711'", "customer"));
            }
        }
        for sub in command.get_subcommands() {
            examples(sub, found);
        }
    }
    let mut found = Vec::new();
    examples(&Cli::command(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for example in found {
        cli(&example);
    }
}

#[test]
fn paths_and_json_stand_before_or_after_the_command() {
    for line in [
        "ratelimit --config c --socket s --pins p --state d --json status",
        "ratelimit status --config c --socket s --pins p --state d --json",
    ] {
        let global = cli(line).global;
        assert_eq!(global.config.unwrap().to_str(), Some("c"));
        assert_eq!(global.socket.unwrap().to_str(), Some("s"));
        assert_eq!(global.pins.unwrap().to_str(), Some("p"));
        assert_eq!(global.state.unwrap().to_str(), Some("d"));
        assert!(global.json);
    }
}

#[test]
fn run_takes_several_interfaces() {
    let Command::Run(run) = cli("ratelimit run --interface eth0 --interface eth1 --mode enforce --keep").command else {
        panic!("not run");
    };
    assert_eq!(run.interfaces, ["eth0", "eth1"]);
    assert_eq!(run.mode, Some(Mode::Enforce));
    assert!(run.keep);
    usage("ratelimit run --mode block");
}

#[test]
fn mode_shows_or_sets() {
    let Command::Mode(shown) = cli("ratelimit mode").command else { panic!("not mode") };
    assert_eq!(shown.mode, None);
    let Command::Mode(set) = cli("ratelimit mode observe --for 1h --service smtp").command else { panic!("not mode") };
    assert_eq!((set.mode, set.for_), (Some(Mode::Observe), Some(parse("1h"))));
    assert_eq!(set.service.as_deref(), Some("smtp"));
    let Command::Mode(trial) = cli("ratelimit mode enforce --confirm 10m").command else { panic!("not mode") };
    assert_eq!(trial.confirm, Some(parse("10m")));

    usage("ratelimit mode --for 1h");
    usage("ratelimit mode --service smtp");
    assert_eq!(usage("ratelimit mode enforce --for 1h --confirm 10m").kind(), ErrorKind::ArgumentConflict);
    let said = usage("ratelimit mode observe --for 1").to_string();
    assert!(said.contains("500ms, 90s, 10m, 1h, 7d"), "{said}");
}

#[test]
fn a_limit_is_set_by_rate_or_burst_or_both() {
    let line = "ratelimit limit set smtp --rate 120/min --burst 60 --level network --for 2h";
    let Command::Limit(LimitCommand::Set(set)) = cli(line).command else { panic!("not limit set") };
    assert_eq!(set.service, "smtp");
    assert_eq!((set.rate, set.burst), (Some(parse("120/min")), Some(parse("60"))));
    assert_eq!((set.level, set.for_), (Level::Network, Some(parse("2h"))));
    let Command::Limit(LimitCommand::Set(set)) = cli("ratelimit limit set smtp --burst 60").command else {
        panic!("not limit set")
    };
    assert_eq!((set.rate, set.level), (None, Level::Source));

    usage("ratelimit limit set smtp");
    usage("ratelimit limit set smtp --for 2h");
    usage("ratelimit limit set smtp --level network");
    usage("ratelimit limit set smtp --rate 120/fortnight");
    usage("ratelimit limit set smtp --burst 0");
    assert!(matches!(cli("ratelimit limit show").command, Command::Limit(LimitCommand::Show)));
    let Command::Limit(LimitCommand::Reset(reset)) = cli("ratelimit limit reset smtp --level service").command else {
        panic!("not limit reset")
    };
    assert_eq!((reset.service.as_str(), reset.level, reset.connections), ("smtp", Some(Level::Service), false));
}

#[test]
fn connections_are_set_apart_from_rates() {
    let request = |line: &str| match cli(line).command {
        Command::Limit(LimitCommand::Set(set)) => set.request(),
        _ => panic!("not limit set"),
    };
    let wanted = request("ratelimit limit set smtp --connections 20 --for 2h");
    let (connections, for_) = (Some(parse("20")), Some(parse("2h")));
    assert_eq!(wanted, SetLimit { connections, for_, ..SetLimit::default() });
    let wanted = request("ratelimit limit set smtp --connections off");
    assert_eq!(wanted, SetLimit { connections: Some(parse("off")), ..SetLimit::default() });
    let wanted = request("ratelimit limit set smtp --burst 60");
    assert_eq!(wanted, SetLimit { level: Some(Level::Source), burst: Some(parse("60")), ..SetLimit::default() });

    for other in ["--rate 10/s", "--burst 60", "--level source"] {
        let said = usage(&format!("ratelimit limit set smtp --connections 20 {other}"));
        assert_eq!(said.kind(), ErrorKind::ArgumentConflict);
    }
    let said = usage("ratelimit limit set smtp --connections 0").to_string();
    assert!(said.contains("write 1 to 1000000, or \"off\""), "{said}");
    let Command::Limit(LimitCommand::Reset(reset)) = cli("ratelimit limit reset smtp --connections").command else {
        panic!("not limit reset")
    };
    assert_eq!((reset.level, reset.connections), (None, true));
    usage("ratelimit limit reset smtp --connections --level source");
}

#[test]
fn entries_are_networks_for_services() {
    for kind in ["trust", "allow", "block"] {
        let line = format!("ratelimit {kind} add 192.0.2.0/24 --service smtp --service imap --note spam");
        let (Command::Trust(command) | Command::Allow(command) | Command::Block(command)) = cli(&line).command else {
            panic!("not entries")
        };
        let EntryCommand::Add(add) = command else { panic!("not add") };
        assert_eq!(add.network, parse("192.0.2.0/24"));
        assert_eq!(add.scope.services, ["smtp", "imap"]);
        assert_eq!(add.note.as_deref(), Some("spam"));
        cli(&format!("ratelimit {kind} remove 2001:db8::/32"));
        cli(&format!("ratelimit {kind} show --service smtp"));
    }
    let said = usage("ratelimit block add 192.0.2.1/24").to_string();
    assert!(said.contains("write 192.0.2.0/24 for the network"), "{said}");
    usage("ratelimit block add localhost");
}

#[test]
fn a_ban_needs_a_time_and_unban_a_network_or_all() {
    let line = "ratelimit ban 192.0.2.0/24 --for 1h --service smtp --note spam";
    let Command::Ban(ban) = cli(line).command else { panic!("not ban") };
    assert_eq!((ban.network, ban.for_), (parse("192.0.2.0/24"), parse("1h")));
    assert_eq!((ban.services, ban.note.as_deref()), (vec!["smtp".to_owned()], Some("spam")));
    usage("ratelimit ban 192.0.2.7");
    let Command::Ban(kill) = cli("ratelimit ban 192.0.2.7 --for 1h --kill").command else { panic!("not ban") };
    assert!(kill.kill && !ban.kill);
    let Command::Unban(unban) = cli("ratelimit unban 2001:db8::7").command else { panic!("not unban") };
    assert_eq!((unban.network, unban.protect), (Some(parse("2001:db8::7")), parse("24h")));
    let Command::Unban(unban) = cli("ratelimit unban --all --by log").command else { panic!("not unban") };
    assert!(unban.all && unban.by == Some(crate::bans::By::Log));
    usage("ratelimit unban");
    usage("ratelimit unban 192.0.2.7 --all");
    cli("ratelimit bans --service smtp");
}

#[test]
fn dnsbls_are_shown_checked_paused_and_resumed() {
    let dnsbl = |line: &str| match cli(&format!("ratelimit dnsbl {line}")).command {
        Command::Dnsbl(command) => command,
        _ => panic!("not dnsbl"),
    };
    let DnsblCommand::Show(show) = dnsbl("show") else { panic!("not show") };
    assert_eq!(show.name, None);
    let DnsblCommand::Show(show) = dnsbl("show zen --json") else { panic!("not show") };
    assert_eq!(show.name.as_deref(), Some("zen"));
    let DnsblCommand::Check(check) = dnsbl("check 2001:db8::4") else { panic!("not check") };
    assert_eq!(check.address, parse::<std::net::IpAddr>("2001:db8::4"));
    let DnsblCommand::Pause(pause) = dnsbl("pause zen") else { panic!("not pause") };
    assert_eq!((pause.name.as_str(), pause.for_), ("zen", None));
    let DnsblCommand::Pause(pause) = dnsbl("pause zen --for 2h") else { panic!("not pause") };
    assert_eq!(pause.for_, Some(parse("2h")));
    let DnsblCommand::Resume(resume) = dnsbl("resume zen") else { panic!("not resume") };
    assert_eq!(resume.name, "zen");
    for wrong in ["check", "check 192.0.2.0/24", "pause", "pause zen --for", "pause zen --for 2", "resume"] {
        usage(&format!("ratelimit dnsbl {wrong}"));
    }
}

#[test]
fn sources_are_some_and_by_something() {
    let of = |line: &str| match cli(line).command {
        Command::Sources(sources) => (sources.by, sources.most),
        _ => panic!("not sources"),
    };
    assert_eq!(of("ratelimit sources"), (SourcesBy::Connections, 20));
    assert_eq!(of("ratelimit sources --by drops --most 5"), (SourcesBy::Drops, 5));
    assert_eq!(of("ratelimit sources --by last"), (SourcesBy::Last, 20));
    for wrong in ["--by name", "--most 0", "--most 10001"] {
        usage(&format!("ratelimit sources {wrong}"));
    }
}

#[test]
fn the_other_commands_parse() {
    let Command::Events(events) = cli("ratelimit events --follow --last 5").command else { panic!("not events") };
    assert_eq!((events.follow, events.last), (true, 5));
    let Command::Explain(explain) = cli("ratelimit explain 2001:db8::4 --service smtp").command else {
        panic!("not explain")
    };
    assert_eq!((explain.address, explain.service.as_deref()), (parse("2001:db8::4"), Some("smtp")));
    let Command::Config(ConfigCommand::Check(check)) = cli("ratelimit config check ./r.toml").command else {
        panic!("not config check")
    };
    assert_eq!(check.file.unwrap().to_str(), Some("./r.toml"));
    for line in ["status", "confirm", "reload", "detach", "config check", "config show", "config show --changed"] {
        cli(&format!("ratelimit {line}"));
    }
    usage("ratelimit config show --changed --defaults");
    usage("ratelimit events --last -1");
    let said = usage("ratelimit explain 192.0.2.0/24").to_string();
    assert!(said.contains("write one address"), "{said}");
}

#[test]
fn what_does_not_work_yet_is_no_command() {
    for command in ["doctor", "top", "report", "list", "dnsbl", "log", "changes"] {
        usage(&format!("ratelimit {command}"));
    }
    assert_eq!(usage("ratelimit").kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
}
