//! Which toolchain to use: what is on this machine first, our own last.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::own::{self, Llvm};
use super::{Compiler, TARGET, Toolchain, probe, remedy};
use crate::process;

/// The first candidate that compiles an eBPF program; made where there is none.
pub fn first_usable(dir: &Path) -> anyhow::Result<Toolchain> {
    let findings = Findings::collect();
    for candidate in findings.candidates() {
        match complete(&candidate, dir) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => eprintln!("Not usable: {}: {error:#}", candidate.name()),
        }
    }
    if !own::is_complete(dir) {
        eprintln!("No eBPF toolchain is installed here: {}.", findings.missing().join("; "));
    }
    complete(&Candidate::Own, dir).with_context(remedy::text)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Candidate {
    Installed(Toolchain),
    /// Debian's compiler and LLVM are installed, only the linker must be built.
    LinkerMissing {
        rustc: PathBuf,
        llvm: Llvm,
    },
    Own,
}

impl Candidate {
    fn name(&self) -> String {
        match self {
            Self::Installed(toolchain) => toolchain.to_string(),
            Self::LinkerMissing { rustc, .. } => format!("Debian's {}", rustc.display()),
            Self::Own => "our own".into(),
        }
    }
}

fn complete(candidate: &Candidate, dir: &Path) -> anyhow::Result<Toolchain> {
    let toolchain = match candidate {
        Candidate::Installed(toolchain) => toolchain.clone(),
        Candidate::LinkerMissing { rustc, llvm } => {
            Toolchain { compiler: Compiler::Debian { rustc: rustc.clone() }, linker: own::ensure_linker(dir, llvm)? }
        }
        Candidate::Own => own::ensure(dir)?,
    };
    probe::prove(&toolchain, dir)?;
    Ok(toolchain)
}

/// What this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Findings {
    nightly: Nightly,
    debian: Option<DebianRustc>,
    linker: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Nightly {
    NoRustup,
    NotInstalled,
    WithoutRustSrc,
    Complete { rustc: PathBuf },
}

/// The installed rustc-web, with `core` for eBPF.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DebianRustc {
    rustc: PathBuf,
    /// The LLVM a linker can be built from, if its development files are there too.
    llvm: Option<Llvm>,
}

impl Findings {
    fn collect() -> Self {
        Self {
            nightly: find_nightly(),
            debian: find_debian(Path::new("/usr/bin/rustc")),
            linker: process::which("bpf-linker"),
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        if let (Nightly::Complete { rustc }, Some(linker)) = (&self.nightly, &self.linker) {
            candidates.push(Candidate::Installed(Toolchain {
                compiler: Compiler::Nightly { rustc: rustc.clone() },
                linker: linker.clone(),
            }));
        }
        let Some(debian) = &self.debian else {
            return candidates;
        };
        if let Some(linker) = &self.linker {
            candidates.push(Candidate::Installed(Toolchain {
                compiler: Compiler::Debian { rustc: debian.rustc.clone() },
                linker: linker.clone(),
            }));
        }
        if let Some(llvm) = &debian.llvm {
            candidates.push(Candidate::LinkerMissing { rustc: debian.rustc.clone(), llvm: llvm.clone() });
        }
        candidates
    }

    /// Why neither rustup's nor Debian's toolchain is used, for people.
    fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        match self.nightly {
            Nightly::NoRustup => missing.push("no rustup"),
            Nightly::NotInstalled => missing.push("no nightly in rustup"),
            Nightly::WithoutRustSrc => missing.push("rustup's nightly has no rust-src"),
            Nightly::Complete { .. } => {}
        }
        match &self.debian {
            None => missing.push("no rustc-web of Debian with libstd-rust-web-dev-bpf"),
            Some(debian) if debian.llvm.is_none() => {
                missing.push("no LLVM of Debian to build bpf-linker from");
            }
            Some(_) => {}
        }
        if self.linker.is_none() {
            missing.push("no bpf-linker on PATH");
        }
        missing
    }
}

fn find_nightly() -> Nightly {
    if process::which("rustup").is_none() {
        return Nightly::NoRustup;
    }
    let mut ask = Command::new("rustup");
    // Asking must never install anything.
    ask.args(["run", "nightly", "rustc", "--print", "sysroot"]).env("RUSTUP_AUTO_INSTALL", "0");
    match process::output(&mut ask) {
        Ok(sysroot) => inspect_nightly(Path::new(sysroot.trim())),
        Err(_) => Nightly::NotInstalled,
    }
}

fn inspect_nightly(sysroot: &Path) -> Nightly {
    if sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists() {
        Nightly::Complete { rustc: sysroot.join("bin/rustc") }
    } else {
        Nightly::WithoutRustSrc
    }
}

fn find_debian(rustc: &Path) -> Option<DebianRustc> {
    let libdir = process::output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET])).ok()?;
    if !has_core(Path::new(libdir.trim())) {
        return None;
    }
    let about = process::output(Command::new(rustc).arg("-vV")).ok()?;
    let llvm = llvm_major(&about)
        .map(|major| Llvm {
            major,
            prefix: PathBuf::from(format!("/usr/lib/llvm-{major}")),
            lib_dir: PathBuf::from(format!("/usr/lib/{ARCH}-linux-gnu")),
        })
        .filter(Llvm::is_there);
    Some(DebianRustc { rustc: rustc.to_path_buf(), llvm })
}

fn has_core(libdir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(libdir) else {
        return false;
    };
    entries.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

/// The major number in the line `LLVM version: 22.1.8` of `rustc -vV`.
fn llvm_major(about: &str) -> Option<u32> {
    let version = about.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Findings = Findings { nightly: Nightly::NoRustup, debian: None, linker: None };

    fn nightly() -> Nightly {
        Nightly::Complete { rustc: "/n/bin/rustc".into() }
    }

    fn debian(with_llvm: bool) -> Option<DebianRustc> {
        Some(DebianRustc {
            rustc: "/usr/bin/rustc".into(),
            llvm: with_llvm.then(|| Llvm { major: 22, prefix: "/usr/lib/llvm-22".into(), lib_dir: "/usr/lib".into() }),
        })
    }

    fn names(findings: &Findings) -> Vec<String> {
        findings
            .candidates()
            .iter()
            .map(|candidate| match candidate {
                Candidate::Installed(t) => match t.compiler {
                    Compiler::Nightly { .. } => "nightly".into(),
                    Compiler::Debian { .. } => "debian".into(),
                    Compiler::Own { .. } => "own".into(),
                },
                Candidate::LinkerMissing { .. } => "debian, linker built".into(),
                Candidate::Own => "own".into(),
            })
            .collect()
    }

    #[test]
    fn nightly_comes_before_debian_and_debian_before_our_own() {
        let linker = Some(PathBuf::from("/usr/bin/bpf-linker"));
        let all = Findings { nightly: nightly(), debian: debian(true), linker: linker.clone() };
        assert_eq!(names(&all), ["nightly", "debian", "debian, linker built"]);
        let no_linker = Findings { linker: None, ..all.clone() };
        assert_eq!(names(&no_linker), ["debian, linker built"]);
        let no_llvm = Findings { debian: debian(false), ..no_linker };
        assert!(names(&no_llvm).is_empty());
        let no_source = Findings { nightly: Nightly::WithoutRustSrc, debian: None, linker };
        assert!(names(&no_source).is_empty());
        assert!(names(&NOTHING).is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = NOTHING.missing().join("; ");
        for part in ["no rustup", "rustc-web", "bpf-linker"] {
            assert!(all.contains(part), "{all}");
        }
        let no_source = Findings { nightly: Nightly::WithoutRustSrc, ..NOTHING };
        assert!(no_source.missing().join(";").contains("rust-src"));
        let no_linker = Findings { nightly: nightly(), ..NOTHING };
        assert!(!no_linker.missing().join(";").contains("nightly"));
    }

    #[test]
    fn a_nightly_needs_the_source_of_core() {
        let sysroot = tempfile::tempdir().expect("temporary directory");
        assert_eq!(inspect_nightly(sysroot.path()), Nightly::WithoutRustSrc);
        let core = sysroot.path().join("lib/rustlib/src/rust/library/core/src");
        fs::create_dir_all(&core).expect("create");
        fs::write(core.join("lib.rs"), "").expect("write");
        assert!(matches!(inspect_nightly(sysroot.path()), Nightly::Complete { .. }));
    }

    #[test]
    fn llvm_of_a_compiler() {
        assert_eq!(llvm_major("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }

    #[test]
    fn core_is_found_by_its_library() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert!(!has_core(dir.path()));
        fs::write(dir.path().join("libcore-0f3a.rlib"), "").expect("write");
        assert!(has_core(dir.path()));
        assert!(!has_core(Path::new("/nonexistent")));
    }
}
