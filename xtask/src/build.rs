//! `cargo xtask build`, and the builds that the other subcommands start with.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::toolchain::{self, EbpfCrate};
use crate::workspace::Workspace;
use crate::{cargo, process};

pub fn run(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    objects(workspace)?;
    println!("{}", controller(workspace)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the eBPF objects that the build scripts of the other crates embed.
pub fn objects(workspace: &Workspace) -> anyhow::Result<()> {
    let toolchain = toolchain::ensure(workspace)?;
    let build_dir = workspace.target().join("ebpf-build");
    let place = workspace.target().join("bpf");
    let crates = [("ratelimit-ebpf", "ratelimit-ebpf", "ratelimit.o"), ("tests/ebpf", "lab-ebpf", "lab.o")];
    for (dir, binary, object) in crates {
        let ebpf_crate = EbpfCrate { dir: workspace.root().join(dir), binary };
        let built = toolchain.build(&ebpf_crate, &build_dir)?;
        toolchain::install_object(&built, &place.join(object))?;
    }
    Ok(())
}

/// Builds `ratelimit`. The objects must be there.
pub fn controller(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let mut command = cargo::for_host(workspace, "build");
    process::run_shown(command.args(["--package", "ratelimit-user"]))?;
    Ok(workspace.binary("ratelimit"))
}

/// Builds the binary `name` of the tests crate. The objects must be there.
pub fn lab_binary(workspace: &Workspace, name: &str) -> anyhow::Result<PathBuf> {
    let mut command = cargo::for_host(workspace, "build");
    process::run_shown(command.args(["--package", "ratelimit-tests", "--bin", name]))?;
    Ok(workspace.binary(name))
}
