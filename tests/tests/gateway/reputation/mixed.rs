//! A customer whose address is in the lists of home connections and of hacked machines, with real servers behind.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_tests::clients::{curl, swaks};
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::debian::DebianRoot;
use ratelimit_tests::dns::{Impostor, Names, SERVERS};
use ratelimit_tests::gateway::{LAN, Site, Wire, client, eventually, ip};
use ratelimit_tests::servers::{Extra, MailServer, USER};
use serde_json::Value;

use super::{SOON, connected};

const CUSTOMER: &str = "10.75.0.1";
/// How the server knows it.
const SPAMMER: &str = "listed.example.test";
const ZEN: &str = "zen.spamhaus.org";
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn it_is_limited_on_25_reads_the_servers_reason_and_is_nobody_elsewhere() -> Result<()> {
    let wire = Wire::new(1500)?;
    let names = Names::beside(&wire.gateway)?;
    let impostor = Impostor::start(&names, SERVERS[0])?;
    impostor.zone(ZEN);
    impostor.list(ZEN, ip(CUSTOMER), &["127.0.0.4", "127.0.0.11"], 300);
    let refusing = format!("smtpd_helo_restrictions = check_helo_access inline:{{{{ {SPAMMER} = 554 5.7.1 listed }}}}");
    let extra = Extra { postfix: vec![refusing], ..Extra::default() };
    let _server = MailServer::start(&wire.gateway, &extra)?;
    let config = format!(
        "mode = \"enforce\"\n[reputation]\n{}[[reputation.dnsbl]]\nname = \"zen\"\npreset = \"spamhaus-zen\"\n",
        Names::resolver(SERVERS[0])
    );
    let options = Options { config: Some(config), interfaces: vec![LAN.to_owned()], ..Options::default() };
    let controller = Controller::start(&wire.gateway, &options)?;
    let site = Site { controller, wire };
    let zen = || -> Result<Value> { Ok(site.controller.ask("GET", "/v1/dnsbl", &Value::Null)?["zones"][0].clone()) };
    eventually("zen is well", SOON, || Ok(zen()?["trouble"].is_null()))?;

    let root = DebianRoot::new()?;
    let reads = || -> Result<()> {
        let read = curl(&root, &site.wire.outside, client(ip(CUSTOMER), 993, PATIENCE), "imaps")?;
        ensure!(read.status.success(), "{read:?}");
        Ok(())
    };
    (0..6).try_for_each(|_| reads())?;
    for _ in 0..4 {
        let sent = swaks(&root, &site.wire.outside, client(ip(CUSTOMER), 587, PATIENCE), true)?;
        ensure!(sent.status.success(), "{sent:?}");
    }
    ensure!(impostor.asked(ZEN) == 0, "nobody is asked about customers of submission and IMAP");

    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(site.wire.outside.enter(|| submit(ip(CUSTOMER)))??);
        thread::sleep(Duration::from_millis(50));
    }
    // The first brings the verdict, and three are left.
    let (told, rest) = answers.split_at(4);
    ensure!(told.iter().all(|answer| answer.as_ref().is_some_and(|text| text.starts_with("554 5.7.1"))), "{answers:?}");
    ensure!(rest.iter().all(Option::is_none), "{answers:?}");
    ensure!(impostor.asked_about(ZEN, ip(CUSTOMER)) == 1);
    reads()
}

/// What the server says to a recipient; `None` where no connection comes about.
fn submit(source: IpAddr) -> Result<Option<String>> {
    let Some(stream) = connected(source, 25)? else { return Ok(None) };
    let mut reader = BufReader::new(TcpStream::from(stream));
    let mut said = String::new();
    for command in ["", &format!("HELO {SPAMMER}"), "MAIL FROM:<x@example.test>", &format!("RCPT TO:<{USER}>")] {
        if !command.is_empty() {
            reader.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        }
        said.clear();
        reader.read_line(&mut said)?;
    }
    Ok(Some(said))
}
