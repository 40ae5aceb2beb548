//! One TCP segment and its endpoints: made into a frame by hand, or read from one.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};

use crate::template::ip_headers;

/// Where somebody without a kernel of his own is on the wire.
#[derive(Debug, Clone)]
pub struct Link {
    pub namespace: PathBuf,
    pub interface: String,
    pub mac: [u8; 6],
    /// Of whoever the frames go to.
    pub next_hop: [u8; 6],
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    pub syn: bool,
    pub fin: bool,
    pub reset: bool,
    pub sequence: u32,
    /// `None`: the ACK flag is not set.
    pub acknowledgement: Option<u32>,
    pub window: u16,
    /// As they stand in the header, a multiple of 4 bytes up to 40.
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

impl Segment {
    /// The segment of a frame, and from where to where it goes.
    pub fn read(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, Self)> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let (source, destination) = match packet.net? {
            NetSlice::Ipv4(ip) => (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr())),
            NetSlice::Ipv6(ip) => (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr())),
            NetSlice::Arp(_) => return None,
        };
        let TransportSlice::Tcp(tcp) = packet.transport? else {
            return None;
        };
        let segment = Self {
            syn: tcp.syn(),
            fin: tcp.fin(),
            reset: tcp.rst(),
            sequence: tcp.sequence_number(),
            acknowledgement: tcp.ack().then_some(tcp.acknowledgment_number()),
            window: tcp.window_size(),
            options: tcp.options().to_vec(),
            data: tcp.payload().to_vec(),
        };
        Some(((source, tcp.source_port()).into(), (destination, tcp.destination_port()).into(), segment))
    }

    /// A frame with valid checksums.
    ///
    /// # Errors
    ///
    /// If the endpoints are of different families, or the options are no whole words, or too many.
    pub fn frame(&self, link: &Link, from: SocketAddr, to: SocketAddr) -> Result<Vec<u8>> {
        let mut header = TcpHeader::new(from.port(), to.port(), self.sequence, self.window);
        header.syn = self.syn;
        header.fin = self.fin;
        header.rst = self.reset;
        header.psh = !self.data.is_empty();
        header.ack = self.acknowledgement.is_some();
        header.acknowledgment_number = self.acknowledgement.unwrap_or_default();
        header.set_options_raw(&self.options)?;
        let packet =
            PacketBuilder::ethernet2(link.mac, link.next_hop).ip(ip_headers(from.ip(), to.ip())?).tcp_header(header);
        let mut frame = Vec::with_capacity(packet.size(self.data.len()));
        packet.write(&mut frame, &self.data)?;
        Ok(frame)
    }

    pub fn is_syn_ack(&self) -> bool {
        self.syn && !self.reset && self.acknowledgement.is_some()
    }

    /// What its receiver acknowledges.
    pub fn next_sequence(&self) -> u32 {
        let len = self.data.len() as u32 + u32::from(self.syn) + u32::from(self.fin);
        self.sequence.wrapping_add(len)
    }

    /// The options in their order, up to the first one that cannot be read.
    pub fn options(&self) -> Vec<TcpOptionElement> {
        etherparse::TcpOptionsIterator::from_slice(&self.options).map_while(Result::ok).collect()
    }

    /// The timestamp that its sender wants to have echoed.
    pub fn timestamp(&self) -> Option<u32> {
        self.options().iter().find_map(|option| match option {
            TcpOptionElement::Timestamp(value, _) => Some(*value),
            _ => None,
        })
    }
}
