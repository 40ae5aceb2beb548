//! A publisher of lists that misbehaves as a test wants: an HTTP/1.1 server inside a namespace, one request a
//! connection.

mod answer;
mod authority;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use crate::netns::Namespace;

pub use authority::Authority;

/// Heads of requests are small.
const LONGEST_HEAD: usize = 64 * 1024;

/// What is answered under a path. Paths that were never set are not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// With an ETag made of the bytes; 304 to whoever names it.
    Body(Vec<u8>),
    /// With a Last-Modified and no ETag; 304 to whoever repeats it.
    Dated { bytes: Vec<u8>, last_modified: String },
    /// Without anything to recognise it by, and in chunks.
    Chunked(Vec<u8>),
    /// With further headers, each `Name: value`.
    Status { code: u16, headers: Vec<String> },
    /// An error page that calls itself a success.
    Html200,
    /// With 302.
    Redirect(String),
    /// Not a byte.
    Never,
    /// A body of addresses without end, a byte at a time, every so often.
    Drip(Duration),
    /// A body that ends before the length it says.
    CutShort { length_said: u64, sent: Vec<u8> },
    /// Addresses up to this many bytes; whether their number is said before.
    Oversized { bytes: u64, is_said: bool },
    /// Whatever this is, and the end of the connection.
    Raw(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// With its query.
    pub path: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_lowercase()).map(String::as_str)
    }
}

/// The server. Ends with everything it serves when dropped.
pub struct Feed {
    address: SocketAddr,
    scheme: &'static str,
    listener: TcpListener,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    tls: Option<Arc<ServerConfig>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    served: HashMap<String, Serve>,
    requests: Vec<Request>,
    /// Those that are open, to end them.
    connections: HashMap<u64, TcpStream>,
    accepted: u64,
    is_over: bool,
}

/// TCP or TLS.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Feed {
    /// Port 0 takes a free one.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        Self::serve(namespace, address, None)
    }

    /// https, with a certificate for the address; whoever is to believe it must trust the authority.
    pub fn start_tls(namespace: &Namespace, address: SocketAddr, authority: &Authority) -> Result<Self> {
        Self::serve(namespace, address, Some(Arc::new(authority.server(&address.ip().to_string())?)))
    }

    fn serve(namespace: &Namespace, address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        // A socket belongs to the namespace it was made in, and so does what it accepts; the threads need not.
        let listener = namespace
            .enter(|| TcpListener::bind(address))?
            .with_context(|| format!("cannot listen on {address} in {}", namespace.name()))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared { tls, ..Shared::default() });
        let (accepts, working) = (listener.try_clone()?, Arc::clone(&shared));
        Ok(Self {
            address: listener.local_addr()?,
            scheme,
            listener,
            shared,
            accepting: Some(thread::spawn(move || accept(&accepts, &working))),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://192.0.2.1:8000/list`, of a path with its slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// From the next request on. The path is without query: every query gets the same.
    pub fn set(&self, path: &str, serve: Serve) {
        self.shared.state().served.insert(path.to_owned(), serve);
    }

    /// All there were for a path, whatever the query, the oldest first.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        let is_for = |request: &&Request| without_query(&request.path) == path;
        self.shared.state().requests.iter().filter(is_for).cloned().collect()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Feed").field("address", &self.address).field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Whatever waits for one of these sockets wakes up.
        let mut state = self.shared.state();
        state.is_over = true;
        for connection in state.connections.values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(accepting) = self.accepting.take()
            && accepting.join().is_err()
        {
            eprintln!("lab: the server of lists panicked");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// `None` when no connection is to be served any more.
    fn enlist(&self, stream: &TcpStream) -> Option<u64> {
        let connection = stream.try_clone().ok()?;
        let mut state = self.state();
        state.accepted += 1;
        let number = state.accepted;
        state.connections.insert(number, connection);
        (!state.is_over).then_some(number)
    }
}

/// Ends when the listener is shut down, and all it accepted with it.
fn accept(listener: &TcpListener, shared: &Shared) {
    thread::scope(|scope| {
        for stream in listener.incoming().map_while(io::Result::ok) {
            let Some(number) = shared.enlist(&stream) else {
                return;
            };
            scope.spawn(move || {
                // Whoever hangs up, or does not trust us, is not answered.
                let _ = talk(stream, shared);
                shared.state().connections.remove(&number);
            });
        }
    });
}

fn talk(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut wire: Box<dyn Wire> = match &shared.tls {
        None => Box::new(stream),
        Some(tls) => {
            let connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, stream))
        }
    };
    let request = read_request(&mut *wire)?;
    let serve = {
        let mut state = shared.state();
        state.requests.push(request.clone());
        state.served.get(without_query(&request.path)).cloned()
    };
    let serve = serve.unwrap_or(Serve::Status { code: 404, headers: Vec::new() });
    answer::give(&mut *wire, &serve, &request, &|| shared.is_over())?;
    wire.flush()
}

fn read_request(wire: &mut dyn Wire) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut byte = [0];
        wire.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or(io::ErrorKind::InvalidData)?;
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Ok(Request { path: path.to_owned(), headers: lines.filter_map(header).collect(), at: Instant::now() })
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}
