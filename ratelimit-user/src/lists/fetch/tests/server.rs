//! A server on the loopback that answers as a test wants.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};

/// What a client is talked to through: TCP or TLS.
pub(super) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// Ends when dropped; connections end with their client.
pub(super) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    requests: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
}

impl Server {
    /// `answer` is called with the head of every request.
    pub(super) fn http(answer: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static) -> Self {
        Self::start(None, answer)
    }

    pub(super) fn https(authority: &Authority, answer: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static) -> Self {
        Self::start(Some(Arc::new(authority.server("127.0.0.1"))), answer)
    }

    pub(super) fn start(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server =
            Self { address: listener.local_addr().unwrap(), scheme, requests: Arc::default(), is_over: Arc::default() };
        let (requests, is_over, answer) = (Arc::clone(&server.requests), Arc::clone(&server.is_over), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, requests, answer) = (tls.clone(), Arc::clone(&requests), Arc::clone(&answer));
                thread::spawn(move || talk(stream, tls, &requests, &*answer));
            }
        });
        server
    }

    /// Of this server, with a key that no error may tell.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}?key={}", self.scheme, self.address, super::SECRET)
    }

    /// The heads of all requests.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn talk(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    requests: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str, &mut dyn Wire),
) {
    let mut wire: Box<dyn Wire> = match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream)),
    };
    // Who does not trust the certificate asks for nothing.
    if let Ok(head) = head(&mut *wire) {
        requests.lock().unwrap().push(head.clone());
        answer(&head, &mut *wire);
        let _ = wire.flush();
    }
}

fn head(wire: &mut dyn Wire) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        wire.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).to_lowercase())
}

/// Sends; a client that has gone away is no concern of the server's.
pub(super) fn say(wire: &mut dyn Wire, text: impl AsRef<[u8]>) {
    let _ = send(wire, text.as_ref());
}

fn send(wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<()> {
    wire.write_all(bytes)?;
    wire.flush()
}

/// An answer with a body.
pub(super) fn ok(wire: &mut dyn Wire, headers: &str, body: &str) {
    say(wire, format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()));
}

pub(super) fn redirect(wire: &mut dyn Wire, to: &str) {
    say(wire, format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"));
}

/// Waits until the client goes.
pub(super) fn hold(wire: &mut dyn Wire) {
    let _ = wire.read(&mut [0]);
}

/// A byte and a pause, until the client goes.
pub(super) fn drip(wire: &mut dyn Wire) {
    while send(wire, b"x").is_ok() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whoever signs the certificates of a test.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn root(&self) -> reqwest::Certificate {
        reqwest::Certificate::from_der(self.0.der()).unwrap()
    }

    pub(super) fn server(&self, name: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap()
    }
}
