//! From the description of a packet to its bytes.

use std::net::IpAddr;

use super::{Extension, Fragment, Link, SynPacket, TCP, Transport, UDP};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const FRAGMENT_HEADER: u8 = 44;
const MACS: [[u8; 6]; 2] = [super::STATION, [2, 0, 0, 0, 0, 1]];
const HOPS: u8 = 64;
const IDENTIFICATION: u32 = 0x1234;

impl SynPacket {
    /// The frame, from its Ethernet header on.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = MACS.concat();
        frame[0] |= u8::from(self.to_group);
        for (ether_type, id) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let right = if self.destination.is_ipv4() { IPV4 } else { IPV6 };
        frame.extend(self.wrong.ether_type.unwrap_or(right).to_be_bytes());
        frame.extend(self.ip_packet());
        frame.extend(&self.trailer);
        frame.truncate(self.frame_len.unwrap_or(usize::MAX));
        frame
    }

    fn ip_packet(&self) -> Vec<u8> {
        let mut payload = self.extensions();
        payload.extend(self.carried_transport());
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.v4_packet(source.octets(), destination.octets(), &payload)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.v6_packet(source.octets(), destination.octets(), &payload)
            }
            (source, destination) => panic!("{source} and {destination} are of different families"),
        }
    }

    fn v4_packet(&self, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        assert!(self.ip_options.is_multiple_of(4) && self.ip_options <= 40, "IPv4 options are words, ten at most");
        let header_len = 20 + self.ip_options;
        let version = self.wrong.ip_version.unwrap_or(4);
        let words = self.wrong.header_words.unwrap_or((header_len / 4) as u8);
        let total_len = self.wrong.total_len.unwrap_or((header_len + payload.len()) as u16);
        let fragment = self.fragment.unwrap_or(Fragment { offset: 0, more: false });
        let fragmentation = (fragment.offset / 8) as u16 | u16::from(fragment.more) << 13;

        let mut packet = vec![version << 4 | words & 0x0f, 0];
        packet.extend(total_len.to_be_bytes());
        packet.extend((IDENTIFICATION as u16).to_be_bytes());
        packet.extend(fragmentation.to_be_bytes());
        packet.extend([HOPS, self.first_protocol(), 0, 0]);
        packet.extend(source);
        packet.extend(destination);
        packet.resize(header_len, 1);
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    fn v6_packet(&self, source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
        let version = self.wrong.ip_version.unwrap_or(6);
        // A longer one than fits is written as 0, as the kernel does in coalesced packets (BIG TCP).
        let payload_len = self.wrong.total_len.unwrap_or(u16::try_from(payload.len()).unwrap_or(0));

        let mut packet = vec![version << 4, 0, 0, 0];
        packet.extend(payload_len.to_be_bytes());
        packet.extend([self.first_protocol(), HOPS]);
        packet.extend(source);
        packet.extend(destination);
        packet.extend(payload);
        packet
    }

    /// The links that stand in the packet: IPv4 has the fragment's place in its header.
    fn links(&self) -> impl Iterator<Item = &Link> + Clone {
        let v6 = self.destination.is_ipv6();
        self.chain.iter().filter(move |link| v6 || matches!(link, Link::Extension { .. }))
    }

    fn first_protocol(&self) -> u8 {
        self.links().next().map_or(self.transport.protocol(), Link::protocol)
    }

    fn extensions(&self) -> Vec<u8> {
        let next = self.links().skip(1).map(Link::protocol).chain([self.transport.protocol()]);
        self.links().zip(next).flat_map(|(link, next)| self.link(link, next)).collect()
    }

    fn link(&self, link: &Link, next: u8) -> Vec<u8> {
        match link {
            Link::Extension { kind, len } => {
                let units = match kind {
                    Extension::Authentication => len / 4 - 2,
                    _ => len / 8 - 1,
                };
                // Zeros are padding options (Pad1), and a routing header with no segments left.
                let mut header = vec![0; *len];
                header[0] = next;
                header[1] = u8::try_from(units).expect("an extension header holds at most 2048 bytes");
                header
            }
            Link::Fragment => {
                let Fragment { offset, more } = self.fragment.expect("set with the link");
                let mut header = vec![next, 0];
                header.extend((offset as u16 | u16::from(more)).to_be_bytes());
                header.extend(IDENTIFICATION.to_be_bytes());
                header
            }
        }
    }

    fn carried_transport(&self) -> Vec<u8> {
        let whole = self.transport_bytes();
        let offset = self.fragment.map_or(0, |fragment| fragment.offset).min(whole.len());
        let end = self.carried.map_or(whole.len(), |len| whole.len().min(offset + len));
        whole[offset..end].to_vec()
    }

    fn transport_bytes(&self) -> Vec<u8> {
        let ports = [self.source_port.to_be_bytes(), self.port.to_be_bytes()].concat();
        match &self.transport {
            Transport::Raw { bytes, .. } => bytes.clone(),
            Transport::Udp { data } => {
                let mut datagram = ports;
                datagram.extend((8 + data.len() as u16).to_be_bytes());
                datagram.extend([0, 0]);
                datagram.extend(data);
                self.with_checksum(datagram, UDP, 6)
            }
            Transport::Tcp { flags, accurate_ecn, sequence, options, data } => {
                assert!(options.len().is_multiple_of(4) && options.len() <= 40, "TCP options are words, ten at most");
                let words = self.wrong.data_offset.unwrap_or((5 + options.len() / 4) as u8);
                let mut segment = ports;
                segment.extend(sequence.to_be_bytes());
                segment.extend(u32::from(flags & super::ACK != 0).to_be_bytes());
                segment.extend([words << 4 | u8::from(*accurate_ecn), *flags]);
                segment.extend([0xfa, 0xf0, 0, 0, 0, 0]);
                segment.extend(options);
                segment.extend(data);
                self.with_checksum(segment, TCP, 16)
            }
        }
    }

    fn with_checksum(&self, mut segment: Vec<u8>, protocol: u8, at: usize) -> Vec<u8> {
        let mut pseudo = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (IpAddr::V6(source), IpAddr::V6(destination)) => [source.octets(), destination.octets()].concat(),
            (source, destination) => panic!("{source} and {destination} are of different families"),
        };
        pseudo.extend((segment.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol]);
        pseudo.extend(&segment);
        let sum = checksum(&pseudo);
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }
}

impl Link {
    fn protocol(&self) -> u8 {
        match self {
            Self::Extension { kind, .. } => kind.protocol(),
            Self::Fragment => FRAGMENT_HEADER,
        }
    }
}

impl Transport {
    fn protocol(&self) -> u8 {
        match self {
            Self::Tcp { .. } => TCP,
            Self::Udp { .. } => UDP,
            Self::Raw { protocol, .. } => *protocol,
        }
    }
}

/// The Internet checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::super::{ACK, DOT1Q, Extension::*, PSH, SYN};
    use super::*;

    fn valid() -> Vec<SynPacket> {
        let both = |change: fn(SynPacket) -> SynPacket| [change(SynPacket::v4()), change(SynPacket::v6())];
        let mut packets: Vec<SynPacket> = [
            both(|packet| packet),
            both(|packet| packet.vlan(5)),
            both(|packet| packet.q_in_q(5, 7)),
            both(|packet| packet.flags(ACK | PSH).data(b"EHLO mx.example\r\n")),
            both(|packet| packet.accurate_ecn().tcp_options(&[1; 40])),
            both(|packet| packet.udp(&[7; 1201])),
        ]
        .concat();
        packets.push(SynPacket::v4().ip_options(40));
        packets.push(SynPacket::v6().extension(HopByHop, 16).extension(Destination, 8).extension(Authentication, 24));
        packets.push(SynPacket::v6().extension(Routing, 8).atomic_fragment());
        packets
    }

    #[test]
    fn another_parser_reads_the_packets_and_finds_their_checksums_right() {
        for packet in valid() {
            let frame = packet.build();
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
            match sliced.transport.as_ref().expect("a transport") {
                TransportSlice::Tcp(tcp) => {
                    assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 25));
                    let right = match sliced.net.as_ref().expect("an IP header") {
                        NetSlice::Ipv4(ip) => {
                            let header = ip.header();
                            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
                            tcp.calc_checksum_ipv4(header.source(), header.destination())
                        }
                        NetSlice::Ipv6(ip) => tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(right.expect("short enough"), tcp.checksum(), "{packet:?}");
                }
                TransportSlice::Udp(udp) => assert_eq!(usize::from(udp.length()), 8 + 1201),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn fragments_make_up_their_packet() {
        let whole = SynPacket::v4().flags(SYN).data(&[9; 100]);
        let transport = whole.transport_bytes();
        let first = whole.clone().first_fragment(64).build();
        let last = whole.fragment_offset(64).build();
        assert_eq!([&first[34..], &last[34..]].concat(), transport);
        assert_eq!(first[20..22], [0x20, 0]);
        assert_eq!(last[20..22], [0, 8]);
    }

    #[test]
    fn tags_stand_before_the_type_of_the_packet() {
        let frame = SynPacket::v4().q_in_q(5, 7).build();
        assert_eq!(frame[12..22], [0x88, 0xa8, 0, 5, 0x81, 0, 0, 7, 0x08, 0]);
        assert_eq!(SynPacket::v4().tag(DOT1Q, 0).build()[12..18], [0x81, 0, 0, 0, 0x08, 0]);
    }
}
