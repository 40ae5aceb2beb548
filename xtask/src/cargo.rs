//! Cargo called from within cargo.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::workspace::Workspace;

/// The cargo that started us, or the one of PATH.
pub fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// `cargo SUBCOMMAND` in the workspace, for this machine, with the release profile.
pub fn for_host(workspace: &Workspace, subcommand: &str) -> Command {
    let mut command = Command::new(program());
    command
        .arg(subcommand)
        .args(["--release", "--locked", "--target-dir"])
        .arg(workspace.cargo_target())
        .current_dir(workspace.root());
    remove_variables(&mut command, |name| !describes_the_running_crate(name));
    command
}

/// Removes every variable of our environment that `keeps` refuses.
pub fn remove_variables(command: &mut Command, keeps: impl Fn(&str) -> bool) {
    for (name, _) in env::vars_os() {
        if !name.to_str().is_some_and(&keeps) && is_about_rust(&name) {
            command.env_remove(name);
        }
    }
}

/// Whether the eBPF build may see the variable. Flags, wrappers, target directories and toolchains
/// chosen for this machine would break it; where cargo fetches from and how it prints would not.
pub fn fits_ebpf(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    name == "CARGO_BUILD_JOBS"
        || name == "RUSTUP_HOME"
        || name.starts_with("RUSTUP_DIST")
        || name == "RUST_BACKTRACE"
        || KEPT.iter().any(|start| name.starts_with(start))
}

/// A test binary that `cargo test --no-run --message-format=json` built.
#[derive(Debug, PartialEq, Eq)]
pub struct TestExecutable {
    pub name: String,
    pub path: PathBuf,
}

/// The executables of integration tests among cargo's messages; lines that are none are skipped.
pub fn test_executables(messages: &str) -> Vec<TestExecutable> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| {
            let target = message.target.filter(|target| target.kind == ["test"])?;
            Some(TestExecutable { name: target.name, path: message.executable? })
        })
        .collect()
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn is_about_rust(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"CARGO") || name.starts_with(b"RUST") || name == b"OUT_DIR"
}

/// Set by `cargo run` for us; build scripts of the inner cargo would take it for their own.
fn describes_the_running_crate(name: &str) -> bool {
    const OWN: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    name == "CARGO_PRIMARY_PACKAGE" || name == "OUT_DIR" || OWN.iter().any(|s| name.starts_with(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ebpf_builds_do_not_see_what_was_set_for_this_machine() {
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTFLAGS",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(!fits_ebpf(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_X_INDEX", "RUSTUP_HOME"] {
            assert!(fits_ebpf(name), "{name}");
        }
    }

    #[test]
    fn only_rust_variables_are_ever_removed() {
        for name in ["PATH", "HOME", "http_proxy", "LD_LIBRARY_PATH"] {
            assert!(!is_about_rust(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn host_builds_keep_the_callers_flags() {
        assert!(!describes_the_running_crate("CARGO_ENCODED_RUSTFLAGS"));
        assert!(!describes_the_running_crate("RUSTUP_TOOLCHAIN"));
        assert!(describes_the_running_crate("CARGO_PKG_VERSION"));
        assert!(describes_the_running_crate("CARGO_MANIFEST_PATH"));
    }

    #[test]
    fn executables_of_integration_tests_are_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"ratelimit_tests"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"demo"},"executable":"/t/demo"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/deps/kernel-1f"}"#,
            "\nnot JSON at all\n",
            r#"{"reason":"build-script-executed","package_id":"x"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let expected = TestExecutable { name: "kernel".into(), path: PathBuf::from("/t/deps/kernel-1f") };
        assert_eq!(test_executables(messages), [expected]);
    }
}
