//! Ctrl-C ends the demo in an orderly way.

use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How soon a signal is noticed.
const NAP: Duration = Duration::from_millis(50);

static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// A signal asked the demo to end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("ended by signal {0}; everything is taken down again")]
pub struct Interrupted(pub i32);

/// From now on SIGINT, SIGTERM and SIGHUP are only noted, for `check`.
pub(super) fn watch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot watch for {signal}"))?;
    }
    Ok(())
}

extern "C" fn note(signal: c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}

pub(super) fn check() -> Result<(), Interrupted> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(Interrupted(signal)),
    }
}

/// Sleeps until then unless interrupted.
pub(super) fn sleep_until(then: Instant) -> Result<(), Interrupted> {
    loop {
        check()?;
        match then.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => thread::sleep(left.min(NAP)),
            _ => return Ok(()),
        }
    }
}
