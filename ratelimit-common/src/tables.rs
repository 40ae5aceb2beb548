//! What the decision may ask.

use crate::{
    address::Address,
    limit::Moment,
    lookup::ClassId,
    secret::Secret,
    set::{Entry, ServiceId, Set},
};

/// What the gate knows: one set of configuration and lists, and the state that packets may change.
pub trait Tables {
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
    /// The time; asked only for new connections, because a clock costs more than the parser.
    fn now(&self) -> Moment;
    /// A limiter cell; `None` outside the table.
    fn cell(&self, index: u32) -> Option<u32>;
    /// Replaces a cell if it still holds `seen`, atomically; false if another processor was first.
    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool;
    /// Counts one admitted connection of a service on this processor and returns the count.
    fn count_admitted(&self, service: ServiceId) -> u32;
}
