//! Connections of which the lab holds both ends, and every way in which they end.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::SockRef;

use crate::clients::Client;
use crate::netns::Namespace;

mod ends;

pub use ends::End;

/// More than anything here takes.
const SOON: Duration = Duration::from_secs(10);

/// A listener of which the lab accepts each connection itself.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    to: SocketAddr,
}

#[derive(Debug)]
pub struct Pair {
    pub server: TcpStream,
    pub client: TcpStream,
}

impl Door {
    /// Listens in a namespace at one address; clients connect to another one if something is in between.
    pub fn open(namespace: &Namespace, at: SocketAddr, to: SocketAddr) -> Result<Self> {
        let listener = namespace
            .enter(|| TcpListener::bind(at))?
            .with_context(|| format!("cannot listen at {at} of {}", namespace.name()))?;
        SockRef::from(&listener).set_read_timeout(Some(SOON))?;
        Ok(Self { listener, to })
    }

    /// A connection of each of these, made in the namespace of the clients.
    pub fn pairs(&self, clients: &Namespace, sources: &[IpAddr]) -> Result<Vec<Pair>> {
        clients.enter(|| sources.iter().map(|source| self.accepted(self.connect(*source, SOON)?)).collect())?
    }

    pub fn pair(&self, clients: &Namespace, source: IpAddr) -> Result<Pair> {
        clients.enter(|| self.accepted(self.connect(source, SOON)?))?
    }

    /// The client's end of a connection that nobody accepts; the error says how it was refused.
    pub fn knock(&self, clients: &Namespace, source: IpAddr, timeout: Duration) -> Result<io::Result<TcpStream>> {
        clients.enter(|| self.connect(source, timeout))
    }

    /// Takes what was knocked for.
    pub fn accepted(&self, client: TcpStream) -> Result<Pair> {
        let (server, peer) = self.listener.accept().context("nobody came")?;
        let from = client.local_addr()?;
        ensure!(peer.port() == from.port(), "{peer} came, not {from}");
        for end in [&server, &client] {
            end.set_read_timeout(Some(SOON))?;
            end.set_nodelay(true)?;
        }
        Ok(Pair { server, client })
    }

    fn connect(&self, source: IpAddr, timeout: Duration) -> io::Result<TcpStream> {
        Client { source: Some(source), server: self.to, timeout }.connect()
    }
}

impl Pair {
    /// Has both sides say something and hear it.
    pub fn converse(&self) -> Result<()> {
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            say(from)?;
            hear(to)?;
        }
        Ok(())
    }

    /// Who it is from.
    pub fn source(&self) -> Result<SocketAddr> {
        let from = self.client.local_addr()?;
        Ok(SocketAddr::new(from.ip().to_canonical(), from.port()))
    }
}

const WORDS: &[u8] = b"NOOP\r\n";

/// One end says something.
pub fn say(mut end: &TcpStream) -> io::Result<()> {
    io::Write::write_all(&mut end, WORDS)
}

/// And the other hears it.
pub fn hear(mut end: &TcpStream) -> io::Result<()> {
    io::Read::read_exact(&mut end, &mut [0; WORDS.len()])
}

/// What an end is told that has nothing more to hear: nothing, or an error of the kernel's.
pub fn end_of(mut end: &TcpStream) -> Result<Option<i32>> {
    match io::Read::read(&mut end, &mut [0; 64]) {
        Ok(0) => Ok(None),
        Ok(_) => anyhow::bail!("somebody said something more"),
        Err(error) => Ok(Some(error.raw_os_error().context("no error of the kernel's")?)),
    }
}
