//! The lab itself: namespaces, mail servers, clients and attack tools work, and nothing of them is left afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratelimit_tests::attackers::{Hping, HpingSource, Scan, nmap};
use ratelimit_tests::clients::{Client, Conversation, curl, swaks};
use ratelimit_tests::debian::DebianRoot;
use ratelimit_tests::load::Load;
use ratelimit_tests::netns::{Bpffs, End, Namespace, sweep, veth};
use ratelimit_tests::queue::MailQueue;
use ratelimit_tests::servers::{Extra, MailServer};

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A gateway and a client network of 10.1.0.0/16 and 2001:db8:1::/48.
struct Lab {
    gateway: Namespace,
    clients: Namespace,
}

impl Lab {
    fn new(mtu: u32) -> Result<Self> {
        let gateway = Namespace::new("gateway")?;
        let clients = Namespace::new("clients")?;
        veth(
            End { namespace: &gateway, interface: "lan", addresses: &["192.0.2.1/24", "2001:db8::1/64"] },
            End { namespace: &clients, interface: "wan", addresses: &["192.0.2.2/24", "2001:db8::2/64"] },
            mtu,
        )?;
        clients.own_network("10.1.0.0/16")?;
        clients.own_network("2001:db8:1::/48")?;
        gateway.route("10.1.0.0/16", CLIENT_V4.into())?;
        gateway.route("2001:db8:1::/48", CLIENT_V6.into())?;
        Ok(Self { gateway, clients })
    }
}

fn client(source: impl Into<IpAddr>, port: u16) -> Client {
    let source = source.into();
    let server: IpAddr = if source.is_ipv6() { SERVER_V6.into() } else { SERVER_V4.into() };
    Client { source: Some(source), server: SocketAddr::new(server, port), timeout: TIMEOUT }
}

#[test]
fn mail_is_sent_and_read() -> Result<()> {
    let lab = Lab::new(1500)?;
    let start = Instant::now();
    let server = MailServer::start(&lab.gateway, &Extra::default())?;
    let took = start.elapsed();
    println!("Postfix and Dovecot greeted after {took:.1?}");
    ensure!(took < Duration::from_secs(5), "the servers took {took:?} to start");
    let sources: [IpAddr; 4] = [
        CLIENT_V4.into(),
        Ipv4Addr::new(10, 1, 200, 77).into(),
        CLIENT_V6.into(),
        Ipv6Addr::new(0x2001, 0xdb8, 1, 7, 0, 0, 0, 9).into(),
    ];
    for source in sources {
        for (conversation, port) in [
            (Conversation::Smtp, 25),
            (Conversation::Smtp, 587),
            (Conversation::Imap, 143),
            (Conversation::Pop3, 110),
            (Conversation::Connect, 993),
        ] {
            let completed = lab
                .clients
                .enter(|| client(source, port).converse(conversation))?
                .with_context(|| format!("{conversation:?} from {source} to {port}"))?;
            println!("{source} {port} {conversation:?}: {completed:?}");
        }
        ensure!(
            server.postfix_log()?.contains(&format!("[{source}]")),
            "Postfix did not see {source}:\n{}",
            server.postfix_log()?
        );
    }
    server.wait_delivered(2 * sources.len(), TIMEOUT)?;
    let tools = DebianRoot::new()?;
    for source in sources {
        let sent = swaks(&tools, &lab.clients, client(source, 25), true)?;
        ensure!(sent.status.success(), "swaks from {source}: {sent:?}");
        ensure!(sent.stdout.contains("TLS started"), "no TLS from {source}: {sent:?}");
    }
    server.wait_delivered(3 * sources.len(), TIMEOUT)?;
    for (scheme, port) in [("imap", 143), ("imaps", 993), ("pop3", 110), ("pop3s", 995)] {
        for source in sources {
            let read = curl(&tools, &lab.clients, client(source, port), scheme)?;
            ensure!(read.status.success(), "{scheme} from {source}: {read:?}");
            let seen = if scheme.starts_with("imap") { "12 EXISTS" } else { "12 " };
            ensure!(read.stdout.contains(seen), "{scheme} from {source}: {read:?}");
        }
    }
    server.stop()
}

#[test]
fn a_queue_is_handed_over() -> Result<()> {
    const MESSAGES: usize = 50;
    let lab = Lab::new(1500)?;
    let server = MailServer::start(&lab.gateway, &Extra::default())?;
    let ends: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::new(10, 1, 3, 3).into(), SERVER_V4.into()),
        (Ipv6Addr::new(0x2001, 0xdb8, 1, 3, 0, 0, 0, 3).into(), SERVER_V6.into()),
    ];
    for (number, (source, address)) in ends.into_iter().enumerate() {
        let queue = MailQueue::start(&lab.clients, source, SocketAddr::new(address, 25))?;
        queue.fill(&lab.clients, MESSAGES as u64, f64::INFINITY)?;
        let deliveries = queue.wait(MESSAGES, TIMEOUT)?;
        println!(
            "from {source}: {} sent, delay p50 {:.2?} p99 {:.2?}",
            deliveries.sent,
            deliveries.delay_quantile(0.5),
            deliveries.delay_quantile(0.99)
        );
        ensure!((deliveries.sent, deliveries.bounced, deliveries.deferrals) == (MESSAGES, 0, 0), "{deliveries:?}");
        ensure!(deliveries.delay_quantile(1.0) < TIMEOUT, "{deliveries:?}");
        server.wait_delivered(MESSAGES * (number + 1), TIMEOUT)?;
        ensure!(server.postfix_log()?.contains(&format!("[{source}]")), "Postfix did not see {source}");
    }
    Ok(())
}

#[test]
fn a_queue_that_nobody_takes_is_not_lost() -> Result<()> {
    let lab = Lab::new(1500)?;
    // Nobody listens there: each is refused at once.
    let queue = MailQueue::start(&lab.clients, CLIENT_V4.into(), SocketAddr::new(SERVER_V4.into(), 25))?;
    queue.fill(&lab.clients, 3, f64::INFINITY)?;
    let deadline = Instant::now() + TIMEOUT;
    while queue.deliveries()?.deferrals < 3 {
        ensure!(Instant::now() < deadline, "{:?}", queue.deliveries()?);
        thread::sleep(Duration::from_millis(50));
    }
    let deliveries = queue.deliveries()?;
    ensure!((deliveries.sent, deliveries.bounced) == (0, 0), "{deliveries:?}");
    ensure!(deliveries.examples.iter().any(|line| line.contains("refused")), "{deliveries:?}");
    Ok(())
}

#[test]
fn many_clients_are_served_at_once() -> Result<()> {
    let lab = Lab::new(9000)?;
    let server = MailServer::start(&lab.gateway, &Extra::default())?;
    let load = |conversation, port, count, per_second, workers| Load {
        sources: (0..250).map(|host| Ipv4Addr::new(10, 1, 7, host).into()).collect(),
        server: SocketAddr::new(SERVER_V4.into(), port),
        conversation,
        per_second,
        count: Some(count),
        workers,
        timeout: Duration::from_secs(20),
    };
    let smtp = load(Conversation::Smtp, 25, 100, 50.0, 20).start(&lab.clients)?;
    let imap = load(Conversation::Imap, 143, 250, f64::INFINITY, 250).run(&lab.clients)?;
    let smtp = smtp.finish();
    for (name, tally, attempts) in [("imap", &imap, 250), ("smtp", &smtp, 100)] {
        println!(
            "{name}: {} of {}, connect p50 {:.1?} p99 {:.1?}, total p50 {:.1?} p99 {:.1?}, at most {:.1?} late",
            tally.completed,
            tally.attempts,
            tally.connect_quantile(0.5),
            tally.connect_quantile(0.99),
            tally.total_quantile(0.5),
            tally.total_quantile(0.99),
            tally.lateness
        );
        ensure!(tally.attempts == attempts && tally.completed == attempts, "{tally:?}");
    }
    server.wait_delivered(100, TIMEOUT)?;
    // Nobody listens there: the failure is counted under its stage.
    let refused = load(Conversation::Pop3, 4190, 3, f64::INFINITY, 1).run(&lab.clients)?;
    ensure!(refused.completed == 0 && refused.failures.values().sum::<u64>() == 3, "{refused:?}");
    Ok(())
}

#[test]
fn attack_tools_see_open_and_closed_ports() -> Result<()> {
    let lab = Lab::new(1500)?;
    let _server = MailServer::start(&lab.gateway, &Extra::default())?;
    let tools = DebianRoot::new()?;
    let ports = [25, 26, 143];
    for target in [IpAddr::from(SERVER_V4), IpAddr::from(SERVER_V6)] {
        for (scan, open, closed) in [
            (Scan::Syn, "open", "closed"),
            (Scan::SynFragments, "open", "closed"),
            (Scan::Connect, "open", "closed"),
            (Scan::Null, "open|filtered", "closed"),
            (Scan::Fin, "open|filtered", "closed"),
            (Scan::Xmas, "open|filtered", "closed"),
            (Scan::Ack, "unfiltered", "unfiltered"),
        ] {
            if target.is_ipv6() && scan == Scan::SynFragments {
                continue;
            }
            let report = nmap(&tools, &lab.clients, scan, target, &ports)?;
            let states: Vec<&str> = ports.iter().map(|port| report.states[port].as_str()).collect();
            println!("{scan:?} {target}: {states:?} in {:.1?}", report.output.elapsed);
            ensure!(states == [open, closed, open], "{scan:?} {target}: {report:?}");
        }
    }
    let before = lab.gateway.counter("Tcp", "InSegs")?;
    for source in [HpingSource::Own, HpingSource::Forged(Ipv4Addr::new(10, 1, 9, 9)), HpingSource::Random] {
        let sent = Hping { target: SERVER_V4, port: 25, count: 100, interval: Duration::from_micros(500), source }
            .run(&tools, &lab.clients)?;
        ensure!(sent.stderr.contains("100 packets transmitted"), "{source:?}: {sent:?}");
    }
    let received = lab.gateway.counter("Tcp", "InSegs")? - before;
    ensure!(received >= 300, "only {received} of 300 SYNs arrived");
    Ok(())
}

#[test]
fn a_namespace_holds_many_addresses() -> Result<()> {
    let lab = Lab::new(1500)?;
    let start = Instant::now();
    lab.clients.add_addresses("wan", (1..=300).map(|n| format!("10.2.{}.{}/16", n / 200, n % 200 + 1)))?;
    lab.clients.add_addresses("wan", (1..=300).map(|n| format!("2001:db8::1:{n:x}/64")))?;
    println!("600 addresses after {:.1?}", start.elapsed());
    ensure!(start.elapsed() < Duration::from_secs(3), "too slow: {:?}", start.elapsed());
    let mac = lab.clients.mac("wan")?;
    lab.gateway.neighbour(Ipv4Addr::new(192, 0, 2, 9).into(), &mac, "lan")?;
    let error = lab.gateway.ip("link set dev nothing up").expect_err("there is no such interface");
    ensure!(format!("{error:#}").contains("nothing"), "{error:#}");
    Ok(())
}

#[test]
fn nothing_is_left_when_the_lab_is_dropped() -> Result<()> {
    let lab = Lab::new(1500)?;
    let bpffs = Bpffs::new()?;
    let pins = bpffs.path().to_owned();
    ensure!(mounted(&pins)?, "{} is not mounted", pins.display());
    let server = MailServer::start(&lab.gateway, &Extra::default())?;
    let controller = lab.gateway.command("sleep").arg("600").spawn()?;
    let controller_id = controller.id();
    let inode = fs::metadata(lab.gateway.path())?;
    let network = format!("net:[{}]", std::os::unix::fs::MetadataExt::ino(&inode));
    let members = processes_in(&network)?;
    println!("{} processes in the gateway", members.len());
    ensure!(members.len() > 8 && members.contains(&controller_id), "{members:?}");

    // A lab is dropped in no particular order; the worst is the namespace first.
    drop(lab.gateway);
    drop(server);
    drop(controller);
    drop(bpffs);
    ensure!(processes_in(&network)?.is_empty(), "{:?}", processes_in(&network)?);
    ensure!(!mounted(&pins)? && !pins.exists(), "{} is left", pins.display());
    // The other end of the pair goes with the namespace.
    let deadline = Instant::now() + TIMEOUT;
    while lab.clients.ip("link show dev wan").is_ok() {
        ensure!(Instant::now() < deadline, "the gateway's namespace still exists");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn nothing_is_left_when_the_test_is_killed() -> Result<()> {
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "--ignored", "--nocapture", "victim_to_be_killed"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(victim.stdout.take().context("no output")?);
    let mut facts = None;
    for line in output.lines() {
        if let Some(found) = line?.split_once("VICTIM ").map(|(_, facts)| facts.to_owned()) {
            facts = Some(found);
            break;
        }
    }
    let facts = facts.context("the victim ended before its lab was up")?;
    let (network, pins) = facts.split_once(' ').context("half a line")?;
    let pins = PathBuf::from(pins);
    let members = processes_in(network)?;
    ensure!(members.len() > 8, "{members:?}");
    ensure!(mounted(&pins)?, "{} is not mounted", pins.display());

    victim.kill()?;
    victim.wait()?;
    let deadline = Instant::now() + TIMEOUT;
    while !processes_in(network)?.is_empty() {
        ensure!(Instant::now() < deadline, "still running: {:?}", processes_in(network)?);
        thread::sleep(Duration::from_millis(20));
    }
    println!("all {} processes of the victim ended; its pins are left at {}", members.len(), pins.display());
    sweep()?;
    ensure!(!mounted(&pins)? && !pins.exists(), "{} is left", pins.display());
    Ok(())
}

#[test]
#[ignore = "started, and killed, by nothing_is_left_when_the_test_is_killed"]
fn victim_to_be_killed() -> Result<()> {
    let lab = Lab::new(1500)?;
    let bpffs = Bpffs::new()?;
    let _server = MailServer::start(&lab.gateway, &Extra::default())?;
    let _controller = lab.gateway.command("sleep").arg("600").spawn()?;
    let inode = fs::metadata(lab.gateway.path())?;
    println!("VICTIM net:[{}] {}", std::os::unix::fs::MetadataExt::ino(&inode), bpffs.path().display());
    thread::sleep(Duration::from_secs(60));
    Ok(())
}

/// The processes, and threads of this one, whose network namespace it is.
fn processes_in(network: &str) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        if fs::read_link(path.join("ns/net")).is_ok_and(|link| link == Path::new(network)) {
            found.insert(id);
        }
    }
    Ok(found)
}

fn mounted(path: &Path) -> Result<bool> {
    let wanted = path.to_str().context("a path of our own")?;
    Ok(fs::read_to_string("/proc/self/mounts")?.lines().any(|line| line.split(' ').nth(1) == Some(wanted)))
}
