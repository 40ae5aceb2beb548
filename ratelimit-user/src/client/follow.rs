use std::marker::PhantomData;

use http_body_util::BodyExt;
use hyper::body::Incoming;

use serde::de::DeserializeOwned;

use super::{Client, ClientError};

/// A line is some 300 bytes; more without an end of line is none.
const LONGEST_LINE_BYTES: usize = 64 << 10;

/// An answer that comes line by line.
#[derive(Debug)]
pub struct Lines<'c, T> {
    client: &'c Client,
    body: Incoming,
    received: Vec<u8>,
    item: PhantomData<T>,
}

impl<'c, T: DeserializeOwned> Lines<'c, T> {
    pub(super) fn new(client: &'c Client, body: Incoming) -> Self {
        Self { client, body, received: Vec::new(), item: PhantomData }
    }

    /// Waits for the next one, as long as it takes. An answer that ends, ends with an error.
    pub fn wait(&mut self) -> Result<T, ClientError> {
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
