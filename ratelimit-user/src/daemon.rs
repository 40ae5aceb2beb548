//! `ratelimit run`: the controller as a process.

use std::{
    convert::Infallible,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

pub use crate::controller::{Options, PathOverrides};
use crate::{
    config::Mode,
    controller::{Controller, note_ban_hits, note_proven},
    export::{self, Exporter},
    interface::AddressWatch,
    lists::keeper::keep,
    lock::Lock,
    plane::{ProgramLog, now},
    preflight,
    reputation::{self, Desk},
    server::{self, Shared},
};

/// How often changes that end by themselves are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Sources whose connections are ended together.
const KILLS_AT_ONCE: usize = 10_000;
/// How often what bans have stopped is written down, and gateways and resolvers are looked at: nobody announces them.
const MINUTE: Duration = Duration::from_secs(60);
/// Cells are brought up to date long before their time wraps, at 78 h.
const SWEEP: Duration = Duration::from_secs(3600);
/// Room for a copy or two of a set on the stack.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Runs until a signal or `ratelimit detach`.
pub fn run(options: Options) -> anyhow::Result<()> {
    let loaded = options.load()?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let paths = loaded.config.paths;
    let keep = options.keep;
    preflight::check(&paths.pins)?;
    let _lock = Lock::take(&paths.socket)?;
    let controller = Controller::start(options)?;
    announce(&controller);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("starting the async runtime")?;
    let controller = Arc::new(Mutex::new(controller));
    let end = runtime.block_on(work(&controller, &paths.socket));
    // A socket that is left behind would say that somebody listens.
    if let Err(error) = std::fs::remove_file(&paths.socket) {
        tracing::debug!(%error, "the socket is gone already");
    }
    match end? {
        End::Detached => tracing::info!("detached: the mail ports are no longer judged"),
        End::Signal if keep => tracing::info!("stopped; the gate stays in force, as --keep says"),
        End::Signal => {
            let detached = lock(&controller).detach()?;
            tracing::info!(interfaces = detached.interfaces.join(", "), "stopped, and the gate with it");
        }
    }
    Ok(())
}

enum End {
    Signal,
    Detached,
}

async fn work(controller: &Arc<Mutex<Controller>>, socket: &Path) -> anyhow::Result<End> {
    let listener = server::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
    let (leave, mut left) = watch::channel(false);
    let (lists, orders) = mpsc::unbounded_channel();
    let shared = Shared { controller: Arc::clone(controller), lists, leave };
    let served = tokio::spawn(server::serve(listener, shared));
    let lists = tokio::spawn(keep(Arc::clone(controller), orders));
    let events = tokio::spawn(listen_to_plane(Arc::clone(controller)));
    let handshakes = tokio::spawn(take_handshakes(Arc::clone(controller)));
    let desk = lock(controller).desk();
    let zones = tokio::spawn(keep_desk(desk.clone()));
    let exported = tokio::spawn(keep_export(Arc::clone(controller)));
    let kills = tokio::spawn(end_connections(Arc::clone(controller)));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut addresses = AddressWatch::new();
    // An address that changed between the start and the watch would go unnoticed.
    on_controller(controller, "following the machine's addresses", |controller| controller.follow_machine()).await;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut minute = interval(MINUTE);
    let mut sweep = interval(SWEEP);
    tracing::info!(socket = %socket.display(), "ready");

    let end = loop {
        tokio::select! {
            _ = terminate.recv() => break End::Signal,
            _ = interrupt.recv() => break End::Signal,
            _ = hangup.recv() => on_controller(controller, "reloading", |controller| {
                let reloaded = controller.reload()?;
                tracing::info!(changes = reloaded.changes.len(), "reloaded");
                Ok(())
            }).await,
            () = addresses.changed() => {
                on_controller(controller, "following the machine's addresses", |controller| controller.follow_machine()).await;
            }
            _ = tick.tick() => {
                on_controller(controller, "ending what has run out", Controller::expire).await;
                on_controller(controller, "counting connections", Controller::follow_older).await;
            }
            _ = minute.tick() => {
                on_controller(controller, "following the machine", Controller::follow_machine).await;
                on_controller(controller, "writing down what lists have stopped", Controller::note_list_hits).await;
                on_controller(controller, "counting connections", Controller::tidy_connections).await;
                let controller = Arc::clone(controller);
                // Nobody waits for it.
                drop(tokio::task::spawn_blocking(move || note_hits(&controller)));
            }
            _ = sweep.tick() => on_controller(controller, "sweeping the cells", |controller| {
                controller.sweep(now())
            }).await,
            _ = left.changed() => {
                // Lets the answer to the client out.
                tokio::time::sleep(Duration::from_millis(100)).await;
                break End::Detached;
            }
        }
    };
    served.abort();
    events.abort();
    lists.abort();
    handshakes.abort();
    zones.abort();
    kills.abort();
    exported.abort();
    drop(tokio::task::spawn_blocking(move || desk.settle()).await);
    Ok(end)
}

fn note_hits(controller: &Mutex<Controller>) {
    if let Err(error) = note_ban_hits(controller) {
        tracing::error!("writing down what bans have stopped failed: {error}");
    }
    if let Err(error) = note_proven(controller) {
        tracing::error!("writing down which sources are proven failed: {error}");
    }
}

/// Does something that may block, and says so if it fails: what is in force stays in force.
async fn on_controller<F>(controller: &Arc<Mutex<Controller>>, what: &'static str, act: F)
where
    F: FnOnce(&mut Controller) -> Result<(), crate::controller::Rejection> + Send + 'static,
{
    let controller = Arc::clone(controller);
    match tokio::task::spawn_blocking(move || act(&mut lock(&controller))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{what} failed, what was in force stays in force: {error}"),
        Err(error) => tracing::error!("{what} failed: {error}"),
    }
}

/// Takes events and messages out of the kernel's buffers, and out of the new ones when the maps are made anew.
async fn listen_to_plane(controller: Arc<Mutex<Controller>>) {
    let mut changes = lock(&controller).plane_changes();
    loop {
        changes.mark_unchanged();
        let (events, set, buffer, log) = {
            let mut controller = lock(&controller);
            let log = controller.take_program_log();
            (controller.events().clone(), controller.shared_set(), controller.plane().open_events(), log)
        };
        let pumped = async {
            let set = move || Some(Arc::clone(&set.read().unwrap_or_else(PoisonError::into_inner)));
            let Err(error) = events.pump(buffer.map_err(io::Error::other)?, set).await;
            Err(error)
        };
        tokio::select! {
            Err::<Infallible, io::Error>(error) = pumped => {
                tracing::error!(%error, "events cannot be read; judging goes on");
                if changes.changed().await.is_err() {
                    return;
                }
            }
            () = print_program_log(log) => {}
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Takes handshakes out of the kernel's buffer to the desk, and out of the new one when the maps are made anew.
async fn take_handshakes(controller: Arc<Mutex<Controller>>) {
    let mut changes = lock(&controller).plane_changes();
    loop {
        changes.mark_unchanged();
        let (desk, buffer) = {
            let controller = lock(&controller);
            (controller.desk(), controller.plane().open_handshakes())
        };
        let pumped = async { reputation::pump(buffer.map_err(io::Error::other)?, &desk).await };
        tokio::select! {
            Err::<Infallible, io::Error>(error) = pumped => {
                tracing::error!(%error, "handshakes cannot be read: no DNSBL is asked");
                if changes.changed().await.is_err() {
                    return;
                }
            }
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Tests the zones when it is their turn, asks about those who waited, and takes out what is over.
async fn keep_desk(desk: Desk) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let tested = async {
        loop {
            tick.tick().await;
            desk.test_zones().await;
        }
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let kept = async {
        loop {
            tick.tick().await;
            desk.ask_waiting();
            let desk = desk.clone();
            drop(tokio::task::spawn_blocking(move || desk.tidy()).await);
        }
    };
    tokio::join!(tested, kept);
}

/// Writes bans down for whoever asks for them by DNS, where that is configured.
async fn keep_export(controller: Arc<Mutex<Controller>>) {
    let mut tick = interval(export::EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut exporter = Exporter::default();
    loop {
        tick.tick().await;
        let controller = Arc::clone(&controller);
        let written = tokio::task::spawn_blocking(move || {
            crate::controller::export(&controller, &mut exporter);
            exporter
        });
        exporter = written.await.unwrap_or_default();
    }
}

/// Ends connections of listed sources, where that is configured.
async fn end_connections(controller: Arc<Mutex<Controller>>) {
    let Some(mut kills) = lock(&controller).take_kills() else { return };
    // Listing connections costs as much for one source as for many.
    let mut some = Vec::new();
    while kills.recv_many(&mut some, KILLS_AT_ONCE).await > 0 {
        let (controller, kills) = (Arc::clone(&controller), std::mem::take(&mut some));
        drop(tokio::task::spawn_blocking(move || lock(&controller).end_connections(&kills)).await);
    }
}

/// Prints what the program says, for ever.
async fn print_program_log(log: Option<ProgramLog>) {
    // SAFETY: the log owns its descriptor and keeps the same one until it is dropped, after the registration.
    let log = log.and_then(|log| unsafe { AsyncFd::register_with_interest(log, Interest::READABLE) }.ok());
    let Some(mut log) = log else {
        return std::future::pending().await;
    };
    while let Ok(mut ready) = log.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
    std::future::pending().await
}

fn announce(controller: &Controller) {
    for attached in controller.plane().attached() {
        let how = if attached.replaced { "taken over without a gap" } else { "attached" };
        tracing::info!(interface = attached.interface, mode = %attached.mode, "{how}");
        for note in &attached.notes {
            tracing::info!(interface = attached.interface, "{note}");
        }
    }
    match controller.mode_view().mode {
        Mode::Observe => tracing::info!("observe: everything is judged and counted, nothing is dropped"),
        Mode::Enforce => tracing::info!("enforce: what is over its limits is dropped"),
    }
}

fn lock(controller: &Mutex<Controller>) -> std::sync::MutexGuard<'_, Controller> {
    controller.lock().unwrap_or_else(PoisonError::into_inner)
}
