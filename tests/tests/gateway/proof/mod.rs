//! Sources that somebody else forges: whoever is real connects all the same.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::clients::Conversation;
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::flood::{Flood, Pattern};
use ratelimit_tests::gateway::{
    Counters, GATEWAY_V4, GATEWAY_V6, LAN, OUT, Wire, client, eventually, frames_received, gateway_for, ip, is_long,
    octets,
};
use ratelimit_tests::load::{Load, Tally};
use ratelimit_tests::netns::{End, Namespace, veth};
use ratelimit_tests::packet::SynPacket;
use ratelimit_tests::receiver::Receiver;
use ratelimit_tests::template::Syn;
use ratelimit_user::api::{BanView, ProofStatus};
use ratelimit_user::sock_diag::half_open;
use serde_json::{Value, json};

mod clients;
mod named;
mod queue;
mod random;
mod strays;

const SMTP: u16 = 25;
const BANNER: &str = "220 mail.example.test\r\n";
const ENFORCE: &str = "mode = \"enforce\"\n";
/// The default of `retry_rate`.
const RETRIES_PER_S: u64 = 200;
/// The interface that floods come in at, and its other end.
const WAN: &str = "wan0";
const FAR: &str = "far0";
/// Of the interface below the gateway's, where that is a macvlan.
const BELOW: &str = "below0";
const HOUR: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_secs(10);
const NAP: Duration = Duration::from_millis(50);

/// Where floods come from that are too fast for the one queue of the honest. Nobody is there: what is sent to it is counted
/// and dropped.
#[derive(Debug)]
struct Far {
    answers: Receiver,
    namespace: Namespace,
    /// To the gateway, and from there.
    macs: [[u8; 6]; 2],
}

impl Far {
    fn behind(gateway: &Namespace) -> Result<Self> {
        let namespace = Namespace::new("far")?;
        veth(
            End { namespace: gateway, interface: WAN, addresses: &["198.51.100.1/24"] },
            End { namespace: &namespace, interface: FAR, addresses: &["198.51.100.2/24"] },
            1500,
        )?;
        let macs = [octets(&gateway.mac(WAN)?)?, octets(&namespace.mac(FAR)?)?];
        Ok(Self { answers: Receiver::count(namespace.path(), FAR)?, namespace, macs })
    }

    /// SYNs to smtp, as many as one processor makes and receives.
    fn syns(&self, pattern: Pattern) -> Result<Flood> {
        let [to, from] = self.macs;
        let template = Syn::new(ip("192.0.2.9"), GATEWAY_V4.into(), SMTP).macs(from, to).build()?;
        let rate = if is_long() { 2_000_000 } else { 1_100_000 };
        let flood = Flood::new(self.namespace.path(), FAR).template(template).sources(pattern);
        Ok(flood.rate(Some(rate)).limit(u64::MAX, HOUR))
    }

    /// Answers that the flood got.
    fn answers(&self) -> Result<u64> {
        Ok(self.answers.counts()?.tcp_v4)
    }

    /// Copies of a packet.
    fn packets(&self, packet: &SynPacket, pattern: Pattern) -> Flood {
        let mut template = packet.build();
        for (octet, wanted) in template.iter_mut().zip(self.macs.as_flattened()) {
            *octet = *wanted;
        }
        Flood::new(self.namespace.path(), FAR).template(template).sources(pattern).limit(u64::MAX, HOUR)
    }
}

/// How the gate is attached where the honest come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attached {
    Native,
    Generic,
}

impl Attached {
    const ALL: [Self; 2] = [Self::Native, Self::Generic];

    const fn label(self) -> &'static str {
        match self {
            Self::Native => "native_frags",
            Self::Generic => "generic",
        }
    }
}

/// A gateway with honest clients on one interface and floods on another.
#[derive(Debug)]
struct Field {
    // Dropped in this order: what works inside the namespaces before them.
    controller: Option<Controller>,
    /// Without a program a veth end receives nothing that its peer sends with XDP_TX.
    _passes: Vec<Receiver>,
    far: Far,
    wire: Wire,
}

impl Field {
    fn guarded(config: &str) -> Result<Self> {
        Self::attached(Attached::Native, config)
    }

    fn attached(attached: Attached, config: &str) -> Result<Self> {
        let wire = Wire::new(1500)?;
        let mut passes = vec![Receiver::pass(wire.outside.path(), OUT)?];
        if attached == Attached::Generic {
            put_below(&wire)?;
            passes.push(Receiver::pass(wire.gateway.path(), BELOW)?);
        }
        let far = Far::behind(&wire.gateway)?;
        let interfaces = vec![LAN.to_owned(), WAN.to_owned()];
        let options = Options { config: Some(format!("{ENFORCE}{config}")), interfaces, ..Options::default() };
        let controller = Controller::start(&wire.gateway, &options)?;
        let status = controller.status()?;
        let lan = status.interfaces.iter().find(|interface| interface.name == LAN).context("nothing is attached")?;
        ensure!(lan.attached.as_deref() == Some(attached.label()), "{attached:?}: {lan:?}");
        Ok(Self { controller: Some(controller), _passes: passes, far, wire })
    }

    /// The same without us, to compare with.
    fn open() -> Result<Self> {
        let wire = Wire::new(1500)?;
        let far = Far::behind(&wire.gateway)?;
        let passes = vec![
            Receiver::pass(wire.outside.path(), OUT)?,
            Receiver::pass(wire.gateway.path(), LAN)?,
            Receiver::pass(wire.gateway.path(), WAN)?,
        ];
        Ok(Self { controller: None, _passes: passes, far, wire })
    }

    fn controller(&self) -> Result<&Controller> {
        self.controller.as_ref().context("there is no gate")
    }

    fn counters(&self) -> Result<Counters> {
        Counters::read(&self.controller()?.pins())
    }

    fn proof(&self) -> Result<ProofStatus> {
        Ok(self.controller()?.status()?.proof)
    }

    fn bans(&self) -> Result<Vec<BanView>> {
        Ok(serde_json::from_value(self.controller()?.json(&["bans"])?)?)
    }

    fn is_suspect(&self) -> Result<bool> {
        let status = self.controller()?.status()?;
        let smtp = status.services.iter().find(|service| service.name == "smtp").context("no smtp")?;
        Ok(smtp.pressure.suspect)
    }

    fn await_suspicion(&self) -> Result<()> {
        eventually("the service is suspect", SOON, || self.is_suspect()).map(drop)
    }

    /// One connection of each source, so that all are known. On a quiet day nobody is asked for anything.
    fn prove(&self, sources: &[IpAddr]) -> Result<()> {
        let before = self.proof()?;
        for family in [true, false] {
            let sources: Vec<IpAddr> = sources.iter().copied().filter(|source| source.is_ipv4() == family).collect();
            if let Some(first) = sources.first() {
                let count = sources.len() as u64;
                let load = Load { count: Some(count), ..connecting(sources.clone(), gateway_for(*first), 200.0, SOON) };
                let tally = load.run(&self.wire.outside)?;
                ensure!(tally.completed == count, "{tally:?}");
            }
        }
        let is_known = || Ok(self.proof()?.proven == before.proven + sources.len() as u64);
        eventually("all of them are proven", SOON, is_known)?;
        let asked = |proof: &ProofStatus| (proof.challenges.sent, proof.challenges.awaited);
        ensure!(asked(&self.proof()?) == asked(&before), "somebody was asked on a quiet day: {:?}", self.proof()?);
        Ok(())
    }

    /// Frames of floods that came in.
    fn arrived(&self) -> Result<u64> {
        frames_received(&self.wire.gateway, WAN)
    }
}

/// Makes of the gateway's interface a macvlan over what it was, with its addresses and its hardware address: no driver's own
/// XDP there.
fn put_below(wire: &Wire) -> Result<()> {
    let gateway = &wire.gateway;
    gateway.ip(&format!("link set dev {LAN} down"))?;
    gateway.ip(&format!("link set dev {LAN} name {BELOW}"))?;
    for family in ["-4", "-6"] {
        gateway.ip(&format!("{family} address flush dev {BELOW}"))?;
    }
    gateway.ip(&format!("link set dev {BELOW} up"))?;
    gateway.ip(&format!("link add link {BELOW} name {LAN} type macvlan mode passthru"))?;
    gateway.add_addresses(LAN, [format!("{GATEWAY_V4}/24"), format!("{GATEWAY_V6}/64")])?;
    gateway.ip(&format!("link set dev {LAN} up"))?;
    let outside_mac = wire.outside.mac(OUT)?;
    for neighbour in ["192.0.2.2", "2001:db8::2"].map(ip) {
        gateway.neighbour(neighbour, &outside_mac, LAN)?;
        gateway.route("default", neighbour)?;
    }
    Ok(())
}

/// Handshakes with smtp; each source in turn.
fn connecting(sources: Vec<IpAddr>, server: IpAddr, per_second: f64, timeout: Duration) -> Load {
    Load {
        sources,
        server: (server, SMTP).into(),
        conversation: Conversation::Connect,
        per_second,
        count: None,
        workers: 40,
        timeout,
    }
}

/// Whether one source connects and hears the banner of a listener.
fn is_greeted(field: &Field, source: IpAddr) -> Result<bool> {
    let greeted = ratelimit_tests::stacks::greet(&field.wire.outside, client(source, SMTP, SOON))?;
    Ok(greeted.line == BANNER)
}

/// Prints figures as a line of JSON.
fn report(name: &str, figures: &Value) {
    println!("{}", json!({ "name": name, "figures": figures }));
}

/// What became of honest conversations.
fn honest(tally: &Tally) -> Value {
    let ms = |fraction| tally.connect_quantile(fraction).as_millis() as u64;
    let total_ms = |fraction| tally.total_quantile(fraction).as_millis() as u64;
    json!({
        "attempts": tally.attempts,
        "completed": tally.completed,
        "connect_ms": { "p50": ms(0.5), "p99": ms(0.99), "most": ms(1.0) },
        "total_ms": { "p50": total_ms(0.5), "p99": total_ms(0.99), "most": total_ms(1.0) },
        "examples": tally.examples,
    })
}

/// At least 99 of 100 conversations were completed.
fn ensure_nearly_all(tally: &Tally) -> Result<()> {
    ensure!(tally.attempts > 0 && tally.completed * 100 >= tally.attempts * 99, "{tally:?}");
    Ok(())
}

fn ensure_all(tally: &Tally) -> Result<()> {
    ensure!(tally.attempts > 0 && tally.completed == tally.attempts, "{tally:?}");
    Ok(())
}

/// Looks at a namespace again and again for the most handshakes with smtp that wait.
struct Waiting {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Waiting {
    /// Leaves a thread in the namespace.
    fn watch(namespace: &Namespace) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let look = move || -> Result<u64> {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(half_open(&[SMTP])?.get(&SMTP).copied().unwrap_or_default());
                thread::sleep(NAP);
            }
            Ok(most)
        };
        // A thread belongs to the network namespace of the thread that starts it.
        let thread = namespace.enter(|| thread::Builder::new().name("waiting".to_owned()).spawn(look))??;
        Ok(Self { stop, thread })
    }

    fn most(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
