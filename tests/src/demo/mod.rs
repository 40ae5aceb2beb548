//! `cargo xtask demo`: a gateway with a real mail server behind the real gate, honest clients, and an attacker.
//!
//! Everything happens in network namespaces of the demo's own and ends with it, also on Ctrl-C: whatever it makes belongs
//! to the [`Topology`], which takes it down when it is dropped.

mod acts;
mod interrupt;
mod judge;
mod measure;
mod port;
mod report;
mod screen;
mod topology;

use std::io::{self, Write};

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

use crate::controller::BINARY_VARIABLE;
use crate::debian::ROOT_VARIABLE;
use crate::netns;

pub use interrupt::Interrupted;

use acts::Outcome;
use screen::Screen;
use topology::Topology;

/// The demo cannot begin.
#[derive(Debug, thiserror::Error)]
#[error(
    "the demo makes network namespaces and loads eBPF programs, which needs root: run `cargo xtask demo`, which asks for it"
)]
pub struct NotRoot;

/// Runs all acts, shows them, and says whether the gate did what it promises. With `json`, the text goes to standard error
/// and one line of JSON to standard output.
///
/// # Errors
///
/// [`Interrupted`] on SIGINT, SIGTERM or SIGHUP, once everything is taken down; anything that keeps the demo from running.
pub fn run(json: bool) -> Result<bool> {
    check_machine()?;
    interrupt::watch()?;
    let mut screen = Screen::new(json);
    let swept = netns::sweep()?;
    if swept > 0 {
        screen.line(&format!("({swept} leftovers of a demo or test that was killed are removed)"))?;
    }
    let played = play(&mut screen)?;
    let findings = judge::judge(&played);
    report::findings(&mut screen, &findings)?;
    if json {
        writeln!(io::stdout(), "{}", report::json(&played, &findings)?).context("cannot show the result")?;
    }
    Ok(findings.iter().all(|finding| finding.good))
}

/// `cargo xtask demo` builds and fetches what the demo needs, and becomes root.
fn check_machine() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "making network namespaces and loading eBPF programs needs root: run `cargo xtask demo`, which asks for it"
    );
    for (variable, what) in
        [(BINARY_VARIABLE, "the built controller"), (ROOT_VARIABLE, "the mail server's Debian root")]
    {
        let path = std::env::var_os(variable)
            .with_context(|| format!("{variable} does not say where {what} is: run `cargo xtask demo`, which does"))?;
        ensure!(Path::new(&path).exists(), "{what} is not at {}: run `cargo xtask demo`", path.display());
    }
    Ok(())
}

/// All that came out of it.
#[derive(Debug)]
struct Played {
    attach_mode: String,
    /// Messages in the mailbox.
    delivered: u64,
    outcomes: Vec<Outcome>,
}

/// Returns once the namespaces are gone again.
fn play(screen: &mut Screen) -> Result<Played> {
    report::prologue(screen)?;
    let topology = Topology::build()?;
    interrupt::check()?;
    report::running(screen, &topology)?;
    let mut outcomes = Vec::new();
    for (number, act) in (1..).zip(acts::program()?) {
        report::title(screen, &act, number)?;
        outcomes.push(acts::play(&act, &topology, screen)?);
    }
    let played = Played {
        attach_mode: topology.attach_mode()?,
        delivered: topology.delivered(outcomes.iter().map(|outcome| outcome.honest.smtp.completed).sum())?,
        outcomes,
    };
    report::epilogue(screen, &topology, &played)?;
    Ok(played)
}
