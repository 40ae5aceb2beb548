//! Bans: timed, exact, for a few prefix lengths. Only the controller writes them; packets count their hits.
//!
//! They lie in a hash table that packets cannot grow. In front of it stands a filter, three bits for each ban, so that a source
//! without one costs a single touch of memory: all bits about a source are in one line.

use bytemuck::{Pod, Zeroable};

use crate::{address::Address, bound::opaque};

/// The most bans at a time.
pub const MAX_BANS: usize = 1_000_000;
/// Prefix lengths of bans as the gate compares addresses: of an IPv4 network, 96 more than its own.
pub const V4_LENGTHS: [u8; LENGTHS] = [128, 120, 112, NO_LENGTH];
pub const V6_LENGTHS: [u8; LENGTHS] = [128, 64, 56, 48];
const LENGTHS: usize = 4;
/// Longer than any address: IPv4 has a length less.
const NO_LENGTH: u8 = 255;

/// Words of a line of the filter, which is a cache line.
pub const FILTER_WORDS: usize = 8;
/// 4 MiB: with a million bans in networks of their own, one miss in some hundred looks further than the filter.
pub const FILTER_LINES: usize = 1 << 16;
/// Bits of an address that choose its line: IPv4's /24, IPv6's /48.
const V4_LINE_LENGTH: u8 = 120;
const V6_LINE_LENGTH: u8 = 48;

pub type FilterLine = [u64; FILTER_WORDS];

/// What is banned.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct BanKey {
    network: Address,
    length: u64,
}

/// For how long and for which services, and what it stopped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Ban {
    /// Nanoseconds of `CLOCK_MONOTONIC`; it is over then, also where nobody removes it.
    pub until_ns: u64,
    /// One bit each.
    pub services: u64,
    pub hits: u64,
    /// 0 if nothing was stopped yet.
    pub last_hit_ns: u64,
}

const _: () = assert!(size_of::<BanKey>() == 24);
const _: () = assert!(size_of::<Ban>() == 32);

impl BanKey {
    /// `length` as the gate compares addresses; host bits are cleared.
    #[inline(always)]
    pub const fn new(network: Address, length: u8) -> Self {
        Self { network: network.masked(Address::mask(length)), length: length as u64 }
    }

    pub const fn network(&self) -> Address {
        self.network
    }

    pub const fn length(&self) -> u8 {
        self.length as u8
    }

    /// Whether bans of this length exist.
    pub fn has_length_of_bans(&self) -> bool {
        let lengths = if self.network.is_v4() { V4_LENGTHS } else { V6_LENGTHS };
        lengths.contains(&self.length())
    }

    /// The word of this ban in its line, or in its lines, and its bits there: three, or fewer where two are the same.
    ///
    /// One word, so that the kernel has little to keep on its stack.
    #[inline(always)]
    pub const fn filter_word(&self) -> (u64, u64) {
        let hash = mixed(self.network, self.length);
        let bits = 1 << (hash >> 55 & 63) | 1 << (hash >> 49 & 63) | 1 << (hash >> 43 & 63);
        (hash >> 61, bits)
    }

    /// The lines in which its bit stands: more than one where it is wider than what chooses a line.
    pub fn filter_lines(&self) -> impl Iterator<Item = u32> + use<> {
        let narrower = match self.network.is_v4() {
            true => V4_LINE_LENGTH.saturating_sub(self.length()),
            false => V6_LINE_LENGTH.saturating_sub(self.length()),
        };
        let (high, low) = self.network.words();
        // Only IPv4's /16 is wider: its /24s follow each other above the last octet.
        (0..1u64 << narrower.min(8)).map(move |index| filter_line(Address::from_words(high, low | index << 8)))
    }
}

/// The line of the filter that holds every bit about a source.
#[inline(always)]
pub const fn filter_line(source: Address) -> u32 {
    let length = if source.is_v4() { V4_LINE_LENGTH } else { V6_LINE_LENGTH };
    (mixed(source.masked(Address::mask(length)), 0) >> 48) as u32 % FILTER_LINES as u32
}

/// Every ban that a source would be under, the narrowest first, one at a time: the kernel's stack is small. The last one of
/// IPv4 is none: see [`BanKey::is_none`].
#[inline(always)]
pub fn candidates(source: Address) -> impl Iterator<Item = BanKey> {
    let lengths = if source.is_v4() { V4_LENGTHS } else { V6_LENGTHS };
    lengths.into_iter().map(move |length| BanKey::new(source, length))
}

impl BanKey {
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.length == NO_LENGTH as u64
    }

    /// Whether its bits are set in a line.
    #[inline(always)]
    pub fn is_in(&self, line: &FilterLine) -> bool {
        let (word, bits) = self.filter_word();
        !self.is_none() && line[opaque(word) as usize % FILTER_WORDS] & bits == bits
    }
}

/// Spreads networks over the filter. Without a key: who aims at a line with many bans costs himself, and the gate, four
/// more lookups at most.
#[inline(always)]
pub(crate) const fn mixed(network: Address, length: u64) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xd6e8_feb8_6659_fd93;
    let (high, low) = network.words();
    let mut word = (low ^ high.rotate_left(32)).wrapping_add(length).wrapping_mul(A);
    word ^= word >> 32;
    word = word.wrapping_add(high).wrapping_mul(B);
    word ^= word >> 29;
    word.wrapping_mul(A)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_in(filter: &mut [FilterLine], key: &BanKey) {
        let (word, bits) = key.filter_word();
        key.filter_lines().for_each(|line| filter[line as usize][word as usize] |= bits);
    }

    #[test]
    fn every_ban_is_found_by_every_address_inside() {
        extern crate std;
        let mut filter = std::vec![[0; FILTER_WORDS]; FILTER_LINES];
        let v4 = |host: u32| Address::from_v4(0xc000_0200 + host);
        let v6 = |low| Address::from_words(0x2001_0db8_0007_0000, low);
        for length in &V4_LENGTHS[..3] {
            let key = BanKey::new(v4(7), *length);
            assert!(key.has_length_of_bans());
            set_in(&mut filter, &key);
            for host in [7, 7 | if *length < 128 { 0xf8 } else { 0 }, 7 | if *length < 120 { 0x5500 } else { 0 }] {
                let found = candidates(v4(host))
                    .any(|candidate| candidate == key && candidate.is_in(&filter[filter_line(v4(host)) as usize]));
                assert!(found, "{length} {host}");
            }
        }
        for length in V6_LENGTHS {
            let key = BanKey::new(v6(7), length);
            set_in(&mut filter, &key);
            let inside = if length < 128 { v6(99) } else { v6(7) };
            assert!(
                candidates(inside).any(|candidate| candidate == key)
                    && key.is_in(&filter[filter_line(inside) as usize])
            );
        }
        assert!(!BanKey::new(v4(7), 121).has_length_of_bans());
        assert!(candidates(v4(7)).last().unwrap().is_none());
    }
}
