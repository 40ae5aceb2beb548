//! DNSBLs that mail gateways use: what their answers mean, and what their operators ask for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};

use super::reputation::Tests;

/// A DNSBL that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsblPreset(&'static DnsblFacts);

/// What is known of a DNSBL.
#[derive(Debug, PartialEq, Eq)]
pub struct DnsblFacts {
    pub name: &'static str,
    pub zone: &'static str,
    /// The zone that is asked with a key in front of it.
    pub key_zone: Option<&'static str>,
    /// Whether there is no zone without a key.
    pub needs_key: bool,
    pub family: Family,
    pub codes: &'static [&'static str],
    pub weight: Weight,
    /// Answers that say something is wrong with whoever asks, besides 127.255.255.0/24.
    pub errors: &'static [&'static str],
    /// Answers about ordinary customers: no reason to ban anybody.
    pub never_ban: &'static [&'static str],
    /// Whether it may act on every service, and not on port 25 alone.
    pub all_services: bool,
    pub queries_per_day: u64,
    pub tests: TestEntries,
}

/// Whose answers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Spamhaus,
    SpamCop,
    Barracuda,
    Tornevall,
    Dnswl,
}

/// What the codes of a preset weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Each(i32),
    /// The first code -1, the second -2 and so on.
    Allow,
}

/// Which test entries of RFC 5782 section 5 there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestEntries {
    V4,
    Both,
    UnlistedV4,
}

/// Free use of the public mirrors, for whoever may use them at all.
const SPAMHAUS_QUERIES: u64 = 300_000;
pub(super) const QUERIES: u64 = 100_000;

const SPAMHAUS: DnsblFacts = DnsblFacts {
    name: "spamhaus-zen",
    zone: "zen.spamhaus.org",
    key_zone: Some("zen.dq.spamhaus.net"),
    needs_key: false,
    family: Family::Spamhaus,
    // DROP comes in addition to SBL: together they weigh once.
    codes: &["127.0.0.[2;9]", "127.0.0.3", "127.0.0.4", "127.0.0.[10;11]"],
    weight: Weight::Each(3),
    errors: &[],
    never_ban: &["127.0.0.[10;11]"],
    all_services: false,
    queries_per_day: SPAMHAUS_QUERIES,
    tests: TestEntries::Both,
};

const OTHER: DnsblFacts = DnsblFacts {
    name: "spamcop",
    zone: "bl.spamcop.net",
    key_zone: None,
    needs_key: false,
    family: Family::SpamCop,
    codes: &["127.0.0.2"],
    weight: Weight::Each(2),
    errors: &[],
    never_ban: &[],
    all_services: false,
    queries_per_day: QUERIES,
    tests: TestEntries::V4,
};

impl DnsblPreset {
    /// Of those that ask the same zone, the one that takes all its answers comes first.
    pub const ALL: &'static [DnsblFacts] = &[
        SPAMHAUS,
        DnsblFacts {
            name: "spamhaus-sbl",
            zone: "sbl.spamhaus.org",
            key_zone: Some("sbl.dq.spamhaus.net"),
            codes: &["127.0.0.[2;9]", "127.0.0.3"],
            ..SPAMHAUS
        },
        DnsblFacts {
            name: "spamhaus-xbl",
            zone: "xbl.spamhaus.org",
            key_zone: Some("xbl.dq.spamhaus.net"),
            codes: &["127.0.0.4"],
            ..SPAMHAUS
        },
        DnsblFacts {
            name: "spamhaus-authbl",
            zone: "authbl.dq.spamhaus.net",
            key_zone: Some("authbl.dq.spamhaus.net"),
            needs_key: true,
            codes: &["127.0.0.20"],
            all_services: true,
            tests: TestEntries::V4,
            ..SPAMHAUS
        },
        DnsblFacts { name: "spamhaus-drop", codes: &["127.0.0.9"], all_services: true, ..SPAMHAUS },
        OTHER,
        DnsblFacts { name: "barracuda", zone: "b.barracudacentral.org", family: Family::Barracuda, ..OTHER },
        DnsblFacts {
            name: "tornevall",
            zone: "dnsbl.tornevall.org",
            family: Family::Tornevall,
            codes: &["127.0.0.&2|4|16"],
            ..OTHER
        },
        DnsblFacts {
            name: "dnswl",
            zone: "list.dnswl.org",
            family: Family::Dnswl,
            codes: &["127.0.[0..255].1", "127.0.[0..255].2", "127.0.[0..255].3"],
            weight: Weight::Allow,
            errors: &["127.0.0.255", "127.0.10.[0..255]"],
            all_services: true,
            // The answer to its listed test entry, 127.0.10.0, is among the errors.
            tests: TestEntries::UnlistedV4,
            ..OTHER
        },
    ];

    pub fn named(name: &str) -> Option<Self> {
        // The CBL is the XBL under another name, and its operators ask to query that one.
        let name = if name == CBL { "spamhaus-xbl" } else { name };
        Self::ALL.iter().find(|facts| facts.name == name).map(Self)
    }

    /// What a zone is known as, asked with or without a key.
    pub fn of_zone(zone: &str) -> Option<Self> {
        Self::ALL.iter().find(|facts| facts.zone == zone || facts.key_zone == Some(zone)).map(Self)
    }

    /// Every name that [`DnsblPreset::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|facts| facts.name).chain([CBL])
    }

    pub const fn facts(self) -> &'static DnsblFacts {
        self.0
    }
}

const CBL: &str = "cbl";

impl DnsblFacts {
    pub fn meaning(&self, code: Ipv4Addr) -> Option<&'static str> {
        let [127, high, category, last] = code.octets() else { return None };
        match (self.family, high, category) {
            (Family::Spamhaus, 0, 0) => spamhaus(last),
            (Family::SpamCop, 0, 0) if last == 2 => Some("SpamCop: reported as a source of spam"),
            (Family::Barracuda, 0, 0) if last == 2 => Some("Barracuda: bad reputation"),
            (Family::Tornevall, 0, 0) => tornevall(last),
            (Family::Dnswl, 0, _) => dnswl(last),
            (Family::Spamhaus | Family::SpamCop | Family::Barracuda | Family::Tornevall | Family::Dnswl, ..) => None,
        }
    }
}

fn spamhaus(last: u8) -> Option<&'static str> {
    match last {
        2 => Some("SBL: a known source of spam"),
        3 => Some("CSS: sends spam from ever new addresses"),
        4 => Some("XBL: hijacked, or infected with malware"),
        9 => Some("DROP: a network of criminals"),
        10 => Some("PBL: should not send mail itself, says its provider"),
        11 => Some("PBL: should not send mail itself, says Spamhaus"),
        20 => Some("AuthBL: tries stolen or guessed passwords"),
        30 => Some("BCL: controls hijacked machines"),
        _ => None,
    }
}

/// Of several bits the lowest: the ones about mail come first.
fn tornevall(bits: u8) -> Option<&'static str> {
    match bits & bits.wrapping_neg() {
        2 => Some("TornevallNET: an open proxy"),
        4 => Some("TornevallNET: phishing"),
        8 => Some("TornevallNET: fraud"),
        16 => Some("TornevallNET: sends spam"),
        32 => Some("TornevallNET: a Tor exit, or a proxy's second one"),
        64 => Some("TornevallNET: abuse, but not by mail"),
        128 => Some("TornevallNET: an anonymiser"),
        _ => None,
    }
}

fn dnswl(trust: u8) -> Option<&'static str> {
    match trust {
        0 => Some("DNSWL: known, no trust"),
        1 => Some("DNSWL: low trust"),
        2 => Some("DNSWL: medium trust"),
        3 => Some("DNSWL: high trust"),
        _ => None,
    }
}

const LISTED_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const UNLISTED_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const LISTED_V6: IpAddr = IpAddr::V6(Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped());
const UNLISTED_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1));

impl From<TestEntries> for Tests {
    fn from(entries: TestEntries) -> Self {
        match entries {
            TestEntries::V4 => Self { listed: vec![LISTED_V4], unlisted: vec![UNLISTED_V4] },
            TestEntries::Both => Self { listed: vec![LISTED_V4, LISTED_V6], unlisted: vec![UNLISTED_V4, UNLISTED_V6] },
            TestEntries::UnlistedV4 => Self { listed: Vec::new(), unlisted: vec![UNLISTED_V4] },
        }
    }
}

impl fmt::Display for DnsblPreset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.0.name)
    }
}

impl Serialize for DnsblPreset {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// A zone that must not be asked, nor anything below it.
#[derive(Debug)]
pub struct DeadZone {
    pub zone: &'static str,
    /// As it completes "it was …".
    pub end: &'static str,
    pub instead: Option<&'static str>,
}

const DEAD: [DeadZone; 6] = [
    DeadZone { zone: "dnsbl.sorbs.net", end: "SORBS, shut down in June 2024", instead: None },
    DeadZone { zone: "ix.dnsbl.manitu.net", end: "NiX Spam, shut down in January 2025", instead: None },
    DeadZone { zone: "ahbl.org", end: "the AHBL, which lists the whole world since January 2015", instead: None },
    DeadZone { zone: "njabl.org", end: "NJABL, shut down in March 2013", instead: None },
    DeadZone {
        zone: "ordb.org",
        end: "ORDB, shut down in December 2006, which listed the whole world in March 2008",
        instead: None,
    },
    DeadZone {
        zone: "cbl.abuseat.org",
        end: "the CBL, whose operators ask that nobody queries it any more",
        instead: Some("spamhaus-xbl"),
    },
];

pub fn dead_zone(zone: &str) -> Option<&'static DeadZone> {
    DEAD.iter().find(|dead| is_below(zone, dead.zone))
}

/// Whether a zone is another one, or lies below it.
pub fn is_below(zone: &str, above: &str) -> bool {
    zone.strip_suffix(above).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}
