use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration as StdDuration;

use proptest::prelude::*;

use crate::config::grammar::{
    Burst, ByteSize, Code, Connections, Duration, GrammarError, Mode, Network, Pattern, Period, Rate, fold_address,
};
use crate::config::limit::Level;

fn read<T: FromStr>(text: &str) -> T
where
    T::Err: Debug,
{
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

fn prints_as<T: FromStr + Display>(text: &str, expected: &str)
where
    T::Err: Debug,
{
    assert_eq!(read::<T>(text).to_string(), expected, "{text:?}");
}

fn error<T: FromStr<Err = GrammarError>>(text: &str) -> GrammarError {
    match text.parse::<T>() {
        Ok(_) => panic!("accepted {text:?}"),
        Err(error) => error,
    }
}

#[test]
fn rates_read_and_print() {
    for (text, count, seconds, printed) in [
        ("10/s", 10, 1, "10/s"),
        ("10/second", 10, 1, "10/s"),
        ("120/min", 120, 60, "120/min"),
        ("120/minute", 120, 60, "120/min"),
        ("120/m", 120, 60, "120/min"),
        ("1000/h", 1000, 3600, "1000/h"),
        ("1000/hour", 1000, 3600, "1000/h"),
        ("5000/day", 5000, 86_400, "5000/day"),
        ("5000/d", 5000, 86_400, "5000/day"),
        (" 7 / s ", 7, 1, "7/s"),
        ("2000000/s", 2_000_000, 1, "2000000/s"),
    ] {
        let rate: Rate = read(text);
        assert_eq!((rate.count(), rate.period_ns()), (count, seconds * 1_000_000_000), "{text}");
        assert_eq!(rate.to_string(), printed);
    }
}

#[test]
fn rates_compare_by_what_they_mean() {
    assert_eq!(read::<Rate>("60/min"), read::<Rate>("1/s"));
    assert_eq!(read::<Rate>("24/day"), read::<Rate>("1/h"));
    assert!(read::<Rate>("59/min") < read::<Rate>("1/s"));
    assert!(read::<Rate>("4294967295/s") > read::<Rate>("4294967295/min"));
}

#[test]
fn broken_rates_say_what_is_accepted() {
    for text in ["", "10", "/s", "10/", "10/fortnight", "-1/s", "+1/s", "1.5/s", "10/S", "ten/s", "10/s/s", "1_0/s"] {
        assert_eq!(error::<Rate>(text), GrammarError::Rate, "{text:?}");
    }
    assert_eq!(
        error::<Rate>("10").to_string(),
        "not a rate: write a number over s, min, h or day: 10/s, 120/min, 1000/h, 5000/day"
    );
    assert_eq!(error::<Rate>("0/s"), GrammarError::RateZero);
    assert_eq!(error::<Rate>("000/h"), GrammarError::RateZero);
    assert_eq!(error::<Rate>("4294967296/s"), GrammarError::RateTooLarge);
    assert_eq!(error::<Rate>("99999999999999999999999999/s"), GrammarError::RateTooLarge);
}

#[test]
fn bursts_read_and_print() {
    prints_as::<Burst>("60", "60");
    assert_eq!(error::<Burst>("0"), GrammarError::BurstZero);
    assert_eq!(error::<Burst>("4294967296"), GrammarError::BurstTooLarge);
    assert_eq!(error::<Burst>("99999999999999999999"), GrammarError::BurstTooLarge);
    for text in ["", "x", "-1", "1.0", "60/min"] {
        assert_eq!(error::<Burst>(text), GrammarError::Burst, "{text:?}");
    }
}

#[test]
fn durations_read_and_print() {
    for (text, printed, milliseconds) in [
        ("90s", "90s", 90_000),
        ("10m", "10m", 600_000),
        ("1h", "1h", 3_600_000),
        ("7d", "7d", 604_800_000),
        ("500ms", "500ms", 500),
        ("3600s", "1h", 3_600_000),
        ("0s", "0s", 0),
        ("90 s", "90s", 90_000),
    ] {
        let duration: Duration = read(text);
        assert_eq!(duration.as_std(), StdDuration::from_millis(milliseconds), "{text}");
        assert_eq!(duration.to_string(), printed);
    }
    for text in ["", "10", "s", "1w", "1.5h", "-1s", "1h30m", "ms"] {
        assert_eq!(error::<Duration>(text), GrammarError::Duration, "{text:?}");
    }
    assert_eq!(
        error::<Duration>("10").to_string(),
        "not a duration: write a number with ms, s, m, h or d: 500ms, 90s, 10m, 1h, 7d"
    );
    assert_eq!(error::<Duration>("36501d").to_string(), "too long for a duration: write at most 36500d");
    assert_eq!(error::<Duration>("99999999999999999999d"), GrammarError::DurationTooLong);
}

#[test]
fn amounts_of_memory_read_and_print() {
    for (text, bytes, printed) in [
        ("32 MiB", 32 << 20, "32 MiB"),
        ("32MiB", 32 << 20, "32 MiB"),
        ("1 GiB", 1 << 30, "1 GiB"),
        ("2048 KiB", 2 << 20, "2 MiB"),
        ("1048577", 1_048_577, "1048577"),
        ("0", 0, "0"),
    ] {
        assert_eq!(read::<ByteSize>(text).bytes(), bytes, "{text}");
        prints_as::<ByteSize>(text, printed);
    }
    for text in ["", "MiB", "32 MB", "32 mib", "1.5 GiB", "-1"] {
        assert_eq!(error::<ByteSize>(text), GrammarError::ByteSize, "{text:?}");
    }
    assert_eq!(error::<ByteSize>("99999999999 GiB"), GrammarError::ByteSizeTooLarge);
}

#[test]
fn modes_and_levels_read_and_print() {
    prints_as::<Mode>("observe", "observe");
    prints_as::<Mode>("enforce", "enforce");
    assert_eq!(error::<Mode>("Enforce").to_string(), "not a mode: write observe or enforce");
    for level in ["source", "network", "service"] {
        prints_as::<Level>(level, level);
    }
    assert_eq!(error::<Level>("host").to_string(), "not a level: write source, network or service");
}

#[test]
fn observe_at_any_level_wins() {
    assert_eq!(Mode::Enforce.and(Mode::Enforce), Mode::Enforce);
    assert_eq!(Mode::Enforce.and(Mode::Observe), Mode::Observe);
    assert_eq!(Mode::Observe.and(Mode::Enforce), Mode::Observe);
}

#[test]
fn networks_read_and_print() {
    for (text, printed) in [
        ("192.0.2.1", "192.0.2.1/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("::/0", "::/0"),
        ("::1", "::1/128"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
    ] {
        prints_as::<Network>(text, printed);
    }
}

#[test]
fn ipv4_in_ipv6_is_ipv4() {
    for (text, printed) in [
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("64:ff9b::192.0.2.1", "192.0.2.1/32"),
        ("64:ff9b::10.0.0.0/104", "10.0.0.0/8"),
        // Wider than the embedding, so more than IPv4.
        ("64:ff9b::/64", "64:ff9b::/64"),
        ("::/64", "::/64"),
        // Not the well-known prefix.
        ("64:ff9b:1::/96", "64:ff9b:1::/96"),
        ("::192.0.2.1", "::c000:201/128"),
    ] {
        prints_as::<Network>(text, printed);
    }
    let mapped: IpAddr = read("::ffff:10.1.2.3");
    assert!(read::<Network>("10.0.0.0/8").contains_address(mapped));
    assert_eq!(fold_address(mapped), read::<IpAddr>("10.1.2.3"));
}

#[test]
fn host_bits_are_refused_with_both_meanings() {
    for (text, remedy) in [
        ("10.1.2.3/8", "write 10.0.0.0/8 for the network, or 10.1.2.3/32 for the one address"),
        ("::ffff:10.1.2.3/104", "write 10.0.0.0/8 for the network, or 10.1.2.3/32 for the one address"),
        ("2001:db8::1/64", "write 2001:db8::/64 for the network, or 2001:db8::1/128 for the one address"),
        ("1.2.3.4/0", "write 0.0.0.0/0 for the network, or 1.2.3.4/32 for the one address"),
    ] {
        let error = error::<Network>(text);
        assert_eq!((error.problem(), error.remedy()), ("a network with host bits set", remedy.to_owned()), "{text}");
    }
}

#[test]
fn broken_networks_say_what_is_accepted() {
    for text in [
        "",
        "10",
        "10/8",
        "10.0.0/8",
        "010.0.0.0/8",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/255.0.0.0",
        "host",
        "fe80::1%eth0",
    ] {
        assert_eq!(error::<Network>(text), GrammarError::Network, "{text:?}");
    }
    assert_eq!(error::<Network>("10.0.0.0/33"), GrammarError::PrefixTooLong { longest: 32 });
    assert_eq!(error::<Network>("::/129"), GrammarError::PrefixTooLong { longest: 128 });
    assert_eq!(
        error::<Network>("::/300").to_string(),
        "a network with a prefix longer than its address: write a prefix of at most /128"
    );
}

#[test]
fn connections_read_and_print_as_a_number_or_off() {
    for (text, most, json) in
        [("50", Some(50), "50"), (" 1000000 ", Some(1_000_000), "1000000"), ("off", None, "\"off\"")]
    {
        let connections: Connections = read(text);
        assert_eq!(connections.most().map(u32::from), most);
        prints_as::<Connections>(text, text.trim());
        assert_eq!(serde_json::to_string(&connections).expect("serializes"), json);
        assert_eq!(serde_json::from_str::<Connections>(json).expect("reads back"), connections);
    }
    for (text, said) in [
        ("0", GrammarError::ConnectionsZero),
        ("1000001", GrammarError::ConnectionsTooMany),
        ("99999999999999999999", GrammarError::ConnectionsTooMany),
        ("-1", GrammarError::Connections),
        ("none", GrammarError::Connections),
        ("", GrammarError::Connections),
    ] {
        assert_eq!(error::<Connections>(text), said, "{text:?}");
    }
    for json in ["0", "1000001", "-1", "null", "\"on\"", "[1]"] {
        assert!(serde_json::from_str::<Connections>(json).is_err(), "{json}");
    }
}

#[test]
fn networks_hold_each_other() {
    let (wide, narrow, other) = (read::<Network>("10.0.0.0/8"), read::<Network>("10.1.0.0/16"), read("11.0.0.0/8"));
    assert!(wide.contains(narrow) && wide.contains(wide) && !narrow.contains(wide));
    assert!(narrow.overlaps(wide) && wide.overlaps(narrow) && !wide.overlaps(other));
    assert!(!read::<Network>("::/0").contains(wide));
    assert_eq!(narrow.widened(8), wide);
    assert_eq!(narrow.widened(24), narrow);
}

#[test]
fn serde_uses_the_same_text() {
    let json = |text: &str| serde_json::to_string(text).expect("a text");
    for text in ["10/s", "5000/day"] {
        let rate: Rate = serde_json::from_str(&json(text)).expect("a rate");
        assert_eq!(serde_json::to_string(&rate).expect("serializes"), json(text));
    }
    let duration: Duration = serde_json::from_str("\"7d\"").expect("a duration");
    assert_eq!(serde_json::to_string(&duration).expect("serializes"), "\"7d\"");
    let network: Network = serde_json::from_str("\"::ffff:10.0.0.1\"").expect("a network");
    assert_eq!(serde_json::to_string(&network).expect("serializes"), "\"10.0.0.1/32\"");
    assert!(serde_json::from_str::<Rate>("\"10\"").is_err());
    assert!(serde_json::from_str::<Burst>("0").is_err());
    assert_eq!(serde_json::from_str::<Burst>("5").expect("a burst").get(), 5);
}

proptest! {
    #[test]
    fn every_rate_survives_printing(count in 1..=u32::MAX, period in 0..4_usize) {
        let period = [Period::Second, Period::Minute, Period::Hour, Period::Day][period];
        let rate = Rate::new(count, period).expect("not zero");
        let again: Rate = read(&rate.to_string());
        prop_assert_eq!((again.count(), again.period()), (rate.count(), period));
    }

    #[test]
    fn every_network_survives_printing(address: IpAddr, prefix in 0..=128_u8) {
        if let Some(network) = Network::truncated(address, prefix) {
            prop_assert_eq!(read::<Network>(&network.to_string()), network);
            prop_assert!(network.contains_address(address) || prefix < 96);
        }
    }

    #[test]
    fn every_duration_and_amount_survives_printing(seconds in 0..3_000_000_000_u64, bytes: u64) {
        let duration: Duration = read(&format!("{seconds}s"));
        prop_assert_eq!(read::<Duration>(&duration.to_string()), duration);
        let amount = ByteSize::from_bytes(bytes);
        prop_assert_eq!(read::<ByteSize>(&amount.to_string()), amount);
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,40}|[0-9a-f:./smhdKMGiB ]{0,30}") {
        let _ = (text.parse::<Rate>(), text.parse::<Burst>(), text.parse::<Duration>());
        let _ = (text.parse::<ByteSize>(), text.parse::<Mode>(), text.parse::<Network>());
        let _ = text.parse::<Connections>();
    }
}

#[test]
fn patterns_are_those_of_postscreen() {
    for (text, printed, yes, no) in [
        ("127.0.0.4", "127.0.0.4", "127.0.0.4", "127.0.0.2"),
        ("127.0.0.[2;4..7]", "127.0.0.[2;4..7]", "127.0.0.2 127.0.0.4 127.0.0.7", "127.0.0.3 127.0.0.8 127.0.1.2"),
        ("127.0.0.[10;11]", "127.0.0.[10;11]", "127.0.0.10 127.0.0.11", "127.0.0.1"),
        ("127.[0..255].[0..255].3", "127.[0..255].[0..255].3", "127.0.5.3 127.255.0.3", "127.0.5.2"),
        ("[1..2;3].0.[5].[9..9]", "[1..2;3].0.[5].[9]", "3.0.5.9 1.0.5.9", "4.0.5.9"),
        ("127.0.0.&22", "127.0.0.&2|4|16", "127.0.0.2 127.0.0.16 127.0.0.255", "127.0.0.8 127.0.0.0"),
        ("127.0.0.&2|4|16", "127.0.0.&2|4|16", "127.0.0.6 127.0.0.66", "127.0.0.32 127.0.1.2"),
    ] {
        prints_as::<Pattern>(text, printed);
        let pattern: Pattern = read(text);
        let answers = |list: &str| list.split(' ').map(read::<Ipv4Addr>).collect::<Vec<_>>();
        assert!(answers(yes).into_iter().all(|answer| pattern.matches(answer)), "{text}: {yes}");
        assert!(answers(no).into_iter().all(|answer| !pattern.matches(answer)), "{text}: {no}");
    }
    for text in [
        "",
        "127",
        "127.0.0",
        "127.0.0.2.3",
        "127.0.0.256",
        "127.0.0.",
        "127.0.0.-1",
        "127.0.0.*",
        "127.0.0.[]",
        "127.0.0.[2",
        "127.0.0.2]",
        "127.0.0.[2;]",
        "127.0.0.[7..4]",
        "127.0.0.[2..]",
        "127.0.0.[2.4]",
        "127.0.0.&",
        "127.0.0.&0",
        "127.0.0.&2|",
        "127.0.&2.1",
        "127.0.0.&256",
        "127.0.0.[&2]",
        "127.0.0.[[2]]",
        "127.0.0.2 3",
    ] {
        assert_eq!(error::<Pattern>(text), GrammarError::Pattern, "{text}");
    }
}

#[test]
fn codes_weigh_as_in_postscreen() {
    for (text, weight, printed) in [
        ("127.0.0.4", 1, "127.0.0.4"),
        ("127.0.0.4*1", 1, "127.0.0.4"),
        ("127.0.0.[2..5]*2", 2, "127.0.0.[2..5]*2"),
        ("127.0.[0..255].3*-1000", -1000, "127.0.[0..255].3*-1000"),
        ("127.0.0.&2|4*1000", 1000, "127.0.0.&2|4*1000"),
    ] {
        assert_eq!(read::<Code>(text).weight, weight, "{text}");
        prints_as::<Code>(text, printed);
    }
    for text in [
        "127.0.0.4*0",
        "127.0.0.4*",
        "127.0.0.4*1001",
        "127.0.0.4*-1001",
        "127.0.0.4*+2",
        "127.0.0.4*2*3",
        "127.0.0.4*--2",
        "127.0.0.4*99999999999999999999",
    ] {
        assert_eq!(error::<Code>(text), GrammarError::Weight, "{text}");
    }
    assert_eq!(error::<Code>("*3"), GrammarError::Pattern);
}
