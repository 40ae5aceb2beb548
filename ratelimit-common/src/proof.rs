//! What completed handshakes leave behind: proven sources, and connections that are open.
//!
//! Only the program that watches sockets writes these, and the controller; packets never do.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::Address,
    ban::mixed,
    limit::Limit,
    set::{SERVICES, ServiceId},
};

/// Proven sources, unless the controller asks for another number.
pub const PROVEN_SOURCES: usize = 262_144;
/// How long a source is proven after its last handshake.
pub const PROVEN_NS: u64 = 30 * 24 * 3600 * 1_000_000_000;
/// Networks of IPv6 (/48) of which proven sources are counted.
pub const SITES: usize = 65_536;
/// The most proven sources (/64) of one of them: whoever owns a /48 owns 65,536.
pub const PROVEN_PER_SITE: u32 = 256;
/// Sources and services with open connections.
pub const OPEN_SOURCES: usize = 262_144;
/// Those with connections that are older than the program that watches.
pub const OLDER_SOURCES: usize = 65_536;
/// Cells of each limit of each service that only completed handshakes charge: 4 MiB in all.
pub const COMPLETED_CELLS: u32 = 16_384;
pub const COMPLETED_LINES: usize = SERVICES * 4 * COMPLETED_CELLS as usize / crate::map::CELLS_PER_LINE;

const V6_SOURCE_LENGTH: u8 = 64;
const V6_SITE_LENGTH: u8 = 48;

/// Words of the filter in front of proven sources: 1 MiB, so that who is none costs a touch of near memory. With a quarter of a
/// million sources less than one stranger in a hundred is looked for all the same.
pub const FILTER_WORDS: usize = 1 << 17;

/// The word of a proven source in the filter, and its two bits there.
#[inline(always)]
pub const fn filter_place(source: Address) -> (u32, u64) {
    let hash = mixed(source, V6_SOURCE_LENGTH as u64);
    ((hash >> 47) as u32 % FILTER_WORDS as u32, 1 << (hash >> 41 & 63) | 1 << (hash >> 35 & 63))
}

/// A source as proof knows it: an IPv4 address, or an IPv6 /64, whose owner has all addresses in it.
#[inline(always)]
pub const fn proven_source(source: Address) -> Address {
    if source.is_v4() { source } else { source.masked(Address::mask(V6_SOURCE_LENGTH)) }
}

/// The network whose proven sources are counted together; none of IPv4.
#[inline(always)]
pub const fn site(source: Address) -> Option<Address> {
    if source.is_v4() { None } else { Some(source.masked(Address::mask(V6_SITE_LENGTH))) }
}

/// What is known of a proven source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Proven {
    /// Its last handshake: nanoseconds of `CLOCK_MONOTONIC`, wrapping below zero for those before the machine started.
    pub last_ns: u64,
    /// When a connection of it ended in which it had received and sent data; 0 if none has.
    pub exchanged_ns: u64,
}

impl Proven {
    #[inline(always)]
    pub const fn is_good(&self, now_ns: u64) -> bool {
        now_ns.wrapping_sub(self.last_ns) < PROVEN_NS || self.last_ns.wrapping_sub(now_ns) < SKEW_NS
    }

    /// Whether it was seen at a moment or later.
    pub const fn is_seen_since(&self, since_ns: u64) -> bool {
        (self.last_ns as i64) >= since_ns as i64
            || (self.exchanged_ns != 0 && (self.exchanged_ns as i64) >= since_ns as i64)
    }
}

/// How far two processors' clocks may differ.
const SKEW_NS: u64 = 1_000_000_000;

/// Whose connections to what are counted together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct OpenKey {
    source: Address,
    service: u64,
}

impl OpenKey {
    /// Of what is counted no more.
    pub const NOBODY: Self = Self { source: Address::from_words(0, 0), service: u64::MAX };

    /// The source as the limits of the service mask it.
    #[inline(always)]
    pub const fn new(source: Address, service: ServiceId) -> Self {
        Self { source, service: service.index() as u64 }
    }

    pub const fn source(&self) -> Address {
        self.source
    }

    pub const fn service(&self) -> Option<ServiceId> {
        ServiceId::new(self.service as usize)
    }
}

/// Connections that are open.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Open {
    pub count: u64,
    /// When that changed last: nanoseconds of `CLOCK_MONOTONIC`.
    pub changed_ns: u64,
}

/// What a socket carries that is counted, so that it is taken off where it was added.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Mark {
    pub key: OpenKey,
}

const _: () = assert!(size_of::<Proven>() == 16);
const _: () = assert!(size_of::<OpenKey>() == 24);
const _: () = assert!(size_of::<Open>() == 16);

/// What the watching program counts for all sources together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Watched {
    /// Completed handshakes.
    pub handshakes: u64,
    /// Sources that are not noted as proven because there is no room.
    pub not_noted: u64,
    /// The same because of their /48.
    pub not_noted_of_site: u64,
    /// Connections that are not counted because there is no room.
    pub not_counted: u64,
    /// Handshakes after which no DNSBL was asked because the controller did not take them.
    pub not_told: u64,
}

/// A limit, in the cells that only completed handshakes charge. `window` is its place among the limits of the service.
#[inline(always)]
pub const fn of_completions(limit: &Limit, service: ServiceId, window: u32) -> Limit {
    let first_cell = (service.index() as u32 * 4 + window) * COMPLETED_CELLS;
    Limit { increment: limit.increment, tolerance: limit.tolerance, first_cell, cells: COMPLETED_CELLS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_shows_every_source_and_few_strangers() {
        extern crate std;
        let mut words = std::vec![0u64; FILTER_WORDS];
        // Spread over both families, none twice: the multiplier is odd.
        let address = |number: u32| match number % 2 {
            0 => Address::from_v4(number.wrapping_mul(0x9e37_79b1)),
            _ => Address::from_words(0x2001_0db8_0000_0000 | u64::from(number), 0),
        };
        let is_in = |words: &[u64], source| {
            let (word, bits) = filter_place(source);
            words[word as usize] & bits == bits
        };
        let known = 0..PROVEN_SOURCES as u32;
        for source in known.clone().map(address) {
            let (word, bits) = filter_place(source);
            words[word as usize] |= bits;
        }
        assert!(known.map(address).all(|source| is_in(&words, source)));
        let strangers = (PROVEN_SOURCES as u32..2 * PROVEN_SOURCES as u32).map(address);
        let found = strangers.filter(|source| is_in(&words, *source)).count();
        assert!(found * 100 < PROVEN_SOURCES, "{found}");
    }

    #[test]
    fn a_source_is_proven_for_thirty_days_also_from_before_the_machine_started() {
        let proven = |last_ns| Proven { last_ns, exchanged_ns: 0 };
        let hour = 3600 * 1_000_000_000;
        assert!(proven(5).is_good(5 + PROVEN_NS - 1) && !proven(5).is_good(5 + PROVEN_NS));
        // Ten days before a start an hour ago.
        let early = proven(0u64.wrapping_sub(240 * hour));
        assert!(early.is_good(hour) && early.is_good(400 * hour) && !early.is_good(500 * hour));
        assert!(proven(hour + 1).is_good(hour), "by another processor's clock");
        assert!(!early.is_seen_since(1) && proven(7).is_seen_since(7) && !proven(7).is_seen_since(8));
    }
}
