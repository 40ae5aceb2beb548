//! A valid SYN, and one method for everything that can be different about it.
//!
//! `SynPacket::v4().to_port(25).from("192.0.2.7").fragment_offset(8)`: lengths and checksums are right unless a
//! method of the last group makes them wrong.

use std::net::IpAddr;

use ratelimit_common::Family;

mod build;
pub mod mutate;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

/// The hardware address that packets are for.
pub const STATION: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// EtherTypes of VLAN tags.
pub const DOT1Q: u16 = 0x8100;
pub const DOT1AD: u16 = 0x88a8;

/// IP protocol numbers that are not extension headers.
pub const ICMP: u8 = 1;
pub const IP_IN_IP: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const IPV6_IN_IP: u8 = 41;
pub const ESP: u8 = 50;
pub const ICMPV6: u8 = 58;
pub const NO_NEXT_HEADER: u8 = 59;

/// Length of an Ethernet header, and of the IP headers without options.
pub const ETHERNET_LEN: usize = 14;
pub const V4_LEN: usize = 20;
pub const V6_LEN: usize = 40;

/// What precedes TCP behind an IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    HopByHop,
    Routing,
    Authentication,
    Destination,
    Mobility,
    HostIdentity,
    Shim6,
}

impl Extension {
    pub const ALL: [Self; 7] = [
        Self::HopByHop,
        Self::Routing,
        Self::Authentication,
        Self::Destination,
        Self::Mobility,
        Self::HostIdentity,
        Self::Shim6,
    ];

    const fn protocol(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Routing => 43,
            Self::Authentication => 51,
            Self::Destination => 60,
            Self::Mobility => 135,
            Self::HostIdentity => 139,
            Self::Shim6 => 140,
        }
    }
}

/// A header between the IP header and the transport.
#[derive(Debug, Clone, Copy)]
enum Link {
    Extension {
        kind: Extension,
        len: usize,
    },
    /// The IPv6 fragment header; what it says stands in [`Fragment`].
    Fragment,
}

/// Which part of its packet a frame carries.
#[derive(Debug, Clone, Copy)]
struct Fragment {
    offset: usize,
    more: bool,
}

#[derive(Debug, Clone)]
enum Transport {
    Tcp { flags: u8, accurate_ecn: bool, sequence: u32, options: Vec<u8>, data: Vec<u8> },
    Udp { data: Vec<u8> },
    Raw { protocol: u8, bytes: Vec<u8> },
}

/// What a mutation writes instead of the right value.
#[derive(Debug, Clone, Default)]
struct Wrong {
    ether_type: Option<u16>,
    ip_version: Option<u8>,
    header_words: Option<u8>,
    total_len: Option<u16>,
    data_offset: Option<u8>,
}

/// A TCP SYN, or what its methods make of it.
#[derive(Debug, Clone)]
pub struct SynPacket {
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    port: u16,
    tags: Vec<(u16, u16)>,
    ip_options: usize,
    chain: Vec<Link>,
    fragment: Option<Fragment>,
    /// Bytes of the transport that this frame carries, from the fragment's offset on.
    carried: Option<usize>,
    transport: Transport,
    wrong: Wrong,
    frame_len: Option<usize>,
    trailer: Vec<u8>,
    to_group: bool,
}

impl SynPacket {
    /// From 192.0.2.7 to port 25 of 198.51.100.25, with the MSS option that a client sends.
    pub fn v4() -> Self {
        Self::between("192.0.2.7", "198.51.100.25")
    }

    /// From 2001:db8:7::7 to port 25 of 2001:db8:25::25.
    pub fn v6() -> Self {
        Self::between("2001:db8:7::7", "2001:db8:25::25")
    }

    fn between(source: &str, destination: &str) -> Self {
        let transport = Transport::Tcp {
            flags: SYN,
            accurate_ecn: false,
            sequence: 1,
            options: vec![2, 4, 0x05, 0xa0],
            data: Vec::new(),
        };
        Self {
            source: parsed(source),
            destination: parsed(destination),
            source_port: 40_000,
            port: 25,
            tags: Vec::new(),
            ip_options: 0,
            chain: Vec::new(),
            fragment: None,
            carried: None,
            transport,
            wrong: Wrong::default(),
            frame_len: None,
            trailer: Vec::new(),
            to_group: false,
        }
    }

    pub fn family(&self) -> Family {
        if self.destination.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Panics if the text is no address, as every method that takes one.
    pub fn from(self, source: &str) -> Self {
        self.from_address(parsed(source))
    }

    pub fn from_address(self, source: IpAddr) -> Self {
        Self { source, ..self }
    }

    pub fn to(self, destination: &str) -> Self {
        Self { destination: parsed(destination), ..self }
    }

    /// In a frame for several stations.
    pub fn to_group(self) -> Self {
        Self { to_group: true, ..self }
    }

    pub fn to_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    pub fn sequence(mut self, number: u32) -> Self {
        if let Transport::Tcp { sequence, .. } = &mut self.transport {
            *sequence = number;
        }
        self
    }

    pub fn from_port(self, source_port: u16) -> Self {
        Self { source_port, ..self }
    }

    /// One more tag, inside those before it.
    pub fn tag(mut self, ether_type: u16, id: u16) -> Self {
        self.tags.push((ether_type, id));
        self
    }

    pub fn vlan(self, id: u16) -> Self {
        self.tag(DOT1Q, id)
    }

    pub fn q_in_q(self, outer: u16, inner: u16) -> Self {
        self.tag(DOT1AD, outer).tag(DOT1Q, inner)
    }

    /// Bytes of IPv4 options (no-operations), a multiple of 4 up to 40.
    pub fn ip_options(self, len: usize) -> Self {
        Self { ip_options: len, ..self }
    }

    /// One more header before TCP, `len` bytes long: a multiple of 8, or of 4 for an authentication header.
    pub fn extension(mut self, kind: Extension, len: usize) -> Self {
        self.chain.push(Link::Extension { kind, len });
        self
    }

    /// The first fragment, with `len` bytes of the transport. IPv6: the fragment header follows those before it.
    pub fn first_fragment(self, len: usize) -> Self {
        Self { carried: Some(len), ..self.fragmented(0, true) }
    }

    /// The last fragment, from this byte of the transport on.
    pub fn fragment_offset(self, offset: usize) -> Self {
        self.fragmented(offset, false)
    }

    /// A fragment from the middle.
    pub fn middle_fragment(self, offset: usize, len: usize) -> Self {
        Self { carried: Some(len), ..self.fragmented(offset, true) }
    }

    /// An IPv6 fragment header around a whole packet (RFC 6946).
    pub fn atomic_fragment(self) -> Self {
        self.fragmented(0, false)
    }

    fn fragmented(mut self, offset: usize, more: bool) -> Self {
        assert!(offset.is_multiple_of(8), "fragments start at multiples of 8");
        self.chain.push(Link::Fragment);
        Self { fragment: Some(Fragment { offset, more }), ..self }
    }

    /// All of the first eight TCP flags.
    pub fn flags(mut self, wanted: u8) -> Self {
        if let Transport::Tcp { flags, .. } = &mut self.transport {
            *flags = wanted;
        }
        self
    }

    /// The SYN of a client that asks for accurate ECN: AE, CWR and ECE.
    pub fn accurate_ecn(mut self) -> Self {
        if let Transport::Tcp { flags, accurate_ecn, .. } = &mut self.transport {
            *flags |= ECE | CWR;
            *accurate_ecn = true;
        }
        self
    }

    /// A multiple of 4 bytes up to 40.
    pub fn tcp_options(mut self, wanted: &[u8]) -> Self {
        if let Transport::Tcp { options, .. } = &mut self.transport {
            *options = wanted.to_vec();
        }
        self
    }

    /// Behind the TCP or UDP header.
    pub fn data(mut self, bytes: &[u8]) -> Self {
        match &mut self.transport {
            Transport::Tcp { data, .. } | Transport::Udp { data } => *data = bytes.to_vec(),
            Transport::Raw { bytes: old, .. } => *old = bytes.to_vec(),
        }
        self
    }

    /// A UDP datagram between the same ports instead.
    pub fn udp(self, data: &[u8]) -> Self {
        Self { transport: Transport::Udp { data: data.to_vec() }, ..self }
    }

    /// Another protocol instead of TCP.
    pub fn protocol(self, protocol: u8, bytes: &[u8]) -> Self {
        Self { transport: Transport::Raw { protocol, bytes: bytes.to_vec() }, ..self }
    }

    /// Bytes behind the IP packet, such as the padding of a short frame.
    pub fn trailer(self, bytes: &[u8]) -> Self {
        Self { trailer: bytes.to_vec(), ..self }
    }

    /// Zeros up to this length of frame.
    pub fn padded_to(self, len: usize) -> Self {
        let zeros = vec![0; len.saturating_sub(self.build().len())];
        self.trailer(&zeros)
    }
}

/// What makes a packet wrong.
impl SynPacket {
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.wrong.ether_type = Some(ether_type);
        self
    }

    pub fn ip_version(mut self, version: u8) -> Self {
        self.wrong.ip_version = Some(version);
        self
    }

    /// The IPv4 header length, in words of 4 bytes.
    pub fn header_words(mut self, words: u8) -> Self {
        self.wrong.header_words = Some(words);
        self
    }

    /// The total length of IPv4, the payload length of IPv6.
    pub fn total_len(mut self, len: u16) -> Self {
        self.wrong.total_len = Some(len);
        self
    }

    /// The TCP header length, in words of 4 bytes.
    pub fn tcp_data_offset(mut self, words: u8) -> Self {
        self.wrong.data_offset = Some(words);
        self
    }

    /// Cuts the frame off.
    pub fn truncate(self, frame_len: usize) -> Self {
        Self { frame_len: Some(frame_len), ..self }
    }
}

fn parsed(address: &str) -> IpAddr {
    address.parse().unwrap_or_else(|_| panic!("{address} is no address"))
}
