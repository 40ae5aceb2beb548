//! The key under which sources are spread over cells, and the clock base of those cells.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::Address,
    limit::{Moment, Ticks},
};

/// Lives beside the cells and as long as they do: a replaced program finds the same cells.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Secret {
    key: [u64; 2],
    /// Cells count from here, so that fresh (zero) cells lie in the past.
    base_ns: u64,
}

impl Secret {
    /// `base_ns` must lie one tick or more before every time the cells will see.
    pub const fn new(key: [u64; 2], base_ns: u64) -> Self {
        Self { key, base_ns }
    }

    #[inline(always)]
    pub const fn ticks(&self, now: Moment) -> Ticks {
        now.ticks_since(self.base_ns)
    }

    /// SipHash-1-3 over the 4 bytes of an IPv4 address or the 16 of any other.
    ///
    /// A keyed mixer that can be solved would let a sender aim at somebody else's cells.
    #[inline(always)]
    pub const fn hash(&self, address: Address) -> u64 {
        let (high, low) = address.words();
        let mut state = Sip::new(self.key);
        // The final word of SipHash holds the length of the message in its top byte, and what is left of it.
        if address.is_v4() {
            state.absorb((4 << 56) | (low & 0xffff_ffff));
        } else {
            state.absorb(high);
            state.absorb(low);
            state.absorb(16 << 56);
        }
        state.finish()
    }
}

impl Secret {
    /// The same over the addresses and ports of a connection. Its messages are longer than those of addresses, so that
    /// no hash of one kind is one of the other.
    #[inline(always)]
    pub const fn hash_connection(&self, source: Address, destination: Address, from: u16, to: u16) -> u64 {
        let ((source_high, source_low), (high, low)) = (source.words(), destination.words());
        let ports = ((from as u64) << 16) | to as u64;
        let mut state = Sip::new(self.key);
        if source.is_v4() && destination.is_v4() {
            state.absorb((source_low << 32) | (low & 0xffff_ffff));
            state.absorb((12 << 56) | ports);
        } else {
            state.absorb(source_high);
            state.absorb(source_low);
            state.absorb(high);
            state.absorb(low);
            state.absorb((36 << 56) | ports);
        }
        state.finish()
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Secret").field("base_ns", &self.base_ns).finish_non_exhaustive()
    }
}

struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    const fn new([k0, k1]: [u64; 2]) -> Self {
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    const fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }

    #[inline(always)]
    const fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    const fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    #[expect(deprecated, reason = "the one SipHash in the standard library whose key can be chosen")]
    use std::hash::{Hasher, SipHasher};

    /// The standard library has SipHash-2-4 only; the constants and the message layout are the same, so
    /// the same code with its rounds is compared with it.
    fn siphash_2_4(key: [u64; 2], high: u64, low: u64) -> u64 {
        let mut state = Sip::new(key);
        for word in [high, low, 16 << 56] {
            state.0[3] ^= word;
            state.round();
            state.round();
            state.0[0] ^= word;
        }
        state.0[2] ^= 0xff;
        for _ in 0..4 {
            state.round();
        }
        state.0[0] ^ state.0[1] ^ state.0[2] ^ state.0[3]
    }

    #[test]
    #[expect(deprecated, reason = "the one SipHash in the standard library whose key can be chosen")]
    fn rounds_and_layout_are_those_of_siphash() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        for (high, low) in [(0, 0), (1, 2), (u64::MAX, 0xffff_0000_0000 | 77)] {
            let mut reference = SipHasher::new_with_keys(key[0], key[1]);
            reference.write_u64(high);
            reference.write_u64(low);
            assert_eq!(siphash_2_4(key, high, low), reference.finish());
        }
    }

    #[test]
    fn the_key_decides() {
        let address = Address::from_v4(0xc000_0204);
        let one = Secret::new([1, 2], 0).hash(address);
        assert_eq!(one, Secret::new([1, 2], 99).hash(address));
        assert_ne!(one, Secret::new([1, 3], 0).hash(address));
        assert_ne!(one, Secret::new([1, 2], 0).hash(Address::from_v4(0xc000_0205)));
    }
}
