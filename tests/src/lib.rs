//! What the tests, the demo and the benchmarks share.

pub mod attackers;
pub mod cases;
pub mod clients;
pub mod controller;
pub mod cost;
pub mod debian;
mod enter;
pub mod flood;
#[path = "../ebpf/src/layout.rs"]
mod layout;
pub mod kernel;
pub mod load;
pub mod netns;
pub mod objects;
mod parking;
pub mod packet;
pub mod process;
pub mod raw;
pub mod receiver;
pub mod servers;
pub mod tables;
pub mod template;
