//! Debian trees extracted under `target/`: that of the gateway tests holds mail servers, mail clients and attack tools.
//!
//! Nothing is installed on the machine and no step needs root. apt resolves against an empty package database of its own,
//! so a tree holds everything its programs need, libc included. No maintainer script runs: the tests write the accounts
//! and configurations they need into an overlay and never change the tree.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

/// A tree: what it is made of and what it is for.
#[derive(Debug)]
pub struct Tree {
    /// Its directory in `target/`.
    pub name: &'static str,
    /// Completes "for …".
    pub purpose: &'static str,
    pub packages: &'static [&'static str],
    /// What must be there before the tree counts as complete.
    pub witnesses: &'static [&'static str],
    /// What tar leaves out, besides what no tree needs.
    pub left_out: &'static [&'static str],
    pub extracted_mb: u32,
}

pub const GATEWAY: Tree = Tree {
    name: "debian-root",
    purpose: "the tests' own Debian tree",
    packages: &[
        "base-files", // the top-level directories
        "coreutils",
        "curl",
        "dash",
        "dovecot-imapd",
        "dovecot-pop3d",
        "hping3",
        "iproute2",
        "ipset",
        "iptables",
        "libio-socket-inet6-perl", // swaks over IPv6
        "libnet-ssleay-perl",      // swaks --tls
        "mount",
        "nftables",
        "nmap",
        "openssl",
        "postfix",
        "procps",
        "rbldnsd", // a DNSBL
        "swaks",
        "unbound", // a resolver
    ],
    witnesses: &[
        "usr/bin/curl",
        "usr/bin/mount",
        "usr/bin/nmap",
        "usr/bin/openssl",
        "usr/bin/sh",
        "usr/bin/swaks",
        "usr/lib/dovecot/imap",
        "usr/lib/dovecot/pop3",
        "usr/sbin/dovecot",
        "usr/sbin/hping3",
        "usr/sbin/ipset",
        "usr/sbin/iptables-legacy",
        "usr/sbin/nft",
        "usr/sbin/postfix",
        "usr/sbin/rbldnsd",
        "usr/sbin/unbound",
    ],
    left_out: &[],
    extracted_mb: 210,
};

/// Part of the stamp: raised whenever the way a tree is made changes.
const RECIPE: u32 = 1;

const STAMP: &str = ".ratelimit-stamp";

/// In a usr-merged system these top-level directories are links; packages that still name them must follow the link.
const MERGED: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// Dead weight for a test: a quarter of what would be extracted.
const LEFT_OUT: &[&str] =
    &["./usr/share/doc", "./usr/share/info", "./usr/share/locale", "./usr/share/man", "./usr/share/zoneinfo"];

impl Tree {
    /// Makes the tree in `target` unless it is there and complete, and returns its path.
    pub fn ensure(&self, target: &Path) -> Result<PathBuf> {
        let root = target.join(self.name);
        if self.is_complete(&root) {
            return Ok(root);
        }
        fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
        let target = target.canonicalize().with_context(|| format!("cannot resolve {}", target.display()))?;
        let beside = |suffix: &str| target.join(format!("{}{suffix}", self.name));
        let _lock = lock(&beside(".lock"))?;
        if self.is_complete(&root) {
            return Ok(root);
        }
        let apt = Apt::prepare(&beside("-apt"))?;
        let archives = apt.download(self)?;
        let partial = beside(".partial");
        remove(&partial)?;
        self.extract(&archives, &partial)?;
        fs::write(partial.join(STAMP), self.stamp())
            .with_context(|| format!("cannot write the stamp in {}", partial.display()))?;
        remove(&root)?;
        fs::rename(&partial, &root)
            .with_context(|| format!("cannot rename {} to {}", partial.display(), root.display()))?;
        remove(&apt.dir)?;
        Ok(root)
    }

    fn is_complete(&self, root: &Path) -> bool {
        fs::read_to_string(root.join(STAMP)).is_ok_and(|found| found == self.stamp())
    }

    fn stamp(&self) -> String {
        format!("recipe {RECIPE}\n{}\n", self.packages.join("\n"))
    }

    fn extract(&self, archives: &[PathBuf], tree: &Path) -> Result<()> {
        eprintln!("{}: extracting {} packages", self.name, archives.len());
        for directory in MERGED {
            let merged = tree.join("usr").join(directory);
            fs::create_dir_all(&merged).with_context(|| format!("cannot make {}", merged.display()))?;
            // The servers run as other users inside, so the caller's own umask must not decide what they can read.
            fs::set_permissions(&merged, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("cannot open {} to all", merged.display()))?;
            symlink(format!("usr/{directory}"), tree.join(directory))
                .with_context(|| format!("cannot link {}/{directory}", tree.display()))?;
        }
        let left_out: Vec<&str> = LEFT_OUT.iter().chain(self.left_out).copied().collect();
        for archive in archives {
            extract_one(archive, &left_out, tree)?;
        }
        link_alternatives(tree)?;
        let absent: BTreeSet<_> = self.witnesses.iter().filter(|file| !tree.join(file).exists()).collect();
        ensure!(
            absent.is_empty(),
            "the extracted Debian tree lacks {absent:?}: this Debian release places them elsewhere; please report it with \
             the contents of /etc/os-release"
        );
        Ok(())
    }
}

/// Two builds at once would extract into each other.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| {
        format!(
            "cannot create {}: if an earlier run as root left it, remove it (or all of target/) as root",
            path.display()
        )
    })?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn remove(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    fs::remove_dir_all(path).with_context(|| {
        format!("cannot remove {}: remove it by hand, as root if an earlier run as root made it", path.display())
    })
}

/// apt with state of its own; only the package sources and their keys are the machine's.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn prepare(dir: &Path) -> Result<Self> {
        for sub in ["lists/partial", "cache/archives/partial", "none/partial"] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot make {}", dir.join(sub).display()))?;
        }
        fs::write(dir.join("status"), "").context("cannot write the empty package database")?;
        let config = format!(
            r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Log "{dir}";
Debug::NoLocking "1";
APT::Sandbox::User "root";
APT::Install-Recommends "0";
APT::Update::Error-Mode "any";
APT::Keep-Downloaded-Packages "1";
Acquire::Languages "none";
Acquire::Retries "3";
"#,
            dir = dir.display()
        );
        fs::write(dir.join("apt.conf"), config).context("cannot write the configuration of apt")?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("apt-get");
        command
            .arg(format!("-c={}", self.dir.join("apt.conf").display()))
            .args(arguments)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    }

    /// Fetches what is missing and returns every package of the closure.
    fn download(&self, tree: &Tree) -> Result<Vec<PathBuf>> {
        let name = tree.name;
        eprintln!("{name}: reading the package lists of this machine's apt sources (about 15 MB)");
        let update = run(self.command(&["-q", "update"]));
        let closure = match (self.closure(tree.packages), update) {
            // A source that nothing is needed from may fail, as those of other vendors do.
            (Ok(closure), _) => closure,
            (Err(_), Err(update)) => return Err(update),
            (Err(error), Ok(_)) => return Err(error),
        };
        let archives = self.dir.join("cache/archives");
        let missing: Vec<_> = closure.iter().filter(|package| !package.is_in(&archives)).collect();
        let missing_bytes: u64 = missing.iter().map(|package| package.size_bytes).sum();
        eprintln!(
            "{name}: fetching {} Debian packages, {:.0} MB ({} MB once extracted under target/), for {}; nothing is \
             installed on this machine",
            missing.len(),
            missing_bytes as f64 / 1e6,
            tree.extracted_mb,
            tree.purpose
        );
        let start = Instant::now();
        let mut install = vec!["-q", "-y", "--download-only", "install"];
        install.extend(tree.packages);
        run(self.command(&install))?;
        eprintln!("{name}: fetched in {:.0} s", start.elapsed().as_secs_f64());
        Ok(closure.into_iter().map(|package| archives.join(package.file)).collect())
    }

    fn closure(&self, wanted: &[&str]) -> Result<Vec<Package>> {
        // Packages that are already in the cache are not listed, so this one question is asked with an empty cache.
        let none = format!("-oDir::Cache::archives={}", self.dir.join("none").display());
        let mut arguments = vec![none.as_str(), "-qq", "-y", "--print-uris", "install"];
        arguments.extend(wanted);
        let listing = run(self.command(&arguments))?;
        let packages: Vec<Package> = listing.lines().filter_map(Package::parse).collect();
        ensure!(
            packages.len() >= wanted.len(),
            "apt-get --print-uris listed {} packages where at least {} were expected:\n{listing}",
            packages.len(),
            wanted.len()
        );
        Ok(packages)
    }
}

struct Package {
    file: String,
    size_bytes: u64,
}

impl Package {
    /// `'http://…/bash_5.2.15-2+b13_amd64.deb' bash_5.2.15-2+b13_amd64.deb 1490652 SHA256:…`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let _uri = words.next().filter(|uri| uri.starts_with('\''))?;
        let file = words.next().filter(|file| file.ends_with(".deb") && !file.contains('/'))?;
        let size_bytes = words.next()?.parse().ok()?;
        Some(Self { file: file.to_owned(), size_bytes })
    }

    fn is_in(&self, archives: &Path) -> bool {
        fs::metadata(archives.join(&self.file)).is_ok_and(|file| file.len() == self.size_bytes)
    }
}

/// nmap needs libblas.so.3, which a maintainer script would have linked.
fn link_alternatives(tree: &Path) -> Result<()> {
    let libraries = tree.join("usr/lib");
    for entry in fs::read_dir(&libraries).with_context(|| format!("cannot list {}", libraries.display()))? {
        let directory = entry?.path();
        if directory.join("blas/libblas.so.3").exists() {
            symlink("blas/libblas.so.3", directory.join("libblas.so.3"))
                .with_context(|| format!("cannot link libblas.so.3 in {}", directory.display()))?;
        }
    }
    Ok(())
}

fn extract_one(archive: &Path, left_out: &[&str], tree: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| missing("dpkg-deb", error))?;
    let Some(stream) = unpack.stdout.take() else {
        bail!("dpkg-deb gave no output");
    };
    // The servers run as other users inside, so the caller's own umask must not decide what they can read. Without
    // --same-permissions tar leaves the set-user-id bits off: no such program may lie about under target/.
    let tar = Command::new("sh")
        .args(["-c", "umask 022 && exec tar \"$@\"", "tar"])
        .args(["-x", "--no-same-owner", "--no-same-permissions", "--keep-directory-symlink"])
        .args(left_out.iter().map(|path| format!("--exclude={path}")))
        .arg("-C")
        .arg(tree)
        .stdin(stream)
        .output()
        .map_err(|error| missing("tar", error))?;
    let unpacked = unpack.wait().context("cannot wait for dpkg-deb")?;
    ensure!(
        unpacked.success() && tar.status.success(),
        "cannot extract {} ({unpacked}; tar: {}): {}\nIf the file is damaged, remove it and run the command again; if the \
         disk is full, make 400 MB of room.",
        archive.display(),
        tar.status,
        String::from_utf8_lossy(&tar.stderr).trim()
    );
    Ok(())
}

fn run(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| missing(&program, error))?;
    if !output.status.success() {
        let shown: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!(
            "`{program} {}` failed ({}):\n{}\nThis needs Debian packages from this machine's apt sources: check \
             the network and /etc/apt/sources.list*, then run the command again.",
            shown.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn missing(program: &str, error: std::io::Error) -> anyhow::Error {
    let remedy = if error.kind() == std::io::ErrorKind::NotFound {
        "it belongs to every Debian system; this needs Debian 12 or later, or a Debian container"
    } else {
        "check that it can be run"
    };
    anyhow::Error::new(error).context(format!("cannot run {program}: {remedy}"))
}
