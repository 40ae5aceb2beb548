use std::{
    env,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Args;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::{config::Mode, daemon};

use super::context::Context;

/// Load the filter, attach it and control it until stopped
#[derive(Args, Debug)]
#[command(
    after_help = "Without a configuration file it watches the mail ports on the interfaces that hold a default route, and \
    drops nothing. Stopping it stops the filter, unless --keep is given; if it dies, the filter goes on. What it does \
    is logged to standard error; RATELIMIT_LOG=debug logs more.\n\n\
    Example:\n  ratelimit run --interface eth0 --mode observe"
)]
pub(super) struct Run {
    /// An interface to protect, or auto for those that hold a default route; may be repeated
    #[arg(long = "interface", value_name = "IF")]
    pub interfaces: Vec<String>,
    /// observe counts what would be dropped, enforce drops it; instead of the configured mode
    #[arg(long)]
    pub mode: Option<Mode>,
    /// Leave the filter attached when stopped by a signal
    #[arg(long)]
    pub keep: bool,
}

impl Run {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        log_to_stderr();
        let global = context.global;
        daemon::run(daemon::Options {
            config: global.config.clone(),
            interfaces: self.interfaces.clone(),
            mode: self.mode,
            paths: daemon::PathOverrides {
                socket: global.socket.clone(),
                pins: global.pins.clone(),
                state: global.state.clone(),
            },
            keep: self.keep,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("RATELIMIT_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // The journal stamps every line itself.
    let started = if env::var_os("JOURNAL_STREAM").is_some() { log.without_time().try_init() } else { log.try_init() };
    // Fails only where a log is set up already.
    drop(started);
}
