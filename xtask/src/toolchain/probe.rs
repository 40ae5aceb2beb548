//! The proof that a toolchain works: it compiles a small XDP program.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use super::{EbpfCrate, Toolchain, object_path};
use crate::process;

const MANIFEST: &str = r#"[package]
name = "probe"
version = "0.0.0"
edition = "2024"

[workspace]

[profile.release]
lto = true
panic = "abort"
debug = 2
"#;

/// Uses what the gate needs beyond plain code: a 64-bit compare-and-exchange, and debug
/// information for BTF.
const PROGRAM: &str = r#"#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features)]

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

static mut CELL: u64 = 0;

#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp")]
pub extern "C" fn probe(_context: *mut u8) -> u32 {
    const RELAXED: AtomicOrdering = AtomicOrdering::Relaxed;
    let cell = &raw mut CELL;
    let (old, _) = unsafe { atomic_cxchg::<u64, RELAXED, RELAXED>(cell, 0, 1) };
    1 + (old == 0) as u32
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
"#;

const EM_BPF: [u8; 2] = 247_u16.to_le_bytes();

/// Fails with what the compiler or the linker said.
pub fn prove(toolchain: &Toolchain, dir: &Path) -> anyhow::Result<()> {
    let crate_dir = dir.join("probe");
    let _ = fs::remove_dir_all(&crate_dir);
    process::write_atomically(&crate_dir.join("Cargo.toml"), MANIFEST.as_bytes(), 0o644)?;
    process::write_atomically(&crate_dir.join("src/main.rs"), PROGRAM.as_bytes(), 0o644)?;
    let probe = EbpfCrate { dir: crate_dir.clone(), binary: "probe" };
    let build_dir = crate_dir.join("target");
    process::run_logged(&mut toolchain.command(&probe, &build_dir), &dir.join("log/probe.log"))?;
    let object = object_path(&probe, &build_dir);
    let content = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    check(&content)?;
    fs::remove_dir_all(&crate_dir).with_context(|| crate_dir.display().to_string())
}

fn check(object: &[u8]) -> anyhow::Result<()> {
    ensure!(
        object.starts_with(b"\x7fELF") && object.get(18..20) == Some(&EM_BPF),
        "what it compiles is not an eBPF object"
    );
    let has = |name: &[u8]| object.windows(name.len()).any(|window| window == name);
    ensure!(has(b".BTF\0"), "what it compiles has no BTF");
    ensure!(has(b"xdp\0"), "what it compiles has lost its program");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(machine: [u8; 2], sections: &[u8]) -> Vec<u8> {
        let mut object = b"\x7fELF\x02\x01\x01".to_vec();
        object.resize(18, 0);
        object.extend(machine);
        object.extend(sections);
        object
    }

    #[test]
    fn only_an_ebpf_object_with_btf_and_program_counts() {
        assert!(check(&object(EM_BPF, b"\0xdp\0.BTF\0")).is_ok());
        assert!(check(&object([62, 0], b"\0xdp\0.BTF\0")).is_err());
        assert!(check(&object(EM_BPF, b"\0xdp\0")).is_err());
        assert!(check(&object(EM_BPF, b"\0.BTF\0")).is_err());
        assert!(check(b"").is_err());
    }
}
