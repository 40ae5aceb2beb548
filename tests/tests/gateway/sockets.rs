//! What the controller asks the kernel about sockets, and what it has the kernel do to them.

mod storage;

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ratelimit_tests::gateway::{eventually, ip};
use ratelimit_tests::netns::{End, Namespace, veth};
use ratelimit_user::config::Namespaces;
use ratelimit_user::sock_diag::{
    Connection, Listener, SockDiagError, State, connections, destroy, half_open, in_namespaces, listeners,
    namespace_cookie,
};
use socket2::{Domain, Socket, Type};
use storage::Storage;

const SMTP: u16 = 25;
const IMAP: u16 = 143;
const SUBMISSION: u16 = 587;
const OTHER: u16 = 8080;
const PORTS: [u16; 3] = [SMTP, IMAP, SUBMISSION];
/// Where a listener is, and what its client connects to: IPv4, IPv6, and IPv4 on a socket of both families.
const WAYS: [(&str, &str); 3] =
    [("127.0.0.1:25", "127.0.0.1:25"), ("[::1]:143", "[::1]:143"), ("[::]:587", "127.0.0.1:587")];
const SOON: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Pair {
    server: TcpStream,
    client: TcpStream,
}

impl Pair {
    fn new(listener: &TcpListener, to: &str) -> Result<Self> {
        let client = TcpStream::connect(to).with_context(|| format!("to {to}"))?;
        let (server, _) = listener.accept()?;
        for end in [&server, &client] {
            end.set_read_timeout(Some(SOON))?;
        }
        Ok(Self { server, client })
    }

    fn remote(&self) -> Result<SocketAddr> {
        Ok(canonical(self.client.local_addr()?))
    }

    fn found(&self) -> Result<Option<Connection>> {
        let remote = self.remote()?;
        Ok(connections(&PORTS, None)?.into_iter().find(|connection| connection.remote == remote))
    }

    fn state(&self) -> Result<Option<State>> {
        Ok(self.found()?.map(|connection| connection.state))
    }

    /// What either end is told when it reads.
    fn ends(&mut self) -> Result<[Option<i32>; 2]> {
        let mut told = [None; 2];
        for (end, told) in [&mut self.server, &mut self.client].into_iter().zip(&mut told) {
            match end.read(&mut [0]) {
                Ok(read) => bail!("{read} bytes read from a connection that was destroyed"),
                Err(error) => *told = error.raw_os_error(),
            }
        }
        Ok(told)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Runs a test in a network namespace of its own.
fn apart(test: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    Namespace::new("sockets")?.enter(test)?
}

fn pairs() -> Result<Vec<(TcpListener, Pair)>> {
    let pair = |(at, to): (&str, &str)| {
        let listener = TcpListener::bind(at)?;
        let pair = Pair::new(&listener, to)?;
        Ok((listener, pair))
    };
    WAYS.into_iter().map(pair).collect()
}

fn listening(at: &str, backlog: i32) -> Result<Socket> {
    let address: SocketAddr = at.parse()?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// `SO_COOKIE`.
fn cookie(socket: &TcpStream) -> Result<u64> {
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let (level, option, value) = (libc::SOL_SOCKET, libc::SO_COOKIE, (&raw mut cookie).cast());
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is as long.
    let answer = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length) };
    ensure!(answer == 0, "no cookie: {}", std::io::Error::last_os_error());
    Ok(cookie)
}

#[test]
fn connections_of_either_family_are_told_with_their_bytes() -> Result<()> {
    apart(|| {
        let mut pairs = pairs()?;
        let elsewhere = TcpListener::bind(("::", OTHER))?;
        let _stranger = Pair::new(&elsewhere, "127.0.0.1:8080")?;
        for (_, pair) in &mut pairs {
            pair.client.write_all(b"EHLO me")?;
            pair.server.read_exact(&mut [0; 7])?;
            pair.server.write_all(b"250")?;
            pair.client.read_exact(&mut [0; 3])?;
        }
        for (_, pair) in &pairs {
            eventually("the answer is acknowledged", SOON, || Ok(pair.found()?.is_some_and(|it| it.bytes_acked == 3)))?;
            let found = pair.found()?.context("not found")?;
            ensure!(found.local == canonical(pair.server.local_addr()?), "{found:?}");
            ensure!(found.bytes_received == 7 && found.state == State::Established && !found.is_marked, "{found:?}");
            ensure!(found.cookie == cookie(&pair.server)?, "{found:?}");
        }
        ensure!(connections(&PORTS, None)?.len() == pairs.len(), "{:?}", connections(&PORTS, None)?);
        ensure!(connections(&[SUBMISSION], None)?.len() == 1, "{:?}", connections(&[SUBMISSION], None)?);
        ensure!(connections(&[IMAP + 1], None)?.is_empty(), "{:?}", connections(&[IMAP + 1], None)?);
        Ok(())
    })
}

/// From IPv4 and IPv6 in turn.
fn many(listener: &TcpListener, port: u16, count: usize) -> Result<Vec<Pair>> {
    let addresses = [ip("127.0.0.1"), ip("::1")].into_iter().cycle().take(count);
    addresses.map(|address| Pair::new(listener, &SocketAddr::new(address, port).to_string())).collect()
}

/// More than one datagram of answers, and more ports than the kernel is asked to filter by.
#[test]
fn each_of_many_connections_is_told_once() -> Result<()> {
    const MANY: usize = 240;
    apart(|| {
        let listener = TcpListener::bind(("::", SMTP))?;
        let elsewhere = TcpListener::bind(("::", OTHER))?;
        let (pairs, _strangers) = (many(&listener, SMTP, MANY)?, many(&elsewhere, OTHER, MANY / 10)?);
        let very_many: Vec<u16> = (0..1024).collect();
        let expected: HashSet<u64> = pairs.iter().map(|pair| cookie(&pair.server)).collect::<Result<_>>()?;
        for ports in [&PORTS[..], &very_many] {
            let found = connections(ports, None)?;
            ensure!(found.len() == MANY, "{} for {} ports", found.len(), ports.len());
            ensure!(found.iter().map(|connection| connection.cookie).collect::<HashSet<_>>() == expected, "others");
        }
        Ok(())
    })
}

#[test]
fn a_connection_counts_until_the_socket_is_closed() -> Result<()> {
    apart(|| {
        let listener = TcpListener::bind("127.0.0.1:25")?;
        let reaches = |pair: &Pair, state| {
            eventually(&format!("{pair:?} reaches {state:?}"), SOON, || Ok(pair.state()? == state)).map(drop)
        };

        let pair = Pair::new(&listener, "127.0.0.1:25")?;
        pair.client.shutdown(Shutdown::Write)?;
        reaches(&pair, Some(State::CloseWait))?;
        pair.server.shutdown(Shutdown::Write)?;
        reaches(&pair, None)?;

        let pair = Pair::new(&listener, "127.0.0.1:25")?;
        pair.server.shutdown(Shutdown::Write)?;
        reaches(&pair, Some(State::FinWait2))?;
        pair.client.shutdown(Shutdown::Write)?;
        reaches(&pair, None)?;

        // The kernel keeps the rest of it as FIN_WAIT2 until the client closes too, but the socket is gone.
        let Pair { server, mut client } = Pair::new(&listener, "127.0.0.1:25")?;
        let remote = client.local_addr()?;
        let is_told = || -> Result<bool> { Ok(connections(&PORTS, None)?.iter().any(|it| it.remote == remote)) };
        ensure!(is_told()?, "an open connection is not told of");
        drop(server);
        ensure!(client.read(&mut [0])? == 0, "the client was told more than the end");
        eventually("the kernel keeps the rest", SOON, || Ok(states_in_proc()?.contains(&FIN_WAIT2)))?;
        ensure!(!is_told()?, "the rest of a closed socket is taken for a connection");
        Ok(())
    })
}

/// `TCP_FIN_WAIT2`.
const FIN_WAIT2: u8 = 5;

/// Of the IPv4 sockets of this thread's network namespace.
fn states_in_proc() -> Result<Vec<u8>> {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
    let state =
        |line: &str| -> Result<u8> { Ok(u8::from_str_radix(line.split_whitespace().nth(3).context("no state")?, 16)?) };
    table.lines().skip(1).map(state).collect()
}

#[test]
fn listeners_tell_the_backlog_they_were_given_and_who_waits() -> Result<()> {
    apart(|| {
        let _sockets = [
            listening("127.0.0.1:25", 37)?,
            listening("127.0.0.1:25", 5)?,
            listening("[::]:143", 100_000)?,
            listening("[::1]:8080", 9)?,
        ];
        let _waiting = [TcpStream::connect("127.0.0.1:143")?, TcpStream::connect("[::1]:143")?];
        let mut found = listeners(&PORTS)?;
        found.sort_by_key(|listener| (listener.address, listener.backlog));
        let expected =
            |at: &str, backlog, queued| -> Result<Listener> { Ok(Listener { address: at.parse()?, backlog, queued }) };
        // More than net.core.somaxconn is not to be had.
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn")?.trim().parse()?;
        ensure!(
            found
                == [expected("127.0.0.1:25", 5, 0)?, expected("127.0.0.1:25", 37, 0)?, expected("[::]:143", most, 2)?],
            "{found:?}"
        );
        Ok(())
    })
}

/// The server believes its clients at another hardware address, so its answers arrive nowhere.
#[test]
fn handshakes_that_do_not_complete_are_counted_by_port() -> Result<()> {
    let (server, client) = (Namespace::new("server")?, Namespace::new("client")?);
    let end = |namespace, interface, addresses| End { namespace, interface, addresses };
    veth(
        end(&server, "lan", &["192.0.2.1/24", "2001:db8::1/64"]),
        end(&client, "wan", &["192.0.2.2/24", "2001:db8::2/64"]),
        1500,
    )?;
    for address in ["192.0.2.2", "2001:db8::2"] {
        server.neighbour(ip(address), "02:00:00:00:00:99", "lan")?;
    }
    // Nor does the answer to who has the server's address.
    client.neighbour(ip("2001:db8::1"), &server.mac("lan")?, "wan")?;
    let _listeners = server
        .enter(|| -> Result<_> { Ok([TcpListener::bind(("::", SMTP))?, TcpListener::bind(("::", IMAP))?]) })??;
    let begin = |address: IpAddr, port| -> Result<Socket> {
        let address = SocketAddr::new(address, port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // It is under way, and that is an error.
        let _ = socket.connect(&address.into());
        Ok(socket)
    };
    let _begun = client.enter(|| -> Result<Vec<Socket>> {
        let three = [ip("192.0.2.1"), ip("192.0.2.1"), ip("2001:db8::1")].map(|address| begin(address, SMTP));
        three.into_iter().chain([begin(ip("2001:db8::1"), IMAP)]).collect()
    })??;
    server.enter(|| {
        let expected = BTreeMap::from([(SMTP, 3), (IMAP, 1), (SUBMISSION, 0)]);
        eventually("all have begun", SOON, || Ok(half_open(&PORTS)? == expected))?;
        ensure!(connections(&PORTS, None)?.is_empty(), "half a handshake is taken for a connection");
        Ok(())
    })?
}

#[test]
fn a_connection_is_destroyed_once_and_no_other_with_it() -> Result<()> {
    apart(|| {
        let mut pairs = pairs()?;
        for ((listener, pair), (_, to)) in pairs.iter_mut().zip(WAYS) {
            let mut bystander = Pair::new(listener, to)?;
            let found = pair.found()?.context("not found")?;
            ensure!(destroy(&found)?, "{found:?} was gone");
            ensure!(pair.ends()? == [Some(libc::ECONNABORTED), Some(libc::ECONNRESET)], "{found:?}");
            ensure!(pair.state()?.is_none(), "{found:?} is still there");
            ensure!(!destroy(&found)?, "{found:?} was destroyed twice");
            bystander.client.write_all(b"x")?;
            bystander.server.read_exact(&mut [0])?;
        }
        Ok(())
    })
}

/// What has the addresses of a connection that is gone is another one.
#[test]
fn a_successor_with_the_same_addresses_is_not_destroyed() -> Result<()> {
    apart(|| {
        let listener = TcpListener::bind("127.0.0.1:25")?;
        let mut pair = Pair::new(&listener, "127.0.0.1:25")?;
        let (found, from) = (pair.found()?.context("not found")?, pair.client.local_addr()?);
        ensure!(destroy(&found)?, "{found:?} was gone");
        pair.ends()?;
        drop(pair);
        let again = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        again.bind(&from.into())?;
        again.connect(&"127.0.0.1:25".parse::<SocketAddr>()?.into())?;
        let (mut server, peer) = listener.accept()?;
        ensure!(peer == from, "{peer} is not {from}");
        ensure!(!destroy(&found)?, "another connection was destroyed");
        again.send(b"x")?;
        server.read_exact(&mut [0])?;
        Ok(())
    })
}

/// A thread in a namespace, until this is dropped.
fn thread_in<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    namespace: &'scope Namespace,
) -> Result<mpsc::Sender<()>> {
    let (leave, wait) = mpsc::channel::<()>();
    let (entered, is_inside) = mpsc::channel::<()>();
    scope.spawn(move || {
        namespace.enter(move || {
            let _ = entered.send(());
            let _ = wait.recv();
        })
    });
    is_inside.recv().context("the thread did not get inside")?;
    Ok(leave)
}

#[test]
fn every_namespace_with_a_process_or_a_thread_is_asked_once() -> Result<()> {
    let [own, with_process, with_thread] =
        [Namespace::new("own")?, Namespace::new("process")?, Namespace::new("thread")?];
    let listen =
        |namespace: &Namespace, backlog| -> Result<Socket> { namespace.enter(|| listening("[::]:25", backlog))? };
    let _listeners = [listen(&own, 2001)?, listen(&with_process, 2002)?, listen(&with_thread, 2003)?];
    let _process = with_process.command("sleep").arg("60").spawn()?;
    let backlogs = |found: Vec<Vec<Listener>>| -> Vec<u32> {
        let ours = found
            .into_iter()
            .flatten()
            .map(|listener| listener.backlog)
            .filter(|backlog| (2001..=2003).contains(backlog));
        ours.collect()
    };
    thread::scope(|scope| -> Result<()> {
        let _inside = thread_in(scope, &with_thread)?;
        own.enter(|| -> Result<()> {
            let alone = backlogs(in_namespaces(Namespaces::Host, || listeners(&[SMTP]))?.answers);
            ensure!(alone == [2001], "{alone:?}");
            let mut all = backlogs(in_namespaces(Namespaces::All, || listeners(&[SMTP]))?.answers);
            ensure!(all.first() == Some(&2001), "the own namespace is not the first: {all:?}");
            all.sort_unstable();
            ensure!(all == [2001, 2002, 2003], "{all:?}");

            let cookies = in_namespaces(Namespaces::All, || Ok::<_, SockDiagError>(namespace_cookie()?))?.answers;
            ensure!(cookies.first() == Some(&namespace_cookie()?), "the thread that asks was moved");
            ensure!(cookies.iter().collect::<HashSet<_>>().len() == cookies.len(), "asked twice: {cookies:?}");
            for namespace in [&with_process, &with_thread] {
                ensure!(
                    cookies.contains(&namespace.enter(namespace_cookie)??),
                    "{} is not among them",
                    namespace.name()
                );
            }
            Ok(())
        })?
    })
}

#[test]
fn only_the_socket_with_storage_is_marked() -> Result<()> {
    apart(|| {
        let (storage, another) = (Storage::new()?, Storage::new()?);
        let pairs = pairs()?;
        for (_, pair) in &pairs {
            storage.mark(&pair.server)?;
            another.mark(&pair.client)?;
            let marked = |map: &Storage| -> Result<Vec<SocketAddr>> {
                let found = connections(&PORTS, Some(map.descriptor()))?;
                ensure!(found.len() == pairs.len(), "{found:?}");
                Ok(found.into_iter().filter(|it| it.is_marked).map(|it| it.remote).collect())
            };
            ensure!(marked(&storage)? == [pair.remote()?], "{:?}", marked(&storage)?);
            ensure!(marked(&another)?.is_empty(), "{:?}", marked(&another)?);
            storage.unmark(&pair.server)?;
        }
        Ok(())
    })
}
