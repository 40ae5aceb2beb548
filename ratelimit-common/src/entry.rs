//! What lists say of a source.

use bytemuck::{Pod, Zeroable};

use crate::set::ServiceId;

/// What is said of a source, one bit for each service: an element of the table of classes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Entry {
    trust: u16,
    allow: u16,
    block: u16,
    /// Blocked by lists that only observe.
    observed: u16,
    /// Among those that alone may connect (`only_from`).
    permit: u16,
    /// Blocked to the last packet, those of open connections included.
    all_packets: u16,
    padding: u32,
    /// The lists that say so, one bit each.
    lists: u64,
}

impl Entry {
    pub const NONE: Self = Self::new(0, 0, 0);

    pub const fn new(trust: u16, allow: u16, block: u16) -> Self {
        Self { trust, allow, block, observed: 0, permit: 0, all_packets: 0, padding: 0, lists: 0 }
    }

    /// The same, with blocks that only observe and blocks of all packets.
    pub const fn observing(self, observed: u16) -> Self {
        Self { observed, ..self }
    }

    pub const fn blocking_all_packets(self, all_packets: u16) -> Self {
        Self { all_packets, ..self }
    }

    pub const fn permitting(self, permit: u16) -> Self {
        Self { permit, ..self }
    }

    /// The same, said by these lists.
    pub const fn by_lists(self, lists: u64) -> Self {
        Self { lists, ..self }
    }

    /// What both say: the entry of a network inside another one.
    pub const fn union(self, other: Self) -> Self {
        Self {
            trust: self.trust | other.trust,
            allow: self.allow | other.allow,
            block: self.block | other.block,
            observed: self.observed | other.observed,
            permit: self.permit | other.permit,
            all_packets: self.all_packets | other.all_packets,
            padding: 0,
            lists: self.lists | other.lists,
        }
    }

    /// The same without any block: of an address that nothing may block.
    pub const fn shielded(self) -> Self {
        Self { block: 0, observed: 0, all_packets: 0, lists: 0, ..self }
    }

    #[inline(always)]
    pub const fn trusts(self, id: ServiceId) -> bool {
        self.trust & id.bit() != 0
    }

    #[inline(always)]
    pub const fn allows(self, id: ServiceId) -> bool {
        self.allow & id.bit() != 0
    }

    #[inline(always)]
    pub const fn blocks(self, id: ServiceId) -> bool {
        self.block & id.bit() != 0
    }

    #[inline(always)]
    pub const fn observes(self, id: ServiceId) -> bool {
        self.observed & id.bit() != 0
    }

    #[inline(always)]
    pub const fn permits(self, id: ServiceId) -> bool {
        self.permit & id.bit() != 0
    }

    #[inline(always)]
    pub const fn blocks_all_packets(self, id: ServiceId) -> bool {
        self.all_packets & id.bit() != 0
    }

    /// The services for which new connections are blocked.
    pub const fn blocked(self) -> u16 {
        self.block
    }

    /// The services for which packets of open connections are blocked too.
    pub const fn of_all_packets(self) -> u16 {
        self.all_packets
    }

    pub const fn lists(self) -> u64 {
        self.lists
    }
}

const _: () = assert!(size_of::<Entry>() == 24);
