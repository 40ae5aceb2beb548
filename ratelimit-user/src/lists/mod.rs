//! Lists of networks, and the table the gate looks them up in.
//!
//! One way: *sources → `Content` → `Read` → `List` → `Weights` → `Layers` → `Table` → maps.* What comes in from outside is
//! fetched ([`fetch`]) or read ([`local`]), understood ([`mod@format`]), freed of what no list may hold ([`screen`]) and
//! held against the last good copy ([`change`]) before anything of it reaches the gate. [`shelf`] keeps what was good.

pub mod arithmetic;
pub mod bring;
pub mod change;
pub mod content;
pub mod fetch;
pub mod format;
pub mod keeper;
pub mod layers;
pub mod list;
pub mod local;
pub mod networks;
pub mod reading;
pub mod roster;
pub mod screen;
pub mod shelf;
pub mod spans;
pub mod table;
pub mod weights;

pub use arithmetic::Size;
pub use layers::Layers;
pub use networks::{Networks, V4, V6};
pub use roster::Roster;
pub use weights::Weights;
