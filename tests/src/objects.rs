//! The BPF objects, as built into this crate.

use anyhow::{Context, Result, ensure};
use aya::{Ebpf, EbpfLoader};

/// The gate.
pub fn gate() -> Result<&'static [u8]> {
    built(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ratelimit.o")))
}

/// The lab's own programs.
pub fn lab() -> Result<&'static [u8]> {
    built(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab.o")))
}

/// The lab's programs with their maps, none of them loaded yet.
pub(crate) fn load_lab() -> Result<Ebpf> {
    load_lab_sized(&[])
}

/// The same with some maps of another size.
pub(crate) fn load_lab_sized(entries: &[(&'static str, u32)]) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    // Only a comparison fills this table; at its full size it takes a hundred megabytes.
    loader.map_max_entries("SOURCES", 1024);
    for (map, entries) in entries {
        loader.map_max_entries(map, *entries);
    }
    loader.load(lab()?).context("cannot load the lab's BPF object")
}

fn built(object: &'static [u8]) -> Result<&'static [u8]> {
    ensure!(!object.is_empty(), "built without its eBPF object: run cargo xtask build");
    Ok(object)
}
