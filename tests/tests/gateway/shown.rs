//! What commands show of proof and of open connections, and what a ban that kills leaves of them.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::gateway::{Site, eventually, gateway_for, ip};
use ratelimit_user::api::SourceView;
use socket2::{Domain, Socket, Type};

const SMTP: u16 = 25;
const SOON: Duration = Duration::from_secs(5);
const CONFIG: &str = "mode = \"enforce\"\nallow = [\"10.81.0.9\"]\n";

/// Both ends of a connection from outside.
fn connect(site: &Site, listener: &TcpListener, source: &str) -> Result<[TcpStream; 2]> {
    let from = ip(source);
    let client = site.wire.outside.enter(|| -> Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(SocketAddr::new(from, 0)), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&SocketAddr::new(gateway_for(from), SMTP).into(), SOON)?;
        Ok(socket.into())
    })?;
    let client = client.with_context(|| format!("from {source}"))?;
    Ok([client, listener.accept()?.0])
}

/// Sources with open connections, and how many.
fn open(site: &Site) -> Result<Vec<(String, u64)>> {
    let sources: Vec<SourceView> = serde_json::from_value(site.controller.json(&["sources"])?)?;
    ensure!(sources.iter().all(|source| source.proven && source.most == Some(50)), "{sources:?}");
    Ok(sources.into_iter().map(|source| (source.source.address().to_string(), source.connections)).collect())
}

#[test]
fn what_is_open_is_shown_and_ended_by_a_ban_that_kills_but_for_who_is_allowed() -> Result<()> {
    let mut site = Site::configured(CONFIG)?;
    let listener = site.wire.gateway.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, SMTP)))??;
    let sources = ["10.81.0.1", "10.81.0.1", "10.81.0.9", "2001:db8:1:81::1"];
    let _ends = sources.map(|source| connect(&site, &listener, source)).into_iter().collect::<Result<Vec<_>>>()?;
    let pairs =
        |pairs: &[(&str, u64)]| pairs.iter().map(|(source, count)| ((*source).to_owned(), *count)).collect::<Vec<_>>();
    let all = pairs(&[("10.81.0.1", 2), ("10.81.0.9", 1), ("2001:db8:1:81::1", 1)]);
    eventually("all are counted", SOON, || Ok(open(&site)? == all))?;

    let status = site.controller.status()?;
    let smtp = status.services.iter().find(|service| service.name == "smtp").context("no smtp")?;
    ensure!((status.proof.proven, status.proof.connections, smtp.pressure.connections) == (3, 4, 4), "{status:?}");
    ensure!((smtp.admitted, smtp.asked, smtp.pressure.suspect) == (4, 0, false), "{smtp:?}");
    let text = site.run("status")?;
    ensure!(text.contains("3 of 262,144 sources proven, 4 handshakes seen, 4 connections open\n"), "{text}");
    let text = site.run("explain 10.81.0.1 --service smtp")?;
    ensure!(text.contains("\nproven: the last handshake was at ") && text.contains("  2 of 50  now\n"), "{text}");
    let text = site.run("explain 10.81.0.2 --service smtp")?;
    ensure!(text.contains("\nnot proven: ") && text.contains("  0 of 50  now\n"), "{text}");

    let text = site.run("ban 10.81.0.0/24 --for 1h --kill")?;
    ensure!(text.contains("\n2 open connections of it ended\n") && text.contains("10.81.0.9/32 is allowed"), "{text}");
    let left = pairs(&[("10.81.0.9", 1), ("2001:db8:1:81::1", 1)]);
    eventually("those that were killed are gone", SOON, || Ok(open(&site)? == left))?;

    site.controller.kill9()?;
    ensure!(open(&site)? == left, "the pins show the same");
    let said = site.refused("sources --by last", 1)?;
    ensure!(said.contains("only a controller keeps the events"), "{said}");
    Ok(())
}

#[test]
fn a_block_that_can_never_act_is_told_when_the_configuration_is_read() -> Result<()> {
    let site = Site::configured("never_block = [\"10.7.0.0/16\"]\n")?;
    let own = gateway_for(ip("10.0.0.1"));
    site.controller.write_config(&format!(
        "never_block = [\"10.7.0.0/16\"]\nblock = [\"10.7.1.0/24\", \"10.8.0.0/16\", \"{own}\"]\n"
    ))?;
    let config = site.controller.config();
    let config = config.to_str().context("not UTF-8")?;
    for command in ["reload".to_owned(), format!("config check {config}"), "status".to_owned()] {
        let text = site.run(&command)?;
        let told = text.matches("can never act").count();
        ensure!(told == 2 && text.contains("nothing blocks 10.7.0.0/16, in never_block"), "{command}: {text}");
        ensure!(text.contains(&format!("nothing blocks {own}/32, an address of this machine")), "{command}: {text}");
    }
    Ok(())
}
