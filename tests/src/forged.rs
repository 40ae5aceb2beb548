//! Floods of segments that belong to no connection.

use std::net::IpAddr;

use anyhow::Result;

use crate::flood::{Flood, Pattern};
use crate::gateway::{OUT, Wire, gateway_for};
use crate::packet::{ACK, PSH, RST, SYN, SynPacket};

/// As much as a segment of a message holds.
const DATA_LEN: usize = 1000;

/// What a flood pretends to belong to. Source, source port and sequence number differ from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forged {
    /// The third packet of a handshake, or an acknowledgement of data.
    Ack,
    Reset,
    /// The answer to a connection attempt of the gateway.
    SynAck,
    /// A part of a message.
    Data,
}

impl Forged {
    pub const ALL: [Self; 4] = [Self::Ack, Self::Reset, Self::SynAck, Self::Data];

    /// One of them, from the port and with the sequence number that are everybody's.
    pub fn packet(self, source: IpAddr, destination: IpAddr, port: u16) -> SynPacket {
        let packet = if destination.is_ipv4() { SynPacket::v4() } else { SynPacket::v6() };
        let packet = packet.from_address(source).to(&destination.to_string()).to_port(port);
        match self {
            Self::Ack => packet.flags(ACK).tcp_options(&[]),
            Self::Reset => packet.flags(RST).tcp_options(&[]),
            Self::SynAck => packet.flags(SYN | ACK),
            Self::Data => packet.flags(ACK | PSH).tcp_options(&[]).data(&[b'.'; DATA_LEN]),
        }
    }

    /// A flood of them from the outside to a port of the gateway, made in the kernel.
    pub fn flood(self, wire: &Wire, port: u16, pattern: Pattern, family: IpAddr) -> Result<Flood> {
        let template = wire.frame(&self.packet(family, gateway_for(family), port));
        Ok(Flood::new(wire.outside.path(), OUT).template(template).sources(pattern))
    }
}
