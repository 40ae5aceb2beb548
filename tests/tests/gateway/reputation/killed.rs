//! `kill = true` ends the connection that brought a source's listing to light, and no other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::dns::{Impostor, Names, SERVERS};
use ratelimit_tests::gateway::{GATEWAY_V4, LAN, Site, Wire, eventually, ip};
use ratelimit_tests::pairs::{Door, Pair, end_of};
use serde_json::Value;

use super::{HONEST, LISTED, SOON, dnsbl};

const ZONE: &str = "bl.test";

#[test]
fn the_connection_that_brought_the_listing_ends_only_where_that_is_wanted() -> Result<()> {
    for kill in [true, false] {
        let wire = Wire::new(1500)?;
        let names = Names::beside(&wire.gateway)?;
        let impostor = Impostor::start(&names, SERVERS[0])?;
        impostor.zone(ZONE);
        impostor.list(ZONE, ip(LISTED), &["127.0.0.2"], 300);
        let config = format!(
            "mode = \"enforce\"\n[reputation]\nthreshold = 1\nkill = {kill}\n{}{}",
            Names::resolver(SERVERS[0]),
            dnsbl(ZONE, "")
        );
        let options = Options { config: Some(config), interfaces: vec![LAN.to_owned()], ..Options::default() };
        let controller = Controller::start(&wire.gateway, &options)?;
        let site = Site { controller, wire };
        let view = || site.controller.ask("GET", "/v1/dnsbl", &Value::Null);
        eventually("the zone is well", SOON, || Ok(view()?["zones"][0]["trouble"].is_null()))?;

        let door = |port| {
            let at = SocketAddr::new(IpAddr::from(Ipv4Addr::UNSPECIFIED), port);
            Door::open(&site.wire.gateway, at, SocketAddr::new(GATEWAY_V4.into(), port))
        };
        let (smtp, imap) = (door(25)?, door(143)?);
        let elsewhere = imap.pair(&site.wire.outside, ip(LISTED))?;
        let honest = smtp.pair(&site.wire.outside, ip(HONEST))?;
        let bad = smtp.pair(&site.wire.outside, ip(LISTED))?;
        eventually("the verdict is there", SOON, || Ok(view()?["in_force"] == 1))?;
        std::thread::sleep(Duration::from_millis(500));
        if kill {
            ensure!(end_of(&bad.client)? == Some(libc::ECONNRESET), "{bad:?}");
        } else {
            bad.converse()?;
        }
        [&elsewhere, &honest].into_iter().try_for_each(Pair::converse)?;
    }
    Ok(())
}
