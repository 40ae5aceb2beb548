//! A toolchain of our own under target/: Debian's rustc-web and LLVM, unpacked and not installed,
//! and bpf-linker built with them. Nothing of it needs root.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::apt::{self, Apt, Package};
use super::{Compiler, Toolchain};
use crate::{cargo, process};

pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// Where it is compiled, below the toolchain directory.
const LINKER_BUILD: &str = "bpf-linker-build";

/// The LLVM releases bpf-linker of this version can be built with.
const BPF_LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// An LLVM with its development files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Llvm {
    pub major: u32,
    pub prefix: PathBuf,
    /// Holds libLLVM and what it needs beyond the system's own libraries.
    pub lib_dir: PathBuf,
}

impl Llvm {
    pub fn is_there(&self) -> bool {
        process::is_executable(&self.prefix.join("bin/llvm-config")) && self.prefix.join("include").exists()
    }

    /// The one below `root/usr/lib`.
    fn unpacked(root: &Path) -> anyhow::Result<Self> {
        let lib = root.join("usr/lib");
        let entries = fs::read_dir(&lib).with_context(|| lib.display().to_string())?;
        let found = entries.filter_map(Result::ok).find_map(|entry| {
            let major = entry.file_name().to_str()?.strip_prefix("llvm-")?.parse().ok()?;
            let lib_dir = lib.join(format!("{ARCH}-linux-gnu"));
            Some(Self { major, prefix: entry.path(), lib_dir })
        });
        found.with_context(|| format!("no LLVM below {}", lib.display()))
    }
}

pub fn is_complete(dir: &Path) -> bool {
    dir.join("root").is_dir() && linker_path(dir).exists()
}

/// Makes what is missing and returns the whole; each part appears under its name when it is ready.
pub fn ensure(dir: &Path) -> anyhow::Result<Toolchain> {
    let root = dir.join("root");
    if !root.is_dir() {
        fetch_root(dir, &root)?;
    }
    let linker = ensure_linker(dir, &Llvm::unpacked(&root)?)?;
    let wrapper = dir.join("rustc");
    process::write_atomically(&wrapper, wrapper_script().as_bytes(), 0o755)?;
    // Also what an earlier run left behind when it was interrupted.
    for left_over in ["apt", "packages", "root.part"] {
        remove_dir(&dir.join(left_over))?;
    }
    Ok(Toolchain { compiler: Compiler::Own { wrapper, rustc: root.join("usr/bin/rustc") }, linker })
}

/// bpf-linker built with `llvm` below `dir`.
pub fn ensure_linker(dir: &Path, llvm: &Llvm) -> anyhow::Result<PathBuf> {
    let linker = linker_path(dir);
    if process::output(Command::new(&linker).arg("--version")).is_err() {
        build_linker(dir, llvm)?;
    }
    remove_dir(&dir.join(LINKER_BUILD))?;
    Ok(linker)
}

fn build_linker(dir: &Path, llvm: &Llvm) -> anyhow::Result<()> {
    if !BPF_LINKER_LLVM.contains(&llvm.major) {
        bail!("bpf-linker {BPF_LINKER_VERSION} does not know LLVM {}", llvm.major);
    }
    eprintln!(
        "Fetching bpf-linker {BPF_LINKER_VERSION} from crates.io (66 crates, 7 MB) and compiling it; a minute or more."
    );
    process::run_logged(&mut linker_command(dir, llvm), &dir.join("log/bpf-linker.log"))
}

fn linker_path(dir: &Path) -> PathBuf {
    dir.join("bpf-linker/bin/bpf-linker")
}

fn linker_command(dir: &Path, llvm: &Llvm) -> Command {
    // The old kind of rpath: it also holds for the libraries that libLLVM itself needs. Relative to
    // the linker where possible, so that the checkout can be moved.
    let rpath = match llvm.lib_dir.strip_prefix(dir) {
        Ok(below) => format!("$ORIGIN/../../{}", below.display()),
        Err(_) => llvm.lib_dir.display().to_string(),
    };
    let flags =
        [format!("-Clink-arg=-Wl,--disable-new-dtags,-rpath,{rpath}"), format!("-Lnative={}", llvm.lib_dir.display())];
    let mut command = Command::new(cargo::program());
    // The flags below are for this machine, but not the caller's; its choice of a compiler is.
    cargo::remove_variables(&mut command, |name| cargo::fits_ebpf(name) || name == "RUSTUP_TOOLCHAIN");
    command
        .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{}", llvm.major)])
        .arg("--root")
        .arg(dir.join("bpf-linker"))
        .arg("--target-dir")
        .arg(dir.join(LINKER_BUILD))
        .env("LLVM_PREFIX", &llvm.prefix)
        // For llvm-config; no library in there has the name of one that cargo or rustc use.
        .env("LD_LIBRARY_PATH", &llvm.lib_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("RUSTC_WRAPPER", "")
        // The work is done in LLVM; its own code need be neither fast nor 40 MB large.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .current_dir(dir);
    command
}

/// Starts Debian's rustc with its own libraries, which nothing else should see.
fn wrapper_script() -> String {
    format!(
        "#!/bin/sh\n\
         root=\"${{0%/*}}/root/usr\"\n\
         LD_LIBRARY_PATH=\"$root/lib/{ARCH}-linux-gnu\" exec \"$root/bin/rustc\" \"$@\"\n"
    )
}

fn fetch_root(dir: &Path, root: &Path) -> anyhow::Result<()> {
    if let Some(tool) = apt::missing_tool(|tool| process::which(tool).is_some()) {
        bail!("{tool} is not here; making one takes Debian's rustc-web, fetched with apt-get");
    }
    eprintln!("Making one in {}; nothing is installed on the machine.", dir.display());
    eprintln!("Fetching the package lists of the machine's apt sources (Debian's: about 10 MB).");
    let apt = Apt::new(dir)?;
    let update = apt.update();
    // One dead source among several is no reason to stop, as long as the packages are in another.
    let packages = select(&apt).map_err(|error| match update {
        Ok(()) => error,
        Err(cause) => cause.context("cannot fetch the package lists"),
    })?;
    download(&apt, &packages, &dir.join("packages"))?;
    unpack(dir, &packages, root)
}

/// The packages of the compiler and of an LLVM of the same release.
fn select(apt: &Apt) -> anyhow::Result<Vec<Package>> {
    let closure = apt.dependencies("libstd-rust-web-dev").context(
        "Debian's rustc-web is not in the machine's apt sources; Debian 12 has it in \
         bookworm-security",
    )?;
    let names = package_names(&closure, &apt::installed()?)?;
    apt.packages(&names)
}

fn package_names(closure: &[String], installed: &[String]) -> anyhow::Result<Vec<String>> {
    let llvm = closure
        .iter()
        .find_map(|name| name.strip_prefix("libllvm")?.parse::<u32>().ok())
        .context("Debian's rustc-web does not say which LLVM it uses")?;
    let mut names: Vec<String> = vec![
        "rustc-web".into(),
        "libstd-rust-web-dev-bpf".into(),
        format!("llvm-{llvm}"),
        format!("llvm-{llvm}-dev"),
        format!("llvm-{llvm}-linker-tools"),
        format!("libpolly-{llvm}-dev"),
    ];
    let ours = |name: &str| name.starts_with("libstd-rust-web") || name.starts_with("libllvm");
    let needed = closure.iter().filter(|name| ours(name) || !installed.contains(name));
    names.extend(needed.cloned());
    names.sort();
    Ok(names)
}

fn download(apt: &Apt, packages: &[Package], into: &Path) -> anyhow::Result<()> {
    let total: u64 = packages.iter().map(|package| package.size_bytes).sum();
    eprintln!(
        "Fetching {} packages of Debian, {}; needs 1.3 GB of disk while unpacking, 0.7 GB after:",
        packages.len(),
        apt::megabytes(total)
    );
    for package in packages {
        eprintln!("  {} {}, {}", package.name, package.version, apt::megabytes(package.size_bytes));
        apt.download(package, into)?;
    }
    Ok(())
}

fn unpack(dir: &Path, packages: &[Package], root: &Path) -> anyhow::Result<()> {
    let part = dir.join("root.part");
    remove_dir(&part)?;
    eprintln!("Unpacking.");
    for package in packages {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(dir.join("packages").join(&package.file)).arg(&part);
        process::run_logged(&mut command, &dir.join("log/unpack.log"))?;
    }
    remove_static_libraries(&Llvm::unpacked(&part)?.prefix.join("lib"))?;
    fs::rename(&part, root).with_context(|| format!("cannot make {}", root.display()))
}

/// 380 MB that only a static link would read.
fn remove_static_libraries(lib: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot tidy {}", lib.display());
    for entry in fs::read_dir(lib).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "a") {
            fs::remove_file(&path).with_context(context)?;
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_llvm_of_the_compiler_decides_the_packages() {
        let closure = owned(&["libstd-rust-web-dev", "libstd-rust-web-1.96", "libllvm22", "libc6"]);
        let names = package_names(&closure, &owned(&["libc6"])).expect("names");
        let expected = [
            "libllvm22",
            "libpolly-22-dev",
            "libstd-rust-web-1.96",
            "libstd-rust-web-dev",
            "libstd-rust-web-dev-bpf",
            "llvm-22",
            "llvm-22-dev",
            "llvm-22-linker-tools",
            "rustc-web",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn libraries_the_machine_lacks_are_fetched_too() {
        let closure = owned(&["libstd-rust-web-dev", "libllvm23", "libz3-4", "zlib1g"]);
        let names = package_names(&closure, &owned(&["libllvm23", "zlib1g"])).expect("names");
        assert!(names.contains(&"libz3-4".to_owned()), "{names:?}");
        assert!(!names.contains(&"zlib1g".to_owned()), "{names:?}");
        assert!(names.contains(&"libllvm23".to_owned()), "installed, but must match the rest");
    }

    #[test]
    fn a_compiler_without_llvm_is_refused() {
        assert!(package_names(&owned(&["libstd-rust-web-dev"]), &[]).is_err());
    }

    #[test]
    fn the_linker_finds_its_libraries_after_a_move() {
        let llvm = Llvm {
            major: 22,
            prefix: "/w/target/toolchain/root/usr/lib/llvm-22".into(),
            lib_dir: "/w/target/toolchain/root/usr/lib/x".into(),
        };
        let command = linker_command(Path::new("/w/target/toolchain"), &llvm);
        let flags = command
            .get_envs()
            .find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS")
            .and_then(|(_, value)| value)
            .expect("flags");
        assert!(flags.to_string_lossy().contains("-rpath,$ORIGIN/../../root/usr/lib/x"));
    }
}
