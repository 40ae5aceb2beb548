//! What the demo, the benchmarks and the privileged tests have in common: they work in network
//! namespaces of their own, with the built controller and real servers from a Debian root.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::workspace::Workspace;
use crate::{build, debian_root, privilege};

pub const WHY: &str = "make network namespaces and load eBPF programs";

pub type Variables = Vec<(&'static str, OsString)>;

/// Tells a lab program which controller to start.
pub fn with_controller(controller: &Path) -> Variables {
    vec![("RATELIMIT_BIN", controller.into())]
}

/// Tells a lab program also where the servers and clients are; fetches them first if need be.
pub fn with_servers(workspace: &Workspace, controller: &Path) -> anyhow::Result<Variables> {
    let debian_root = std::path::absolute(debian_root::GATEWAY.ensure(&workspace.target())?)?;
    let mut variables = with_controller(controller);
    variables.push(("RATELIMIT_DEBIAN_ROOT", debian_root.into()));
    Ok(variables)
}

/// Builds everything and becomes the binary `name` of the tests crate.
pub fn run(workspace: &Workspace, name: &str, args: &[OsString]) -> anyhow::Result<ExitCode> {
    build::objects(workspace)?;
    let controller = build::controller(workspace)?;
    let program = build::lab_binary(workspace, name)?;
    let variables = with_servers(workspace, &controller)?;
    privilege::exec(&mut privilege::as_root(&program, args, WHY, &variables)?)
}
