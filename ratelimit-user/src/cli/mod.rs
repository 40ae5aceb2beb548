//! The command line: what it accepts, and for each command a file that does it.
//!
//! Standard output carries the answer and nothing else; notes and errors go to standard error.

mod ban;
mod config;
mod confirm;
mod context;
mod detach;
mod dnsbl;
mod entry;
mod events;
mod explain;
mod limit;
mod list;
mod mode;
mod output;
mod paths;
mod reload;
mod run;
mod sources;
mod status;
mod table;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::EntryKind;

use context::Context;
pub use output::OutputClosed;

/// Protects the mail ports of this machine at the network card: counts new connections by source and drops
/// the excess before the kernel spends anything on it.
#[derive(Debug, Parser)]
#[command(
    name = "ratelimit",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "The first day:\n  \
        ratelimit run                       watches the mail ports and drops nothing\n  \
        ratelimit status                    says what would have been dropped\n  \
        ratelimit mode enforce              drops it\n  \
        ratelimit mode observe --for 1h     stops dropping, at once"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// The configuration file [default: /etc/ratelimit/ratelimit.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the controller listens [default: from the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where the filter is pinned, in a bpffs [default: from the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// Where the controller keeps what commands changed [default: from the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Status(status::Show),
    Events(events::Show),
    Explain(explain::Explain),
    Sources(sources::Sources),
    Mode(mode::ModeCommand),
    Confirm(confirm::Confirm),
    #[command(subcommand)]
    Limit(limit::LimitCommand),
    /// Own machines: no limit applies to them and no list
    #[command(subcommand, after_help = "Example:\n  ratelimit trust add 10.0.0.0/24 --note webmail")]
    Trust(entry::EntryCommand),
    /// Networks that are never blocked, but limited like all others
    #[command(subcommand, after_help = "Example:\n  ratelimit allow add 192.0.2.4 --note 'customer, ticket 4711'")]
    Allow(entry::EntryCommand),
    /// Networks whose new connections are refused, unless trusted or allowed
    #[command(subcommand, after_help = "Example:\n  ratelimit block add 198.51.100.0/24 --service smtp")]
    Block(entry::EntryCommand),
    /// Lists that somebody else keeps, as the configuration names them under [[lists]]
    #[command(subcommand, after_help = "Example:\n  ratelimit list show")]
    List(list::ListCommand),
    /// DNSBLs that are asked about sources, as the configuration names them under [[reputation.dnsbl]]
    #[command(subcommand, after_help = "Example:\n  ratelimit dnsbl show")]
    Dnsbl(dnsbl::DnsblCommand),
    Ban(ban::Ban),
    Unban(ban::Unban),
    Bans(ban::Bans),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Reload(reload::Reload),
    Detach(detach::Detach),
}

impl Cli {
    /// Carries the command out. The exit code is that of an answer; an error is one of exit code 1.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let context = Context::new(&self.global);
        match &self.command {
            Command::Run(command) => command.run(&context),
            Command::Status(command) => command.run(&context),
            Command::Events(command) => command.run(&context),
            Command::Explain(command) => command.run(&context),
            Command::Sources(command) => command.run(&context),
            Command::Mode(command) => command.run(&context),
            Command::Confirm(command) => command.run(&context),
            Command::Limit(command) => command.run(&context),
            Command::Trust(command) => command.run(EntryKind::Trust, &context),
            Command::Allow(command) => command.run(EntryKind::Allow, &context),
            Command::Block(command) => command.run(EntryKind::Block, &context),
            Command::List(command) => command.run(&context),
            Command::Dnsbl(command) => command.run(&context),
            Command::Ban(command) => command.run(&context),
            Command::Unban(command) => command.run(&context),
            Command::Bans(command) => command.run(&context),
            Command::Config(command) => command.run(&context),
            Command::Reload(command) => command.run(&context),
            Command::Detach(command) => command.run(&context),
        }
    }
}
