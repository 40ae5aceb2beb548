//! Files that are no lists.

use super::*;

#[test]
fn a_web_page_is_no_list_whatever_was_expected() {
    for page in
        ["<!DOCTYPE html><title>Busy</title>", " \r\n\t<HTML>", "\u{feff}<html lang=en>", "<?xml version='1.0'?>"]
    {
        for format in Format::ALL {
            assert!(matches!(refusal(format, page.as_bytes()), Unreadable::WebPage { .. }), "{format} {page}");
        }
        assert!(matches!(parse(&gzip(page.as_bytes()), &AUTO), Err(Unreadable::WebPage { .. })));
    }
    assert_eq!(
        refusal(Format::Plain, b"<!doctype html>\n<title>Busy</title>").to_string(),
        "a web page instead of a list, beginning with \"<!doctype html>\": open its address in a browser to see why, and \
         give the address of the file itself"
    );
}

#[test]
fn what_is_no_text_is_no_list() {
    let utf16: Vec<u8> = "192.0.2.1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_mark = [&[0xff, 0xfe], &utf16[..]].concat();
    let image = b"\x89PNG\r\n\x1a\n\x01\x02\x03\x04\x05IHDR";
    for format in Format::ALL {
        assert_eq!(refusal(format, &utf16), Unreadable::NotText);
        assert_eq!(refusal(format, &with_mark), Unreadable::Utf16);
        assert_eq!(refusal(format, image), Unreadable::NotText);
        let late = format!("{}\0", "192.0.2.1\n".repeat(1000));
        assert_eq!(refusal(format, late.as_bytes()), Unreadable::NotText);
    }
}

#[test]
fn what_is_cut_off_within_its_packing_does_not_unpack() {
    let text = (0..2000u32).map(|host| format!("10.0.{}.{}\n", host % 7, host % 251)).collect::<String>();
    for (packed, packing) in [(gzip(text.as_bytes()), "gzip"), (zstd(text.as_bytes()), "zstd")] {
        assert_eq!(parse(&packed, &AUTO).unwrap().entries, 2000);
        for length in [4, packed.len() / 2, packed.len() - 1] {
            match parse(&packed[..length], &AUTO) {
                Err(Unreadable::Packed { packing: found, .. }) => assert_eq!(found, packing),
                other => panic!("{packing} of {length} bytes: {other:?}"),
            }
        }
    }
    let two = [gzip(b"192.0.2.1\n"), gzip(b"192.0.2.2\n")].concat();
    assert_eq!(parse(&two, &AUTO).unwrap().entries, 2, "gzip files that were joined are one");
}

#[test]
fn a_bomb_does_not_go_off() {
    let blank = vec![b'\n'; (unpack::MOST_UNPACKED_MIB << 20) as usize + 1];
    let packed = [(zstd(&blank), "zstd"), (gzip(&blank), "gzip")];
    for (packed, packing) in packed {
        assert!(packed.len() < 2 << 20);
        assert_eq!(parse(&packed, &AUTO), Err(Unreadable::Bomb { packing }));
    }
}

#[test]
fn five_percent_may_be_bad_and_no_more() {
    let lines = |good: usize, bad: usize| format!("{}{}", "192.0.2.1\n".repeat(good), "bad\u{7}line\n".repeat(bad));
    let parsed = read_as(Format::Plain, &lines(950, 50));
    assert_eq!((parsed.bad.count, parsed.bad.lines.len(), parsed.entries), (50, MOST_BAD_KEPT, 950));
    assert_eq!(parsed.bad.lines[9].line, 960);
    let error = refusal(Format::Plain, lines(949, 50).as_bytes());
    assert_eq!(
        error.to_string(),
        "50 of 999 lines are bad, more than 5 %; line 950 (\"bad\\u{7}line\") is not an address, a network or a range: if \
         it is a list of another kind, set its `format`"
    );
    assert!(matches!(refusal(Format::Plain, lines(18, 1).as_bytes()), Unreadable::TooManyBad { bad: 1, of: 19, .. }));
}

#[test]
fn lines_that_are_left_out_are_not_bad_but_count() {
    let text = format!("{}nonsense\n", "192.0.2.1 1\n".repeat(19));
    let parsed = parse(text.as_bytes(), &Reading { min_count: 2, ..told(Format::Count) }).unwrap();
    assert_eq!((parsed.left_out, parsed.bad.count), (19, 1));
}

#[test]
fn a_line_that_never_ends_is_bad_and_not_kept_whole() {
    let good = "192.0.2.1\n".repeat(30);
    for long in [format!("192.0.2.2 #{}", "x".repeat(5000)), format!("192.0.2.2{}", "é".repeat(3000))] {
        let bad = read_as(Format::Plain, &format!("{good}{long}\n")).bad;
        assert_eq!((bad.count, bad.lines[0].problem.as_str()), (1, "longer than 4096 bytes"));
        assert_eq!(bad.lines[0].text.chars().count(), 161);
    }
    let fits = format!("{good}192.0.2.2 #{}\n", "x".repeat(4085));
    assert_eq!(read_as(Format::Plain, &fits).bad.count, 0);
}

#[test]
fn a_list_of_drop_must_be_whole() {
    let lines: Vec<&str> = DROP_JSON.split_inclusive('\n').collect();
    let refused = |lines: &[&str]| refusal(Format::DropJson, lines.concat().as_bytes());
    assert_eq!(refused(&lines[..2]), Unreadable::NoTrailer { line: 2 });
    assert_eq!(refused(&[]), Unreadable::NoTrailer { line: 0 });
    assert_eq!(refused(&[lines[0], lines[1], &lines[2][..40]]), Unreadable::NoTrailer { line: 3 });
    assert_eq!(refused(&lines[1..]), Unreadable::WrongCount { line: 2, said: 2, found: 1 });
    assert_eq!(refused(&[&lines[..], &lines[..]].concat()), Unreadable::BehindTrailer { line: 4 });
    let uncounted = refused(&[lines[0], "{\"type\":\"metadata\"}"]);
    assert!(matches!(uncounted, Unreadable::Syntax { line: 2, .. }), "{uncounted}");
    assert_eq!(
        refused(&lines[1..]).to_string(),
        "line 2 says that there are 2 records, but there are 1: cut off or mixed up, fetch it again"
    );
}

#[test]
fn json_that_is_no_decisions_is_no_empty_list() {
    for text in [
        "{}",
        "{\"message\":\"access forbidden\"}",
        "{\"deleted\":[]}",
        "7",
        "",
        "null",
        "[{}",
        "{\"new\":7}",
        "{\"new\":[]}\n{}",
    ] {
        assert!(matches!(refusal(Format::Crowdsec, text.as_bytes()), Unreadable::Syntax { .. }), "{text}");
    }
    assert_eq!(
        refusal(Format::Crowdsec, b"\n{\"message\":\"access forbidden\"}").to_string(),
        "line 2 is not what this format allows: missing field `new`; if it is a list of another kind, set its `format`"
    );
}

#[test]
fn a_report_without_addresses_is_no_list() {
    assert_eq!(refusal(Format::Shadowserver, b"\n\nasn,port\n1,2\n"), Unreadable::NoAddressColumn { line: 3 });
}

#[test]
fn a_zone_within_a_zone_is_not_mixed_up() {
    let zone = b"$TTL 60\n$DATASET ip4set a\n10.0.0.0/8\n$DATASET ip4set b\n!10.0.0.0/8\n";
    assert_eq!(refusal(Format::Rbldnsd, zone), Unreadable::Combined { line: 2 });
}

#[test]
fn more_networks_than_any_list_has_are_refused_before_they_fill_the_memory() {
    // 62 networks a line.
    let line = "0.0.0.1-255.255.255.254\n";
    assert_eq!(refusal(Format::Plain, line.repeat(MOST_NETWORKS / 62 + 1).as_bytes()), Unreadable::TooManyNetworks);
}
