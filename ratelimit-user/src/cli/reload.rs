use std::process::ExitCode;

use clap::Args;

use crate::api::Reloaded;

use super::{context::Context, table::indented};

/// Put the changed configuration in force, all at once
#[derive(Args, Debug)]
#[command(after_help = "If it is broken nothing changes, and what is wrong is printed.\n\n\
    Example:\n  ratelimit config check && ratelimit reload")]
pub(super) struct Reload {}

impl Reload {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let reloaded = context.client()?.reload()?;
        context.answer(&reloaded, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn text(reloaded: &Reloaded) -> String {
    let mut out = match reloaded.changes.as_slice() {
        [] => "reloaded: nothing has changed\n".to_owned(),
        changes => format!("reloaded, in force now:\n{}", indented(&changes.join("\n"), 2)),
    };
    if !reloaded.warnings.is_empty() {
        out.push_str(&format!("\nwarnings\n{}", indented(&reloaded.warnings.join("\n"), 2)));
    }
    out
}
