//! Many honest conversations at a steady rate, from many addresses, and what became of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::clients::{Client, Completed, Conversation, Failure, Stage};
use crate::netns::Namespace;

/// How many failures are kept word for word.
const EXAMPLES: usize = 10;

/// The longest sleep of a worker, so that stopping does not wait for the next conversation of a slow load.
const NAP: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct Load {
    /// Used in turn.
    pub sources: Vec<IpAddr>,
    pub server: SocketAddr,
    pub conversation: Conversation,
    /// Conversations started a second, all sources together; infinite starts them all as fast as the workers can.
    pub per_second: f64,
    /// How many in all; `None` goes on until stopped.
    pub count: Option<u64>,
    /// The most conversations at a time.
    pub workers: usize,
    /// For each conversation.
    pub timeout: Duration,
}

/// A load under way. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub attempts: u64,
    pub completed: u64,
    pub failures: BTreeMap<Stage, u64>,
    /// The first failures, with their source.
    pub examples: Vec<String>,
    /// How far behind its schedule the worst conversation started: large when there were too few workers.
    pub lateness: Duration,
    connect: Vec<Duration>,
    total: Vec<Duration>,
}

#[derive(Debug)]
struct Shared {
    load: Load,
    start: Instant,
    next: AtomicU64,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

impl Load {
    /// Runs all conversations and returns when the last one has ended.
    pub fn run(self, namespace: &Namespace) -> Result<Tally> {
        ensure!(self.count.is_some(), "a load that is waited for needs a count");
        Ok(self.start(namespace)?.finish())
    }

    pub fn start(self, namespace: &Namespace) -> Result<Running> {
        ensure!(!self.sources.is_empty(), "a load needs a source");
        ensure!(self.per_second > 0.0, "a load needs a rate above zero");
        let count = self.workers.max(1);
        let shared = Arc::new(Shared {
            load: self,
            start: Instant::now(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
        });
        let mut running = Running { shared: Arc::clone(&shared), workers: Vec::with_capacity(count) };
        // A thread belongs to the network namespace of the thread that starts it.
        namespace.enter(|| -> Result<()> {
            for _ in 0..count {
                let shared = Arc::clone(&shared);
                let worker = thread::Builder::new()
                    .name("client".to_owned())
                    .stack_size(256 * 1024)
                    .spawn(move || shared.work())
                    .context("cannot start another client")?;
                running.workers.push(worker);
            }
            Ok(())
        })??;
        Ok(running)
    }
}

impl Running {
    /// What has ended so far.
    pub fn tally(&self) -> Tally {
        self.shared.lock().clone()
    }

    /// Waits for the conversations of a load with a count.
    pub fn finish(mut self) -> Tally {
        self.join();
        self.tally()
    }

    /// Starts no further conversation and waits for those under way.
    pub fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join();
        self.tally()
    }

    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn work(&self) {
        while let Some((number, lateness)) = self.take() {
            let load = &self.load;
            let index = usize::try_from(number).unwrap_or(usize::MAX) % load.sources.len();
            let source = load.sources[index];
            let client = Client { source: Some(source), server: load.server, timeout: load.timeout };
            let outcome = client.converse(load.conversation);
            self.lock().add(source, outcome, lateness);
        }
    }

    /// Waits until the next conversation is due, and says how much too late that was noticed.
    fn take(&self) -> Option<(u64, Duration)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.load.count.is_some_and(|count| number >= count) {
            return None;
        }
        let due = self.start + Duration::from_secs_f64(number as f64 / self.load.per_second);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let now = Instant::now();
            match due.checked_duration_since(now) {
                Some(wait) if !wait.is_zero() => thread::sleep(wait.min(NAP)),
                _ => return Some((number, now - due)),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// `fraction` 0.5 is the median, 1.0 the slowest. Zero when nothing was completed.
    pub fn connect_quantile(&self, fraction: f64) -> Duration {
        quantile(&self.connect, fraction)
    }

    /// From the start of the connection to the end of the conversation.
    pub fn total_quantile(&self, fraction: f64) -> Duration {
        quantile(&self.total, fraction)
    }

    /// Takes over what another load did.
    pub fn merge(&mut self, other: Self) {
        self.attempts += other.attempts;
        self.completed += other.completed;
        for (stage, count) in other.failures {
            *self.failures.entry(stage).or_default() += count;
        }
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
        self.lateness = self.lateness.max(other.lateness);
        self.connect.extend(other.connect);
        self.total.extend(other.total);
    }

    fn add(&mut self, source: IpAddr, outcome: Result<Completed, Failure>, lateness: Duration) {
        self.attempts += 1;
        self.lateness = self.lateness.max(lateness);
        match outcome {
            Ok(Completed { connect, total }) => {
                self.completed += 1;
                self.connect.push(connect);
                self.total.push(total);
            }
            Err(failure) => {
                *self.failures.entry(failure.stage).or_default() += 1;
                if self.examples.len() < EXAMPLES {
                    self.examples.push(format!("{source}: {failure}"));
                }
            }
        }
    }
}

pub(crate) fn quantile(durations: &[Duration], fraction: f64) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}
