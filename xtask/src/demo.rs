//! `cargo xtask demo`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::lab;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End with one line of JSON on stdout
    #[arg(long)]
    json: bool,
    /// Further arguments for the demo
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(workspace: &Workspace, args: &Args) -> anyhow::Result<ExitCode> {
    let json = args.json.then(|| OsString::from("--json"));
    let all: Vec<OsString> = json.into_iter().chain(args.args.iter().cloned()).collect();
    lab::run(workspace, "demo", &all)
}
