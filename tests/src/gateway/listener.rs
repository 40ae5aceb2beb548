//! A server that takes connections and ends them at once, for tests that are about connections alone.

use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;

const NAP: Duration = Duration::from_millis(2);

/// Listens on every address of a namespace, IPv4 and IPv6, until it is dropped.
#[derive(Debug)]
pub struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        Self::saying("", namespace, port)
    }

    /// Says something first, as mail servers do.
    pub fn saying(line: &'static str, namespace: &Namespace, port: u16) -> Result<Self> {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = namespace
            .enter(|| TcpListener::bind(everywhere))?
            .with_context(|| format!("cannot listen on port {port} of {}", namespace.name()))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("listener".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || accept(&listener, line, &stop)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It returns nothing, and it does not panic.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, line: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(NAP),
            // A client that gave up.
            Err(_) => {}
            Ok((mut stream, _)) => {
                // Whether it is still there to hear it is its own affair.
                let _ = stream.write_all(line.as_bytes());
            }
        }
    }
}
