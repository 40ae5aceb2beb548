//! Starting a built binary as root: directly when we are root, else through sudo.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use nix::unistd::Uid;

use crate::process;

/// What a caller may set to steer tests and logs; sudo would drop it.
const PASSED_ON: [&str; 4] = ["RATELIMIT_", "PROPTEST_", "RUST_BACKTRACE", "RUST_LOG"];

/// A command that runs `program` as root with `args` and `env`. `why` completes "root is needed to …".
pub fn as_root(program: &Path, args: &[OsString], why: &str, env: &[(&str, OsString)]) -> anyhow::Result<Command> {
    if Uid::effective().is_root() {
        let mut command = Command::new(program);
        command.args(args).envs(env.iter().map(|(name, value)| (name, value)));
        return Ok(command);
    }
    let inherited = std::env::vars_os().filter(|(name, _)| is_passed_on(name));
    let command = through_env(program, args, inherited, env);
    let Some(sudo) = process::which("sudo") else {
        bail!("{}", no_way_to_root(&command, why));
    };
    eprintln!("Root is needed to {why}; sudo runs {} only.", program.display());
    let mut elevated = Command::new(sudo);
    elevated.arg(command.get_program()).args(command.get_args());
    Ok(elevated)
}

/// sudo clears the environment, so it is set behind it.
fn through_env(
    program: &Path,
    args: &[OsString],
    inherited: impl Iterator<Item = (OsString, OsString)>,
    env: &[(&str, OsString)],
) -> Command {
    let mut command = Command::new("env");
    for (name, value) in inherited {
        command.arg(assignment(&name, &value));
    }
    for (name, value) in env {
        command.arg(assignment(OsStr::new(name), value));
    }
    command.arg(program).args(args);
    command
}

/// Becomes `command`, so that signals and the exit code are its own.
pub fn exec(command: &mut Command) -> anyhow::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", process::describe(command)))
}

fn no_way_to_root(command: &Command, why: &str) -> String {
    format!(
        "root is needed to {why}, and neither are we root nor is sudo here. Everything is built; run as root:\n  {}",
        process::describe(command)
    )
}

fn is_passed_on(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    PASSED_ON.iter().any(|start| name.starts_with(start.as_bytes()))
}

fn assignment(name: &OsStr, value: &OsStr) -> OsString {
    let mut word = name.to_owned();
    word.push("=");
    word.push(value);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_variables_pass_sudo() {
        for name in ["RATELIMIT_LONG", "PROPTEST_CASES", "RUST_LOG", "RUST_BACKTRACE"] {
            assert!(is_passed_on(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "HOME", "CARGO_HOME", "LD_LIBRARY_PATH", "LD_PRELOAD"] {
            assert!(!is_passed_on(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn without_root_and_sudo_the_message_is_the_command_to_run() {
        let env = [("RATELIMIT_BIN", OsString::from("/x/ratelimit"))];
        let inherited = [(OsString::from("RUST_LOG"), OsString::from("debug"))];
        let args = [OsString::from("--json")];
        let command = through_env(Path::new("/x/demo"), &args, inherited.into_iter(), &env);
        let said = no_way_to_root(&command, "make network namespaces");
        assert!(said.contains("make network namespaces"), "{said}");
        assert!(said.ends_with("\n  env RUST_LOG=debug RATELIMIT_BIN=/x/ratelimit /x/demo --json"), "{said}");
    }
}
