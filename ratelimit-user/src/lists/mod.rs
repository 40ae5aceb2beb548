//! Lists of networks, and the table the gate looks them up in.
//!
//! One way: *`Networks` → `Layers` → `Table` → maps.*

pub mod content;
pub mod fetch;
pub mod layers;
pub mod local;
pub mod networks;
pub mod shelf;
pub mod table;

pub use layers::Layers;
pub use networks::{Networks, V4, V6};
