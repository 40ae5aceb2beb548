//! `cargo xtask`: everything a developer or a curious administrator does with this repository.
//!
//! Progress goes to stderr, the answer to stdout. Nothing here needs root; what does (network
//! namespaces, attaching to a card) is done by the built binaries, which run as root.

mod bench;
mod build;
mod cargo;
mod debian_root;
mod demo;
mod lab;
mod oldest;
mod privilege;
mod process;
mod run;
mod setup;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Find a toolchain that compiles eBPF, or make one under target/ (no root, nothing installed)
    Setup,
    /// Build the eBPF objects and the `ratelimit` binary
    Build,
    /// Build, then flood a mail gateway in network namespaces of its own while honest clients work
    Demo(demo::Args),
    /// Build, then start the controller: cargo xtask run -- --interface IF
    Run(run::Args),
    /// Build, then run the tests: on the host, in the kernel, on a gateway in namespaces
    Test(test::Args),
    /// Build, then run a benchmark
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(task: Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Setup => setup::run(&workspace),
        Task::Build => build::run(&workspace),
        Task::Demo(args) => demo::run(&workspace, &args),
        Task::Run(args) => run::run(&workspace, &args),
        Task::Test(args) => test::run(&workspace, &args),
        Task::Bench(args) => bench::run(&workspace, &args),
    }
}
