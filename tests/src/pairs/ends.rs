use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use ratelimit_user::sock_diag::{connections, destroy};
use socket2::SockRef;

use super::{Pair, end_of, hear, say};
use crate::gateway::Wire;
use crate::netns::Namespace;
use crate::process::Process;

/// How connections end, as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    ClientFirst,
    ServerFirst,
    ClientReset,
    ServerReset,
    /// Both close before either hears of it.
    Simultaneous,
    /// The client ends its half, and hears on.
    HalfByClient,
    HalfByServer,
    /// The server closes with something unread, which is a reset.
    Unread,
    /// The server's program is killed, every other time with something unread.
    Killed,
    /// `SOCK_DESTROY`.
    Destroyed,
    /// The client is gone without a word, and the server gives up.
    Vanished,
    /// The server lets go of the connection and makes another one with the same socket, to the same peer.
    Reused,
}

/// Until the server gives up.
const PATIENCE: Duration = Duration::from_millis(400);
/// Of the peer, for connections that the server makes.
const PEER_PORT: u16 = 7777;

/// Told how many connections are open still, while they end.
pub type Amid<'a> = &'a mut dyn FnMut(usize) -> Result<()>;

impl End {
    pub const ALL: [Self; 12] = [
        Self::ClientFirst,
        Self::ServerFirst,
        Self::ClientReset,
        Self::ServerReset,
        Self::Simultaneous,
        Self::HalfByClient,
        Self::HalfByServer,
        Self::Unread,
        Self::Killed,
        Self::Destroyed,
        Self::Vanished,
        Self::Reused,
    ];

    /// Ends connections between the two of a wire.
    pub fn of(self, wire: &Wire, pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
        match self {
            Self::ClientFirst => client_first(pairs, amid),
            Self::ServerFirst => server_first(pairs, amid),
            Self::ClientReset => client_reset(pairs),
            Self::ServerReset => server_reset(pairs),
            Self::Simultaneous => simultaneous(wire, pairs, amid),
            Self::HalfByClient => half_by_client(pairs, amid),
            Self::HalfByServer => half_by_server(pairs, amid),
            Self::Unread => unread(pairs, amid),
            Self::Killed => killed(&wire.gateway, pairs, amid),
            Self::Destroyed => destroyed(&wire.gateway, pairs, amid),
            Self::Vanished => vanished(wire, pairs, amid),
            Self::Reused => reused(&wire.outside, pairs, amid),
        }
        .with_context(|| format!("{self:?}"))
    }
}

/// Servers and clients.
fn split(pairs: Vec<Pair>) -> (Vec<TcpStream>, Vec<TcpStream>) {
    pairs.into_iter().map(|pair| (pair.server, pair.client)).unzip()
}

/// What each of them is told at the end.
fn are_told(ends: &[TcpStream], expected: Option<i32>) -> Result<()> {
    for end in ends {
        let told = end_of(end)?;
        ensure!(told == expected, "{end:?} was told {told:?}");
    }
    Ok(())
}

/// Closes with a reset.
fn reset(end: TcpStream) -> Result<()> {
    Ok(SockRef::from(&end).set_linger(Some(Duration::ZERO))?)
}

fn client_first(pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    drop(clients);
    are_told(&servers, None)?;
    amid(servers.len())
}

fn server_first(pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    drop(servers);
    are_told(&clients, None)?;
    // The kernel keeps something of them, but the sockets are gone.
    amid(0)
}

fn client_reset(pairs: Vec<Pair>) -> Result<()> {
    let (servers, clients) = split(pairs);
    clients.into_iter().try_for_each(reset)?;
    are_told(&servers, Some(libc::ECONNRESET))
}

fn server_reset(pairs: Vec<Pair>) -> Result<()> {
    let (servers, clients) = split(pairs);
    servers.into_iter().try_for_each(reset)?;
    are_told(&clients, Some(libc::ECONNRESET))
}

fn simultaneous(wire: &Wire, pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let count = pairs.len();
    wire.silence()?;
    drop(pairs);
    amid(count)?;
    wire.speak()
}

fn half_by_client(pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    clients.iter().try_for_each(|client| client.shutdown(Shutdown::Write))?;
    are_told(&servers, None)?;
    amid(servers.len())?;
    servers.iter().try_for_each(say)?;
    clients.iter().try_for_each(hear)?;
    drop(servers);
    are_told(&clients, None)
}

fn half_by_server(pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    servers.iter().try_for_each(|server| server.shutdown(Shutdown::Write))?;
    are_told(&clients, None)?;
    amid(servers.len())?;
    clients.iter().try_for_each(say)?;
    servers.iter().try_for_each(hear)?;
    drop(clients);
    are_told(&servers, None)
}

/// Waits until something has come.
fn wait_for_words(server: &TcpStream) -> Result<()> {
    ensure!(server.peek(&mut [0])? == 1, "nothing came");
    Ok(())
}

fn unread(pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    clients.iter().try_for_each(say)?;
    servers.iter().try_for_each(wait_for_words)?;
    amid(servers.len())?;
    drop(servers);
    are_told(&clients, Some(libc::ECONNRESET))
}

fn killed(namespace: &Namespace, pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    for (server, client) in servers.iter().zip(&clients).step_by(2) {
        say(client)?;
        wait_for_words(server)?;
    }
    let count = servers.len();
    let mut holder = hand_over(namespace, servers)?;
    amid(count)?;
    holder.kill()?;
    for (number, client) in clients.iter().enumerate() {
        let expected = (number % 2 == 0).then_some(libc::ECONNRESET);
        let told = end_of(client)?;
        ensure!(told == expected, "client {number} was told {told:?}");
    }
    Ok(())
}

/// Starts a program that has these sockets, and nobody else any more.
fn hand_over(namespace: &Namespace, sockets: Vec<TcpStream>) -> Result<Process> {
    for socket in &sockets {
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    namespace.command("sleep").arg("600").spawn()
}

fn destroyed(namespace: &Namespace, pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    let mut remotes = Vec::new();
    for client in &clients {
        let from = client.local_addr()?;
        remotes.push(SocketAddr::new(from.ip().to_canonical(), from.port()));
    }
    let port = servers.first().context("nothing to destroy")?.local_addr()?.port();
    amid(servers.len())?;
    namespace.enter(|| -> Result<()> {
        for connection in connections(&[port], None)?.iter().filter(|one| remotes.contains(&one.remote)) {
            ensure!(destroy(connection)?, "{connection:?} was gone");
        }
        Ok(())
    })??;
    are_told(&servers, Some(libc::ECONNABORTED))?;
    are_told(&clients, Some(libc::ECONNRESET))
}

fn vanished(wire: &Wire, pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let (servers, clients) = split(pairs);
    for server in &servers {
        SockRef::from(server).set_tcp_user_timeout(Some(PATIENCE))?;
    }
    wire.silence()?;
    clients.into_iter().try_for_each(reset)?;
    amid(servers.len())?;
    servers.iter().try_for_each(say)?;
    are_told(&servers, Some(libc::ETIMEDOUT))?;
    wire.speak()
}

fn reused(outside: &Namespace, pairs: Vec<Pair>, amid: Amid<'_>) -> Result<()> {
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PEER_PORT));
    let listener = outside.enter(|| TcpListener::bind(everywhere))??;
    let (servers, clients) = split(pairs);
    let mut again = Vec::new();
    for (server, client) in servers.iter().zip(&clients) {
        let family = server.local_addr()?;
        let_go(server)?;
        let told = end_of(client)?;
        ensure!(told == Some(libc::ECONNRESET), "{client:?} was told {told:?}");
        let peer = match (family.ip(), client.local_addr()?.ip()) {
            (IpAddr::V6(_), IpAddr::V4(peer)) => IpAddr::V6(peer.to_ipv6_mapped()),
            (_, peer) => peer,
        };
        SockRef::from(server).connect(&SocketAddr::new(peer, PEER_PORT).into()).context("not to be used again")?;
        again.push(listener.accept()?.0);
    }
    amid(0)?;
    drop(again);
    are_told(&servers, None)
}

/// Makes a socket have no peer any more.
fn let_go(socket: &TcpStream) -> Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `nobody`, which is as long, and the descriptor is open.
    let answer = unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) };
    ensure!(answer == 0, "{socket:?} does not let go: {}", std::io::Error::last_os_error());
    Ok(())
}
