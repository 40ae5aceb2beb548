//! XDP programs for the receiving end of a veth pair.

use std::path::Path;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::PerCpuArray;
use aya::programs::{Xdp, XdpMode};

use crate::{enter::within, objects};

pub use crate::layout::Counts;

// SAFETY: repr(C), integers only, no padding.
unsafe impl aya::Pod for Counts {}

/// Detaches when dropped.
#[derive(Debug)]
pub struct Receiver {
    ebpf: Ebpf,
}

impl Receiver {
    /// Lets everything pass: without a program (or GRO) a veth end receives nothing that its peer sends with XDP_TX.
    pub fn pass(namespace: impl AsRef<Path>, interface: &str) -> Result<Self> {
        Self::attach(namespace.as_ref(), interface, "pass")
    }

    /// Counts and drops untagged TCP, lets the rest pass.
    pub fn count(namespace: impl AsRef<Path>, interface: &str) -> Result<Self> {
        Self::attach(namespace.as_ref(), interface, "count")
    }

    fn attach(namespace: &Path, interface: &str, name: &str) -> Result<Self> {
        within(namespace, || {
            let mut ebpf = objects::load_lab()?;
            let program: &mut Xdp = ebpf.program_mut(name).context("not in the lab's object")?.try_into()?;
            program.load()?;
            program.attach(interface, XdpMode::Driver).with_context(|| format!("cannot attach to {interface}"))?;
            Ok(Self { ebpf })
        })
    }

    /// What `count` saw until now.
    pub fn counts(&self) -> Result<Counts> {
        counts(&self.ebpf)
    }
}

/// What the lab's programs counted, all processors together.
pub(crate) fn counts(ebpf: &Ebpf) -> Result<Counts> {
    let map = ebpf.map("COUNTS").context("not in the lab's object")?;
    let map: PerCpuArray<_, Counts> = map.try_into()?;
    let mut total = Counts::default();
    for one in map.get(&0, 0)?.iter() {
        total.tcp_v4 += one.tcp_v4;
        total.tcp_v6 += one.tcp_v6;
        total.other += one.other;
        total.listed += one.listed;
        total.unlisted += one.unlisted;
    }
    Ok(total)
}
