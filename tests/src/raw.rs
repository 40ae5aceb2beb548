//! Frames made by hand, one by one, and captured ones.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use crate::enter::within;

mod filter;

const MAX_FRAME: usize = 65_536;
/// Room for what arrives before it is asked for.
const BUFFER_BYTES: usize = 8 << 20;
const ALL_PROTOCOLS: u16 = libc::ETH_P_ALL as u16;
/// Source and destination address, in front of a VLAN tag.
const ADDRESSES_LEN: usize = 12;

/// Sends whole frames out of an interface.
#[derive(Debug)]
pub struct RawSender {
    socket: Socket,
}

impl RawSender {
    pub fn new(namespace: impl AsRef<Path>, interface: &str) -> Result<Self> {
        // Protocol 0: receives nothing.
        let socket = open(namespace.as_ref(), interface, 0, &[])?;
        Ok(Self { socket })
    }

    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = self.socket.send(frame).context("cannot send a frame")?;
        ensure!(sent == frame.len(), "sent {sent} of {} bytes", frame.len());
        Ok(())
    }
}

/// Captures what comes in at an interface and passes its XDP program, VLAN tags included.
#[derive(Debug)]
pub struct RawReceiver {
    socket: Socket,
}

impl RawReceiver {
    pub fn new(namespace: impl AsRef<Path>, interface: &str) -> Result<Self> {
        Self::filtered(namespace.as_ref(), interface, &[])
    }

    /// Untagged packets to one address. The kernel sorts out the others, so that no flood of them takes up the room.
    pub fn to_address(namespace: impl AsRef<Path>, interface: &str, address: IpAddr) -> Result<Self> {
        Self::filtered(namespace.as_ref(), interface, &filter::to_address(address))
    }

    /// Frames to one hardware address or to several stations, sorted out in the same way.
    pub fn to_station(namespace: impl AsRef<Path>, interface: &str, mac: [u8; 6]) -> Result<Self> {
        Self::filtered(namespace.as_ref(), interface, &filter::to_station(mac))
    }

    fn filtered(namespace: &Path, interface: &str, filter: &[SockFilter]) -> Result<Self> {
        let socket = open(namespace, interface, ALL_PROTOCOLS, filter)?;
        set_option(&socket, libc::PACKET_AUXDATA)?;
        set_option(&socket, libc::PACKET_IGNORE_OUTGOING)?;
        Ok(Self { socket })
    }

    /// The next frame; `None` if there is none within the time.
    pub fn receive(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        // A timeout of zero would wait for ever.
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        match receive_frame(&self.socket) {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error).context("cannot receive a frame"),
        }
    }

    /// The next frame that is wanted; `None` if there is none within the time.
    pub fn find(&self, timeout: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + timeout;
        loop {
            match self.receive(end.saturating_duration_since(Instant::now()))? {
                Some(frame) if wanted(&frame) => return Ok(Some(frame)),
                Some(_) if Instant::now() < end => {}
                _ => return Ok(None),
            }
        }
    }
}

fn open(namespace: &Path, interface: &str, protocol: u16, filter: &[SockFilter]) -> Result<Socket> {
    within(namespace, || {
        let index = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        // Without a protocol until it is bound, so that it never hears another interface.
        let socket = Socket::new(Domain::from(libc::AF_PACKET), Type::from(libc::SOCK_RAW), Some(Protocol::from(0)))
            .context("no packet socket")?;
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        if !filter.is_empty() {
            socket.attach_filter(filter).context("the kernel refuses a filter of frames")?;
        }
        socket.bind(&address(index, protocol)).with_context(|| format!("cannot bind to {interface}"))?;
        Ok(socket)
    })
}

fn address(index: u32, protocol: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the socket addresses, so it fits into the storage and has the family in front.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = index as i32;
    // SAFETY: the storage holds a `sockaddr_ll`.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

fn set_option(socket: &Socket, option: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int of the length given, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    ensure!(result == 0, "cannot set a packet socket option: {}", io::Error::last_os_error());
    Ok(())
}

/// Aligned for the headers in it.
#[repr(C, align(8))]
struct Control([u8; 64]);

fn receive_frame(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; MAX_FRAME];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: all zeroes is a message without any parts.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: the message names buffers that live here, with their lengths.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    frame.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    if let Some(tag) = stripped_tag(&message)
        && frame.len() >= ADDRESSES_LEN
    {
        frame.splice(ADDRESSES_LEN..ADDRESSES_LEN, tag);
    }
    Ok(frame)
}

/// The VLAN tag that the kernel took out of the frame.
fn stripped_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the kernel has filled the control buffer of the message and set its length.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    let mut auxiliary = MaybeUninit::<libc::tpacket_auxdata>::uninit();
    // SAFETY: a control message of this type holds a `tpacket_auxdata`, perhaps not aligned.
    let auxiliary = unsafe {
        libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().copy_to_nonoverlapping(auxiliary.as_mut_ptr(), 1);
        auxiliary.assume_init()
    };
    if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let [a, b] = auxiliary.tp_vlan_tpid.to_be_bytes();
    let [c, d] = auxiliary.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}
