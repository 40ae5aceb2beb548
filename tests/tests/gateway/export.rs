//! Bans that a real rbldnsd serves, from the file that is exported.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::dns::{Answer, Names, Rbldnsd, SERVERS, query, query_text, reversed};
use ratelimit_tests::gateway::{Site, eventually, ip};
use ratelimit_tests::netns::Scratch;

const ZONE: &str = "own.test";
/// Every ten seconds bans are looked at.
const LOOKED_AT: Duration = Duration::from_secs(25);

struct Place {
    site: Site,
    scratch: Scratch,
    names: Names,
}

impl Place {
    fn new(more: &str) -> Result<Self> {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("own");
        let config = format!(
            "mode = \"enforce\"\n[export]\npath = \"{}\"\ncontact = \"abuse@example.org\"\n{more}",
            path.display()
        );
        let site = Site::configured(&config)?;
        let names = Names::beside(&site.wire.gateway)?;
        Ok(Self { site, scratch, names })
    }

    fn file(&self) -> Result<String> {
        let path = self.scratch.path().join("own");
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn wait_for(&self, text: &str, is_there: bool) -> Result<String> {
        let holds = || Ok(self.file().is_ok_and(|file| file.contains(text) == is_there));
        eventually(&format!("{text} is there: {is_there}"), LOOKED_AT, holds)
            .with_context(|| self.site.controller.log())?;
        self.file()
    }

    fn asked(&self, address: &str, ask: fn(SocketAddr, &str) -> Result<Answer>) -> Result<Answer> {
        let name = format!("{}.{ZONE}", reversed(ip(address)));
        self.names.namespace.enter(|| ask(SocketAddr::from((SERVERS[1], 53)), &name))?
    }
}

fn is_listed(answer: &Answer) -> bool {
    answer.code == 0 && answer.data == [127, 0, 0, 2]
}

#[test]
fn who_asks_by_dns_gets_the_bans_their_reasons_and_no_more_time_than_they_have() -> Result<()> {
    let place = Place::new("")?;
    let commands = [
        vec!["ban", "10.90.0.1", "--for", "1h", "--note", "guesses passwords; $0 line"],
        vec!["ban", "10.91.0.0/24", "--for", "80s"],
        vec!["ban", "2001:db8:1:90::/64", "--for", "1h", "--note", "six"],
        vec!["ban", "10.92.0.1", "--for", "1h", "--service", "imap"],
        vec!["allow", "add", "10.91.0.9/32"],
    ];
    for command in commands {
        let finished = place.site.controller.cli(&command)?;
        ensure!(finished.status.success(), "{finished:?}");
    }
    let text = place.wait_for("2001:db8:1:90::/64", true)?;
    let rbldnsd = Rbldnsd::start(&place.names, SERVERS[1], &[(ZONE, "combined", &text)])?;

    for (address, wanted, longest) in [
        ("10.90.0.1", true, 300),
        ("10.91.0.77", true, 60),
        ("2001:db8:1:90::5", true, 300),
        ("127.0.0.2", true, 300),
        ("::ffff:127.0.0.2", true, 300),
        ("10.90.0.2", false, 0),
        ("10.91.0.9", false, 0),
        ("10.92.0.1", false, 0),
        ("2001:db8:1:91::5", false, 0),
        ("127.0.0.1", false, 0),
        ("::ffff:127.0.0.1", false, 0),
    ] {
        let answer = place.asked(address, query)?;
        ensure!(is_listed(&answer) == wanted && answer.ttl.unwrap_or(0) <= longest, "{address}: {answer:?}");
        ensure!(wanted || answer.code == 3, "{address}: {answer:?}");
    }
    let reason = place.asked("10.90.0.1", query_text)?;
    let reason = String::from_utf8_lossy(&reason.data).into_owned();
    ensure!(reason.contains("guesses passwords; ?0 line; abuse@example.org"), "{reason}");

    ensure!(place.site.run("unban 10.90.0.1")?.contains("10.90.0.1"));
    let text = place.wait_for("10.90.0.1", false)?;
    rbldnsd.replace(ZONE, &text)?;
    eventually("it is free", LOOKED_AT, || Ok(!is_listed(&place.asked("10.90.0.1", query)?)))?;
    ensure!(is_listed(&place.asked("2001:db8:1:90::5", query)?));

    // A controller that is dead keeps nobody listed.
    let stale: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with("$TIMESTAMP") {
            true => "$TIMESTAMP - 2020:01:01:00:00:00".to_owned(),
            false => line.to_owned(),
        })
        .collect();
    // It tells files apart by their second and size.
    thread::sleep(Duration::from_secs(2));
    rbldnsd.replace(ZONE, &format!("{}\n", stale.join("\n")))?;
    eventually("nothing is listed any more", LOOKED_AT, || {
        Ok(!place.asked("2001:db8:1:90::5", query).is_ok_and(|answer| is_listed(&answer)))
    })?;
    Ok(())
}

#[test]
fn what_cannot_be_written_is_said_and_switching_it_off_leaves_the_file() -> Result<()> {
    let place = Place::new("")?;
    place.wait_for("127.0.0.2", true)?;
    let gone = place.scratch.path().join("gone/own");
    let config =
        format!("mode = \"enforce\"\n[export]\npath = \"{}\"\ncontact = \"abuse@example.org\"\n", gone.display());
    place.site.controller.write_config(&config)?;
    ensure!(place.site.run("reload")?.contains("export"));
    eventually("it is said", LOOKED_AT, || Ok(place.site.run("status")?.contains("bans are not exported")))?;
    fs::create_dir(place.scratch.path().join("gone"))?;
    eventually("it is written", LOOKED_AT, || Ok(gone.exists()))?;
    eventually("nothing is wrong", LOOKED_AT, || Ok(!place.site.run("status")?.contains("bans are not exported")))?;

    place.site.controller.write_config("mode = \"enforce\"\n")?;
    place.site.run("reload")?;
    eventually("it is told", LOOKED_AT, || Ok(place.site.controller.log().contains("not exported any more")))?;
    ensure!(gone.exists());
    let address: IpAddr = ip("10.90.0.1");
    place.site.run(&format!("ban {address} --for 1h"))?;
    thread::sleep(Duration::from_secs(12));
    ensure!(!fs::read_to_string(&gone)?.contains("10.90.0.1"));
    Ok(())
}
