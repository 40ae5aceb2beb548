//! The first rung: the decision on the host, over slices and plain tables.

mod cases;
mod contention;
mod limiter;
mod model;
mod mutations;
mod packets;
mod reply;
mod suspects;
