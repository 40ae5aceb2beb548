//! Clients that are not this machine's kernel as it comes: other operating systems' SYNs and timing replayed by hand.

pub mod replayed;
