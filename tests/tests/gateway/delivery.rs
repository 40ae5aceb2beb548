//! Who is refused while he delivers a message delivers it: bans and lists are about new connections.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::clients::{Cause, Conversation, Failure, Stage};
use ratelimit_tests::gateway::{Site, client, ip};
use ratelimit_tests::servers::{Extra, MailServer};

const SMTP: u16 = 25;
const TIMEOUT: Duration = Duration::from_secs(30);
/// For a connection that is never answered.
const PATIENCE: Duration = Duration::from_secs(2);
/// For a whole conversation that never ends.
const LONG_PATIENCE: Duration = Duration::from_secs(5);
const ENFORCE: &str = "mode = \"enforce\"\n";
const SENDERS: [&str; 2] = ["10.8.0.7", "2001:db8:1:8::7"];
const OTHERS: &str = "10.41.0.1\n10.41.0.2\n";

/// Why a new connection of a source is refused.
fn refusal(site: &Site, source: &str) -> Result<Reason> {
    let before = site.counters()?;
    site.wire.attempt(ip(source), SMTP, 1)?;
    // The message goes on only afterwards, so this is the one frame there is.
    let moved = site.settled(&before, 1)?;
    ensure!(moved.total_passed() == 0, "a new connection of {source} passed\n{moved}");
    moved.only_reason().with_context(|| format!("one SYN of {source} moved\n{moved}"))
}

/// Delivers a message, and does something in the middle of it.
fn deliver(
    site: &Site,
    source: &str,
    timeout: Duration,
    amid: impl FnOnce() -> Result<()> + Send,
) -> Result<Result<(), Failure>> {
    let client = client(ip(source), SMTP, timeout);
    let mut done = None;
    let outcome = site.wire.outside.enter(|| client.deliver(|| done = Some(amid())))?;
    match done {
        Some(done) => done?,
        None => return Err(outcome.err().context("nothing was done amid the message")?.into()),
    }
    Ok(outcome.map(drop))
}

fn is_refused(site: &Site, source: &str) -> Result<bool> {
    let client = client(ip(source), SMTP, PATIENCE);
    let outcome = site.wire.outside.enter(|| client.converse(Conversation::Connect))?;
    Ok(outcome.is_err_and(|failure| failure.stage == Stage::Connect))
}

#[test]
fn a_ban_and_a_list_amid_the_message_deliver_it() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    let server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    let list = site.with_list(ENFORCE, "senders", "", OTHERS)?;
    for (number, source) in SENDERS.into_iter().enumerate() {
        let outcome = deliver(&site, source, TIMEOUT, || {
            site.run(&format!("ban {source} --for 1h"))?;
            ensure!(refusal(&site, source)? == Reason::Banned);
            site.refresh(&list, &format!("{OTHERS}{source}\n"))?;
            ensure!(refusal(&site, source)? == Reason::Blocked);
            Ok(())
        })?;
        outcome.with_context(|| format!("the message of {source}"))?;
        server.wait_delivered(number + 1, TIMEOUT)?;
        ensure!(is_refused(&site, source)?, "{source} came in again");
        site.refresh(&list, OTHERS)?;
        ensure!(refusal(&site, source)? == Reason::Banned, "{source} is banned still");
        site.run(&format!("unban {source}"))?;
        ensure!(!is_refused(&site, source)?, "nothing refuses {source} any more");
    }
    ensure!(server.delivered()? == SENDERS.len());
    Ok(())
}

#[test]
fn a_list_of_all_packets_ends_even_what_is_under_way() -> Result<()> {
    let site = Site::configured(ENFORCE)?;
    let server = MailServer::start(&site.wire.gateway, &Extra::default())?;
    let list = site.with_list(ENFORCE, "senders", "all_packets = true", OTHERS)?;
    let mut listed = OTHERS.to_owned();
    for source in SENDERS {
        // Who was stopped stays listed: his kernel would go on with the message.
        listed.push_str(&format!("{source}\n"));
        let listed = || site.refresh(&list, &listed);
        let Err(failure) = deliver(&site, source, LONG_PATIENCE, listed)? else {
            anyhow::bail!("{source} delivered its message through a list of all packets");
        };
        let is_late = matches!(&failure.cause, Cause::Network(_)) && failure.stage == Stage::Message;
        ensure!(is_late, "{source}: {failure}");
    }
    ensure!(server.delivered()? == 0);
    Ok(())
}
