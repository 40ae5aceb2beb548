//! What a packet costs in the kernel: a program run over the same packet again and again, each time from a source that
//! is drawn anew. Nothing is sent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use ratelimit_common::Address;

use crate::flood;
use crate::layout::Drawing;
use crate::objects;
use crate::parking::Parking;
use crate::shared;

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

/// Most samples a harness can hold: 16 MiB.
pub const SAMPLES: u32 = 1 << 20;
/// Sources that the comparison with an LRU_HASH remembers.
const LRU_SOURCES: u32 = 1 << 20;

/// Where the packets of a measurement claim to come from.
#[derive(Debug, Clone, Copy)]
pub enum Sources {
    /// A random address of a network.
    Random(IpNet),
    /// So many of the samples, one after another.
    Samples(u32),
}

impl From<IpNet> for Sources {
    fn from(network: IpNet) -> Self {
        Self::Random(network)
    }
}

/// Runs any XDP program without multi-buffer support.
#[derive(Debug)]
pub struct Harness {
    ebpf: Ebpf,
    _parking: [Parking; 2],
}

/// Whether the frame is as it was before each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    Same,
    /// Written anew each time, for programs that change it but not its length: a SYN without options.
    Restored,
}

impl Frames {
    const fn harness(self) -> &'static str {
        match self {
            Self::Same => "harness",
            Self::Restored => "restoring_harness",
        }
    }
}

const TEMPLATE_BYTES: usize = 80;

#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Of one packet, with the harness.
    pub nanoseconds: f64,
    /// What the program answered to the last packet.
    pub action: u32,
}

impl Harness {
    pub fn new() -> Result<Self> {
        let mut ebpf = objects::load_lab_sized(&[("SOURCES", LRU_SOURCES), ("SAMPLES", SAMPLES)])?;
        for name in ["harness", "restoring_harness"].into_iter().chain(Comparison::ALL.map(Comparison::label)) {
            let program: &mut Xdp = ebpf.program_mut(name).context("not in the lab's object")?.try_into()?;
            program.load()?;
        }
        let mut park = |name| -> Result<Parking> {
            let harness: &mut Xdp = ebpf.program_mut(name).context("not in the lab's object")?.try_into()?;
            Parking::of(harness)
        };
        let parking = [park("harness")?, park("restoring_harness")?];
        Ok(Self { ebpf, _parking: parking })
    }

    /// Says which addresses [`Sources::Samples`] are.
    pub fn put_samples(&mut self, samples: &[Address]) -> Result<()> {
        let words: Vec<[u64; 2]> = samples.iter().map(|sample| sample.words().into()).collect();
        shared::put(&self.ebpf, "SAMPLES", &words)
    }

    pub fn compare(
        &mut self,
        with: Comparison,
        frame: &[u8],
        sources: impl Into<Sources>,
        packets: u32,
    ) -> Result<Cost> {
        self.compare_with(Frames::Same, with, frame, sources, packets)
    }

    pub fn compare_with(
        &mut self,
        frames: Frames,
        with: Comparison,
        frame: &[u8],
        sources: impl Into<Sources>,
        packets: u32,
    ) -> Result<Cost> {
        let program: &Xdp = self.ebpf.program(with.label()).context("not in the lab's object")?.try_into()?;
        let program = program.fd()?.try_clone()?;
        self.measure_with(frames, &program, frame, sources, packets)
    }

    /// Judges `packets` copies of a frame, each from another one of `sources`.
    pub fn measure(
        &mut self,
        program: &ProgramFd,
        frame: &[u8],
        sources: impl Into<Sources>,
        packets: u32,
    ) -> Result<Cost> {
        self.measure_with(Frames::Same, program, frame, sources, packets)
    }

    pub fn measure_with(
        &mut self,
        frames: Frames,
        program: &ProgramFd,
        frame: &[u8],
        sources: impl Into<Sources>,
        packets: u32,
    ) -> Result<Cost> {
        let mut template = [0u8; TEMPLATE_BYTES];
        for (to, from) in template.iter_mut().zip(frame) {
            *to = *from;
        }
        let mut map: Array<_, [u64; TEMPLATE_BYTES / 8]> =
            self.ebpf.map_mut("TEMPLATE").context("not in the lab's object")?.try_into()?;
        map.set(0, bytemuck::cast::<_, [u64; TEMPLATE_BYTES / 8]>(template), 0)?;
        let drawing = drawing(frame, sources.into())?;
        let mut map: Array<_, Drawing> = self.ebpf.map_mut("DRAWING").context("not in the lab's object")?.try_into()?;
        map.set(0, drawing, 0)?;
        let mut subject: ProgramArray<_> =
            self.ebpf.map_mut("SUBJECT").context("not in the lab's object")?.try_into()?;
        subject.set(0, program, 0).context("only an XDP program without multi-buffer support can be measured")?;
        let harness: &Xdp = self.ebpf.program(frames.harness()).context("not in the lab's object")?.try_into()?;
        let start = processor_time()?;
        let result =
            harness.test_run(TestRunOptions { data_in: Some(frame), repeat: packets, ..TestRunOptions::default() })?;
        // The kernel's own figure is in whole nanoseconds, too coarse for the cheapest programs.
        let nanoseconds = (processor_time()? - start).as_nanos() as f64 / f64::from(packets);
        Ok(Cost { nanoseconds, action: result.return_value })
    }
}

fn drawing(frame: &[u8], sources: Sources) -> Result<Drawing> {
    let (offset, v4) = flood::source_offset(frame)?;
    let (network, samples) = match sources {
        Sources::Random(network) => {
            ensure!(matches!(network, IpNet::V4(_)) == v4, "{network} is not of the frame's family");
            (flood::network(network), 0)
        }
        Sources::Samples(count) => {
            ensure!((1..=SAMPLES).contains(&count), "{count} samples; 1 to {SAMPLES} are possible");
            (Default::default(), count)
        }
    };
    let (source_at, family) = (offset as u32, if v4 { 4 } else { 6 });
    Ok(Drawing { network, random: flood::seed(), source_at, family, samples, next_sample: 0 })
}

/// Of this thread: what others take from it meanwhile does not count.
pub(crate) fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
