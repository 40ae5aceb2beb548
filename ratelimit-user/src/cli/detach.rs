use std::process::ExitCode;

use clap::Args;

use crate::{api::Detached, client::Client, offline};

use super::{context::Context, table::list};

/// Take the filter off all interfaces; works without a controller too
#[derive(Args, Debug)]
#[command(
    after_help = "Ends the controller too. Nothing is judged any more until `ratelimit run` attaches again; to stop only the \
    dropping, use `ratelimit mode observe`.\n\n\
    Example:\n  ratelimit detach"
)]
pub(super) struct Detach {}

impl Detach {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let detached = context.ask_or_offline(Client::detach, offline::detach)?;
        context.answer(&detached, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn text(detached: &Detached) -> String {
    match detached.interfaces.as_slice() {
        [] => "nothing was attached\n".to_owned(),
        names => format!("detached from {}: nothing is filtered any more\n", list(names)),
    }
}
