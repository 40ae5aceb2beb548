//! Clients made of raw frames: SYNs as an operating system makes them, repeated when it would repeat them.
//!
//! A client speaks from an address that no kernel owns, or that kernel would answer for it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::flood::seed;
use crate::raw::{RawReceiver, RawSender};
use crate::segment::{Link, Segment};

mod timing;

pub use timing::Timing;

const FIRST_EPHEMERAL_PORT: u16 = 32_768;
/// Of the segments behind the SYN, whose window is not scaled.
const WINDOW: u16 = 512;

/// The kernel is late with longer time-outs of a socket, by up to an eighth.
const NAP: Duration = Duration::from_millis(100);

/// A client that connects, reads one line and is gone.
#[derive(Debug, Clone, Copy)]
pub struct Replayed {
    timing: Timing,
    source: IpAddr,
    server: SocketAddr,
    timeout: Duration,
    is_silent: bool,
    loses_first_ack: bool,
}

/// What a client did and saw. Times count from its first SYN.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When it sent its SYNs.
    pub syns: Vec<Duration>,
    /// Answers that acknowledged anything but its SYN.
    pub wrong_answers: u32,
    /// Resets it sent in answer to those.
    pub resets: u32,
    /// When the handshake was complete for the client.
    pub connect: Option<Duration>,
    /// When the line was complete.
    pub banner: Option<Duration>,
    pub line: String,
    /// The server refused or ended the connection before it had said its line.
    pub refused: bool,
}

impl Replayed {
    /// Gives up after half a minute, or when its operating system would.
    pub fn new(timing: Timing, source: IpAddr, server: SocketAddr) -> Self {
        let timeout = Duration::from_secs(30);
        Self { timing, source, server, timeout, is_silent: false, loses_first_ack: false }
    }

    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Says nothing to a wrong answer, as behind a firewall that swallows it or the reset.
    pub fn never_answers(self) -> Self {
        Self { is_silent: true, ..self }
    }

    /// The third packet of the handshake is lost once.
    pub fn drops_first_ack(self) -> Self {
        Self { loses_first_ack: true, ..self }
    }

    /// Returns when it has its line, was refused, or gave up.
    ///
    /// # Errors
    ///
    /// If frames cannot be sent or received.
    pub fn greet(&self, link: &Link) -> Result<Seen> {
        let mut attempt = Attempt::open(self, link)?;
        attempt.run()?;
        if attempt.state != State::SynSent && !attempt.seen.refused {
            attempt.say(Segment { reset: true, ..attempt.acknowledging() })?;
        }
        Ok(attempt.seen)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynSent,
    Established,
    Ended,
}

struct Attempt<'a> {
    client: &'a Replayed,
    link: &'a Link,
    sender: RawSender,
    receiver: RawReceiver,
    from: SocketAddr,
    first: u32,
    state: State,
    /// What is expected from the server next, once it is known.
    expected: u32,
    /// The server's latest timestamp, if both use them.
    echo: Option<u32>,
    loses_ack: bool,
    start: Instant,
    seen: Seen,
}

impl<'a> Attempt<'a> {
    fn open(client: &'a Replayed, link: &'a Link) -> Result<Self> {
        let random = seed();
        let port = FIRST_EPHEMERAL_PORT | (random >> 48) as u16;
        Ok(Self {
            client,
            link,
            sender: RawSender::new(&link.namespace, &link.interface)?,
            receiver: RawReceiver::to_address(&link.namespace, &link.interface, client.source)?,
            from: (client.source, port).into(),
            first: random as u32,
            state: State::SynSent,
            expected: 0,
            echo: None,
            loses_ack: client.loses_first_ack,
            start: Instant::now(),
            seen: Seen::default(),
        })
    }

    fn run(&mut self) -> Result<()> {
        let mut gaps = self.client.timing.gaps().iter().copied();
        let mut next_syn = Duration::ZERO;
        while self.state != State::Ended {
            let now = self.start.elapsed();
            if self.state == State::SynSent && now >= next_syn {
                let Some(gap) = gaps.next() else { break };
                self.send_syn(now)?;
                next_syn = now + gap;
            }
            if now >= self.client.timeout {
                break;
            }
            let until = if self.state == State::SynSent { next_syn } else { self.client.timeout };
            let wait = until.min(self.client.timeout).saturating_sub(now).min(NAP);
            let Some(segment) = self.hear(wait)? else { continue };
            let resets = self.seen.resets;
            self.take(&segment)?;
            if self.seen.resets > resets && self.seen.syns.len() == 1 {
                let soon = self.client.timing.after_challenge().map(|soon| self.start.elapsed() + soon);
                next_syn = next_syn.min(soon.unwrap_or(next_syn));
            }
        }
        Ok(())
    }

    /// The next segment of this connection.
    fn hear(&self, wait: Duration) -> Result<Option<Segment>> {
        let Some(frame) = self.receiver.receive(wait)? else { return Ok(None) };
        let read = Segment::read(&frame);
        Ok(read.filter(|(from, to, _)| (*from, *to) == (self.client.server, self.from)).map(|(.., segment)| segment))
    }

    fn take(&mut self, segment: &Segment) -> Result<()> {
        match self.state {
            State::SynSent => self.take_in_syn_sent(segment),
            State::Established => self.take_in_established(segment),
            State::Ended => Ok(()),
        }
    }

    /// RFC 9293, section 3.10.7.3.
    fn take_in_syn_sent(&mut self, segment: &Segment) -> Result<()> {
        // A SYN of its own, or nothing to this state.
        let Some(acknowledged) = segment.acknowledgement else { return Ok(()) };
        match (acknowledged == self.first.wrapping_add(1), segment.reset, segment.syn) {
            (true, false, true) => self.establish(segment)?,
            (true, true, _) => self.end_refused(),
            (false, false, _) => {
                self.seen.wrong_answers += 1;
                if !self.client.is_silent {
                    self.seen.resets += 1;
                    self.say(Segment { reset: true, sequence: acknowledged, ..Segment::default() })?;
                }
            }
            (true, false, false) | (false, true, _) => {}
        }
        Ok(())
    }

    fn establish(&mut self, syn_ack: &Segment) -> Result<()> {
        self.state = State::Established;
        self.seen.connect = Some(self.start.elapsed());
        self.expected = syn_ack.next_sequence();
        self.echo = syn_ack.timestamp().filter(|_| self.client.timing.has_timestamps());
        if std::mem::take(&mut self.loses_ack) {
            return Ok(());
        }
        self.say(self.acknowledging())
    }

    fn take_in_established(&mut self, segment: &Segment) -> Result<()> {
        if segment.reset {
            self.end_refused();
            return Ok(());
        }
        if segment.next_sequence() == segment.sequence {
            return Ok(());
        }
        if segment.sequence == self.expected {
            self.expected = segment.next_sequence();
            self.echo = self.echo.and(segment.timestamp());
            self.seen.line.push_str(&String::from_utf8_lossy(&segment.data));
        }
        // Also what came before: its sender has not heard of it.
        self.say(self.acknowledging())?;
        if self.seen.line.contains('\n') {
            self.seen.banner = Some(self.start.elapsed());
            self.state = State::Ended;
        } else if segment.fin {
            self.end_refused();
        }
        Ok(())
    }

    fn end_refused(&mut self) {
        self.seen.refused = true;
        self.state = State::Ended;
    }

    fn send_syn(&mut self, now: Duration) -> Result<()> {
        let timing = self.client.timing;
        let options = timing.options(self.client.source.is_ipv6(), self.clock());
        let syn = Segment { syn: true, sequence: self.first, window: timing.window(), options, ..Segment::default() };
        self.seen.syns.push(now);
        self.say(syn)
    }

    /// A segment without anything but an acknowledgement.
    fn acknowledging(&self) -> Segment {
        let options = self.echo.map(|echo| timing::timestamps(self.clock(), echo)).unwrap_or_default();
        Segment {
            sequence: self.first.wrapping_add(1),
            acknowledgement: Some(self.expected),
            window: WINDOW,
            options,
            ..Segment::default()
        }
    }

    /// Of timestamps, in milliseconds.
    fn clock(&self) -> u32 {
        self.first.wrapping_add(self.start.elapsed().as_millis() as u32)
    }

    fn say(&self, segment: Segment) -> Result<()> {
        self.sender.send(&segment.frame(self.link, self.from, self.client.server)?)
    }
}
