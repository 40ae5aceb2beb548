//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;

#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    cargo_target: PathBuf,
}

impl Workspace {
    pub fn locate() -> anyhow::Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies outside of a workspace")?.to_path_buf();
        let cargo_target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir).context("CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        Ok(Self { root, cargo_target })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Holds what is fetched and the eBPF objects. The build scripts look for the objects here,
    /// so it does not follow `CARGO_TARGET_DIR`.
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Where cargo puts what it builds for this machine.
    pub fn cargo_target(&self) -> &Path {
        &self.cargo_target
    }

    pub fn binary(&self, name: &str) -> PathBuf {
        self.cargo_target.join("release").join(name)
    }
}
