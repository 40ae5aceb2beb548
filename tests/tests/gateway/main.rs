//! The third rung: the real program between network namespaces, with real packets, servers, clients and attackers.
//!
//! Every test makes what it needs and leaves nothing behind; `tidy`, the last, looks. They run one after the other, as root.

mod bans;
mod cap;
mod changes;
mod connections;
mod delivery;
mod explain;
mod export;
mod families;
mod flood;
mod gap;
mod kill;
mod lists;
mod mapped;
mod profiles;
mod proof;
mod proven;
mod records;
mod refusals;
mod reputation;
mod scans;
mod shown;
mod sockets;
mod storm;
mod swaps;
mod tidy;
