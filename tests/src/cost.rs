//! What a packet costs in the kernel: a program run over the same packet again and again, each time from a source that
//! is drawn anew. Nothing is sent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};

use crate::flood;
use crate::layout::Drawing;
use crate::objects;
use crate::parking::Parking;

// SAFETY: repr(C), integers only, no padding.
unsafe impl aya::Pod for Drawing {}

/// Programs to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The harness alone.
    Empty,
    /// Parses, checks for a mail port, drops.
    ParseDrop,
    /// Parses and keeps an arrival time for each source in an LRU_HASH of a million entries.
    LruGcra,
}

impl Comparison {
    pub const ALL: [Self; 3] = [Self::Empty, Self::ParseDrop, Self::LruGcra];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::ParseDrop => "parse_drop",
            Self::LruGcra => "lru_gcra",
        }
    }
}

/// Runs any XDP program without multi-buffer support.
#[derive(Debug)]
pub struct Harness {
    ebpf: Ebpf,
    _parking: Parking,
}

#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Of one packet, with the harness.
    pub nanoseconds: f64,
    /// What the program answered to the last packet.
    pub action: u32,
}

impl Harness {
    pub fn new() -> Result<Self> {
        let mut ebpf = objects::load_lab_for_comparison()?;
        for name in ["harness"].into_iter().chain(Comparison::ALL.map(Comparison::label)) {
            let program: &mut Xdp = ebpf.program_mut(name).context("not in the lab's object")?.try_into()?;
            program.load()?;
        }
        let harness: &mut Xdp = ebpf.program_mut("harness").context("not in the lab's object")?.try_into()?;
        let parking = Parking::of(harness)?;
        Ok(Self { ebpf, _parking: parking })
    }

    pub fn compare(&mut self, with: Comparison, frame: &[u8], sources: IpNet, packets: u32) -> Result<Cost> {
        let program: &Xdp = self.ebpf.program(with.label()).context("not in the lab's object")?.try_into()?;
        let program = program.fd()?.try_clone()?;
        self.measure(&program, frame, sources, packets)
    }

    /// Judges `packets` copies of a frame, each from a random address of `sources`.
    pub fn measure(&mut self, program: &ProgramFd, frame: &[u8], sources: IpNet, packets: u32) -> Result<Cost> {
        let (offset, v4) = flood::source_offset(frame)?;
        ensure!(matches!(sources, IpNet::V4(_)) == v4, "{sources} is not of the frame's family");
        let drawing = Drawing {
            network: flood::network(sources),
            random: flood::seed(),
            source_at: offset as u32,
            family: if v4 { 4 } else { 6 },
        };
        let mut map: Array<_, Drawing> = self.ebpf.map_mut("DRAWING").context("not in the lab's object")?.try_into()?;
        map.set(0, drawing, 0)?;
        let mut subject: ProgramArray<_> =
            self.ebpf.map_mut("SUBJECT").context("not in the lab's object")?.try_into()?;
        subject.set(0, program, 0).context("only an XDP program without multi-buffer support can be measured")?;
        let harness: &Xdp = self.ebpf.program("harness").context("not in the lab's object")?.try_into()?;
        let start = processor_time()?;
        let result =
            harness.test_run(TestRunOptions { data_in: Some(frame), repeat: packets, ..TestRunOptions::default() })?;
        // The kernel's own figure is in whole nanoseconds, too coarse for the cheapest programs.
        let nanoseconds = (processor_time()? - start).as_nanos() as f64 / f64::from(packets);
        Ok(Cost { nanoseconds, action: result.return_value })
    }
}

/// Of this thread: what others take from it meanwhile does not count.
fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
