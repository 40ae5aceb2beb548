//! Lists of networks, and the table the gate looks them up in.
//!
//! One way: *bytes → `format` → `Networks` → `Layers` → `Table` → maps.*

pub mod content;
pub mod fetch;
pub mod layers;
pub mod local;
pub mod networks;
pub mod shelf;
pub mod table;
pub mod weights;

pub use arithmetic::Size;
pub use layers::Layers;
pub use networks::{Networks, V4, V6};
pub use roster::Roster;
pub use weights::Weights;
