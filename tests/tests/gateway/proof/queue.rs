//! A real mail queue on its way to a real mail server, under every flood.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::flood::{Flood, Pattern};
use ratelimit_tests::forged::Forged;
use ratelimit_tests::gateway::{GATEWAY_V4, ip, is_long, net};
use ratelimit_tests::queue::{Deliveries, MailQueue};
use ratelimit_tests::servers::{Extra, MailServer};
use serde_json::json;

use super::{Field, HOUR, SMTP, report};

const LATE: Duration = Duration::from_secs(30);
/// A relay that is known to send so much. Forged SYNs are a hundred times more.
const RELAY: &str = "[services.smtp]\nsource = { rate = \"50/s\", burst = 500 }\n";
const STRAYS_PER_S: u64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// SYNs in the name of the sender.
    Named,
    Random,
    /// The same, each sent twice.
    Doubled,
    Strays,
}

impl Attack {
    const ALL: [Self; 4] = [Self::Named, Self::Random, Self::Doubled, Self::Strays];

    fn flood(self, field: &Field, sender: IpAddr) -> Result<Flood> {
        let everybody = || Pattern::random([net("0.0.0.0/0")]);
        let flood = match self {
            Self::Named => field.wire.flood(SMTP, Pattern::one(sender), sender)?.rate(Some(5_000)),
            Self::Random => field.far.syns(everybody())?,
            Self::Doubled => field.far.syns(everybody())?.doubled(Duration::from_secs(1)),
            Self::Strays => {
                let stray = Forged::Ack.packet(ip("192.0.2.9"), GATEWAY_V4.into(), SMTP);
                field.far.packets(&stray, everybody()).rate(Some(STRAYS_PER_S))
            }
        };
        Ok(flood.limit(u64::MAX, HOUR))
    }
}

/// How many messages, and how long the last of them may take.
fn size() -> (u64, Duration) {
    if is_long() { (5_000, Duration::from_secs(600)) } else { (200, Duration::from_secs(60)) }
}

const MESSAGES_PER_S: f64 = 40.0;

/// Has a queue emptied amid a flood.
fn emptied(field: &Field, attack: Attack, sender: IpAddr) -> Result<Deliveries> {
    let (count, timeout) = size();
    let queue = MailQueue::start(&field.wire.outside, sender, (GATEWAY_V4, SMTP).into())?;
    let flood = attack.flood(field, sender)?.start()?;
    queue.fill(&field.wire.outside, count, MESSAGES_PER_S)?;
    let deliveries = queue.wait(count as usize, timeout);
    flood.stop();
    let flood = flood.join()?;
    let deliveries = deliveries.with_context(|| format!("{attack:?}"))?;
    let ms = |fraction| deliveries.delay_quantile(fraction).as_millis() as u64;
    report(
        "a mail queue",
        &json!({ "attack": format!("{attack:?}"), "guarded": field.controller.is_some(), "forged": flood.packets,
            "mpps": flood.mpps, "messages": count, "sent": deliveries.sent, "bounced": deliveries.bounced,
            "deferrals": deliveries.deferrals, "delay_ms": { "p50": ms(0.5), "p99": ms(0.99), "most": ms(1.0) },
            "examples": deliveries.examples }),
    );
    Ok(deliveries)
}

/// What becomes of it without us; nothing is asked of it.
fn show_without_gate() -> Result<()> {
    let field = Field::open()?;
    let _server = MailServer::start(&field.wire.gateway, &Extra::default())?;
    for (attack, host) in Attack::ALL.into_iter().zip(1..) {
        if let Err(error) = emptied(&field, attack, ip(&format!("10.42.{host}.7"))) {
            let said = format!("{error:#}");
            report("a mail queue", &json!({ "attack": format!("{attack:?}"), "guarded": false, "failed": said }));
        }
    }
    Ok(())
}

#[test]
fn a_mail_queue_is_emptied_under_every_flood() -> Result<()> {
    let field = Field::guarded(RELAY)?;
    let server = MailServer::start(&field.wire.gateway, &Extra::default())?;
    let mut messages = 0;
    for (attack, host) in Attack::ALL.into_iter().zip(1..) {
        let deliveries = emptied(&field, attack, ip(&format!("10.42.{host}.7")))?;
        messages += deliveries.sent;
        ensure!(deliveries.bounced == 0, "{attack:?}: {deliveries:?}");
        let slow = deliveries.delay_quantile(0.99);
        ensure!(slow <= LATE, "{attack:?}: one in a hundred took more than {slow:?}: {:?}", deliveries.examples);
    }
    server.wait_delivered(messages, LATE)?;
    ensure!(server.delivered()? == messages, "{} of {messages} messages", server.delivered()?);
    drop((server, field));
    if is_long() { show_without_gate() } else { Ok(()) }
}
