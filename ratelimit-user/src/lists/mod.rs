//! Lists of networks: where they come from, what is accepted of them, and the table the gate looks them up in.
//!
//! One way: *source → bytes → `format` → `Networks` → `guard` → `table` → maps.*

pub mod fetch;
pub mod format;
pub mod guard;
pub mod keeper;
pub mod networks;
pub mod store;
pub mod table;

pub use networks::{Networks, V4, V6};
