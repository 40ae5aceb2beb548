use std::process::ExitCode;

use clap::Args;

use super::{context::Context, mode};

/// Keep the mode that `ratelimit mode … --confirm` set for a trial
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ratelimit mode enforce --confirm 10m\n  ratelimit confirm")]
pub(super) struct Confirm {}

impl Confirm {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let view = context.client()?.confirm()?;
        context.answer(&view, mode::text)?;
        Ok(ExitCode::SUCCESS)
    }
}
