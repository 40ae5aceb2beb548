//! Lists that mail gateways use, with what their publishers ask for.

use std::fmt;

use serde::{Serialize, Serializer};

use super::list::Format;

/// A list that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset(&'static Facts);

/// What is known of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    pub name: &'static str,
    pub from: &'static [&'static str],
    pub format: Format,
    pub refresh_h: u64,
    /// Its publisher bars who fetches more often.
    pub least_refresh_h: u64,
    pub max_age_h: u64,
    /// Whether it may act on every service, and not on smtp alone.
    pub all_services: bool,
    pub min_count: u64,
}

const WEEK_H: u64 = 7 * 24;
/// Feeds of single addresses: whoever is in them is often somebody else two days later.
const TWO_DAYS_H: u64 = 48;

impl Preset {
    pub const ALL: &'static [Facts] = &[
        Facts {
            name: "spamhaus-drop",
            from: &["https://www.spamhaus.org/drop/drop_v4.json", "https://www.spamhaus.org/drop/drop_v6.json"],
            format: Format::DropJson,
            refresh_h: 24,
            least_refresh_h: 1,
            max_age_h: WEEK_H,
            all_services: true,
            min_count: 1,
        },
        Facts {
            name: "blocklist-de",
            from: &["https://lists.blocklist.de/lists/mail.txt"],
            format: Format::Plain,
            refresh_h: 6,
            least_refresh_h: 1,
            max_age_h: TWO_DAYS_H,
            all_services: false,
            min_count: 1,
        },
        Facts {
            name: "greensnow",
            from: &["https://blocklist.greensnow.co/greensnow.txt"],
            format: Format::Plain,
            refresh_h: 6,
            least_refresh_h: 1,
            max_age_h: TWO_DAYS_H,
            all_services: false,
            min_count: 1,
        },
        Facts {
            name: "cins",
            from: &["https://cinsscore.com/list/ci-badguys.txt"],
            format: Format::Plain,
            refresh_h: 6,
            least_refresh_h: 1,
            max_age_h: TWO_DAYS_H,
            all_services: false,
            min_count: 1,
        },
        Facts {
            name: "ipsum",
            from: &["https://raw.githubusercontent.com/stamparm/ipsum/master/ipsum.txt"],
            format: Format::Count,
            refresh_h: 24,
            least_refresh_h: 12,
            max_age_h: TWO_DAYS_H,
            all_services: false,
            min_count: 3,
        },
        Facts {
            name: "firehol-level1",
            from: &["https://iplists.firehol.org/files/firehol_level1.netset"],
            format: Format::Plain,
            refresh_h: 24,
            least_refresh_h: 1,
            max_age_h: WEEK_H,
            all_services: false,
            min_count: 1,
        },
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|facts| facts.name == name).map(Self)
    }

    pub const fn facts(self) -> &'static Facts {
        self.0
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.0.name)
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}
