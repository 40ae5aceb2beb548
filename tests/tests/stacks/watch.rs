//! What is seen of a handshake, where it is known.

use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_tests::gateway::{Wire, ip};
use ratelimit_tests::watch::{Agreed, Handshake, Offer, Watch};

const PORT: u16 = 25;
const TIMEOUT: Duration = Duration::from_secs(5);
const SOURCES: [&str; 2] = ["10.1.2.3", "2001:db8:1::3"];

fn handshake(watch: &Watch<'_>, source: &str) -> Result<Handshake> {
    let watched = watch.connect(ip(source), TIMEOUT)?;
    ensure!(watched.wrong_answers == 0 && watched.connect < TIMEOUT / 10, "{watched:?}");
    Ok(watched.handshake)
}

/// Whether both ends believe what was offered.
fn is_consistent(handshake: &Handshake) -> bool {
    let Handshake { syn, syn_ack, client, server } = handshake;
    let scale = |agreed: &Agreed, offer: &Offer| offer.window_scale.filter(|_| agreed.has_window_scale).unwrap_or(0);
    let agrees = |agreed: &Agreed, own: &Offer, peer: &Offer| {
        agreed.sack == (own.sack && peer.sack)
            && agreed.timestamps == (own.timestamps && peer.timestamps)
            && agreed.has_window_scale == (own.window_scale.is_some() && peer.window_scale.is_some())
            && agreed.window_scale == scale(agreed, own)
            && agreed.peer_window_scale == scale(agreed, peer)
            && peer.mss.is_some_and(|mss| agreed.mss_sent <= mss.into())
    };
    agrees(client, syn, syn_ack) && agrees(server, syn_ack, syn)
}

#[test]
fn two_handshakes_of_the_same_ends_are_equal() -> Result<()> {
    let wire = Wire::new(1500)?;
    let watch = Watch::on(&wire, PORT)?;
    for (source, mss) in SOURCES.into_iter().zip([1460, 1440]) {
        let first = handshake(&watch, source)?;
        ensure!(first == handshake(&watch, source)?, "{first:?}");
        ensure!(is_consistent(&first), "{first:?}");
        ensure!(first.syn.mss == Some(mss) && first.syn.sack && first.syn.timestamps, "{first:?}");
    }
    Ok(())
}

#[test]
fn every_option_that_is_missing_shows() -> Result<()> {
    for (sysctl, lacks) in [
        ("net.ipv4.tcp_sack", (|agreed| !agreed.sack) as fn(&Agreed) -> bool),
        ("net.ipv4.tcp_timestamps", |agreed| !agreed.timestamps),
        ("net.ipv4.tcp_window_scaling", |agreed| !agreed.has_window_scale),
    ] {
        let wire = Wire::new(1500)?;
        let watch = Watch::on(&wire, PORT)?;
        for source in SOURCES {
            let usual = handshake(&watch, source)?;
            wire.gateway.sysctl(sysctl, "0")?;
            let other = handshake(&watch, source)?;
            wire.gateway.sysctl(sysctl, "1")?;
            ensure!(other != usual && is_consistent(&other), "{sysctl}: {other:?}");
            ensure!(lacks(&other.client) && lacks(&other.server) && !lacks(&usual.client), "{sysctl}: {other:?}");
        }
    }
    Ok(())
}

#[test]
fn a_smaller_wire_shows() -> Result<()> {
    let [usual, small] = [1500, 1300].map(|mtu| -> Result<_> {
        let wire = Wire::new(mtu)?;
        handshake(&Watch::on(&wire, PORT)?, SOURCES[0])
    });
    let (usual, small) = (usual?, small?);
    ensure!(small.syn.mss == Some(1260) && small.server.mss_sent < usual.server.mss_sent, "{small:?}");
    Ok(())
}
