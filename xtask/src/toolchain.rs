//! A compiler and a linker that together make eBPF objects.

mod apt;
mod find;
mod lock;
mod own;
mod probe;
mod remedy;
mod stamp;

use std::env::consts::ARCH;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::workspace::Workspace;
use crate::{cargo, process};

const TARGET: &str = "bpfel-unknown-none";

/// Proven to compile eBPF when it comes from [`ensure`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

/// The `rustc` of each is the file whose change means a different compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compiler {
    /// rustup's nightly, which builds `core` from rust-src.
    Nightly { rustc: PathBuf },
    /// Debian's rustc-web installed on this machine; it comes with a `core` for eBPF.
    Debian { rustc: PathBuf },
    /// The same, unpacked under target/.
    Own { wrapper: PathBuf, rustc: PathBuf },
}

/// An eBPF crate: a workspace of its own with one binary, which is the object.
#[derive(Debug, Clone)]
pub struct EbpfCrate {
    pub dir: PathBuf,
    pub binary: &'static str,
}

/// Finds or makes the toolchain of `workspace`. Takes milliseconds when it was found before and
/// nothing of it has changed since.
pub fn ensure(workspace: &Workspace) -> anyhow::Result<Toolchain> {
    let dir = workspace.target().join("toolchain");
    if let Some(toolchain) = stamp::read(&dir) {
        return Ok(toolchain);
    }
    let _lock = lock::acquire(&dir)?;
    if let Some(toolchain) = stamp::read(&dir) {
        return Ok(toolchain);
    }
    let toolchain = find::first_usable(&dir)?;
    stamp::write(&dir, &toolchain)?;
    Ok(toolchain)
}

impl Toolchain {
    /// Compiles `ebpf_crate` below `build_dir` and returns the object.
    pub fn build(&self, ebpf_crate: &EbpfCrate, build_dir: &Path) -> anyhow::Result<PathBuf> {
        process::run_shown(&mut self.command(ebpf_crate, build_dir))
            .with_context(|| format!("cannot build {}", ebpf_crate.binary))?;
        Ok(object_path(ebpf_crate, build_dir))
    }

    fn command(&self, ebpf_crate: &EbpfCrate, build_dir: &Path) -> Command {
        let mut command = match &self.compiler {
            Compiler::Nightly { .. } => Command::new("rustup"),
            Compiler::Debian { .. } | Compiler::Own { .. } => Command::new(cargo::program()),
        };
        cargo::remove_variables(&mut command, cargo::fits_ebpf);
        match &self.compiler {
            Compiler::Nightly { .. } => {
                command.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            }
            Compiler::Debian { rustc } | Compiler::Own { wrapper: rustc, .. } => {
                // These compilers are stable releases; the bootstrap switch admits the intrinsics
                // that eBPF atomics need.
                command.arg("build").env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            }
        }
        if ebpf_crate.dir.join("Cargo.lock").exists() {
            command.arg("--locked");
        }
        command
            .args(["--release", "--target", TARGET, "--manifest-path"])
            .arg(ebpf_crate.dir.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(build_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags().join("\x1f"))
            // Empty also overrules a wrapper in the user's cargo configuration.
            .env("RUSTC_WRAPPER", "")
            .current_dir(&ebpf_crate.dir);
        command
    }

    fn flags(&self) -> Vec<String> {
        vec![
            format!("-Clinker={}", self.linker.display()),
            "-Clink-arg=--btf".into(),
            "-Cdebuginfo=2".into(),
            "-Ctarget-cpu=v3".into(),
            format!("--cfg=bpf_target_arch=\"{ARCH}\""),
        ]
    }

    /// The files that make this toolchain what it is.
    fn files(&self) -> Vec<&Path> {
        let mut files = vec![self.linker.as_path()];
        match &self.compiler {
            Compiler::Nightly { rustc } | Compiler::Debian { rustc } => files.push(rustc),
            Compiler::Own { wrapper, rustc } => files.extend([wrapper.as_path(), rustc]),
        }
        files
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.compiler {
            Compiler::Nightly { .. } => write!(f, "rustup's nightly with rust-src")?,
            Compiler::Debian { rustc } => write!(f, "Debian's {}", rustc.display())?,
            Compiler::Own { wrapper, .. } => write!(f, "{}", wrapper.display())?,
        }
        write!(f, ", linker {}", self.linker.display())
    }
}

fn object_path(ebpf_crate: &EbpfCrate, build_dir: &Path) -> PathBuf {
    build_dir.join(TARGET).join("release").join(ebpf_crate.binary)
}

/// Puts the object `built` where build scripts embed it. An unchanged object keeps its time, so
/// that nothing is built again because of it.
pub fn install_object(built: &Path, place: &Path) -> anyhow::Result<()> {
    let content = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(place).is_ok_and(|old| old == content) {
        return Ok(());
    }
    process::write_atomically(place, &content, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Toolchain {
        Toolchain {
            compiler: Compiler::Own { wrapper: "/t/rustc".into(), rustc: "/t/root/rustc".into() },
            linker: "/t/bpf linker".into(),
        }
    }

    fn gate() -> EbpfCrate {
        EbpfCrate { dir: "/w/ratelimit-ebpf".into(), binary: "ratelimit-ebpf" }
    }

    fn variable(command: &Command, name: &str) -> Option<String> {
        let (_, value) = command.get_envs().find(|(key, _)| *key == name)?;
        value.map(|value| value.to_string_lossy().into_owned())
    }

    #[test]
    fn debians_compiler_is_given_to_cargo_with_the_flags() {
        let command = own().command(&gate(), Path::new("/w/target/ebpf-build"));
        assert_eq!(variable(&command, "RUSTC").as_deref(), Some("/t/rustc"));
        assert_eq!(variable(&command, "RUSTC_BOOTSTRAP").as_deref(), Some("1"));
        let flags = variable(&command, "CARGO_ENCODED_RUSTFLAGS").expect("flags");
        assert!(flags.split('\x1f').any(|flag| flag == "-Clinker=/t/bpf linker"), "{flags}");
        assert!(flags.contains(&format!("bpf_target_arch=\"{ARCH}\"")), "{flags}");
        let line = process::describe(&command);
        assert!(line.contains("build --release --target bpfel-unknown-none"), "{line}");
        assert!(!line.contains("build-std"), "{line}");
    }

    #[test]
    fn nightly_builds_core_itself() {
        let toolchain = Toolchain {
            compiler: Compiler::Nightly { rustc: "/n/bin/rustc".into() },
            linker: "/usr/bin/bpf-linker".into(),
        };
        let command = toolchain.command(&gate(), Path::new("/b"));
        let line = process::describe(&command);
        assert!(line.starts_with("rustup run nightly cargo build -Zbuild-std=core"), "{line}");
        assert_eq!(variable(&command, "RUSTC_BOOTSTRAP"), None);
    }

    #[test]
    fn an_unchanged_object_keeps_its_time() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (built, place) = (dir.path().join("built"), dir.path().join("bpf/gate.o"));
        let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).expect("time");
        fs::write(&built, b"one").expect("write");
        install_object(&built, &place).expect("install");
        let first = modified(&place);
        std::thread::sleep(std::time::Duration::from_millis(20));
        install_object(&built, &place).expect("install");
        assert_eq!(modified(&place), first);
        fs::write(&built, b"two").expect("write");
        install_object(&built, &place).expect("install");
        assert_eq!(fs::read(&place).expect("read"), b"two");
    }
}
