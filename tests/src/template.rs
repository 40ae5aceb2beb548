//! SYN frames: templates of a flood, or to be sent as they are.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpOptionElement, VlanId};

const HOP_LIMIT: u8 = 64;
const WINDOW: u16 = 64_240;
/// What a Linux client sends over Ethernet.
const MSS_V4: u16 = 1460;
const MSS_V6: u16 = 1440;

/// A SYN with valid checksums.
#[derive(Debug, Clone)]
pub struct Syn {
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    port: u16,
    sequence: u32,
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    tags: Vec<u16>,
    options: Vec<TcpOptionElement>,
}

impl Syn {
    /// From an ephemeral port, untagged, with the MSS option that a client would send.
    pub fn new(source: IpAddr, destination: IpAddr, port: u16) -> Self {
        let mss = if destination.is_ipv4() { MSS_V4 } else { MSS_V6 };
        Self {
            source,
            destination,
            source_port: 40_000,
            port,
            sequence: 1,
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            tags: Vec::new(),
            options: vec![TcpOptionElement::MaximumSegmentSize(mss)],
        }
    }

    pub fn macs(self, source_mac: [u8; 6], destination_mac: [u8; 6]) -> Self {
        Self { source_mac, destination_mac, ..self }
    }

    /// From which port, and with which sequence number.
    pub fn connection(self, source_port: u16, sequence: u32) -> Self {
        Self { source_port, sequence, ..self }
    }

    /// VLAN identifiers, the outer one first; two at most.
    pub fn tags(self, tags: &[u16]) -> Self {
        Self { tags: tags.to_vec(), ..self }
    }

    pub fn options(self, options: &[TcpOptionElement]) -> Self {
        Self { options: options.to_vec(), ..self }
    }

    pub fn build(&self) -> Result<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2(self.source_mac, self.destination_mac);
        let tag = |id: u16| VlanId::try_new(id).context("not a VLAN identifier");
        let ip = ip_headers(self.source, self.destination)?;
        let packet = match *self.tags {
            [] => ethernet.ip(ip),
            [inner] => ethernet.single_vlan(tag(inner)?).ip(ip),
            [outer, inner] => ethernet.double_vlan(tag(outer)?, tag(inner)?).ip(ip),
            _ => bail!("more than two VLAN tags"),
        };
        let packet = packet.tcp(self.source_port, self.port, self.sequence, WINDOW).syn();
        let mut frame = Vec::new();
        packet.options(&self.options)?.write_to_vec(&mut frame, &[])?;
        Ok(frame)
    }
}

/// Headers of a TCP segment between two addresses.
///
/// # Errors
///
/// If they are of different families.
pub(crate) fn ip_headers(source: IpAddr, destination: IpAddr) -> Result<IpHeaders> {
    Ok(match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header::new(0, HOP_LIMIT, IpNumber::TCP, source.octets(), destination.octets())?;
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: IpNumber::TCP,
                hop_limit: HOP_LIMIT,
                source: source.octets(),
                destination: destination.octets(),
            };
            IpHeaders::Ipv6(header, Default::default())
        }
        (source, destination) => bail!("{source} and {destination} are of different families"),
    })
}
