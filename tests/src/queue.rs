//! A sending mail server: a real Postfix that has nothing to do but to hand what it is given to another one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::clients::Conversation;
use crate::debian::DebianRoot;
use crate::load::{Load, quantile};
use crate::netns::Namespace;
use crate::process::Process;
use crate::servers::postfix;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Who puts messages into the queue, and how many of them do so at a time.
const WRITER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const WRITERS: usize = 20;
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Only from the namespace itself.
const LISTENERS: &str = "127.0.0.1:25 inet n - n - - smtpd\n";

/// Its concurrency, time-outs and retries are Postfix's own.
#[derive(Debug)]
pub struct MailQueue {
    // Dropped in this order.
    postfix: Process,
    root: DebianRoot,
}

/// What became of the messages until now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Messages the other server took.
    pub sent: usize,
    /// Messages it refused for good, or that got too old.
    pub bounced: usize,
    /// Attempts that failed and are made again later.
    pub deferrals: usize,
    /// From when a message was put into the queue until it was sent.
    delays: Vec<Duration>,
    /// How a few of the attempts failed, in Postfix's words.
    pub examples: Vec<String>,
}

impl MailQueue {
    /// Speaks from one of a namespace's addresses to a server. Returns when it takes messages.
    pub fn start(namespace: &Namespace, source: IpAddr, server: SocketAddr) -> Result<Self> {
        let root = DebianRoot::new()?;
        postfix::prepare(&root, &main_cf(source, server), LISTENERS)?;
        let mut queue = Self { postfix: postfix::start(&root, namespace)?, root };
        let deadline = Instant::now() + START_TIMEOUT;
        while !namespace.enter(|| postfix::greets(25, "220 "))? {
            ensure!(queue.postfix.is_running()?, "the sending Postfix ended while starting:\n{}", queue.log()?);
            ensure!(Instant::now() < deadline, "no greeting after {START_TIMEOUT:?}:\n{}", queue.log()?);
            thread::sleep(POLL);
        }
        Ok(queue)
    }

    /// Puts messages into the queue at this rate, as far as it takes them so fast; they leave it meanwhile.
    pub fn fill(&self, namespace: &Namespace, count: u64, per_second: f64) -> Result<()> {
        let load = Load {
            sources: vec![WRITER.into()],
            server: (WRITER, 25).into(),
            conversation: Conversation::Smtp,
            per_second,
            count: Some(count),
            workers: WRITERS,
            timeout: WRITE_TIMEOUT,
        };
        let tally = load.run(namespace)?;
        ensure!(tally.completed == count, "the queue took {} of {count} messages: {tally:?}", tally.completed);
        Ok(())
    }

    pub fn deliveries(&self) -> Result<Deliveries> {
        Ok(Deliveries::in_log(&self.log()?))
    }

    /// Waits until so many messages have been sent or have bounced.
    pub fn wait(&self, count: usize, timeout: Duration) -> Result<Deliveries> {
        let deadline = Instant::now() + timeout;
        loop {
            let deliveries = self.deliveries()?;
            if deliveries.sent + deliveries.bounced >= count {
                return Ok(deliveries);
            }
            if Instant::now() >= deadline {
                bail!("{} of {count} messages sent after {timeout:?}: {deliveries:?}", deliveries.sent);
            }
            thread::sleep(POLL);
        }
    }

    pub fn log(&self) -> Result<String> {
        Ok(self.root.read(postfix::START_LOG)? + &self.root.read(postfix::LOG)?)
    }
}

fn main_cf(source: IpAddr, server: SocketAddr) -> String {
    let (bind, literal) = match server.ip() {
        IpAddr::V4(v4) => ("smtp_bind_address", v4.to_string()),
        IpAddr::V6(v6) => ("smtp_bind_address6", format!("ipv6:{v6}")),
    };
    format!(
        "\
compatibility_level = 3.6
myhostname = sender.example.test
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = all
maillog_file = {log}
relayhost = [{literal}]:{port}
{bind} = {source}
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
",
        log = postfix::LOG,
        port = server.port()
    )
}

impl Deliveries {
    /// How many failures are kept word for word.
    const EXAMPLES: usize = 5;

    /// `fraction` 0.5 is the median, 1.0 the slowest. Zero when nothing was sent.
    pub fn delay_quantile(&self, fraction: f64) -> Duration {
        quantile(&self.delays, fraction)
    }

    fn in_log(log: &str) -> Self {
        let mut deliveries = Self::default();
        let (mut sent, mut bounced) = (BTreeMap::new(), BTreeSet::new());
        for attempt in log.lines().filter_map(Attempt::in_line) {
            match attempt.status {
                "sent" => {
                    sent.insert(attempt.id, attempt.delay);
                    continue;
                }
                "bounced" | "expired" => {
                    bounced.insert(attempt.id);
                }
                _ => deliveries.deferrals += 1,
            }
            if deliveries.examples.len() < Self::EXAMPLES {
                deliveries.examples.push(attempt.line.to_owned());
            }
        }
        Self { sent: sent.len(), bounced: bounced.len(), delays: sent.into_values().collect(), ..deliveries }
    }
}

/// A line like `… postfix/smtp[7]: 4F1: to=<a@b>, relay=…, delay=0.12, delays=…, dsn=2.0.0, status=sent (…)`. A queue that is
/// down is told of by `postfix/error`.
struct Attempt<'a> {
    line: &'a str,
    id: &'a str,
    delay: Duration,
    status: &'a str,
}

impl<'a> Attempt<'a> {
    fn in_line(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once("postfix/smtp[").or_else(|| line.split_once("postfix/error["))?;
        let (_, rest) = rest.split_once("]: ")?;
        let (id, rest) = rest.split_once(": to=<")?;
        let (_, rest) = rest.split_once(", delay=")?;
        let (delay, rest) = rest.split_once(", ")?;
        let (_, rest) = rest.split_once(", status=")?;
        let delay = Duration::try_from_secs_f64(delay.parse().ok()?).ok()?;
        Some(Self { line, id, delay, status: rest.split(' ').next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_what_became_of_messages() {
        let log = "\
Nov 26 05:00:00 sender postfix/smtp[7]: 4F1: to=<a@b>, relay=192.0.2.1[192.0.2.1]:25, delay=0.12, delays=0.1/0/0/0.02, \
dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 5)
Nov 26 05:00:01 sender postfix/smtp[7]: 4F2: to=<a@b>, relay=none, delay=30, delays=0/0/30/0, dsn=4.4.1, \
status=deferred (connect to 192.0.2.1[192.0.2.1]:25: Connection timed out)
Nov 26 05:00:02 sender postfix/error[8]: 4F3: to=<a@b>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, \
status=deferred (delivery temporarily suspended)
Nov 26 05:00:03 sender postfix/smtp[9]: 4F2: to=<a@b>, relay=192.0.2.1[192.0.2.1]:25, delay=330, delays=1/0/0/0, \
dsn=2.0.0, status=sent (250 2.0.0 Ok)
Nov 26 05:00:04 sender postfix/smtp[9]: 4F4: to=<a@b>, relay=192.0.2.1[192.0.2.1]:25, delay=0.1, delays=1/0/0/0, \
dsn=5.0.0, status=bounced (host said: 550)
Nov 26 05:00:04 sender postfix/smtp[9]: connect to 192.0.2.1[192.0.2.1]:25: Connection timed out
Nov 26 05:00:05 sender postfix/qmgr[2]: 4F4: removed
";
        let deliveries = Deliveries::in_log(log);
        assert_eq!((deliveries.sent, deliveries.bounced, deliveries.deferrals), (2, 1, 2));
        assert_eq!(deliveries.delay_quantile(0.0), Duration::from_millis(120));
        assert_eq!(deliveries.delay_quantile(1.0), Duration::from_secs(330));
        assert_eq!(deliveries.examples.len(), 3);
    }
}
