//! The decision of the gate, and the layouts that the kernel and the controller share.
//!
//! Read [`decide`](mod@decide) first. Nothing here knows a BPF map, a file or a clock: the XDP program, the
//! tests, and `ratelimit explain` each bring their own [`Frame`] and [`Tables`].
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod address;
pub mod ban;
pub mod bound;
pub mod challenge;
pub mod decide;
pub mod entry;
pub mod event;
pub mod frame;
pub mod limit;
pub mod limiter;
pub mod listed;
pub mod lookup;
pub mod map;
pub mod parse;
pub mod proof;
pub mod reason;
pub mod reply;
pub mod secret;
pub mod set;
pub mod suspect;
pub mod suspicion;
pub mod tables;

pub use address::{Address, Family, Mask};
pub use decide::{Doubt, Verdict, decide, judge};
pub use entry::Entry;
pub use event::Event;
pub use frame::{Frame, SliceFrame};
pub use limit::{Limit, Moment, Ticks};
pub use lookup::ClassId;
pub use parse::{Parsed, parse};
pub use reason::{Action, Kind, Mode, Reason};
pub use secret::Secret;
pub use set::{Challenge, SERVICES, Service, ServiceId, Set};
pub use tables::{Cells, Tables};
