//! Questions to the kernel about TCP sockets, over `NETLINK_SOCK_DIAG`.
//!
//! Each question is about the network namespace of the thread that asks; `in_namespaces` asks it everywhere.

mod ask;
mod attributes;
mod namespaces;

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
};

use netlink_packet_sock_diag::{
    SOCK_DESTROY, constants,
    inet::{ExtensionFlags, InetResponse, SocketId, StateFlags, Timer, nlas::Nla},
};

use ask::{Failure, Question, dump, order};
pub use namespaces::{Answers, NamespaceError, in_namespaces, namespace_cookie};

/// A connection on a protected port, from the completed handshake to `TCP_CLOSE`.
///
/// What the kernel has put into TIME_WAIT, or keeps of a closed socket until the other side's FIN comes (shown as
/// FIN_WAIT2), is none: there `TCP_CLOSE` has been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub local: SocketAddr,
    /// As `local`, an IPv4 address where IPv4 is spoken, also on a socket of both families.
    pub remote: SocketAddr,
    pub state: State,
    /// The same number as `bpf_get_socket_cookie` and `SO_COOKIE` give; unique on this machine until it starts anew.
    pub cookie: u64,
    pub bytes_received: u64,
    /// Bytes sent that the other side has acknowledged.
    pub bytes_acked: u64,
    /// Whether the socket has storage in the map that was asked about.
    pub is_marked: bool,
    /// As the kernel knows it: IPv4 on a socket of both families is IPv6 there.
    id: SocketId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    LastAck,
    Closing,
}

/// A socket that accepts connections. Several may share an address (`SO_REUSEPORT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// How many connections may wait for the program to accept them.
    pub backlog: u32,
    /// How many wait now.
    pub queued: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum SockDiagError {
    #[error(
        "this kernel tells nothing about TCP sockets: load its module with `modprobe tcp_diag`, or use a kernel with \
         CONFIG_INET_DIAG and CONFIG_INET_TCP_DIAG"
    )]
    NoInetDiag,
    #[error("this kernel ends no connection on request: use one with CONFIG_INET_DIAG_DESTROY")]
    NoDestroy,
    #[error("the kernel answers no question about sockets ({0}): run as root, or with CAP_NET_ADMIN and CAP_BPF")]
    NotPermitted(io::Error),
    #[error("the kernel refuses a question about sockets: {0}")]
    Refused(io::Error),
    #[error("sockets changed during each of {0} attempts to list them: try again later")]
    Interrupted(u32),
    #[error("the kernel's answer about sockets cannot be read: {0}")]
    Decode(String),
    #[error("no conversation with the kernel about sockets: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl From<Failure> for SockDiagError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => refused(error),
            Failure::Socket(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Self::NoInetDiag,
            Failure::Socket(error) => Self::Socket(error),
            Failure::Decode(error) => Self::Decode(error),
            Failure::Interrupted(attempts) => Self::Interrupted(attempts),
        }
    }
}

fn refused(error: io::Error) -> SockDiagError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => SockDiagError::NoInetDiag,
        Some(libc::EOPNOTSUPP) => SockDiagError::NoDestroy,
        Some(libc::EPERM | libc::EACCES) => SockDiagError::NotPermitted(error),
        _ => SockDiagError::Refused(error),
    }
}

/// The connections whose own port is one of `ports`. Those that this machine has made from such a port are among them.
///
/// `marks` is a BPF map of socket storage. The answer is no snapshot: what comes or goes meanwhile may be missing, but
/// nothing is in it twice.
pub fn connections(ports: &[u16], marks: Option<BorrowedFd<'_>>) -> Result<Vec<Connection>, SockDiagError> {
    let states = StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING;
    let mut found = on_ports(ports, states, ExtensionFlags::INFO, marks, connection)?;
    // The kernel goes on where it stopped by counting within a bucket, which may have changed.
    let mut seen = HashSet::with_capacity(found.len());
    found.retain(|connection| seen.insert(connection.cookie));
    Ok(found)
}

/// How many handshakes have begun and not completed, for each of `ports`.
pub fn half_open(ports: &[u16]) -> Result<BTreeMap<u16, u64>, SockDiagError> {
    let mut counts: BTreeMap<u16, u64> = ports.iter().map(|port| (*port, 0)).collect();
    let port = |answer: InetResponse| Some(answer.header.socket_id.source_port);
    for port in on_ports(ports, StateFlags::SYN_RECV, ExtensionFlags::empty(), None, port)? {
        *counts.entry(port).or_default() += 1;
    }
    Ok(counts)
}

pub fn listeners(ports: &[u16]) -> Result<Vec<Listener>, SockDiagError> {
    on_ports(ports, StateFlags::LISTEN, ExtensionFlags::empty(), None, listener)
}

/// Resets a connection of this network namespace; its program sees ECONNABORTED. `false` if it was gone already.
pub fn destroy(connection: &Connection) -> Result<bool, SockDiagError> {
    let question = Question::new(SOCK_DESTROY, connection.id.clone());
    match order(&question) {
        Ok(()) => Ok(true),
        // Whoever told of the connection is there, so this is about the connection.
        Err(Failure::Refused(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

fn on_ports<T>(
    ports: &[u16],
    states: StateFlags,
    extensions: ExtensionFlags,
    marks: Option<BorrowedFd<'_>>,
    keep: impl Fn(InetResponse) -> Option<T>,
) -> Result<Vec<T>, SockDiagError> {
    let mut found = Vec::new();
    if ports.is_empty() {
        return Ok(found);
    }
    let ports: HashSet<u16> = ports.iter().copied().collect();
    for any in [SocketId::new_v4(), SocketId::new_v6()] {
        let mut question = Question::new(constants::SOCK_DIAG_BY_FAMILY, any);
        question.request.states = states.clone();
        question.request.extensions = extensions.clone();
        question.attributes.extend(attributes::port_filter(&ports));
        question.attributes.extend(marks.map(attributes::storage_request));
        let keep = |answer: InetResponse| {
            // A question about very many ports has no filter.
            if ports.contains(&answer.header.socket_id.source_port) { keep(answer) } else { None }
        };
        found.extend(dump(&question, keep)?);
    }
    Ok(found)
}

fn connection(answer: InetResponse) -> Option<Connection> {
    if answer.header.timer == Some(Timer::TimeWait) {
        return None;
    }
    let id = answer.header.socket_id;
    let mut connection = Connection {
        local: canonical(id.source_address, id.source_port),
        remote: canonical(id.destination_address, id.destination_port),
        state: State::of(answer.header.state)?,
        cookie: attributes::cookie(id.cookie),
        bytes_received: 0,
        bytes_acked: 0,
        is_marked: false,
        id,
    };
    for attribute in &answer.nlas {
        match attribute {
            Nla::TcpInfo(info) => {
                connection.bytes_received = info.bytes_received;
                connection.bytes_acked = info.bytes_acked;
            }
            Nla::Other(other) => connection.is_marked |= attributes::has_storage(other),
            _ => {}
        }
    }
    Some(connection)
}

fn listener(answer: InetResponse) -> Option<Listener> {
    let header = answer.header;
    let address = canonical(header.socket_id.source_address, header.socket_id.source_port);
    // A socket that was closed meanwhile has other queues.
    (header.state == constants::TCP_LISTEN).then_some(Listener {
        address,
        backlog: header.send_queue,
        queued: header.recv_queue,
    })
}

fn canonical(address: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

impl State {
    /// `None` for any other state of the kernel's: a socket may have got there after it was chosen.
    fn of(state: u8) -> Option<Self> {
        match state {
            constants::TCP_ESTABLISHED => Some(Self::Established),
            constants::TCP_FIN_WAIT1 => Some(Self::FinWait1),
            constants::TCP_FIN_WAIT2 => Some(Self::FinWait2),
            constants::TCP_CLOSE_WAIT => Some(Self::CloseWait),
            constants::TCP_LAST_ACK => Some(Self::LastAck),
            constants::TCP_CLOSING => Some(Self::Closing),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
