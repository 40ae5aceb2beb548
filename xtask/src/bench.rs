//! `cargo xtask bench`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::lab;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which benchmark: gate or lists
    name: OsString,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Further arguments for the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(workspace: &Workspace, args: &Args) -> anyhow::Result<ExitCode> {
    let mut all = vec![args.name.clone()];
    all.extend(args.json.then(|| OsString::from("--json")));
    all.extend(args.args.iter().cloned());
    lab::run(workspace, "bench", &all)
}
