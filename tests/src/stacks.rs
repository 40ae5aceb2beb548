//! Clients that are not this machine's kernel as it comes: other operating systems' SYNs and timing replayed by hand, a second
//! TCP stack, and the kernel behind a firewall.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clients::Client;
use crate::netns::Namespace;

pub mod firewalled;
pub mod replayed;
pub mod second;

/// What a client has that connected and heard the server's first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeted {
    pub connect: Duration,
    /// From the start, not from the connection.
    pub banner: Duration,
    /// With its end.
    pub line: String,
}

/// The kernel's own stack in a namespace: connects and reads a line.
pub fn greet(namespace: &Namespace, client: Client) -> Result<Greeted> {
    namespace.enter(|| {
        let start = Instant::now();
        let stream = client.connect().with_context(|| format!("cannot connect to {}", client.server))?;
        let connect = start.elapsed();
        stream.set_read_timeout(Some(client.timeout))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context("no first line")?;
        Ok(Greeted { connect, banner: start.elapsed(), line })
    })?
}
