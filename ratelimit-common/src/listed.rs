//! Sources that DNSBLs list: how few connections each may still make, and the handshakes after which they are looked up.
//!
//! Only the controller puts a source in, and only after a completed handshake; packets charge what is there.

use bytemuck::{Pod, Zeroable};

use crate::{address::Address, limit::Moment, set::ServiceId};

/// The most sources and services at a time.
pub const MAX_LISTED: usize = 262_144;
/// Bytes of the buffer of handshakes: some 26,000 of them.
pub const HANDSHAKE_BUFFER_BYTES: usize = 1 << 20;

/// Who is listed, and for what service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ListedKey {
    source: Address,
    service: u64,
}

/// What is left to a listed source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Listed {
    /// Nanoseconds of `CLOCK_MONOTONIC`; it is over then, also where nobody removes it.
    pub until_ns: u64,
    /// When the source will have used up nothing, by the same clock.
    pub used_until_ns: u64,
    /// Connections that were refused, or would have been.
    pub hits: u64,
    /// 0 if nothing was refused yet.
    pub last_hit_ns: u64,
}

/// A completed handshake with a service that asks DNSBLs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Handshake {
    pub source: Address,
    pub at_ns: u64,
    service: u64,
}

const _: () = assert!(size_of::<ListedKey>() == 24);
const _: () = assert!(size_of::<Listed>() == 32);
const _: () = assert!(size_of::<Handshake>() == 32);

impl ListedKey {
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

impl Handshake {
    #[inline(always)]
    pub const fn new(source: Address, service: ServiceId, at: Moment) -> Self {
        Self { source, at_ns: at.0, service: service.index() as u64 }
    }

    pub const fn service(&self) -> Option<ServiceId> {
        ServiceId::new(self.service as usize)
    }
}

impl Listed {
    /// Whether it still holds.
    #[inline(always)]
    pub const fn is_in_force(&self, now: Moment) -> bool {
        self.until_ns > now.0
    }
}

/// When a source will have used up nothing if it gets one more connection; `None` where that is one too many.
#[inline(always)]
pub const fn charged(used_until_ns: u64, increment_ns: u64, tolerance_ns: u64, now: Moment) -> Option<u64> {
    let start = if used_until_ns > now.0 { used_until_ns } else { now.0 };
    if start - now.0 > tolerance_ns { None } else { Some(start + increment_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_an_interval() {
        const SECOND: u64 = 1_000_000_000;
        let (increment, tolerance) = (10 * SECOND, 20 * SECOND);
        let mut used = 0;
        let mut ask = |second: u64| {
            let charged = charged(used, increment, tolerance, Moment(second * SECOND));
            used = charged.unwrap_or(used);
            charged.is_some()
        };
        assert_eq!([100, 100, 100, 100].map(&mut ask), [true, true, true, false]);
        assert_eq!([109, 110, 110, 120].map(&mut ask), [false, true, false, true]);
        assert_eq!([1000, 1000, 1000, 1000].map(&mut ask), [true, true, true, false]);
    }
}
