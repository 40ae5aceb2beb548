//! Random damage to valid packets, the same for the same number everywhere.

use super::{ACK, Extension, PSH, SYN, SynPacket};

/// SplitMix64: every number is a good seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }
}

/// The packets that mutations start from, valid but for one that claims a mapped source.
#[derive(Debug)]
pub struct Corpus(Vec<Vec<u8>>);

/// Bytes that mean something somewhere: lengths, protocols, EtherTypes, flags.
const TELLING: [u8; 20] = [0, 1, 2, 4, 5, 6, 8, 17, 20, 25, 40, 43, 44, 51, 58, 60, 0x7f, 0x81, 0xa8, 0xff];
/// Headers lie before this; what is behind matters little.
const HEADERS: usize = 110;
const LONGEST: usize = 1600;

impl Default for Corpus {
    fn default() -> Self {
        Self::new()
    }
}

impl Corpus {
    pub fn new() -> Self {
        let both = |change: fn(SynPacket) -> SynPacket| [change(SynPacket::v4()), change(SynPacket::v6())];
        let mut packets: Vec<SynPacket> = [
            both(|packet| packet),
            both(|packet| packet.to_port(993).accurate_ecn()),
            both(|packet| packet.vlan(5)),
            both(|packet| packet.q_in_q(5, 7)),
            both(|packet| packet.flags(ACK)),
            both(|packet| packet.flags(ACK | PSH).data(&[b'x'; 300])),
            both(|packet| packet.flags(SYN).data(&[b'x'; 40])),
            both(|packet| packet.first_fragment(24)),
            both(|packet| packet.first_fragment(8)),
            both(|packet| packet.data(&[0; 64]).fragment_offset(24)),
            both(|packet| packet.udp(&[7; 64])),
            both(|packet| packet.extension(Extension::Authentication, 24)),
        ]
        .concat();
        packets.push(SynPacket::v6().from("::ffff:192.0.2.7"));
        packets.extend([
            SynPacket::v4().ip_options(12),
            SynPacket::v4().ip_options(40),
            SynPacket::v6().atomic_fragment(),
        ]);
        packets.extend(Extension::ALL.map(|kind| SynPacket::v6().extension(kind, 16)));
        packets.push((0..8).fold(SynPacket::v6(), |packet, _| packet.extension(Extension::Destination, 8)));
        packets.push(SynPacket::v6().extension(Extension::HopByHop, 1024).extension(Extension::Destination, 256));
        Self(packets.iter().map(SynPacket::build).collect())
    }

    /// The packet of this number, damaged in one to four places.
    pub fn mutated(&self, number: u64, frame: &mut Vec<u8>) {
        let mut random = Random::new(number);
        frame.clear();
        frame.extend(&self.0[random.below(self.0.len())]);
        for _ in 0..=random.below(4) {
            self.damage(frame, &mut random);
        }
        frame.truncate(LONGEST);
    }

    fn damage(&self, frame: &mut Vec<u8>, random: &mut Random) {
        if frame.is_empty() {
            return;
        }
        let reach = if random.below(8) == 0 { frame.len() } else { frame.len().min(HEADERS) };
        let at = random.below(reach);
        match random.below(8) {
            0 | 1 => frame[at] ^= 1 << random.below(8),
            2 => frame[at] = random.word() as u8,
            3 => frame[at] = TELLING[random.below(TELLING.len())],
            4 => frame.truncate(at),
            5 => {
                let inserted = (0..=random.below(16)).map(|_| random.word() as u8).collect::<Vec<_>>();
                frame.splice(at..at, inserted);
            }
            6 => {
                let end = frame.len().min(at + 1 + random.below(16));
                frame.drain(at..end);
            }
            _ => {
                // A piece of another packet in the same place: one header under another's name.
                let other = &self.0[random.below(self.0.len())];
                let end = frame.len().min(other.len()).min(at + 1 + random.below(40));
                if at < end {
                    frame[at..end].copy_from_slice(&other[at..end]);
                }
            }
        }
    }
}
