//! A second TCP stack, smoltcp, on the wire under addresses that no kernel owns.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use super::Greeted;
use crate::flood::seed;
use crate::gateway::{GATEWAY_V4, GATEWAY_V6, LAN, Wire, ip};
use crate::raw::{RawReceiver, RawSender};
use crate::segment::Link;

const FRAME_LEN: usize = 1514;
const BUFFER_BYTES: usize = 4096;
const FIRST_EPHEMERAL_PORT: u16 = 49_152;
/// Between two looks at what the stack may have to do.
const NAP: Duration = Duration::from_millis(50);

/// A host whose one program connects and reads a line.
#[derive(Debug)]
pub struct SecondStack {
    link: Link,
    addresses: [IpAddr; 2],
}

impl SecondStack {
    /// On the wire as 192.0.2.`host` and 2001:db8::`host`, 3 or more, with a hardware address of its own.
    pub fn on(wire: &Wire, host: u8) -> Result<Self> {
        let mac = [2, 0, 0, 0, 1, host];
        let addresses = [ip(&format!("192.0.2.{host}")), ip(&format!("2001:db8::{host:x}"))];
        for address in addresses {
            // It answers those who look for it only while it connects.
            wire.gateway.neighbour(address, &EthernetAddress(mac).to_string().replace('-', ":"), LAN)?;
        }
        Ok(Self { link: Link { mac, ..wire.link() }, addresses })
    }

    /// As whom the gateway sees it, by the family of another address.
    pub fn seen_as(&self, family: IpAddr) -> IpAddr {
        let [v4, v6] = self.addresses;
        if family.is_ipv4() { v4 } else { v6 }
    }

    /// Connects to a server at the gateway or behind it and reads a line.
    pub fn greet(&self, server: SocketAddr, timeout: Duration) -> Result<Greeted> {
        let mut host = Host::new(self)?;
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let port = FIRST_EPHEMERAL_PORT | seed() as u16;
        socket.connect(host.interface.context(), server, port).context("smoltcp cannot connect")?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let mut connect = None;
        let mut line = Vec::new();
        while host.start.elapsed() < timeout {
            host.work(&mut sockets, timeout)?;
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if connect.is_none() && socket.may_send() {
                connect = Some(host.start.elapsed());
            }
            ensure!(socket.is_active(), "{server} refused");
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), line.extend_from_slice(bytes))).context("smoltcp cannot read")?;
            }
            if line.contains(&b'\n') {
                socket.abort();
                let banner = host.start.elapsed();
                host.work(&mut sockets, Duration::ZERO)?;
                let connect = connect.context("data before a connection")?;
                return Ok(Greeted { connect, banner, line: String::from_utf8_lossy(&line).into_owned() });
            }
        }
        bail!("no line of {server} within {timeout:?}; connected after {connect:?}")
    }
}

/// The stack while it connects.
struct Host {
    interface: Interface,
    device: Frames,
    start: Instant,
}

impl Host {
    fn new(stack: &SecondStack) -> Result<Self> {
        let mut device = Frames::on(&stack.link)?;
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(stack.link.mac)));
        config.random_seed = seed();
        let mut interface = Interface::new(config, &mut device, time::Instant::ZERO);
        let [v4, v6] = stack.addresses;
        let mut fits = true;
        interface.update_ip_addrs(|addresses| {
            fits = addresses.push(IpCidr::new(v4.into(), 24)).is_ok()
                && addresses.push(IpCidr::new(v6.into(), 64)).is_ok();
        });
        ensure!(fits, "smoltcp was built for fewer than two addresses");
        let routes = interface.routes_mut();
        routes.add_default_ipv4_route(GATEWAY_V4).context("smoltcp takes no route")?;
        routes.add_default_ipv6_route(GATEWAY_V6).context("smoltcp takes no route")?;
        Ok(Self { interface, device, start: Instant::now() })
    }

    /// Waits for a frame, or until the stack has something to do, and does all there is to do.
    fn work(&mut self, sockets: &mut SocketSet<'_>, timeout: Duration) -> Result<()> {
        let delay = self.interface.poll_delay(self.now(), sockets).map(Duration::from);
        let wait = delay.unwrap_or(NAP).min(NAP).min(timeout.saturating_sub(self.start.elapsed()));
        if !wait.is_zero() {
            self.device.arrived.extend(self.device.receiver.receive(wait)?);
        }
        while self.interface.poll(self.now(), &mut self.device, sockets) != PollResult::None {}
        self.device.failure.take().map_or(Ok(()), Err)
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

/// Frames on a wire as smoltcp wants to have them.
struct Frames {
    sender: RawSender,
    receiver: RawReceiver,
    arrived: VecDeque<Vec<u8>>,
    /// The first one to send a frame; the stack itself is not told.
    failure: Option<Error>,
}

impl Frames {
    fn on(link: &Link) -> Result<Self> {
        Ok(Self {
            sender: RawSender::new(&link.namespace, &link.interface)?,
            receiver: RawReceiver::to_station(&link.namespace, &link.interface, link.mac)?,
            arrived: VecDeque::new(),
            failure: None,
        })
    }
}

impl Device for Frames {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(Arrived, Outgoing<'_>)> {
        let frame = self.arrived.pop_front()?;
        Some((Arrived(frame), Outgoing(self)))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::default();
        // Between namespaces the kernel leaves them to a card that never comes.
        checksum.tcp = Checksum::Tx;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_LEN;
        capabilities.checksum = checksum;
        capabilities
    }
}

struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Outgoing<'a>(&'a mut Frames);

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let written = write(&mut frame);
        if let Err(error) = self.0.sender.send(&frame) {
            self.0.failure.get_or_insert(error);
        }
        written
    }
}
