//! Formats that nobody told.

use super::*;

fn recognised(bytes: &[u8]) -> Format {
    parse(bytes, &AUTO).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(bytes))).format
}

#[test]
fn every_format_is_recognised_and_reads_the_same() {
    for (format, text) in SAMPLES {
        let told = read_as(format, text);
        assert!(told.entries > 0 && told.bad.count == 0, "{told:?}");
        for bytes in [text.into(), gzip(text.as_bytes()), zstd(text.as_bytes()), format!("\u{feff}{text}").into()] {
            assert_eq!(parse(&bytes, &AUTO).as_ref(), Ok(&told), "{format}");
        }
    }
}

#[test]
fn a_few_lines_are_enough() {
    for (text, format) in [
        ("", Format::Plain),
        ("# 192.0.2.1 3\n", Format::Plain),
        ("::1\n", Format::Plain),
        ("::/8 # all\n", Format::Plain),
        ("192.0.2.1\n192.0.2.2-192.0.2.9\n", Format::Plain),
        ("192.0.2.1 3\n", Format::Count),
        ("192.0.2.0/24 ; SBL3\n", Format::Drop),
        ("192.0.2.0/24 ; SBLx\n", Format::Plain),
        ("127.16-31\n", Format::Rbldnsd),
        ("10/8\n", Format::Rbldnsd),
        ("192.0.2.1 see http://example.com/\n", Format::Rbldnsd),
        ("192.0.2.1:4:see\n", Format::Rbldnsd),
        ("2001:db8:1:2\n", Format::Rbldnsd),
        (":2:\n192.0.2.1\n", Format::Rbldnsd),
        ("[]", Format::Crowdsec),
        ("{\n  \"new\": null\n}", Format::Crowdsec),
        ("{\"type\":\"metadata\",\"records\":0}", Format::DropJson),
        ("asn,src_ip\n", Format::Shadowserver),
    ] {
        assert_eq!(recognised(text.as_bytes()), format, "{text:?}");
    }
}

#[test]
fn an_exclusion_far_behind_still_makes_a_zone() {
    let text = format!("192.0.2.0/24\n{}!192.0.2.7\n", "198.51.100.1\n".repeat(100_000));
    let parsed = parse(text.as_bytes(), &AUTO).unwrap();
    assert_eq!((parsed.format, parsed.bad.count), (Format::Rbldnsd, 0));
    assert!(!texts(&parsed.networks).contains("192.0.2.7/"));
}

#[test]
fn a_comment_of_another_kind_makes_no_zone() {
    let text = format!("! Title: sources\n{}", "192.0.2.1\n".repeat(30));
    let parsed = parse(text.as_bytes(), &AUTO).unwrap();
    assert_eq!((parsed.format, parsed.bad.count), (Format::Plain, 1));
}

#[test]
fn one_line_of_another_kind_does_not_make_another_format() {
    let text = format!("{}192.0.2\n", "192.0.2.1\n".repeat(30));
    let parsed = parse(text.as_bytes(), &AUTO).unwrap();
    assert_eq!((parsed.format, parsed.bad.count), (Format::Plain, 1));
}
