//! Keeps the lists up to date while the controller runs: in their turn, when a file changes, and when somebody asks.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval},
};

use super::{bring::Carrier, local::Watch, roster::Job};
use crate::{api::ListProgress, changes::seconds, controller::Controller};

/// How often files are looked at, and due lists looked for.
const TICK: Duration = Duration::from_secs(1);
/// Lists that are brought in at the same time.
const AT_ONCE: usize = 4;
/// Between two messages about the same list.
const BETWEEN_PROGRESS_BYTES: u64 = 256 * 1024;

/// Somebody asks for lists out of turn.
#[derive(Debug)]
pub struct Request {
    pub jobs: Vec<Job>,
    pub news: mpsc::UnboundedSender<ListProgress>,
}

/// Works for ever.
pub async fn keep(controller: Arc<Mutex<Controller>>, mut requests: mpsc::UnboundedReceiver<Request>) {
    let carrier = Carrier::new(lock(&controller).lists().shelf());
    let keeper = Keeper { controller, carrier, at_once: Arc::new(Semaphore::new(AT_ONCE)) };
    let mut watches = Watches::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                for job in keeper.due(&mut watches).await {
                    keeper.clone().start(job, None);
                }
            }
            Some(Request { jobs, news }) = requests.recv() => {
                for job in jobs {
                    keeper.clone().start(job, Some(news.clone()));
                }
            }
        }
    }
}

#[derive(Clone)]
struct Keeper {
    controller: Arc<Mutex<Controller>>,
    carrier: Carrier,
    at_once: Arc<Semaphore>,
}

impl Keeper {
    /// Jobs whose time has come, and those of files that changed.
    async fn due(&self, watches: &mut Watches) -> Vec<Job> {
        let controller = Arc::clone(&self.controller);
        let mut watching = std::mem::take(watches);
        let looked = tokio::task::spawn_blocking(move || {
            let sources = lock(&controller).lists().local_sources();
            let changed = watching.changed(sources);
            let jobs = lock(&controller).due_lists(&changed);
            (watching, jobs)
        });
        match looked.await {
            Ok((watching, jobs)) => {
                *watches = watching;
                jobs
            }
            Err(error) => {
                tracing::error!("looking for lists that are due failed: {error}");
                Vec::new()
            }
        }
    }

    fn start(self, job: Job, news: Option<mpsc::UnboundedSender<ListProgress>>) {
        tokio::spawn(async move {
            // Never closed.
            let _turn = self.at_once.acquire().await;
            let name = job.config.name.clone();
            let told = std::sync::atomic::AtomicU64::new(0);
            let progress = {
                let (name, news) = (name.clone(), news.clone());
                move |received_bytes: u64, total_bytes: Option<u64>| {
                    let before = told.load(std::sync::atomic::Ordering::Relaxed);
                    if received_bytes < before + BETWEEN_PROGRESS_BYTES && Some(received_bytes) != total_bytes {
                        return;
                    }
                    told.store(received_bytes, std::sync::atomic::Ordering::Relaxed);
                    let list = name.clone();
                    send(news.as_ref(), ListProgress::Receiving { list, received_bytes, total_bytes });
                }
            };
            let brought = self.carrier.bring(job, seconds(SystemTime::now()), progress).await;
            let taken = tokio::task::spawn_blocking({
                let name = name.clone();
                move || lock(&self.controller).take_list(&name, brought)
            });
            let outcome = match taken.await {
                Ok(Ok(outcome)) => ListProgress::Done { list: name, outcome, failed: false },
                Ok(Err(rejection)) => ListProgress::Done { list: name, outcome: rejection.to_string(), failed: true },
                Err(error) => ListProgress::Done { list: name, outcome: error.to_string(), failed: true },
            };
            send(news.as_ref(), outcome);
        });
    }
}

/// Who asked may have gone.
fn send(news: Option<&mpsc::UnboundedSender<ListProgress>>, progress: ListProgress) {
    if let Some(news) = news {
        let _ = news.send(progress);
    }
}

/// What is watched, by list.
#[derive(Default)]
struct Watches(BTreeMap<(String, PathBuf), Watch>);

impl Watches {
    /// The lists of files that changed since the last look.
    fn changed(&mut self, sources: Vec<(String, PathBuf)>) -> Vec<String> {
        self.0.retain(|known, _| sources.contains(known));
        let mut changed = Vec::new();
        for (list, path) in sources {
            let watch = self.0.entry((list.clone(), path.clone())).or_insert_with(|| Watch::new(&path));
            if watch.has_changed() && !changed.contains(&list) {
                changed.push(list);
            }
        }
        changed
    }
}

fn lock(controller: &Mutex<Controller>) -> std::sync::MutexGuard<'_, Controller> {
    controller.lock().unwrap_or_else(PoisonError::into_inner)
}
