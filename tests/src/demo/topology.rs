//! Who is where: an honest network and an attacker, each on a wire of its own into the gateway.
//!
//! ```text
//!  honest   198.51.100.0/24   ──── honest ┐
//!                                         ├ gateway: ratelimit, then Postfix and Dovecot on 192.0.2.25
//!  attacker 198.18.0.0/15     ──── attack ┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::interrupt;
use crate::controller::{Controller, Options};
use crate::netns::{End, Namespace, veth};
use crate::receiver::Receiver;
use crate::servers::{Extra, MailServer};
use crate::template::Syn;

pub(super) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 25);
pub(super) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x25, 0, 0, 0, 0, 0x25);
pub(super) const HONEST_V4: &str = "198.51.100.0/24";
pub(super) const HONEST_V6: &str = "2001:db8:51::/64";
/// What the attacker has at its disposal: the range that is set aside for such measurements.
pub(super) const ATTACKER: &str = "198.18.0.0/15";

/// Interfaces of the gateway.
pub(super) const HONEST_PORT: &str = "honest";
pub(super) const ATTACK_PORT: &str = "attack";
/// The other end of each wire.
pub(super) const WIRE: &str = "wire0";

pub(super) const SMTP: u16 = 25;
pub(super) const IMAP: u16 = 143;

const NATIVE: &str = "native";
const MTU: u32 = 1500;
/// For what Postfix has accepted to reach the mailbox.
const DELIVERY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
const HONEST_CLIENTS: u8 = 40;
const FIRST_CLIENT: u8 = 10;

#[derive(Debug)]
pub(super) struct Topology {
    // Dropped in this order: what runs in the namespaces before them.
    pub controller: Controller,
    /// Without a program at the other end, a veth pair loses what the gate sends back.
    _receivers: [Receiver; 2],
    mail: MailServer,
    pub gateway: Namespace,
    pub honest: Namespace,
    pub attacker: Namespace,
}

impl Topology {
    pub fn build() -> Result<Self> {
        let gateway = Namespace::new("gateway")?;
        let honest = Namespace::new("honest")?;
        let attacker = Namespace::new("attacker")?;
        connect(&gateway, &honest, &attacker)?;
        interrupt::check()?;
        let mail = MailServer::start(&gateway, &Extra::default()).context("cannot start the mail server")?;
        interrupt::check()?;
        let receivers = [Receiver::pass(honest.path(), WIRE)?, Receiver::count(attacker.path(), WIRE)?];
        let options = Options::enforce([HONEST_PORT, ATTACK_PORT]);
        let controller = Controller::start(&gateway, &options).context("cannot start the controller")?;
        Ok(Self { controller, _receivers: receivers, mail, gateway, honest, attacker })
    }

    /// How the gate is attached to the worse of its two interfaces; `native` with or without large frames.
    pub fn attach_mode(&self) -> Result<String> {
        let interfaces = self.controller.status()?.interfaces;
        let modes = interfaces.into_iter().map(|interface| interface.attached.unwrap_or_else(|| "none".to_owned()));
        Ok(modes
            .reduce(|one, other| if one.starts_with(NATIVE) { other } else { one })
            .map_or_else(|| "none".to_owned(), |mode| if mode.starts_with(NATIVE) { NATIVE.to_owned() } else { mode }))
    }

    /// Messages in the mailbox, once those that are expected are there or time is up.
    pub fn delivered(&self, expected: u64) -> Result<u64> {
        let deadline = Instant::now() + DELIVERY;
        loop {
            let delivered = u64::try_from(self.mail.delivered()?)?;
            if delivered >= expected || Instant::now() >= deadline {
                return Ok(delivered);
            }
            interrupt::sleep_until(Instant::now() + POLL)?;
        }
    }

    /// A SYN to the mail server as it comes out of the attacker's wire.
    pub fn syn(&self, source: Ipv4Addr) -> Result<Vec<u8>> {
        let from = parse_mac(&self.attacker.mac(WIRE)?)?;
        let to = parse_mac(&self.gateway.mac(ATTACK_PORT)?)?;
        Syn::new(source.into(), SERVER_V4.into(), SMTP).macs(from, to).build()
    }
}

/// An address of its own for every honest client, in both families.
pub(super) fn honest_v4() -> Vec<IpAddr> {
    (FIRST_CLIENT..FIRST_CLIENT + HONEST_CLIENTS).map(|host| Ipv4Addr::new(198, 51, 100, host).into()).collect()
}

pub(super) fn honest_v6() -> Vec<IpAddr> {
    let address = |host: u8| Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, host.into());
    (FIRST_CLIENT..FIRST_CLIENT + HONEST_CLIENTS).map(|host| address(host).into()).collect()
}

pub(super) fn server(client: IpAddr, port: u16) -> SocketAddr {
    match client {
        IpAddr::V4(_) => (SERVER_V4, port).into(),
        IpAddr::V6(_) => (SERVER_V6, port).into(),
    }
}

fn connect(gateway: &Namespace, honest: &Namespace, attacker: &Namespace) -> Result<()> {
    veth(
        End { namespace: gateway, interface: HONEST_PORT, addresses: &["198.51.100.1/24", "2001:db8:51::1/64"] },
        End { namespace: honest, interface: WIRE, addresses: &[] },
        MTU,
    )?;
    veth(
        End { namespace: gateway, interface: ATTACK_PORT, addresses: &["203.0.113.1/24"] },
        End { namespace: attacker, interface: WIRE, addresses: &["203.0.113.2/24"] },
        MTU,
    )?;
    gateway.add_addresses("lo", [format!("{SERVER_V4}/32"), format!("{SERVER_V6}/128")])?;
    honest.add_addresses(WIRE, honest_v4().iter().map(|client| format!("{client}/24")))?;
    honest.add_addresses(WIRE, honest_v6().iter().map(|client| format!("{client}/64")))?;
    honest.route(&format!("{SERVER_V4}/32"), "198.51.100.1".parse()?)?;
    honest.route(&format!("{SERVER_V6}/128"), "2001:db8:51::1".parse()?)?;
    // Answers to the flood, whoever it says it is, end in the attacker's namespace, which has no such address and forwards
    // nothing.
    gateway.route("default", "203.0.113.2".parse()?)
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().context("not a MAC")?;
    bytes.try_into().ok().with_context(|| format!("{text} is not a MAC address"))
}
