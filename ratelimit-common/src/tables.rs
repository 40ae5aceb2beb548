//! What the decision may ask.

use crate::{
    address::Address,
    challenge::{Slot, Tuple},
    entry::Entry,
    limit::Moment,
    lookup::ClassId,
    parse::Parsed,
    secret::Secret,
    set::{ServiceId, Set},
};

/// Words that several processors change: the limiter's cells, and what is known of a service as a whole.
pub trait Cells {
    /// `None` outside the table.
    fn cell(&self, index: u32) -> Option<u32>;
    /// Replaces a cell if it still holds `seen`, atomically; false if another processor was first.
    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool;
}

/// What the gate knows: one set of configuration and lists, and the state that packets may change.
///
/// What has an answer here already is not known where handshakes are not watched.
pub trait Tables: Cells {
    /// The configuration in force, the same one throughout a decision.
    fn set(&self) -> &Set;
    /// The class of a source in the lists of the set in force.
    fn class(&self, source: &Address) -> ClassId;
    /// What a class says.
    fn entry(&self, class: ClassId) -> Entry;
    /// Whether a ban of a source, or of a network around it, is about a service and not over yet.
    fn is_banned(&self, source: &Address, service: ServiceId) -> bool;
    /// The key under which sources are spread over the cells.
    fn secret(&self) -> &Secret;
    /// An address under that key.
    fn hash(&self, address: Address) -> u64 {
        self.secret().hash(address)
    }
    /// A connection under that key.
    fn tuple(&self, parsed: &Parsed) -> Tuple {
        Tuple::of(self.secret(), parsed)
    }
    /// The time; asked only for new connections, because a clock costs more than the parser.
    fn now(&self) -> Moment;
    /// Counts one admitted connection of a service on this processor and returns the count.
    fn count_admitted(&self, service: ServiceId) -> u32;

    /// Whether a source completed a handshake of late.
    fn is_proven(&self, _source: &Address) -> bool {
        false
    }
    /// Connections that a source, masked as its service wants it, has open to it.
    fn open_connections(&self, _source: &Address, _service: ServiceId) -> u32 {
        0
    }
    /// A cell that only completed handshakes charge.
    fn completed_cell(&self, _index: u32) -> Option<u32> {
        None
    }
    /// Whether one more connection is more than DNSBLs leave to a source. Charges it, or counts the refusal.
    fn is_over_listed(&self, _source: &Address, _service: ServiceId) -> bool {
        false
    }
    /// What is remembered in a place about a source that was suspect.
    fn slot(&self, _place: u32) -> Slot {
        Slot::EMPTY
    }
    fn put_slot(&self, _place: u32, _slot: Slot) {}
    /// Takes one of this processor's challenges; false if they are used up.
    fn spend_challenge(&self) -> bool {
        true
    }
    /// Whether a packet that opens no connection belongs to none, although it is for a listener of ours.
    fn is_stray(&self, _parsed: &Parsed) -> bool {
        false
    }
}
