//! What tests of lists share: a gateway with a publisher outside it, files of lists, and what became of both.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::{Family, Reason};
use ratelimit_user::api::{ListState, ListView};

use crate::controller::{Controller, Options};
use crate::feed::{Authority, Feed};
use crate::gateway::{LAN, Row, Site, Wire, dropped, eventually, ip, passed};
use crate::netns::Scratch;
use crate::process::Finished;

pub const SMTP: u16 = 25;
pub const ENFORCE: &str = "mode = \"enforce\"\n";
/// A file is looked at every second, and taken at the second look that finds it unchanged.
pub const WATCHED: Duration = Duration::from_secs(5);
/// How long anything else may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// The environment variable that names the certificates to trust.
const TRUSTED: &str = "SSL_CERT_FILE";
const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 8000);
const HTTPS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 8443);

/// A gateway, and outside it a publisher whose certificate it trusts. The publisher is there before the gateway asks.
#[derive(Debug)]
pub struct Published {
    // Dropped first: it works inside the wire's namespaces.
    pub site: Site,
    /// `None` when it is dead.
    pub http: Option<Feed>,
    pub https: Feed,
    _certificates: Scratch,
}

/// A `[[lists]]` table; `keys` are further lines of it.
pub fn table(name: &str, from: &str, keys: &str) -> String {
    format!("[[lists]]\nname = \"{name}\"\nfrom = \"{from}\"\n{keys}\n")
}

/// Where a list of [`Published`] comes from.
pub fn url(path: &str) -> String {
    format!("http://{HTTP}{path}")
}

pub fn secure_url(path: &str) -> String {
    format!("https://{HTTPS}{path}")
}

/// So many addresses from one on, a line each.
pub fn hosts(first: &str, count: u32) -> Result<String> {
    let first: Ipv4Addr = first.parse().with_context(|| format!("{first} is no IPv4 address"))?;
    (0..count).try_fold(String::new(), |mut text, number| {
        writeln!(text, "{}", Ipv4Addr::from_bits(first.to_bits() + number))?;
        Ok(text)
    })
}

impl Published {
    /// `publish` says what there is before the controller of this configuration starts.
    pub fn start(config: &str, publish: impl FnOnce(&Feed, &Feed)) -> Result<Self> {
        let (wire, certificates, authority) = (Wire::new(1500)?, Scratch::new()?, Authority::new()?);
        let trusted = certificates.path().join("authority.pem");
        authority.write(&trusted)?;
        let (http, https) = (Feed::start(&wire.outside, HTTP)?, Feed::start_tls(&wire.outside, HTTPS, &authority)?);
        publish(&http, &https);
        let options = Options {
            config: Some(config.to_owned()),
            interfaces: vec![LAN.to_owned()],
            env: vec![(TRUSTED.to_owned(), trusted)],
            ..Options::default()
        };
        let site = Site { controller: Controller::start(&wire.gateway, &options)?, wire };
        Ok(Self { site, http: Some(http), https, _certificates: certificates })
    }

    /// A publisher in the place of one that died.
    pub fn publish_again(&mut self, publish: impl FnOnce(&Feed)) -> Result<()> {
        let http = Feed::start(&self.site.wire.outside, HTTP)?;
        publish(&http);
        self.http = Some(http);
        Ok(())
    }

    pub fn http(&self) -> Result<&Feed> {
        self.http.as_ref().context("the publisher is dead")
    }
}

/// Files that lists are read from.
#[derive(Debug)]
pub struct Files(Scratch);

impl Files {
    pub fn new() -> Result<Self> {
        Ok(Self(Scratch::new()?))
    }

    /// Where a file of this name is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same, for a configuration.
    pub fn from(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// In place, as an editor does that keeps the file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// By another file under its name.
    pub fn replace(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.write(".new", bytes)?;
        Ok(fs::rename(self.path(".new"), self.path(name))?)
    }
}

/// What `list show --json` says of a list.
pub fn show(site: &Site, name: &str) -> Result<ListView> {
    Ok(serde_json::from_value(site.controller.json(&["list", "show", name])?)?)
}

/// Waits until a list is in force with so many entries.
pub fn await_entries(site: &Site, name: &str, entries: u64) -> Result<Duration> {
    let is_there = || {
        let shown = show(site, name)?;
        Ok(shown.state == ListState::InForce && shown.entries == entries)
    };
    eventually(&format!("{name} is in force with {entries} entries"), SOON, is_there)
        .with_context(|| site.controller.log())
}

/// `list refresh` of one list, however it ends.
pub fn refresh(site: &Site, name: &str) -> Result<Finished> {
    site.controller.cli(&["list", "refresh", name])
}

/// A refresh that must succeed; returns what it printed.
pub fn refreshed(site: &Site, name: &str) -> Result<String> {
    site.run(&format!("list refresh {name}"))
}

/// Whether the status warns of a list, with these words.
pub fn warns(site: &Site, name: &str, words: &str) -> Result<()> {
    let warnings = site.controller.status()?.warnings;
    let is_it = |warning: &String| warning.starts_with(&format!("list {name}: ")) && warning.contains(words);
    ensure!(warnings.iter().any(is_it), "{words:?} is missing in the warnings of {name}: {warnings:#?}");
    Ok(())
}

/// Asserts that the status warns of no list.
pub fn warns_of_nothing(site: &Site) -> Result<()> {
    let warnings = site.controller.status()?.warnings;
    ensure!(!warnings.iter().any(|warning| warning.starts_with("list ")), "{warnings:#?}");
    Ok(())
}

/// Asserts, by one SYN of each to smtp, that listed sources are dropped and honest ones pass, and that nothing else is counted.
pub fn check(site: &Site, listed: &[&str], honest: &[&str]) -> Result<()> {
    check_on(site, ("smtp", SMTP), listed, honest)
}

/// The same on another service.
pub fn check_on(site: &Site, service: (&'static str, u16), listed: &[&str], honest: &[&str]) -> Result<()> {
    let (name, port) = service;
    let before = site.counters()?;
    for source in listed.iter().chain(honest) {
        site.wire.attempt(ip(source), port, 1)?;
    }
    let of = |sources: &[&str], family: Family| {
        sources.iter().filter(|source| ip(source).is_ipv4() == (family == Family::V4)).count() as u64
    };
    let rows: Vec<Row> = [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| {
            [
                dropped(name, Reason::Blocked, family, of(listed, family)),
                passed(name, Reason::Admitted, family, of(honest, family)),
            ]
        })
        .filter(|row| row.tally.passed + row.tally.dropped > 0)
        .collect();
    site.expect(&before, &rows).with_context(|| format!("dropped should be {listed:?}, passed {honest:?}"))
}

/// Why the next SYN of a source leaves the gate as it does, and whether it passes.
pub fn next(site: &Site, source: &str, port: u16) -> Result<(Reason, bool)> {
    let before = site.counters()?;
    site.wire.attempt(ip(source), port, 1)?;
    let moved = site.settled(&before, 1)?;
    let reason = moved.only_reason().with_context(|| format!("one SYN of {source} moved\n{moved}"))?;
    Ok((reason, moved.total_passed() == 1))
}
