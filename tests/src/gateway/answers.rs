//! What the gateway answers to connection attempts: the proof that a SYN got through, or did not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{OUT, Wire};
use crate::raw::RawReceiver;

/// How long to wait for an answer that is still on its way.
const QUIET: Duration = Duration::from_millis(200);
const NAP: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Somebody listens.
    SynAck,
    /// Nobody does.
    Reset,
}

/// Listens at the outside until it is asked what it heard.
#[derive(Debug)]
pub struct Answers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Heard>>>,
}

/// First answers, by who had asked: source, its port, and the port of the gateway.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<(IpAddr, u16, u16), Answer>);

impl Answers {
    pub fn listen(wire: &Wire) -> Result<Self> {
        let receiver = RawReceiver::new(wire.outside.path(), OUT)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("answers".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || hear(&receiver, &stop)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Waits for what is under way, and ends.
    pub fn stop(mut self) -> Result<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped already")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it heard, nobody asked for.
            let _ = thread.join();
        }
    }
}

impl Heard {
    /// Connection attempts of a source to a port that were answered.
    pub fn of(&self, source: IpAddr, port: u16) -> u64 {
        self.count(|of, at| of == source && at == port)
    }

    pub fn count(&self, wanted: impl Fn(IpAddr, u16) -> bool) -> u64 {
        self.0.keys().filter(|(source, _, port)| wanted(*source, *port)).count() as u64
    }

    pub fn syn_acks(&self) -> u64 {
        self.0.values().filter(|answer| **answer == Answer::SynAck).count() as u64
    }
}

fn hear(receiver: &RawReceiver, stop: &AtomicBool) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut latest = Instant::now();
    loop {
        match receiver.receive(NAP)? {
            Some(frame) => {
                latest = Instant::now();
                if let Some((asked, answer)) = answer_in(&frame) {
                    heard.0.entry(asked).or_insert(answer);
                }
            }
            None if stop.load(Ordering::Relaxed) && latest.elapsed() >= QUIET => return Ok(heard),
            None => {}
        }
    }
}

fn answer_in(frame: &[u8]) -> Option<((IpAddr, u16, u16), Answer)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let to = match packet.net? {
        NetSlice::Ipv4(ip) => IpAddr::V4(ip.header().destination_addr()),
        NetSlice::Ipv6(ip) => IpAddr::V6(ip.header().destination_addr()),
        NetSlice::Arp(_) => return None,
    };
    let TransportSlice::Tcp(tcp) = packet.transport? else {
        return None;
    };
    let answer = match (tcp.syn(), tcp.rst()) {
        (true, false) => Answer::SynAck,
        (false, true) => Answer::Reset,
        _ => return None,
    };
    Some(((to, tcp.destination_port(), tcp.source_port()), answer))
}
