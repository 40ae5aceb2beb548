//! The real controller, as a process inside a namespace, with a socket, state and pins of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ratelimit_user::api::Status;
use serde_json::Value;

use crate::netns::{Bpffs, Namespace, Scratch};
use crate::process::{Finished, Place, Process, Task};

/// Where `cargo xtask` says the built program is.
pub const BINARY_VARIABLE: &str = "RATELIMIT_BIN";

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const CLI_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// How `ratelimit run` is called.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The configuration file; without one the built-in defaults hold, whatever the machine has in /etc.
    pub config: Option<String>,
    pub interfaces: Vec<String>,
    /// `observe` or `enforce`, before what the configuration says.
    pub mode: Option<String>,
    /// Further arguments of `run`.
    pub args: Vec<String>,
    /// Variables of its environment.
    pub env: Vec<(String, PathBuf)>,
}

impl Options {
    /// Enforces the built-in defaults.
    pub fn enforce<I: AsRef<str>>(interfaces: impl IntoIterator<Item = I>) -> Self {
        let interfaces = interfaces.into_iter().map(|interface| interface.as_ref().to_owned()).collect();
        Self { interfaces, mode: Some("enforce".to_owned()), ..Self::default() }
    }
}

/// Nobody is asked to prove himself: limits count SYNs.
pub const COUNTING_SYNS: &str = "[proof]\nchallenge = \"off\"\n";

impl Options {
    /// Enforces the built-in limits by the count of SYNs alone.
    pub fn counting_syns<I: AsRef<str>>(interfaces: impl IntoIterator<Item = I>) -> Self {
        Self { config: Some(COUNTING_SYNS.to_owned()), ..Self::enforce(interfaces) }
    }
}

/// Dropping it kills the process and removes its pins, and with them the filter.
#[derive(Debug)]
pub struct Controller {
    // Dropped in this order: the process before what it works on.
    process: Option<Process>,
    options: Options,
    binary: PathBuf,
    place: Place,
    scratch: Scratch,
    bpffs: Bpffs,
}

impl Controller {
    /// Starts the program and returns when it answers.
    pub fn start(namespace: &Namespace, options: &Options) -> Result<Self> {
        let mut controller = Self {
            process: None,
            options: options.clone(),
            binary: binary()?,
            place: namespace.place(),
            scratch: Scratch::new()?,
            bpffs: Bpffs::new()?,
        };
        controller.write_config(options.config.as_deref().unwrap_or_default())?;
        controller.launch()?;
        Ok(controller)
    }

    /// Runs a command of the same program against this controller, or against its pins when it is dead.
    pub fn cli<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Finished> {
        self.task().args(args).output(CLI_TIMEOUT)
    }

    /// The same without waiting for its end; what it says is said to nobody.
    pub fn spawn_cli<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Process> {
        self.task().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    /// The same under an SSH connection from this address.
    pub fn cli_over_ssh<A: AsRef<OsStr>>(&self, peer: &str, args: &[A]) -> Result<Finished> {
        self.task().env("SSH_CONNECTION", format!("{peer} 50000 192.0.2.1 22")).args(args).output(CLI_TIMEOUT)
    }

    /// The answer of a command that succeeds (or, of `explain`, that says *refused*) with `--json`.
    pub fn json<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Value> {
        let shown: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        let shown = shown.join(" ");
        let finished = self.task().args(args).arg("--json").output(CLI_TIMEOUT)?;
        let Finished { status, stdout, stderr, .. } = &finished;
        ensure!(matches!(status.code(), Some(0 | 3)), "`ratelimit {shown}` failed ({status}): {stderr}");
        serde_json::from_str(stdout).with_context(|| format!("`ratelimit {shown}` answered {stdout:?}"))
    }

    pub fn status(&self) -> Result<Status> {
        Ok(serde_json::from_value(self.json(&["status"])?)?)
    }

    /// What it answers to a request over its socket.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = UnixStream::connect(self.socket()).context("the controller does not listen")?;
        stream.set_read_timeout(Some(CLI_TIMEOUT))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.strip_prefix("HTTP/1.1 200").and_then(|answer| Some(answer.split_once("\r\n\r\n")?.1));
        let body = body.with_context(|| format!("{method} {path} was answered {answer:?}"))?;
        serde_json::from_str(body).with_context(|| format!("{method} {path} was answered {body:?}"))
    }

    /// SIGKILL: what is in force stays in force.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// SIGTERM, as a service manager does it: the filter ends too, unless the options hold `--keep`.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.take().context("the controller does not run")?.terminate(STOP_TIMEOUT)
    }

    /// Kills it and takes away all that the kernel holds of it, as when the machine starts anew.
    pub fn forget_kernel(&mut self) -> Result<()> {
        self.kill9()?;
        fs::remove_dir_all(self.pins()).with_context(|| format!("cannot remove {}", self.pins().display()))
    }

    /// Starts it again over what is pinned; if it still runs, it is killed first.
    pub fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.launch()
    }

    /// The same with other options, but with the configuration file as it is unless the options bring one.
    pub fn restart_with(&mut self, options: &Options) -> Result<()> {
        if let Some(config) = &options.config {
            self.write_config(config)?;
        }
        self.options = options.clone();
        self.restart()
    }

    /// Replaces the configuration file; `ratelimit reload` takes it over.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let path = self.config();
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Leaves no room on the disk that its state, its socket and its log are on.
    pub fn fill_disk(&self) -> Result<()> {
        self.scratch.fill()
    }

    /// Makes room again.
    pub fn free_disk(&self) -> Result<()> {
        self.scratch.unfill()
    }

    /// What it has logged since the first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// `None` when it does not run.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    pub fn is_running(&mut self) -> Result<bool> {
        self.process.as_mut().map_or(Ok(false), Process::is_running)
    }

    pub fn config(&self) -> PathBuf {
        self.scratch.path().join("ratelimit.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("control.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    pub fn pins(&self) -> PathBuf {
        self.bpffs.path().join("ratelimit")
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn task(&self) -> Task {
        Task::new(&self.binary, self.place.clone())
            .arg("--config")
            .arg(self.config())
            .arg("--socket")
            .arg(self.socket())
            .arg("--state")
            .arg(self.state())
            .arg("--pins")
            .arg(self.pins())
    }

    fn launch(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut task = self.task().arg("run");
        for interface in &self.options.interfaces {
            task = task.args(["--interface", interface]);
        }
        if let Some(mode) = &self.options.mode {
            task = task.args(["--mode", mode]);
        }
        for (key, value) in &self.options.env {
            task = task.env(key, value);
        }
        self.process = Some(task.args(&self.options.args).stdout(log.try_clone()?).stderr(log).spawn()?);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while UnixStream::connect(self.socket()).is_err() {
            if !self.is_running()? {
                bail!("the controller ended while starting:\n{}", self.log());
            }
            if Instant::now() >= deadline {
                bail!("the controller does not answer after {START_TIMEOUT:?}:\n{}", self.log());
            }
            thread::sleep(POLL);
        }
        let status = self.status()?;
        ensure!(status.controller && status.pid == self.id(), "another controller answers on this one's socket");
        Ok(())
    }
}

fn binary() -> Result<PathBuf> {
    let path = std::env::var_os(BINARY_VARIABLE).with_context(|| {
        format!("{BINARY_VARIABLE} is not set: run this through `cargo xtask demo` or `cargo xtask test`")
    })?;
    let path = Path::new(&path);
    ensure!(path.is_file(), "{} is missing: `cargo xtask build` makes it", path.display());
    Ok(path.to_owned())
}
