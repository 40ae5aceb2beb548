use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use crate::{
    api::ConfigView,
    client::ClientError,
    config::{Config, DEFAULT_PATH, Loaded, Origin},
};

use super::{context::Context, output};

pub(super) mod check;

/// Check or show the configuration
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  ratelimit config check")]
pub(super) enum ConfigCommand {
    Check(Check),
    Show(Show),
}

/// Say everything that is wrong with a configuration file; needs no root and changes nothing
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ratelimit config check ./ratelimit.toml")]
pub(super) struct Check {
    /// Instead of the one in use
    pub file: Option<PathBuf>,
}

/// Show the configuration in force as TOML, or that of the file if no controller runs
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ratelimit config show --changed")]
pub(super) struct Show {
    /// Only what differs from the built-in defaults
    #[arg(long, conflicts_with = "defaults")]
    pub changed: bool,
    /// The built-in defaults instead
    #[arg(long)]
    pub defaults: bool,
}

impl ConfigCommand {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(check) => check.run(context),
            Self::Show(show) => show.run(context),
        }
    }
}

impl Check {
    fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let file = self.file.as_deref().unwrap_or(file_in_use(context));
        check::run(file, context)
    }
}

impl Show {
    fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let view = if self.defaults { view(&Config::default(), None) } else { effective(context)? };
        let text = |view: &ConfigView| {
            let text = if self.changed { &view.changed } else { &view.toml };
            text.clone()
        };
        context.answer(&view, text)?;
        if self.changed && view.changed.is_empty() && !context.global.json {
            output::note("nothing differs from the built-in defaults");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the controller has in force, or else what the file says.
fn effective(context: &Context<'_>) -> anyhow::Result<ConfigView> {
    match context.client()?.config() {
        Err(unreachable @ (ClientError::NotRunning { .. } | ClientError::PermissionDenied { .. })) => {
            let file = file_in_use(context);
            let Loaded { config, origin, .. } = Config::load(file)?;
            let (shown, origin) = match origin {
                Origin::File(path) => (format!("what {} says", path.display()), Some(path)),
                Origin::BuiltIn => ("the built-in defaults".to_owned(), None),
            };
            output::note(&format!("{unreachable}; shown instead: {shown}"));
            Ok(view(&config, origin))
        }
        other => Ok(other?),
    }
}

fn view(config: &Config, origin: Option<PathBuf>) -> ConfigView {
    ConfigView { toml: config.to_toml(), changed: config.changed(), origin }
}

fn file_in_use<'c>(context: &Context<'c>) -> &'c Path {
    context.global.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
}
