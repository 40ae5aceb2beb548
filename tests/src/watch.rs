//! What both ends of a real connection offer each other and then believe, to compare one connection with another.

use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etherparse::TcpOptionElement;
use socket2::{Domain, Protocol, Socket, Type};

use crate::clients::Client;
use crate::gateway::{LAN, OUT, Wire, gateway_for};
use crate::raw::RawReceiver;
use crate::segment::Segment;

const BACKLOG: i32 = 128;
/// For frames that have been sent.
const SOON: Duration = Duration::from_secs(1);

/// How a connection was made.
#[derive(Debug, Clone)]
pub struct Watched {
    pub handshake: Handshake,
    /// For the client.
    pub connect: Duration,
    /// What came to the client before that and acknowledged something else than its SYN.
    pub wrong_answers: u32,
}

/// Everything about it that should be as in any other connection of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Of the SYN that the gateway's kernel was shown last.
    pub syn: Offer,
    /// Of the SYN+ACK that the client took.
    pub syn_ack: Offer,
    pub client: Agreed,
    pub server: Agreed,
}

/// What a SYN or a SYN+ACK says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    pub window: u16,
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack: bool,
    pub timestamps: bool,
}

/// What a socket works with: `tcp_info` of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    pub mss_sent: u32,
    pub mss_advertised: u32,
    /// Its own; 0 without scaling.
    pub window_scale: u8,
    pub peer_window_scale: u8,
    pub has_window_scale: bool,
    pub sack: bool,
    pub timestamps: bool,
}

/// A listener of the gateway whose connections are looked at from all sides.
#[derive(Debug)]
pub struct Watch<'a> {
    wire: &'a Wire,
    listener: Socket,
    port: u16,
}

impl<'a> Watch<'a> {
    /// Listens on every address of the gateway.
    pub fn on(wire: &'a Wire, port: u16) -> Result<Self> {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = wire.gateway.enter(|| -> Result<_> {
            let listener = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
            listener.bind(&everywhere.into()).with_context(|| format!("cannot listen on port {port}"))?;
            listener.listen(BACKLOG)?;
            Ok(listener)
        })??;
        Ok(Self { wire, listener, port })
    }

    /// Has one of the outside's addresses connect.
    pub fn connect(&self, source: IpAddr, timeout: Duration) -> Result<Watched> {
        let server = gateway_for(source);
        let at_gateway = RawReceiver::to_address(self.wire.gateway.path(), LAN, server)?;
        let at_outside = RawReceiver::to_address(self.wire.outside.path(), OUT, source)?;
        let client = Client { source: Some(source), server: (server, self.port).into(), timeout };
        let start = Instant::now();
        let stream =
            self.wire.outside.enter(|| client.connect())?.with_context(|| format!("{source} cannot connect"))?;
        let connect = start.elapsed();
        let from = stream.local_addr()?;
        let accepted = self.accept(from, timeout)?;
        let syn = last_syn(&at_gateway, from)?;
        let (syn_ack, wrong_answers) = right_syn_ack(&at_outside, from, &syn)?;
        let (syn, syn_ack) = (Offer::of(&syn), Offer::of(&syn_ack));
        let (client, server) = (Agreed::by(&stream)?, Agreed::by(&accepted)?);
        Ok(Watched { handshake: Handshake { syn, syn_ack, client, server }, connect, wrong_answers })
    }

    /// The other end of a client's connection; those of others are ended.
    fn accept(&self, client: SocketAddr, timeout: Duration) -> Result<TcpStream> {
        self.listener.set_read_timeout(Some(timeout))?;
        let end = Instant::now() + timeout;
        while Instant::now() < end {
            let (accepted, peer) = self.listener.accept().with_context(|| format!("{client} is never accepted"))?;
            let peer = peer.as_socket().context("a peer without an address")?;
            if (peer.ip().to_canonical(), peer.port()) == (client.ip(), client.port()) {
                return Ok(accepted.into());
            }
        }
        bail!("{client} is not among the accepted")
    }
}

/// The SYN of a client that came in last: an earlier one that was not taken has been repeated.
fn last_syn(receiver: &RawReceiver, client: SocketAddr) -> Result<Segment> {
    let mut syn = None;
    while let Some(frame) = receiver.receive(SOON)? {
        match Segment::read(&frame) {
            Some((from, _, segment)) if from == client && segment.syn => syn = Some(segment),
            // The end of the handshake.
            Some((from, _, segment)) if from == client && segment.acknowledgement.is_some() => break,
            _ => {}
        }
    }
    syn.with_context(|| format!("no SYN of {client}"))
}

/// The SYN+ACK that a client took, and how many others it got before.
fn right_syn_ack(receiver: &RawReceiver, client: SocketAddr, syn: &Segment) -> Result<(Segment, u32)> {
    let mut wrong = 0;
    while let Some(frame) = receiver.receive(SOON)? {
        let Some((_, to, segment)) = Segment::read(&frame) else { continue };
        match segment.acknowledgement {
            Some(acknowledged) if to == client && acknowledged != syn.next_sequence() => wrong += 1,
            Some(_) if to == client && segment.is_syn_ack() => return Ok((segment, wrong)),
            _ => {}
        }
    }
    bail!("no SYN+ACK to {client}")
}

impl Offer {
    fn of(segment: &Segment) -> Self {
        let mut offer = Self { window: segment.window, ..Self::default() };
        for option in segment.options() {
            match option {
                TcpOptionElement::MaximumSegmentSize(mss) => offer.mss = Some(mss),
                TcpOptionElement::WindowScale(shift) => offer.window_scale = Some(shift),
                TcpOptionElement::SelectiveAcknowledgementPermitted => offer.sack = true,
                TcpOptionElement::Timestamp(..) => offer.timestamps = true,
                TcpOptionElement::Noop | TcpOptionElement::SelectiveAcknowledgement(..) => {}
            }
        }
        offer
    }
}

impl Agreed {
    fn by(stream: &TcpStream) -> Result<Self> {
        const TIMESTAMPS: u8 = 1;
        const SACK: u8 = 2;
        const WINDOW_SCALE: u8 = 4;
        let info = tcp_info(stream)?;
        let has = |option| info.tcpi_options & option != 0;
        Ok(Self {
            mss_sent: info.tcpi_snd_mss,
            mss_advertised: info.tcpi_advmss,
            window_scale: info.tcpi_snd_rcv_wscale >> 4,
            peer_window_scale: info.tcpi_snd_rcv_wscale & 0xf,
            has_window_scale: has(WINDOW_SCALE),
            sack: has(SACK),
            timestamps: has(TIMESTAMPS),
        })
    }
}

fn tcp_info(stream: &TcpStream) -> Result<libc::tcp_info> {
    // SAFETY: integers only, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the room there is, and the descriptor is open.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
    };
    ensure!(result == 0, "the kernel tells nothing of a connection: {}", std::io::Error::last_os_error());
    Ok(info)
}
