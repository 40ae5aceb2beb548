//! Keeps a program in the kernel's XDP dispatcher while it is run without an interface.

use std::fs::File;
use std::thread;

use anyhow::{Context, Result};
use aya::programs::{Xdp, XdpMode};
use nix::sched::{CloneFlags, unshare};

/// Has a program attached where nothing ever arrives: to the loopback of a namespace of its own.
///
/// A run of a program that is attached nowhere is entered into the XDP dispatcher and taken out again, each time
/// waiting for an RCU grace period: 20 ms for every run.
#[derive(Debug)]
pub(crate) struct Parking {
    /// The namespace lives as long as this.
    _namespace: File,
}

impl Parking {
    /// The program must have been loaded.
    pub(crate) fn of(program: &mut Xdp) -> Result<Self> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace: not root?")?;
                program.attach("lo", XdpMode::Skb).context("cannot attach a program of the lab")?;
                Ok(Self { _namespace: File::open("/proc/thread-self/ns/net")? })
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
