//! Clients with other TCP stacks than the lab's kernel, and what tests of them see of a connection, without any filter.

mod challenger;
mod firewalled;
mod forged;
mod replayed;
mod second;
mod watch;
