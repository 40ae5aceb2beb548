//! No bytes make it panic, and what it says of them holds together.

use proptest::prelude::*;

use super::*;

fn readings() -> impl Strategy<Value = Reading> {
    let format = prop::option::of(prop::sample::select(Format::ALL.to_vec()));
    (format, 0u64..9, 0u64..20_000).prop_map(|(format, min_count, age_s)| Reading {
        format,
        min_count,
        age: Duration::from_secs(age_s),
    })
}

/// What lists are made of, in no order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "192.0.2.1",
        "10",
        ".",
        ":",
        "/",
        "-",
        "!",
        "$",
        "#",
        ";",
        " ",
        "\t",
        "\n",
        "\r\n",
        "2001:db8::",
        "::ffff:",
        "8",
        "SBL1",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        "\"cidr\":",
        "\"new\":",
        "null",
        "ip,a\n",
        "<",
        "é",
        "\u{202e}",
        "255",
        "{\"type\":\"metadata\",\"records\":1}",
        "0.0.0.0-255.255.255.255",
        "ffff",
        "$DATASET",
        "-1h",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A valid file, with some bytes changed, and perhaps cut off or packed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    let sample = prop::sample::select(SAMPLES.to_vec());
    let packed = prop::sample::select(vec![<[u8]>::to_vec as fn(&[u8]) -> Vec<u8>, gzip, zstd]);
    (sample, changes, packed, prop::option::of(any::<prop::sample::Index>()), any::<bool>()).prop_map(
        |((_, text), changes, packed, cut, pack_first)| {
            let mut bytes = if pack_first { packed(text.as_bytes()) } else { text.as_bytes().to_vec() };
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            if pack_first { bytes } else { packed(&bytes) }
        },
    )
}

fn holds_together(bytes: &[u8], reading: &Reading) -> Result<(), TestCaseError> {
    let parsed = match parse(bytes, reading) {
        Ok(parsed) => parsed,
        Err(error) => {
            prop_assert!(error.to_string().chars().all(|c| !c.is_control()), "{}", error);
            return Ok(());
        }
    };
    prop_assert!(reading.format.is_none_or(|format| format == parsed.format));
    let again = parse(bytes, &Reading { format: Some(parsed.format), ..*reading });
    prop_assert_eq!(again.as_ref(), Ok(&parsed));
    prop_assert!(parsed.entries > 0 || parsed.networks.is_empty());
    prop_assert!(parsed.bad.lines.len() as u64 == parsed.bad.count.min(MOST_BAD_KEPT as u64));
    let texts = parsed.bad.lines.iter().flat_map(|bad| [&bad.text, &bad.problem]).chain(&parsed.notices);
    for text in texts {
        prop_assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{:?}", text);
    }
    for network in parsed.networks.v4().iter().take(20) {
        let address = std::net::Ipv4Addr::from_bits(network.first()).into();
        let found = find(bytes, reading, address).unwrap();
        prop_assert!(found.iter().any(|found| !found.excludes && found.network.contains_address(address)));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), reading in readings()) {
        holds_together(&bytes, &reading)?;
    }

    #[test]
    fn any_packed_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100), reading in readings()) {
        for magic in [&[0x1f, 0x8b, 8, 0][..], &[0x28, 0xb5, 0x2f, 0xfd]] {
            holds_together(&[magic, &bytes[..]].concat(), &reading)?;
        }
    }

    #[test]
    fn any_pieces_of_lists(text in pieces(), reading in readings()) {
        holds_together(text.as_bytes(), &reading)?;
    }

    #[test]
    fn any_list_that_was_damaged(bytes in mutated(), reading in readings()) {
        holds_together(&bytes, &reading)?;
    }
}
