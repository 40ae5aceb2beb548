//! Programs the lab starts: each in the namespaces it belongs to, and none of them outlives the test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::umask;
use nix::unistd::{Pid, getpid, getppid, setsid};

use crate::debian::OPEN;

const POLL: Duration = Duration::from_millis(5);

/// Which namespaces a program runs in; where none is given, the test's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub network: Option<Arc<OwnedFd>>,
    pub mounts: Option<Arc<OwnedFd>>,
    pub processes: Processes,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Processes {
    #[default]
    Own,
    /// The program becomes process 1 of a new namespace: when it ends, the kernel ends all the others.
    First,
    In(Arc<OwnedFd>),
}

/// A program about to run in a place. Its standard input is empty unless something is given.
#[derive(Debug)]
pub struct Task {
    command: Command,
    place: Place,
    input: Vec<u8>,
}

/// A running program, killed with its process group when this is dropped. It also dies with the test, however that ends.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

/// A program that has ended, or was killed because its time was up.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
    pub timed_out: bool,
}

impl Task {
    pub(crate) fn new(program: impl AsRef<OsStr>, place: Place) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, place, input: Vec::new() }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Nothing of the machine's environment, so that a test behaves alike everywhere.
    pub(crate) fn clean_env(mut self) -> Self {
        self.command.env_clear();
        self
    }

    pub(crate) fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.command.stdin(stdio);
        self
    }

    /// What `output` and `check` feed to the program's standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self.stdin(Stdio::piped())
    }

    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.command.stdout(stdio);
        self
    }

    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.command.stderr(stdio);
        self
    }

    /// Starts the program; output that was not redirected goes where the test's own goes.
    pub fn spawn(self) -> Result<Process> {
        let name = self.command.get_program().to_string_lossy().into_owned();
        let child = spawner()?.run(self).with_context(|| format!("cannot start {name}"))?;
        Ok(Process { name, child })
    }

    /// Runs the program to its end, or kills it after `timeout`.
    pub fn output(mut self, timeout: Duration) -> Result<Finished> {
        let start = Instant::now();
        let input = std::mem::take(&mut self.input);
        let mut process = self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = process.take_stdin() {
            // A program that ends before it has read everything says why itself.
            thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = drain(process.child.stdout.take());
        let stderr = drain(process.child.stderr.take());
        let ended = process.wait(timeout)?;
        let status = match ended {
            Some(status) => status,
            None => process.kill()?,
        };
        Ok(Finished {
            status,
            stdout: collect(stdout),
            stderr: collect(stderr),
            elapsed: start.elapsed(),
            timed_out: ended.is_none(),
        })
    }

    /// Like `output`, but anything but success is an error that shows what the program said.
    pub fn check(self, timeout: Duration) -> Result<String> {
        let shown = self.shown();
        let finished = self.output(timeout)?;
        if finished.timed_out {
            bail!("`{shown}` did not end within {timeout:?}:\n{}{}", finished.stdout, finished.stderr);
        }
        if !finished.status.success() {
            bail!("`{shown}` failed ({}):\n{}{}", finished.status, finished.stdout, finished.stderr);
        }
        Ok(finished.stdout)
    }

    fn shown(&self) -> String {
        let mut words = vec![self.command.get_program().to_string_lossy()];
        words.extend(self.command.get_args().map(OsStr::to_string_lossy));
        words.join(" ")
    }
}

impl Process {
    /// As the test sees it; inside a process namespace the program has another one.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.wait(Duration::ZERO)?.is_none())
    }

    /// `None` when the program still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
    }

    /// To the program alone, not to what it has started.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Once waited for, its number may belong to another process.
        ensure!(self.is_running()?, "{} has already ended", self.name);
        nix::sys::signal::kill(self.pid()?, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// SIGTERM, and SIGKILL when that was not enough within `timeout`.
    pub fn terminate(mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.is_running()? {
            self.signal(Signal::SIGTERM)?;
        }
        match self.wait(timeout)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// SIGKILL to the program and its process group.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.wait(Duration::ZERO)? {
            return Ok(status);
        }
        let pid = self.pid()?;
        // The group may already be gone: then the child alone remains to be killed.
        if killpg(pid, Signal::SIGKILL).is_err() {
            self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        }
        self.child.wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("lab: {error:#}");
        }
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    let mut pipe = pipe?;
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends what there is to read.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    }))
}

fn collect(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The one thread that starts programs. A child's parent-death signal fires when the *thread* that started it ends, and
/// this one lives exactly as long as the test process.
struct Spawner {
    tasks: mpsc::Sender<(Task, mpsc::Sender<io::Result<Child>>)>,
}

fn spawner() -> Result<&'static Spawner> {
    static SPAWNER: OnceLock<Option<Spawner>> = OnceLock::new();
    SPAWNER.get_or_init(|| Spawner::start().ok()).as_ref().context("cannot start the thread that starts programs")
}

impl Spawner {
    fn start() -> io::Result<Self> {
        let (tasks, inbox) = mpsc::channel::<(Task, mpsc::Sender<io::Result<Child>>)>();
        let own = File::open("/proc/thread-self/ns/pid")?;
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for (task, answer) in inbox {
                // The asking side only goes away when its thread was ended by force.
                let _ = answer.send(start(task, &own));
            }
        })?;
        Ok(Self { tasks })
    }

    fn run(&self, task: Task) -> Result<Child> {
        let (answer, result) = mpsc::channel();
        self.tasks.send((task, answer)).ok().context("the thread that starts programs has ended")?;
        Ok(result.recv().context("the thread that starts programs has ended")??)
    }
}

fn start(mut task: Task, own_processes: &File) -> io::Result<Child> {
    let place = task.place.clone();
    // A process namespace is entered by the children of the thread that chose it.
    match &place.processes {
        Processes::Own => {}
        Processes::First => unshare(CloneFlags::CLONE_NEWPID)?,
        Processes::In(namespace) => setns(namespace.as_fd(), CloneFlags::CLONE_NEWPID)?,
    }
    let parent = matches!(place.processes, Processes::Own).then(getpid);
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes a few
    // system calls on descriptors it owns and allocates nothing.
    unsafe {
        task.command.pre_exec(move || {
            // A group of its own to be killed by, and out of reach of Ctrl-C; a session because Postfix insists on one.
            setsid()?;
            set_pdeathsig(Signal::SIGKILL)?;
            // The test may have died before the line above; across process namespaces the parent reads as 0.
            if parent.is_some_and(|parent| parent != getppid()) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if let Some(network) = &place.network {
                setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
            }
            if let Some(mounts) = &place.mounts {
                setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
                umask(OPEN);
            }
            Ok(())
        });
    }
    let child = task.command.spawn();
    setns(own_processes.as_fd(), CloneFlags::CLONE_NEWPID)?;
    child
}
