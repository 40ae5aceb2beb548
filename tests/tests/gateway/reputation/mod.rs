//! Reputation: DNSBLs that are asked about real connections, real ones and an impostor that breaks as a test wants.

mod broken;
mod budget;
mod killed;
mod listed;
mod mixed;
mod pace;

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::dns::{Impostor, Names, SERVERS};
use ratelimit_tests::gateway::{LAN, Listener, Site, Wire, eventually, gateway_for, ip};
use ratelimit_user::api::{DnsblView, ReputationView};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

/// For what takes the controller a second or two, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// The first SYN alone decides.
const ONE_SYN: Duration = Duration::from_millis(800);

/// A gateway that asks DNSBLs.
struct Place {
    // Dropped in this order: the controller before those it asks.
    site: Site,
    _listeners: Vec<Listener>,
    names: Names,
}

impl Place {
    /// `reputation` stands behind the section's head.
    fn new(reputation: &str, serve: impl FnOnce(&Names) -> Result<()>) -> Result<Self> {
        Self::configured(&format!("mode = \"enforce\"\n[reputation]\n{reputation}"), serve)
    }

    fn configured(config: &str, serve: impl FnOnce(&Names) -> Result<()>) -> Result<Self> {
        let wire = Wire::new(1500)?;
        let names = Names::beside(&wire.gateway)?;
        serve(&names)?;
        let listeners = [25, 587, 993].into_iter().map(|port| Listener::saying("220 here\r\n", &wire.gateway, port));
        let listeners = listeners.collect::<Result<_>>()?;
        let options =
            Options { config: Some(config.to_owned()), interfaces: vec![LAN.to_owned()], ..Options::default() };
        let controller = Controller::start(&wire.gateway, &options)?;
        Ok(Self { site: Site { controller, wire }, _listeners: listeners, names })
    }

    /// With an impostor that serves these zones, each of which is asked about sources of smtp under its own name.
    fn with_impostor(reputation: &str, zones: &[&str]) -> Result<(Self, Impostor)> {
        let mut impostor = None;
        let dnsbls: String = zones.iter().map(|zone| dnsbl(zone, "")).collect();
        let place = Self::new(&format!("{}{reputation}{dnsbls}", Names::resolver(SERVERS[0])), |names| {
            let started = Impostor::start(names, SERVERS[0])?;
            zones.iter().for_each(|zone| started.zone(zone));
            impostor = Some(started);
            Ok(())
        })?;
        let impostor = impostor.context("no impostor was started")?;
        place.wait_until_well()?;
        Ok((place, impostor))
    }

    /// Whether a connection comes about by its first SYN.
    fn connects(&self, source: IpAddr, port: u16) -> Result<bool> {
        self.wire().outside.enter(|| connect(source, port))?
    }

    /// So many connections in a row; how many came about.
    fn connects_of(&self, source: IpAddr, port: u16, count: usize) -> Result<usize> {
        let mut connected = 0;
        for _ in 0..count {
            connected += usize::from(self.connects(source, port)?);
        }
        Ok(connected)
    }

    fn view(&self) -> Result<ReputationView> {
        Ok(serde_json::from_value(self.site.controller.ask("GET", "/v1/dnsbl", &Value::Null)?)?)
    }

    fn zone(&self, name: &str) -> Result<DnsblView> {
        let zones = self.view()?.zones;
        zones.into_iter().find(|zone| zone.name == name).with_context(|| format!("no DNSBL {name}"))
    }

    fn wait_until_well(&self) -> Result<()> {
        eventually("every DNSBL is well", SOON, || Ok(self.view()?.zones.iter().all(|zone| zone.trouble.is_none())))
            .map(drop)
            .with_context(|| self.site.controller.log())
    }

    /// A source arrives and its answers are there.
    fn arrive(&self, source: IpAddr, port: u16) -> Result<()> {
        let before = self.view()?;
        ensure!(self.connects(source, port)?, "{source} is not let in at first; {}", self.site.controller.log());
        let answered = |view: &ReputationView| -> u64 {
            view.zones.iter().map(|zone| zone.listed + zone.unlisted + zone.failed + zone.from_cache).sum()
        };
        eventually("the answers are there", SOON, || {
            let view = self.view()?;
            Ok(view.handshakes > before.handshakes && answered(&view) > answered(&before))
        })?;
        // The map is written behind the counters, under the same lock.
        thread::sleep(Duration::from_millis(5));
        Ok(())
    }

    fn wire(&self) -> &Wire {
        &self.site.wire
    }
}

fn connect(source: IpAddr, port: u16) -> Result<bool> {
    Ok(connected(source, port)?.is_some())
}

/// A connection by its first SYN, from the thread's own namespace.
fn connected(source: IpAddr, port: u16) -> Result<Option<Socket>> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(source, 0)), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    let server = SocketAddr::new(gateway_for(source), port);
    match socket.connect_timeout(&server.into(), ONE_SYN) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Ok(None),
        Err(error) => Err(error).with_context(|| format!("connecting {source} to port {port}")),
    }
}

/// A zone with more keys, and no budget unless they set one.
fn dnsbl(zone: &str, more: &str) -> String {
    let budget = if more.contains("queries_per_day") { "" } else { "queries_per_day = \"unlimited\"\n" };
    format!("[[reputation.dnsbl]]\nname = \"{}\"\nzone = \"{zone}\"\n{budget}{more}", name_of(zone))
}

/// Names hold no dots.
fn name_of(zone: &str) -> String {
    zone.replace('.', "-")
}

const LISTED: &str = "10.66.0.1";
const HONEST: &str = "10.67.0.1";

fn listed() -> IpAddr {
    ip(LISTED)
}

fn honest() -> IpAddr {
    ip(HONEST)
}
