//! What the tests, the demo and the benchmarks share.

pub mod attackers;
pub mod bench;
pub mod cases;
pub mod clients;
pub mod controller;
pub mod cost;
pub mod debian;
pub mod demo;
mod enter;
pub mod feed;
pub mod flood;
pub mod forged;
pub mod gateway;
pub mod intervals;
pub mod kernel;
#[path = "../ebpf/src/layout.rs"]
mod layout;
pub mod lists;
pub mod load;
pub mod look_up;
pub mod netns;
pub mod objects;
pub mod open;
pub mod packet;
pub mod pairs;
mod parking;
pub mod process;
pub mod queue;
pub mod raw;
pub mod receiver;
pub mod segment;
pub mod servers;
mod shared;
pub mod stacks;
pub mod tables;
pub mod template;
pub mod watch;
