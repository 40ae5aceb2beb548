//! The lab's own kernel as a client, behind a firewall, on the wire by an interface of its own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Greeted, greet};
use crate::clients::Client;
use crate::debian::DebianRoot;
use crate::gateway::{GATEWAY_V4, GATEWAY_V6, LAN, OUT, Wire, ip};
use crate::netns::{End, Namespace, veth};

/// Of the namespace that is on the wire.
const WAN: &str = "wan0";
/// Behind the router.
const HOME: [&str; 2] = ["172.16.0.2/24", "fd00:16::2/64"];
const ROUTER: [&str; 2] = ["172.16.0.1/24", "fd00:16::1/64"];
const ROUTER_ADDRESSES: [&str; 2] = ["172.16.0.1", "fd00:16::1"];
const MTU: u32 = 1500;
const NFT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// To compare with.
    None,
    /// A router that keeps track of connections and puts its own address in front of them.
    Nat,
    /// Drops what comes in and belongs to no connection, as far as it can tell.
    DropsInvalid,
    /// Lets no reset out.
    NeverAnswers,
}

impl Firewall {
    pub const ALL: [Self; 4] = [Self::None, Self::Nat, Self::DropsInvalid, Self::NeverAnswers];

    fn rules(self) -> Option<String> {
        let chain = match self {
            Self::None => return None,
            Self::Nat => format!("type nat hook postrouting priority srcnat\noifname {WAN} masquerade"),
            Self::DropsInvalid => "type filter hook input priority filter\nct state invalid counter drop".to_owned(),
            Self::NeverAnswers => {
                "type filter hook output priority filter\ntcp flags & rst == rst counter drop".to_owned()
            }
        };
        Some(format!("table inet lab {{\nchain lab {{\n{chain}\n}}\n}}\n"))
    }
}

/// A client behind its firewall.
#[derive(Debug)]
pub struct Firewalled {
    /// Without a router, the one on the wire.
    client: Namespace,
    router: Option<Namespace>,
    addresses: [IpAddr; 2],
}

impl Firewalled {
    /// On the wire as 192.0.2.`host` and 2001:db8::`host`, 3 or more.
    ///
    /// # Errors
    ///
    /// Where the kernel has no nftables, connection tracking or macvlan: without them there is no such client.
    pub fn behind(firewall: Firewall, wire: &Wire, root: &DebianRoot, host: u8) -> Result<Self> {
        let station = Namespace::new("station")?;
        let addresses = [ip(&format!("192.0.2.{host}")), ip(&format!("2001:db8::{host:x}"))];
        plug_in(wire, &station, addresses)?;
        if let Some(rules) = firewall.rules() {
            root.command(&station, "nft").args(["-f", "-"]).input(rules).check(NFT_TIMEOUT).context(
                "this kernel refuses the lab's firewall: it needs nf_tables with connection tracking and masquerading \
                 (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT, CONFIG_NFT_MASQ), or nothing is known about clients behind one",
            )?;
        }
        Ok(match firewall {
            Firewall::Nat => Self { client: home_of(&station)?, router: Some(station), addresses },
            Firewall::None | Firewall::DropsInvalid | Firewall::NeverAnswers => {
                Self { client: station, router: None, addresses }
            }
        })
    }

    /// Where the client's sockets are.
    pub fn namespace(&self) -> &Namespace {
        &self.client
    }

    /// Where the firewall is.
    pub fn firewall(&self) -> &Namespace {
        self.router.as_ref().unwrap_or(&self.client)
    }

    /// As whom the gateway sees it, by the family of another address.
    pub fn seen_as(&self, family: IpAddr) -> IpAddr {
        let [v4, v6] = self.addresses;
        if family.is_ipv4() { v4 } else { v6 }
    }

    pub fn client(&self, server: SocketAddr, timeout: Duration) -> Client {
        Client { source: None, server, timeout }
    }

    /// Connects and reads a line.
    pub fn greet(&self, server: SocketAddr, timeout: Duration) -> Result<Greeted> {
        greet(&self.client, self.client(server, timeout))
    }
}

/// Gives a namespace a station of its own on the outside's end of the wire.
fn plug_in(wire: &Wire, station: &Namespace, addresses: [IpAddr; 2]) -> Result<()> {
    wire.outside
        .ip(&format!("link add link {OUT} name {WAN} netns {} type macvlan mode bridge", station.path().display()))
        .context("this kernel has no macvlan (CONFIG_MACVLAN)")?;
    let [v4, v6] = addresses;
    station.add_addresses(WAN, [format!("{v4}/24"), format!("{v6}/64")])?;
    station.ip(&format!("link set dev {WAN} up"))?;
    let gateway_mac = wire.gateway.mac(LAN)?;
    for (address, gateway) in [(v4, IpAddr::from(GATEWAY_V4)), (v6, GATEWAY_V6.into())] {
        station.neighbour(gateway, &gateway_mac, WAN)?;
        station.route("default", gateway)?;
        wire.gateway.neighbour(address, &station.mac(WAN)?, LAN)?;
    }
    Ok(())
}

/// A namespace behind another one that becomes its router.
fn home_of(router: &Namespace) -> Result<Namespace> {
    let home = Namespace::new("home")?;
    veth(
        End { namespace: router, interface: "home0", addresses: &ROUTER },
        End { namespace: &home, interface: "router0", addresses: &HOME },
        MTU,
    )?;
    router.sysctl("net.ipv4.ip_forward", "1")?;
    router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    for address in ROUTER_ADDRESSES {
        home.route("default", ip(address))?;
    }
    Ok(home)
}
