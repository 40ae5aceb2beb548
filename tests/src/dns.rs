//! DNSBLs and resolvers in a network of their own behind the gateway: real ones, and an impostor that breaks as a test wants.

mod impostor;
mod message;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::SockRef;

use crate::debian::DebianRoot;
use crate::netns::{End, Namespace, veth};
use crate::process::Process;

pub use impostor::{Impostor, Says};
pub use message::{Answer, query, query_text};

/// Where the gateway is, and where servers of names are.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 53, 1);
pub const SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(198, 18, 53, 2), Ipv4Addr::new(198, 18, 53, 3), Ipv4Addr::new(198, 18, 53, 4)];
const PORT: u16 = 53;
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// The network of the servers of names, beside the gateway and not behind its gate.
#[derive(Debug)]
pub struct Names {
    pub namespace: Namespace,
}

impl Names {
    pub fn beside(gateway: &Namespace) -> Result<Self> {
        let namespace = Namespace::new("names")?;
        let servers = SERVERS.map(|server| format!("{server}/24"));
        let servers = servers.each_ref().map(String::as_str);
        let end = End { namespace: &namespace, interface: "names0", addresses: &servers };
        veth(End { namespace: gateway, interface: "dns0", addresses: &[&format!("{GATEWAY}/24")] }, end, 1500)?;
        Ok(Self { namespace })
    }

    /// Whom the controller is to ask, in `[reputation]`.
    pub fn resolver(server: Ipv4Addr) -> String {
        format!("resolvers = [\"{server}\"]\n")
    }
}

/// A real DNSBL.
#[derive(Debug)]
pub struct Rbldnsd {
    process: Process,
    root: DebianRoot,
}

impl Rbldnsd {
    /// Each zone with its kind of data (`ip4set`, `ip6trie`, `combined`) and its lines.
    pub fn start(names: &Names, server: Ipv4Addr, zones: &[(&str, &str, &str)]) -> Result<Self> {
        let root = DebianRoot::new()?;
        for (zone, _, lines) in zones {
            root.write(&file_of(zone), lines)?;
        }
        let served = zones.iter().map(|(zone, kind, _)| format!("{zone}:{kind}:{}", file_of(zone)));
        let log = root.open_log(LOG)?;
        let process = root
            .command(&names.namespace, "rbldnsd")
            // It looks for changed files every second.
            .args(["-n", "-u", "nobody", "-c", "1s", "-b", &format!("{server}/{PORT}")])
            .args(served)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut this = Self { process, root };
        if let Some((zone, _, _)) = zones.first() {
            wait_for(&names.namespace, server, zone, || this.process.is_running())
                .with_context(|| this.root.read(LOG).unwrap_or_default())?;
        }
        Ok(this)
    }

    /// It is served within a second or two.
    pub fn replace(&self, zone: &str, lines: &str) -> Result<()> {
        // Replaced as a whole: half a file would be a zone as well.
        let new = format!("{}.new", file_of(zone));
        self.root.write(&new, lines)?;
        self.root.enter(|| std::fs::rename(&new, file_of(zone)))??;
        Ok(())
    }

    pub fn stop(self) -> Result<()> {
        self.process.terminate(READY).map(drop)
    }
}

const LOG: &str = "/var/log/names.log";

fn file_of(zone: &str) -> String {
    format!("/srv/dnsbl/{zone}")
}

/// A real resolver that knows where the zones are, and nothing else.
#[derive(Debug)]
pub struct Unbound {
    process: Process,
    root: DebianRoot,
}

impl Unbound {
    pub fn start(names: &Names, server: Ipv4Addr, zones: &[(&str, Ipv4Addr)]) -> Result<Self> {
        let root = DebianRoot::new()?;
        root.write("/etc/unbound/tests.conf", &unbound_conf(server, zones))?;
        root.directory("/etc/unbound", 0, 0, 0o755)?;
        let log = root.open_log(LOG)?;
        let process = root
            .command(&names.namespace, "unbound")
            .args(["-d", "-c", "/etc/unbound/tests.conf"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut this = Self { process, root };
        if let Some((zone, _)) = zones.first() {
            wait_for(&names.namespace, server, zone, || this.process.is_running())
                .with_context(|| this.root.read(LOG).unwrap_or_default())?;
        }
        Ok(this)
    }

    /// As when the machine that it runs on dies.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().map(drop)
    }
}

fn unbound_conf(server: Ipv4Addr, zones: &[(&str, Ipv4Addr)]) -> String {
    let forwarded: String = zones
        .iter()
        .map(|(zone, at)| format!("stub-zone:\n  name: \"{zone}\"\n  stub-addr: {at}@{PORT}\n  stub-prime: no\n"))
        .collect();
    format!(
        "server:\n  interface: {server}\n  port: {PORT}\n  access-control: 0.0.0.0/0 allow\n  do-daemonize: no\n  \
         username: \"\"\n  chroot: \"\"\n  directory: \"/etc/unbound\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  \
         module-config: \"iterator\"\n  do-not-query-localhost: no\n  do-ip6: no\n  local-zone: \"test.\" nodefault\n  num-threads: 1\n  \
         cache-min-ttl: 0\n  outgoing-range: 4096\n  num-queries-per-thread: 4096\n  ratelimit: 0\n  ip-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n{forwarded}"
    )
}

/// Waits until a server lists the test entry that every IPv4 zone has.
fn wait_for(
    namespace: &Namespace,
    server: Ipv4Addr,
    zone: &str,
    mut is_running: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        ensure!(is_running()?, "the server of {zone} ended while starting");
        let name = format!("2.0.0.127.{zone}");
        let answer = namespace.enter(|| query(SocketAddr::from((server, PORT)), &name))?;
        if answer.is_ok_and(|answer| answer.code == 0 && answer.records > 0) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the server of {zone} does not list {name} after {READY:?}");
        thread::sleep(POLL);
    }
}

/// The labels under which a DNSBL is asked about an address, without the zone.
pub fn reversed(address: IpAddr) -> String {
    let labels: Vec<String> = match address {
        IpAddr::V4(address) => address.octets().iter().rev().map(ToString::to_string).collect(),
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    labels.join(".")
}

/// A socket that takes bursts.
fn deep(socket: &std::net::UdpSocket) -> Result<()> {
    Ok(SockRef::from(socket).set_recv_buffer_size(8 << 20)?)
}
