mod anything;
mod formats;
mod recognised;
mod refused;
mod zones;

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::lists::{V4, V6};

pub const AUTO: Reading = Reading { format: None, min_count: 1, age: Duration::ZERO };

pub fn told(format: Format) -> Reading {
    Reading { format: Some(format), ..AUTO }
}

pub fn read_as(format: Format, text: &str) -> Parsed {
    parse(text.as_bytes(), &told(format)).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

pub fn refusal(format: Format, text: &[u8]) -> Unreadable {
    parse(text, &told(format)).expect_err("a list that is none")
}

/// All networks, as a line of text.
pub fn texts(networks: &Networks) -> String {
    let v4 = networks.v4().iter().map(|network: &V4| Network::from(*network));
    let v6 = networks.v6().iter().map(|network: &V6| Network::from(*network));
    v4.chain(v6).map(|network| network.to_string()).collect::<Vec<_>>().join(" ")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

pub const PLAIN: &str = "# FireHOL\n# Copyright 2026 Example; see the licence\n\n192.0.2.1\r\n198.51.100.7 # why\n\
                         203.0.113.5;because\n10.0.0.9/8\n  192.0.2.4-192.0.2.7  \n2001:db8::1/32\n::ffff:192.0.2.99\n";
pub const COUNT: &str = "# IP\tcount\n192.0.2.1\t9\n192.0.2.2\t3\n192.0.2.3  2 # two\n2001:db8::1\t1\n";
pub const DROP: &str = "; Spamhaus DROP List 2026/11/25 - (c) 2026 The Spamhaus Project SLU\n\
                        ; https://www.spamhaus.org/drop/drop.txt\n192.0.2.0/24 ; SBL1\n2001:db8::/32 ; SBL2\n";
pub const DROP_JSON: &str = concat!(
    "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\",\"rir\":\"apnic\"}\n",
    "{\"cidr\":\"198.51.100.0/24\",\"sblid\":\"SBL2\",\"rir\":\"arin\"}\n",
    "{\"type\":\"metadata\",\"timestamp\":1732521600,\"size\":150,\"records\":2,",
    "\"copyright\":\"(c) 2026 The Spamhaus Project SLU\",\"terms\":\"https://www.spamhaus.org/drop/terms/\"}\n",
);
pub const RBLDNSD: &str = "$SOA 3000 ns.example.com admin.example.com 0 600 300 86400 300\n$NS 3000 ns.example.com\n\
                           # Terms: ask first\n:127.0.0.2:Listed, see http://example.com/?$\n$1 See http://example.com/#\n\
                           192.0.2.1\n198.51.100 :4:$1 ; kept\n127.16-31\n!127.17\n2001:db8:1:2 text\n";
pub const CROWDSEC: &str = r#"{"deleted":null,"new":[
{"id":1,"origin":"CAPI","type":"ban","scope":"Ip","value":"192.0.2.1","duration":"3h59m1.5s","scenario":"a"},
{"id":2,"origin":"CAPI","type":"ban","scope":"range","value":"198.51.100.0/24","duration":"10m","scenario":"b"},
{"id":3,"origin":"CAPI","type":"ban","scope":"Country","value":"ZZ","duration":"10m","scenario":"c"},
{"id":4,"origin":"CAPI","type":"captcha","scope":"Ip","value":"192.0.2.4","duration":"10m","scenario":"d"},
{"id":5,"origin":"CAPI","type":"ban","scope":"Ip","value":"192.0.2.5","duration":"-3s","scenario":"e"}]}"#;
pub const SHADOWSERVER: &str = "\"timestamp\",\"ip\",\"port\",\"banner\"\r\n\"2026-11-25\",\"192.0.2.1\",25,\"220 a, b\"\r\n\
                                \"2026-11-25\",\"2001:db8::1\",25,\"220 \"\"quoted\"\"\nand more\"\r\n2026-11-25,192.0.2.9,25,\r\n";

pub const SAMPLES: [(Format, &str); 7] = [
    (Format::Plain, PLAIN),
    (Format::Count, COUNT),
    (Format::Drop, DROP),
    (Format::DropJson, DROP_JSON),
    (Format::Rbldnsd, RBLDNSD),
    (Format::Crowdsec, CROWDSEC),
    (Format::Shadowserver, SHADOWSERVER),
];
