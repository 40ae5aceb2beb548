//! `cargo xtask run`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::workspace::Workspace;
use crate::{build, privilege};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments of `ratelimit run`, for example --interface eth0
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(workspace: &Workspace, args: &Args) -> anyhow::Result<ExitCode> {
    build::objects(workspace)?;
    let controller = build::controller(workspace)?;
    let all: Vec<OsString> = std::iter::once("run".into()).chain(args.args.iter().cloned()).collect();
    privilege::exec(&mut privilege::as_root(&controller, &all, "attach to a network card", &[])?)
}
