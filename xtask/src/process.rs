//! Running commands so that a failure says which command, why, and where the rest is written.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

const TAIL_LINES: usize = 12;

/// Runs `command`; what it prints goes to `log` only, and its end into the error.
pub fn run_logged(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let file = create_log(log)?;
    let errors = file.try_clone().with_context(|| describe(command))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .with_context(|| format!("cannot run {}", describe(command)))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    bail!("failed ({status}): {}\n{}\nThe whole output: {}", describe(command), tail(&said, TAIL_LINES), log.display());
}

/// Runs `command` and returns what it wrote to stdout.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", describe(command)))?;
    if !output.status.success() {
        bail!(
            "failed ({}): {}\n{}",
            output.status,
            describe(command),
            tail(&String::from_utf8_lossy(&output.stderr), TAIL_LINES)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("not text: the output of {}", describe(command)))
}

/// Runs `command` with our own output streams.
pub fn run_shown(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", describe(command)))?;
    if !status.success() {
        bail!("failed ({status}): {}", describe(command));
    }
    Ok(())
}

/// Copies `from` to `to` as it comes and hands every complete line to `each_line`.
pub fn tee(mut from: impl Read, mut to: impl Write, mut each_line: impl FnMut(&str)) -> io::Result<()> {
    let mut chunk = [0; 8192];
    let mut line = Vec::new();
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&chunk[..length])?;
        to.flush()?;
        for &byte in &chunk[..length] {
            if byte == b'\n' {
                each_line(&String::from_utf8_lossy(&line));
                line.clear();
            } else {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        each_line(&String::from_utf8_lossy(&line));
    }
    Ok(())
}

/// The executable `name` of PATH.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

pub fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Writes a file so that a reader sees the old content or the new, never a part.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let write = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&part, content)?;
        fs::set_permissions(&part, fs::Permissions::from_mode(mode))?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A command as one would type it.
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// The last `count` lines that are not blank.
fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let start = lines.len().saturating_sub(count);
    lines[start..].iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}

fn create_log(log: &Path) -> anyhow::Result<File> {
    let open = || -> io::Result<File> {
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create(log)
    };
    open().with_context(|| format!("cannot write {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_last_lines_that_say_something() {
        assert_eq!(tail("a\n\nb\n \nc\n", 2), "  | b\n  | c");
        assert_eq!(tail("a", 5), "  | a");
        assert_eq!(tail("", 5), "");
    }

    #[test]
    fn a_failure_names_the_command_what_it_said_and_the_log() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("log/step.log");
        let error = run_logged(Command::new("sh").args(["-c", "echo out; echo broken pipe dream >&2; exit 3"]), &log)
            .expect_err("the command fails")
            .to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("  | broken pipe dream"), "{error}");
        assert!(error.contains("log/step.log"), "{error}");
    }

    #[test]
    fn tee_copies_everything_and_reports_lines() {
        let mut copy = Vec::new();
        let mut lines = Vec::new();
        tee(&b"one\ntwo\nthree"[..], &mut copy, |line| lines.push(line.to_owned())).expect("tee");
        assert_eq!(copy, b"one\ntwo\nthree");
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn atomic_write_leaves_nothing_else_behind() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("sub/file");
        write_atomically(&file, b"x", 0o755).expect("write");
        assert!(is_executable(&file));
        assert_eq!(fs::read_dir(dir.path().join("sub")).expect("list").count(), 1);
    }
}
