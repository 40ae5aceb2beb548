//! `cargo xtask setup`.

use std::process::ExitCode;

use crate::toolchain;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let toolchain = toolchain::ensure(workspace)?;
    println!("eBPF toolchain: {toolchain}");
    Ok(ExitCode::SUCCESS)
}
