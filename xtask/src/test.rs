//! `cargo xtask test`: three rungs, each needing more of the machine than the one before, and one in a machine of its own.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::cargo::TestExecutable;
use crate::lab::{self, Variables};
use crate::workspace::Workspace;
use crate::{build, cargo, oldest, privilege, process};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also run the tests that take minutes
    #[arg(long)]
    long: bool,
    /// Run this rung only (may be given more than once)
    #[arg(long, value_enum)]
    only: Vec<Rung>,
    /// Run the tests whose names contain this
    filter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rung {
    /// Unit and property tests; needs nothing
    Host,
    /// The same cases in the kernel; needs root
    Kernel,
    /// Real servers, clients and floods in network namespaces; needs root
    Gateway,
    /// Those of the last two that fit, on the oldest kernel supported, in an emulated machine; takes minutes, needs nothing
    Oldest,
}

impl Rung {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Kernel => "kernel",
            Self::Gateway => "gateway",
            Self::Oldest => "oldest",
        }
    }
}

pub fn run(workspace: &Workspace, args: &Args) -> anyhow::Result<ExitCode> {
    let rungs = chosen(&args.only, args.long);
    build::objects(workspace)?;
    let controller = build::controller(workspace)?;
    let mut outcomes = Vec::new();
    for rung in rungs {
        let start = Instant::now();
        let result = match rung {
            Rung::Host => host(workspace, args),
            Rung::Kernel | Rung::Gateway => privileged(workspace, rung, &controller, args),
            Rung::Oldest => on_oldest_kernel(workspace, &controller, args),
        };
        let (counts, problem) = match result {
            Ok(counts) => (counts, None),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        outcomes.push(Outcome { rung, counts, problem, took: start.elapsed() });
    }
    print!("{}", summary(&outcomes));
    Ok(if succeeded(&outcomes, args.filter.is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(only: &[Rung], long: bool) -> Vec<Rung> {
    let all = [Rung::Host, Rung::Kernel, Rung::Gateway, Rung::Oldest];
    let usual = |rung| only.is_empty() && (long || rung != Rung::Oldest);
    all.into_iter().filter(|rung| usual(*rung) || only.contains(rung)).collect()
}

fn host(workspace: &Workspace, args: &Args) -> anyhow::Result<Counts> {
    let selections: [&[&str]; 2] = [
        &["--workspace", "--exclude", "ratelimit-tests"],
        &["--package", "ratelimit-tests", "--lib", "--test", "host"],
    ];
    let mut counts = Counts::default();
    for selection in selections {
        let mut command = cargo::for_host(workspace, "test");
        command.arg("--no-fail-fast").args(selection).args(&args.filter);
        if args.long {
            command.env("RATELIMIT_LONG", "1");
        }
        counts.add(run_counting(&mut command, io::stdout())?);
    }
    Ok(counts)
}

/// Builds the tests as we are, then runs the binaries alone as root, so that root writes nothing into target/.
fn privileged(workspace: &Workspace, rung: Rung, controller: &Path, args: &Args) -> anyhow::Result<Counts> {
    let tests = test_executables(workspace, rung)?;
    let mut variables = environment(workspace, rung, controller)?;
    if args.long {
        variables.push(("RATELIMIT_LONG", OsString::from("1")));
    }
    let mut words = vec![OsString::from("--test-threads=1")];
    words.extend(args.filter.iter().map(OsString::from));
    let mut counts = Counts::default();
    for test in tests {
        println!("\n     Running {} ({})", test.name, test.path.display());
        let mut command = privilege::as_root(&test.path, &words, lab::WHY, &variables)?;
        command.current_dir(workspace.root().join("tests"));
        counts.add(run_counting(&mut command, io::stdout())?);
    }
    Ok(counts)
}

/// Builds the tests here and runs them in a machine that is emulated.
fn on_oldest_kernel(workspace: &Workspace, controller: &Path, args: &Args) -> anyhow::Result<Counts> {
    let tests = test_executables(workspace, Rung::Oldest)?;
    let mut command = oldest::machine(workspace, &tests, controller, args.filter.as_deref())?;
    let mut ended_well = false;
    let mut counts =
        run_watched(&mut command, io::stdout(), |line| ended_well |= line.trim_end() == oldest::ENDED_WELL)?;
    // The machine itself ends well also when its kernel does not.
    counts.broken += u64::from(!ended_well);
    Ok(counts)
}

fn environment(workspace: &Workspace, rung: Rung, controller: &Path) -> anyhow::Result<Variables> {
    match rung {
        Rung::Gateway => lab::with_servers(workspace, controller),
        Rung::Host | Rung::Kernel | Rung::Oldest => Ok(lab::with_controller(controller)),
    }
}

fn test_executables(workspace: &Workspace, rung: Rung) -> anyhow::Result<Vec<TestExecutable>> {
    let mut command = cargo::for_host(workspace, "test");
    command.args(["--no-run", "--message-format=json-render-diagnostics", "--package", "ratelimit-tests"]);
    match rung {
        Rung::Gateway => command.args(["--test", "*"]),
        Rung::Host | Rung::Kernel => command.args(["--test", rung.name()]),
        Rung::Oldest => command.args(oldest::TESTS.iter().flat_map(|(name, _)| ["--test", name])),
    };
    let messages = command.stderr(Stdio::inherit()).output().with_context(|| process::describe(&command))?;
    if !messages.status.success() {
        bail!("the tests do not build");
    }
    let mut tests = cargo::test_executables(&String::from_utf8_lossy(&messages.stdout));
    tests.retain(|test| rung == Rung::Oldest || rung_of(&test.name) == rung);
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    if tests.is_empty() {
        bail!("cargo built no test binary for this rung");
    }
    Ok(tests)
}

/// A test target of any other name also runs in namespaces, so that none is forgotten.
fn rung_of(target: &str) -> Rung {
    match target {
        "host" => Rung::Host,
        "kernel" => Rung::Kernel,
        _ => Rung::Gateway,
    }
}

/// What the test binaries said they did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    /// Binaries that ended badly, also without saying how many tests failed.
    broken: u64,
}

impl Counts {
    fn executed(self) -> u64 {
        self.passed + self.failed
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.broken += other.broken;
    }
}

fn run_counting(command: &mut Command, shown: impl io::Write) -> anyhow::Result<Counts> {
    run_watched(command, shown, |_| ())
}

/// Counts, and lets `each_line` see what is printed.
fn run_watched(
    command: &mut Command,
    shown: impl io::Write,
    mut each_line: impl FnMut(&str),
) -> anyhow::Result<Counts> {
    let context = process::describe(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| context.clone())?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        process::tee(stdout, shown, |line| {
            counts.add(parse_result(line));
            each_line(line);
        })?;
    }
    let status = child.wait().context(context)?;
    counts.broken += u64::from(!status.success());
    Ok(counts)
}

/// `test result: ok. 12 passed; 0 failed; …`; nothing in any other line.
fn parse_result(line: &str) -> Counts {
    let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
        return Counts::default();
    };
    let number =
        |label: &str| numbers.split("; ").find_map(|part| part.strip_suffix(label)?.trim().parse().ok()).unwrap_or(0);
    Counts { passed: number(" passed"), failed: number(" failed"), broken: 0 }
}

#[derive(Debug)]
struct Outcome {
    rung: Rung,
    counts: Counts,
    problem: Option<String>,
    took: Duration,
}

impl Outcome {
    fn is_broken(&self) -> bool {
        self.problem.is_some() || self.counts.failed > 0 || self.counts.broken > 0
    }
}

/// A rung in which nothing ran proves nothing. With a filter it is enough that some rung ran.
fn succeeded(outcomes: &[Outcome], filtered: bool) -> bool {
    let ran = |outcome: &Outcome| outcome.counts.executed() > 0;
    let enough = if filtered { outcomes.iter().any(ran) } else { outcomes.iter().all(ran) };
    enough && !outcomes.iter().any(Outcome::is_broken)
}

fn summary(outcomes: &[Outcome]) -> String {
    let mut text = format!("\n{:<8} {:>7} {:>7} {:>7}\n", "rung", "passed", "failed", "time");
    for outcome in outcomes {
        let counts = outcome.counts;
        let verdict = match (&outcome.problem, outcome.is_broken(), counts.executed()) {
            (Some(problem), ..) => format!("FAILED: {problem}"),
            (None, true, _) => "FAILED".to_owned(),
            (None, false, 0) => "no test ran".to_owned(),
            (None, false, _) => "ok".to_owned(),
        };
        text.push_str(&format!(
            "{:<8} {:>7} {:>7} {:>5} s  {verdict}\n",
            outcome.rung.name(),
            counts.passed,
            counts.failed,
            outcome.took.as_secs()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: u64, problem: Option<&str>) -> Outcome {
        Outcome {
            rung: Rung::Kernel,
            counts: Counts { passed, failed, broken: u64::from(failed > 0) },
            problem: problem.map(String::from),
            took: Duration::from_secs(3),
        }
    }

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; \
             finished in 0.01s";
        assert_eq!(parse_result(line), Counts { passed: 12, failed: 3, broken: 0 });
        let line = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse_result(line), Counts { passed: 5, failed: 0, broken: 0 });
        for other in ["test a ... ok", "running 3 tests", "", "test result: nonsense"] {
            assert_eq!(parse_result(other), Counts::default(), "{other}");
        }
    }

    #[test]
    fn a_rung_without_tests_fails() {
        assert!(succeeded(&[outcome(1, 0, None)], false));
        assert!(!succeeded(&[outcome(1, 0, None), outcome(0, 0, None)], false));
        assert!(!succeeded(&[outcome(1, 1, None)], false));
        assert!(!succeeded(&[outcome(0, 0, Some("does not build"))], false));
    }

    #[test]
    fn with_a_filter_one_rung_must_run_something() {
        assert!(succeeded(&[outcome(1, 0, None), outcome(0, 0, None)], true));
        assert!(!succeeded(&[outcome(0, 0, None)], true));
        assert!(!succeeded(&[outcome(1, 0, None), outcome(0, 0, Some("x"))], true));
    }

    #[test]
    fn the_summary_says_what_is_wrong() {
        let text = summary(&[
            outcome(4, 0, None),
            outcome(0, 0, None),
            outcome(3, 1, None),
            outcome(0, 0, Some("the tests do not build")),
        ]);
        for part in ["ok\n", "no test ran", "FAILED\n", "FAILED: the tests do not build"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_crashed_binary_is_a_failure_whatever_it_counted() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; kill -SEGV $$";
        let counts = run_counting(Command::new("sh").args(["-c", script]), io::sink()).expect("sh runs");
        assert_eq!(counts, Counts { passed: 2, failed: 0, broken: 1 });
    }

    #[test]
    fn no_test_target_is_outside_of_the_rungs() {
        assert_eq!(rung_of("host"), Rung::Host);
        assert_eq!(rung_of("kernel"), Rung::Kernel);
        assert_eq!(rung_of("gateway"), Rung::Gateway);
        assert_eq!(rung_of("attach"), Rung::Gateway);
    }

    #[test]
    fn rungs_run_in_order() {
        assert_eq!(chosen(&[], false), [Rung::Host, Rung::Kernel, Rung::Gateway]);
        assert_eq!(chosen(&[], true), [Rung::Host, Rung::Kernel, Rung::Gateway, Rung::Oldest]);
        assert_eq!(chosen(&[Rung::Gateway, Rung::Host], true), [Rung::Host, Rung::Gateway]);
        assert_eq!(chosen(&[Rung::Oldest], false), [Rung::Oldest]);
    }
}
