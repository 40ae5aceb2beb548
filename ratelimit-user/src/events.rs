//! Sampled verdicts, from the kernel's buffer to whoever wants them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aya::maps::{MapData, RingBuf};
use bytemuck::try_pod_read_unaligned;
use ratelimit_common::{Action, Address, Event as Sample, Reason, Set};
use tokio::{io::unix::AsyncFd, sync::broadcast};

use crate::{api, config::Mode, plane};

/// Events that are kept for `events` and `explain`.
const RECENT: usize = 10_000;
/// Events a slow follower may lag behind before it loses some.
const LAG: usize = 4_096;

/// The latest events, and news of the next ones.
#[derive(Clone, Debug)]
pub struct Events {
    recent: Arc<Mutex<VecDeque<api::Event>>>,
    news: broadcast::Sender<api::Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { recent: Arc::default(), news: broadcast::channel(LAG).0 }
    }
}

impl Events {
    pub fn follow(&self) -> broadcast::Receiver<api::Event> {
        self.news.subscribe()
    }

    /// The last `most` events, oldest first.
    pub fn recent(&self, most: usize) -> Vec<api::Event> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().skip(recent.len().saturating_sub(most)).cloned().collect()
    }

    /// The last `most` events of one source, newest first.
    pub fn of_source(&self, source: IpAddr, most: usize) -> Vec<api::Event> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().rev().filter(|event| event.source == Some(source)).take(most).cloned().collect()
    }

    /// Tells of something that no frame tells of.
    pub fn tell(&self, event: api::Event) {
        self.push(event);
    }

    fn push(&self, event: api::Event) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        drop(recent);
        // Nobody follows: no matter.
        let _ = self.news.send(event);
    }

    /// Takes events out of the kernel's buffer for ever. `set` names the services.
    pub async fn pump(
        self,
        buffer: RingBuf<MapData>,
        set: impl Fn() -> Option<Arc<Set>>,
    ) -> Result<Infallible, io::Error> {
        // SAFETY: the buffer owns its descriptor and keeps the same one until it is dropped, after the registration.
        let mut buffer = unsafe { AsyncFd::register(buffer) }?;
        loop {
            let mut ready = buffer.readable_mut().await?;
            let set = set();
            while let Some(bytes) = ready.get_inner_mut().next() {
                // A record of another size was written by another version of the gate.
                let Ok(sample) = try_pod_read_unaligned::<Sample>(&bytes) else {
                    continue;
                };
                if let Some(event) = describe(&sample, set.as_deref()) {
                    self.push(event);
                }
            }
            ready.clear_ready();
        }
    }
}

fn describe(sample: &Sample, set: Option<&Set>) -> Option<api::Event> {
    let reason = sample.reason()?;
    let known = |address: Address| (address != Address::UNSPECIFIED).then(|| address.to_ip());
    Some(api::Event {
        at: wall_clock(sample.at_ns),
        reason: reason.label().to_owned(),
        action: action_label(reason.action(sample.mode())).to_owned(),
        mode: mode(sample.mode()),
        service: sample.service().zip(set).map(|(id, set)| set.service_at(id).name().to_owned()),
        source: known(sample.source),
        source_port: sample.source_port,
        destination: known(sample.destination),
        port: sample.port,
        interface: name_of(sample.interface),
        detail: None,
    })
}

/// What the kernel's side of a mode is called here.
pub const fn mode(mode: ratelimit_common::Mode) -> Mode {
    match mode {
        ratelimit_common::Mode::Observe => Mode::Observe,
        ratelimit_common::Mode::Enforce => Mode::Enforce,
    }
}

/// The reason of this name; none if another version of the gate wrote it.
pub fn reason_of(label: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.label() == label)
}

pub const fn action_label(action: Action) -> &'static str {
    match action {
        Action::Pass => "pass",
        Action::Drop => "drop",
        Action::Reset => "reset",
        Action::Challenge => "challenge",
    }
}

fn wall_clock(at_ns: u64) -> String {
    let ago = Duration::from_nanos(plane::now().0.saturating_sub(at_ns));
    let at = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(at).to_string()
}

/// The name of an interface, or its number if it is gone.
fn name_of(interface: u32) -> String {
    let name = nix::net::if_::if_indextoname(interface).ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("#{interface}"))
}
