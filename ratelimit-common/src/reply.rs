//! Answers that are made of the segment they answer: never longer than it, and nothing is remembered.

use crate::{
    address::{Address, Family},
    parse::Parsed,
};

/// Words of the longest answer: an IPv6 header and a TCP header without options.
pub const WORDS: usize = V6_WORDS + TCP_WORDS;
const V4_WORDS: usize = 5;
const V6_WORDS: usize = 10;
const TCP_WORDS: usize = 5;

const HOPS: u32 = 64;
const TCP: u32 = 6;
const TCP_BYTES: u32 = (TCP_WORDS * size_of::<u32>()) as u32;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;

/// Whether an answer may be sent: to an address that honest segments come from and that the frame shows as it is (not one
/// behind NAT64).
#[inline(always)]
pub const fn can_be_answered(parsed: &Parsed) -> bool {
    let as_shown = parsed.source.is_v4() == matches!(parsed.family, Family::V4);
    as_shown && parsed.source.is_answerable()
}

/// An answer from its IP header on, as words in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    words: [u32; WORDS],
    family: Family,
}

impl Answer {
    /// Says to whoever sent a SYN that nobody listens here for it (RFC 9293, section 3.10.7.1).
    #[inline(always)]
    pub fn reset(parsed: &Parsed) -> Self {
        let ports = (u32::from(parsed.port) << 16) | u32::from(parsed.source_port);
        let offset_and_flags = ((TCP_WORDS as u32) << 28) | ((RST | ACK) << 16);
        let segment = [ports, 0, parsed.sequence.wrapping_add(1), offset_and_flags];
        Self::of(parsed.family, parsed.destination, parsed.source, segment)
    }

    /// Asks whoever sent a SYN whether it is alive: acknowledges what it did not send.
    ///
    /// Without a SYN of its own: stateful firewalls on the way take the sequence number of a SYN+ACK for the server's, and then
    /// hold up the real one. A bare acknowledgement they let through as that of a half-open connection.
    #[inline(always)]
    pub fn challenge(parsed: &Parsed, cookie: u32) -> Self {
        let ports = (u32::from(parsed.port) << 16) | u32::from(parsed.source_port);
        let offset_and_flags = ((TCP_WORDS as u32) << 28) | (ACK << 16);
        Self::of(parsed.family, parsed.destination, parsed.source, [ports, 0, cookie, offset_and_flags])
    }

    /// Its words as they are stored; those of an IPv4 answer are the first ten.
    #[inline(always)]
    pub const fn words(&self) -> &[u32; WORDS] {
        &self.words
    }

    /// Its length in bytes.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        match self.family {
            Family::V6 => WORDS * size_of::<u32>(),
            Family::V4 | Family::Other => (V4_WORDS + TCP_WORDS) * size_of::<u32>(),
        }
    }

    #[inline(always)]
    fn of(family: Family, source: Address, destination: Address, segment: [u32; 4]) -> Self {
        let ((source_high, source_low), (destination_high, destination_low)) = (source.words(), destination.words());
        let words_of = |word: u64| [(word >> 32) as u32, word as u32];
        let addresses = [source_high, source_low, destination_high, destination_low].map(words_of);
        let [[s0, s1], [s2, s3], [d0, d1], [d2, d3]] = addresses;
        let [ports, sequence, acknowledgement, flags] = segment;
        let v6 = family == Family::V6;
        let mut sum = u64::from(TCP + TCP_BYTES) + u64::from(s3) + u64::from(d3);
        if v6 {
            sum += u64::from(s0) + u64::from(s1) + u64::from(s2) + u64::from(d0) + u64::from(d1) + u64::from(d2);
        }
        sum += u64::from(ports) + u64::from(sequence) + u64::from(acknowledgement) + u64::from(flags);
        let checksum = u32::from(checksum(sum)) << 16;
        let words = if v6 {
            let lengths = TCP_BYTES << 16 | TCP << 8 | HOPS;
            let tcp = [ports, sequence, acknowledgement, flags, checksum];
            let [t0, t1, t2, t3, t4] = tcp;
            [0x6000_0000, lengths, s0, s1, s2, s3, d0, d1, d2, d3, t0, t1, t2, t3, t4]
        } else {
            const TOTAL: u32 = 0x4500_0000 | ((V4_WORDS + TCP_WORDS) as u32 * 4);
            const DO_NOT_FRAGMENT: u32 = 0x4000;
            const HOPS_AND_PROTOCOL: u32 = HOPS << 24 | TCP << 16;
            let header = u64::from(TOTAL) + u64::from(DO_NOT_FRAGMENT) + u64::from(HOPS_AND_PROTOCOL);
            let header = u32::from(self::checksum(header + u64::from(s3) + u64::from(d3)));
            let hops = HOPS_AND_PROTOCOL | header;
            [TOTAL, DO_NOT_FRAGMENT, hops, s3, d3, ports, sequence, acknowledgement, flags, checksum, 0, 0, 0, 0, 0]
        };
        Self { words: words.map(u32::to_be), family }
    }
}

/// The Internet checksum of a sum: words of 32 bits may be added as they are (RFC 1071, section 2 (B)).
#[inline(always)]
const fn checksum(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}
