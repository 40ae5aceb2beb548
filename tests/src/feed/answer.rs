//! The answers, one by one.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    thread,
    time::Duration,
};

use super::{Request, Serve, Wire};

/// Addresses as a list has them, over and over.
const LINE: &[u8] = b"192.0.2.1\n";
/// The longest time in which an end is not noticed.
const NAP: Duration = Duration::from_millis(50);

pub(super) fn give(
    wire: &mut dyn Wire,
    serve: &Serve,
    request: &Request,
    is_over: &dyn Fn() -> bool,
) -> io::Result<()> {
    match serve {
        Serve::Body(bytes) => {
            let etag = etag(bytes);
            let is_known = request.header("if-none-match") == Some(&etag);
            body_or_304(wire, bytes, &format!("ETag: {etag}\r\n"), is_known)
        }
        Serve::Dated { bytes, last_modified } => {
            let is_known = request.header("if-modified-since") == Some(last_modified);
            body_or_304(wire, bytes, &format!("Last-Modified: {last_modified}\r\n"), is_known)
        }
        Serve::Chunked(bytes) => chunked(wire, bytes),
        Serve::Status { code, headers } => {
            let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
            head(wire, *code, &headers, Some(0))
        }
        Serve::Html200 => {
            let page = b"<!DOCTYPE html>\n<html><head><title>Down</title></head><body>Back at 10:00</body></html>\n";
            head(wire, 200, "Content-Type: text/html\r\n", Some(page.len() as u64))?;
            wire.write_all(page)
        }
        Serve::Redirect(to) => head(wire, 302, &format!("Location: {to}\r\n"), Some(0)),
        // Until the client goes, or the server ends.
        Serve::Never => wire.read(&mut [0]).map(drop),
        Serve::Drip(pause) => drip(wire, *pause, is_over),
        Serve::CutShort { length_said, sent } => {
            head(wire, 200, "", Some(*length_said))?;
            wire.write_all(sent)
        }
        Serve::Oversized { bytes, is_said } => {
            head(wire, 200, "", is_said.then_some(*bytes))?;
            io::copy(&mut Lines::default().take(*bytes), wire).map(drop)
        }
        Serve::Raw(bytes) => wire.write_all(bytes),
    }
}

fn etag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn body_or_304(wire: &mut dyn Wire, bytes: &[u8], validator: &str, is_known: bool) -> io::Result<()> {
    if is_known {
        return head(wire, 304, validator, None);
    }
    head(wire, 200, validator, Some(bytes.len() as u64))?;
    wire.write_all(bytes)
}

fn head(wire: &mut dyn Wire, code: u16, headers: &str, length: Option<u64>) -> io::Result<()> {
    let length = length.map_or_else(String::new, |length| format!("Content-Length: {length}\r\n"));
    write!(wire, "HTTP/1.1 {code} Lab\r\n{headers}{length}Connection: close\r\n\r\n")?;
    wire.flush()
}

fn chunked(wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<()> {
    head(wire, 200, "Transfer-Encoding: chunked\r\n", None)?;
    for chunk in bytes.chunks(1000) {
        write!(wire, "{:x}\r\n", chunk.len())?;
        wire.write_all(chunk)?;
        wire.write_all(b"\r\n")?;
    }
    wire.write_all(b"0\r\n\r\n")
}

fn drip(wire: &mut dyn Wire, pause: Duration, is_over: &dyn Fn() -> bool) -> io::Result<()> {
    head(wire, 200, "", None)?;
    for byte in LINE.iter().cycle() {
        let mut left = pause;
        while !left.is_zero() {
            if is_over() {
                return Ok(());
            }
            let nap = left.min(NAP);
            thread::sleep(nap);
            left -= nap;
        }
        wire.write_all(&[*byte])?;
        wire.flush()?;
    }
    Ok(())
}

/// A list without end.
#[derive(Default)]
struct Lines {
    at: usize,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = LINE[self.at];
            self.at = (self.at + 1) % LINE.len();
        }
        Ok(buffer.len())
    }
}
