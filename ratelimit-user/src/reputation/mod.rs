//! Reputation: what DNSBLs say of sources that completed a handshake, and what follows from it.
//!
//! *handshake → [`desk`] → [`ask`] → answers → [`score`] → the kernel's map of listed sources.* An answer is good for its
//! time to live and so is what follows from it. Nobody is looked up who could be somebody else's invention, and whatever a
//! resolver or a zone does wrong ends in no action at all.

pub mod answers;
pub mod ask;
pub mod budget;
pub mod crowds;
pub mod desk;
pub mod health;
pub mod in_force;
pub mod name;
pub mod policy;
pub mod score;
pub mod store;
pub mod waiting;
pub mod zone;

pub use desk::{Desk, Kill};
pub use policy::Policy;

use std::{convert::Infallible, io};

use aya::maps::{MapData, RingBuf};
use bytemuck::try_pod_read_unaligned;
use ratelimit_common::listed::Handshake;
use tokio::io::unix::AsyncFd;

/// Who completed a handshake longer ago is not waited for any more: nobody was here to look him up.
const STALE_NS: u64 = 60_000_000_000;

/// Handshakes that are taken before those who were asked about get their turn.
const AT_ONCE: u64 = 64;

/// Takes handshakes out of the kernel's buffer to the desk, for ever.
pub async fn pump(buffer: RingBuf<MapData>, desk: &Desk) -> Result<Infallible, io::Error> {
    // SAFETY: the buffer owns its descriptor and keeps the same one until it is dropped, after the registration.
    let mut buffer = unsafe { AsyncFd::register(buffer) }?;
    let mut taken: u64 = 0;
    loop {
        let mut ready = buffer.readable_mut().await?;
        while let Some(bytes) = ready.get_inner_mut().next() {
            // A record of another size was written by another version of the gate.
            let Ok(handshake) = try_pod_read_unaligned::<Handshake>(&bytes) else { continue };
            let is_fresh = crate::plane::now().0.saturating_sub(handshake.at_ns) < STALE_NS;
            if let Some(id) = handshake.service().filter(|_| is_fresh) {
                desk.take_handshake(handshake.source, id);
            }
            drop(bytes);
            taken += 1;
            if taken.is_multiple_of(AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        ready.clear_ready();
    }
}
