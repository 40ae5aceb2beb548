use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Client, ClientError};
use crate::api::Event;

/// An event is some 300 bytes; more without an end of line is none.
const LONGEST_LINE_BYTES: usize = 64 << 10;

/// Events as the controller sends them. Ends with an error when the controller does.
#[derive(Debug)]
pub struct Events<'c> {
    client: &'c Client,
    body: Incoming,
    received: Vec<u8>,
}

impl<'c> Events<'c> {
    pub(super) fn new(client: &'c Client, body: Incoming) -> Self {
        Self { client, body, received: Vec::new() }
    }

    /// Waits for the next event, as long as it takes.
    pub fn wait(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                // An empty line only keeps the connection alive.
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map_err(ClientError::Garbage);
            }
            if self.received.len() > LONGEST_LINE_BYTES {
                return Err(ClientError::TooLarge { limit: LONGEST_LINE_BYTES });
            }
            match self.client.runtime.block_on(self.body.frame()) {
                None => return Err(ClientError::StreamEnded),
                Some(Err(error)) => return Err(ClientError::Broken(error)),
                Some(Ok(frame)) => self.received.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}
