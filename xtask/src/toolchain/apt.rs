//! Debian packages fetched with apt's own checks of signatures, but into directories of ours: the
//! machine's package lists, caches and database stay as they are, and no root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::process;

const TOOLS: [&str; 4] = ["apt-get", "apt-cache", "dpkg-deb", "dpkg-query"];

/// The first program of apt and dpkg that is not there.
pub fn missing_tool(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    TOOLS.into_iter().find(|tool| !has(tool))
}

/// A package as the lists offer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub file: String,
    pub size_bytes: u64,
}

#[derive(Debug)]
pub struct Apt {
    config: PathBuf,
    log: PathBuf,
}

impl Apt {
    /// Keeps its state in `dir/apt`.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let state = dir.join("apt");
        for sub in ["lists/partial", "cache/archives/partial"] {
            let sub = state.join(sub);
            fs::create_dir_all(&sub).with_context(|| format!("cannot make {}", sub.display()))?;
        }
        let config = state.join("apt.conf");
        let Some(state) = state.to_str().filter(|path| !path.contains('"')) else {
            bail!("apt cannot be told the directory {}", state.display());
        };
        process::write_atomically(&config, configuration(state).as_bytes(), 0o644)?;
        Ok(Self { config, log: dir.join("log/apt.log") })
    }

    /// Fails when any list cannot be fetched; the others are there all the same.
    pub fn update(&self) -> anyhow::Result<()> {
        let mut command = self.command("apt-get");
        process::run_logged(command.args(["-o", "APT::Update::Error-Mode=any", "update"]), &self.log)
    }

    /// `name` and everything it depends on.
    pub fn dependencies(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        command.args(["depends", "--recurse", "--no-recommends", "--no-suggests"]);
        command.args(["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", name]);
        let names = parse_dependencies(&process::output(&mut command)?);
        if !names.iter().any(|found| found == name) {
            bail!("apt knows no package {name}");
        }
        Ok(names)
    }

    /// What the lists offer for `names`; fails when one of them is not there.
    pub fn packages(&self, names: &[String]) -> anyhow::Result<Vec<Package>> {
        let mut command = self.command("apt-get");
        command.args(["download", "--print-uris"]).args(names);
        let listing = process::output(&mut command)?;
        let packages: Vec<Package> = listing.lines().filter_map(parse_uri).collect();
        match names.iter().find(|name| !packages.iter().any(|found| found.name == **name)) {
            Some(name) => bail!("apt offers no file for the package {name}"),
            None => Ok(packages),
        }
    }

    /// Downloads and verifies; a file that is there already and right is kept.
    pub fn download(&self, package: &Package, into: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(into).with_context(|| into.display().to_string())?;
        let wanted = format!("{}={}", package.name, package.version);
        let mut command = self.command("apt-get");
        process::run_logged(command.args(["download", &wanted]).current_dir(into), &self.log)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).env("LC_ALL", "C");
        command
    }
}

/// Read after the machine's own configuration, of which sources and proxies still hold. What other
/// packages have hooked into `apt-get update` must not run: it would touch the machine.
fn configuration(state: &str) -> String {
    format!(
        "Dir::State \"{state}\";\n\
         Dir::State::lists \"{state}/lists\";\n\
         Dir::State::status \"/var/lib/dpkg/status\";\n\
         Dir::Cache \"{state}/cache\";\n\
         Debug::NoLocking \"true\";\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         #clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear Acquire::IndexTargets::deb::DEP-11;\n\
         #clear Acquire::IndexTargets::deb::CNF;\n"
    )
}

/// The packages installed on this machine.
pub fn installed() -> anyhow::Result<Vec<String>> {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${db:Status-Status} ${Package}\\n"]);
    Ok(parse_installed(&process::output(&mut command)?))
}

fn parse_installed(listing: &str) -> Vec<String> {
    listing.lines().filter_map(|line| line.strip_prefix("installed ")).map(String::from).collect()
}

/// The names at the left edge of what `apt-cache depends --recurse` prints; those in angle brackets
/// are virtual, those with a colon of another architecture.
fn parse_dependencies(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric()))
        .filter(|line| !line.contains(':'))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// A line of `apt-get download --print-uris`: 'URI' FILE SIZE HASH.
fn parse_uri(line: &str) -> Option<Package> {
    let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split(' ');
    let file = words.next()?;
    let size_bytes = words.next()?.parse().ok()?;
    let mut parts = file.split('_');
    Some(Package {
        name: parts.next()?.to_owned(),
        version: parts.next()?.replace("%3a", ":"),
        file: file.to_owned(),
        size_bytes,
    })
}

pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_from_the_uri_lines() {
        let line = "'http://deb.debian.org/debian-security/pool/updates/main/l/llvm-toolchain-22/\
                    libllvm22_22.1.8-1%7edeb12u1_amd64.deb' libllvm22_1%3a22.1.8-1~deb12u1_amd64.deb \
                    29378692 SHA256:729ec3e943d3";
        let expected = Package {
            name: "libllvm22".into(),
            version: "1:22.1.8-1~deb12u1".into(),
            file: "libllvm22_1%3a22.1.8-1~deb12u1_amd64.deb".into(),
            size_bytes: 29_378_692,
        };
        assert_eq!(parse_uri(line), Some(expected));
        assert_eq!(parse_uri("Reading package lists..."), None);
        assert_eq!(parse_uri("'http://x' file"), None);
    }

    #[test]
    fn dependencies_are_the_names_at_the_left_edge() {
        let listing = "libllvm22\n  Depends: libc6\n |Depends: <libc-dev>\n    libc6-dev\n\
                       libc6\n  Depends: libgcc-s1\n<debconf-2.0>\nlibgcc-s1\n";
        assert_eq!(parse_dependencies(listing), ["libllvm22", "libc6", "libgcc-s1"]);
    }

    #[test]
    fn only_installed_packages_count_as_installed() {
        let listing = "installed libc6\nconfig-files old\nnot-installed x\ninstalled zlib1g\n";
        assert_eq!(parse_installed(listing), ["libc6", "zlib1g"]);
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(megabytes(192_400_000), "192.4 MB");
        assert_eq!(megabytes(99_999), "0.0 MB");
    }

    #[test]
    fn the_first_missing_tool_is_named() {
        assert_eq!(missing_tool(|_| true), None);
        assert_eq!(missing_tool(|tool| tool != "apt-get"), Some("apt-get"));
        assert_eq!(missing_tool(|tool| tool == "apt-get"), Some("apt-cache"));
    }

    #[test]
    fn hooks_of_other_packages_do_not_run() {
        let text = configuration("/w/target/toolchain/apt");
        assert!(text.contains("#clear APT::Update::Post-Invoke;"));
        assert!(text.contains("Dir::State::lists \"/w/target/toolchain/apt/lists\";"));
    }
}
