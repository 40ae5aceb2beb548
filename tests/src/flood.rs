//! A flood of TCP segments made in the kernel: a million and more a second on one core, each with valid checksums.
//!
//! An XDP program is run over live frames as if they had come in at the attacker's end of a veth pair, and sends each
//! of them back out of it. It draws the source address, the source port and the sequence number; everything else is as
//! in the template. The receiving end needs an XDP program (or GRO); see [`Receiver`](crate::receiver::Receiver).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use nix::net::if_::if_nametoindex;

use crate::cost::processor_time;
use crate::layout::{Plan, Progress};
use crate::{enter::enter, objects, parking::Parking, shared};

mod plan;

pub use plan::Pattern;
pub(crate) use plan::{network, source_offset};

/// Packets of one run of the program when there is no rate: a few milliseconds.
const CHUNK: u64 = 16_384;
/// Frames the program hands over at once; a veth end queues 256.
const BATCH: u32 = 64;
/// How often a flood with a rate sends.
const TICK: Duration = Duration::from_millis(2);
/// What a flood that was held up makes up for at most.
const CATCH_UP: Duration = Duration::from_millis(20);

// SAFETY: repr(C), integers only, no padding.
unsafe impl aya::Pod for Plan {}
// SAFETY: repr(C), integers only, no padding.
unsafe impl aya::Pod for Progress {}

/// A flood to be started.
#[derive(Debug, Clone)]
pub struct Flood {
    namespace: PathBuf,
    interface: String,
    template: Vec<u8>,
    pattern: Option<Pattern>,
    rate: Option<u64>,
    max_packets: u64,
    max_time: Duration,
    repeats_after: Option<Duration>,
}

impl Flood {
    /// Out of an interface of the attacker's namespace: a million packets or five seconds, if nothing else is said.
    pub fn new(namespace: impl AsRef<Path>, interface: &str) -> Self {
        Self {
            namespace: namespace.as_ref().to_owned(),
            interface: interface.to_owned(),
            template: Vec::new(),
            pattern: None,
            rate: None,
            max_packets: 1_000_000,
            max_time: Duration::from_secs(5),
            repeats_after: None,
        }
    }

    /// A whole frame: Ethernet, VLAN tags, IPv4 or IPv6, TCP.
    pub fn template(self, template: impl Into<Vec<u8>>) -> Self {
        Self { template: template.into(), ..self }
    }

    pub fn sources(self, pattern: Pattern) -> Self {
        Self { pattern: Some(pattern), ..self }
    }

    /// Packets per second; as fast as possible without.
    pub fn rate(self, rate: Option<u64>) -> Self {
        Self { rate, ..self }
    }

    /// The flood ends at the first of the two.
    pub fn limit(self, max_packets: u64, max_time: Duration) -> Self {
        Self { max_packets, max_time, ..self }
    }

    /// Sends every packet a second time, the same to the last bit, this much later. Rate and limits count the first ones; the
    /// flood ends when the last has been repeated.
    pub fn doubled(self, after: Duration) -> Self {
        Self { repeats_after: Some(after), ..self }
    }

    /// Returns once the generator is loaded; it runs in a thread of its own.
    pub fn start(self) -> Result<RunningFlood> {
        let control = Arc::new(Control::default());
        let (ready, loaded) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("flood".into()).spawn({
            let control = Arc::clone(&control);
            move || self.load_and_run(&control, &ready)
        })?;
        let flood = RunningFlood { control, thread: Some(thread) };
        match loaded.recv() {
            Ok(()) => Ok(flood),
            Err(_) => match flood.join() {
                Ok(_) => Err(anyhow!("the flood ended before it started")),
                Err(error) => Err(error),
            },
        }
    }

    fn load_and_run(&self, control: &Control, ready: &SyncSender<()>) -> Result<FloodReport> {
        let seed = seed();
        let generator = Generator::load(self, seed)?;
        // Of the same seed, so that it makes the same packets.
        let repeater = match self.repeats_after {
            Some(after) => Some(Repeater::new(Generator::load(self, seed)?, after)),
            None => None,
        };
        // Nobody listens only if `start` has given up.
        let _ = ready.send(());
        self.run(&generator, repeater, control)
    }

    fn run(&self, generator: &Generator, mut repeater: Option<Repeater>, control: &Control) -> Result<FloodReport> {
        let (start, work) = (Instant::now(), processor_time()?);
        let mut pace = Pace::new(self.rate);
        let (mut packets, mut repeats) = (0, 0);
        while !control.stop.load(Ordering::Relaxed) {
            let now = start.elapsed();
            let is_over = packets >= self.max_packets || now >= self.max_time;
            let due = if is_over { 0 } else { pace.due(now).min(self.max_packets - packets) };
            if due > 0 {
                packets = generator.send(due)?;
            }
            if let Some(repeater) = &mut repeater {
                repeats = repeater.follow(packets, now)?;
            }
            control.sent.store(packets + repeats, Ordering::Relaxed);
            if is_over && repeater.as_ref().is_none_or(|_| repeats == packets) {
                break;
            }
            if due == 0 {
                thread::sleep(TICK);
            }
        }
        Ok(FloodReport::new(packets + repeats, start.elapsed(), processor_time()? - work))
    }
}

/// Sends again what another generator of the same seed has sent.
struct Repeater {
    generator: Generator,
    after: Duration,
    /// How many packets had been sent when, those of now last.
    sent: VecDeque<(Duration, u64)>,
    repeats: u64,
}

impl Repeater {
    fn new(generator: Generator, after: Duration) -> Self {
        Self { generator, after, sent: VecDeque::new(), repeats: 0 }
    }

    /// Notes how many packets have been sent, repeats what is due, a few milliseconds' worth at most, and returns how many
    /// have been repeated in all.
    fn follow(&mut self, packets: u64, now: Duration) -> Result<u64> {
        if self.sent.back().is_none_or(|(_, sent)| *sent < packets) {
            self.sent.push_back((now, packets));
        }
        if let Some((time, packets)) = self.sent.front().copied()
            && now >= time + self.after
        {
            if self.repeats < packets {
                self.repeats = self.generator.send((packets - self.repeats).min(CHUNK))?;
            }
            if self.repeats == packets {
                self.sent.pop_front();
            }
        }
        Ok(self.repeats)
    }
}

/// A flood under way; dropping it ends it.
#[derive(Debug)]
pub struct RunningFlood {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<FloodReport>>>,
}

#[derive(Debug, Default)]
struct Control {
    stop: AtomicBool,
    sent: AtomicU64,
}

impl RunningFlood {
    /// Packets handed to the interface until now.
    pub fn sent(&self) -> u64 {
        self.control.sent.load(Ordering::Relaxed)
    }

    /// Makes the flood end within milliseconds; `join` waits for it.
    pub fn stop(&self) {
        self.control.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end.
    pub fn join(mut self) -> Result<FloodReport> {
        let thread = self.thread.take().context("the flood has been joined")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for RunningFlood {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // What it would report, nobody asked for.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct FloodReport {
    /// Handed to the interface; the receiving end may have dropped some for want of room in its queue.
    pub packets: u64,
    pub elapsed: Duration,
    /// Of the thread that sent, and with it of the receiving end as far as it received at once.
    pub work: Duration,
    /// Million packets per second.
    pub mpps: f64,
}

impl FloodReport {
    fn new(packets: u64, elapsed: Duration, work: Duration) -> Self {
        Self { packets, elapsed, work, mpps: packets as f64 / elapsed.as_secs_f64().max(1e-9) / 1e6 }
    }
}

/// The loaded program.
struct Generator {
    ebpf: Ebpf,
    progress: Array<MapData, Progress>,
    template: Vec<u8>,
    context: Vec<u8>,
    _parking: Parking,
}

impl Generator {
    /// Leaves the calling thread in the attacker's namespace.
    fn load(flood: &Flood, seed: u64) -> Result<Self> {
        let pattern = flood.pattern.as_ref().context("a flood needs sources")?;
        ensure!(flood.rate != Some(0), "a flood of no packets a second");
        let samples: Vec<[u64; 2]> = pattern.sampled().iter().map(|sample| sample.words().into()).collect();
        let mut ebpf = objects::load_lab_sized(&[("SAMPLES", samples.len().max(1) as u32)])?;
        if !samples.is_empty() {
            shared::put(&ebpf, "SAMPLES", &samples)?;
        }
        let mut plan: Array<_, Plan> = ebpf.map_mut("FLOOD_PLAN").context("not in the lab's object")?.try_into()?;
        plan.set(0, plan::plan(&flood.template, pattern)?, 0)?;
        let mut progress: Array<_, Progress> =
            ebpf.take_map("FLOOD_PROGRESS").context("not in the lab's object")?.try_into()?;
        progress.set(0, Progress { random: seed, ..Progress::default() }, 0)?;
        let program: &mut Xdp = ebpf.program_mut("flood").context("not in the lab's object")?.try_into()?;
        program.load()?;
        let parking = Parking::of(program)?;
        enter(&flood.namespace)?;
        let interface = &flood.interface;
        let index = if_nametoindex(interface.as_str()).with_context(|| format!("no interface {interface}"))?;
        // The program takes a byte off.
        let template = [&flood.template[..], &[0]].concat();
        let context = context(template.len(), index);
        Ok(Self { ebpf, progress, template, context, _parking: parking })
    }

    /// Sends up to so many packets; returns how many there were in all.
    fn send(&self, packets: u64) -> Result<u64> {
        let before = self.progress.get(&0, 0)?.packets;
        let program: &Xdp = self.ebpf.program("flood").context("not in the lab's object")?.try_into()?;
        let outcome = program.test_run(TestRunOptions {
            data_in: Some(&self.template),
            ctx_in: Some(&self.context),
            repeat: packets.min(CHUNK) as u32,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        });
        match outcome {
            Ok(_) => {}
            // A signal ends a run early, after a batch at least; the program has counted what it sent.
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("the generator cannot run (live frames need kernel 5.18)"),
        }
        let sent = self.progress.get(&0, 0)?.packets;
        ensure!(sent > before, "the generator sends nothing");
        Ok(sent)
    }
}

/// `struct xdp_md` of a frame that came in at an interface.
fn context(len: usize, interface: u32) -> Vec<u8> {
    let [data, data_meta, queue, egress] = [0; 4];
    [data, len as u32, data_meta, interface, queue, egress].iter().flat_map(|field: &u32| field.to_ne_bytes()).collect()
}

/// Differs from flood to flood, and is never 0.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) | 1
}

/// When how many packets are due.
struct Pace {
    rate: Option<u64>,
    /// Up to when everything has been sent.
    done: Duration,
}

impl Pace {
    fn new(rate: Option<u64>) -> Self {
        Self { rate, done: Duration::ZERO }
    }

    fn due(&mut self, now: Duration) -> u64 {
        let Some(rate) = self.rate else {
            return CHUNK;
        };
        let time_of = |packets: u64| {
            Duration::from_nanos((u128::from(packets) * 1_000_000_000).div_ceil(u128::from(rate)) as u64)
        };
        self.done = self.done.max(now.saturating_sub(CATCH_UP.max(time_of(1))));
        let due = ((now - self.done).as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
        let due = due.min(CHUNK);
        self.done += time_of(due);
        due
    }
}
