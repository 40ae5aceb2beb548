//! Messages of DNS, as far as a server that lies needs them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
const SOA: u16 = 6;
pub(super) const TXT: u16 = 16;
const HEADER: usize = 12;

/// A question: its id, its name in small letters and its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub id: u16,
    pub name: String,
    pub kind: u16,
}

impl Question {
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let mut labels = Vec::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*bytes.get(at)?);
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(bytes.get(at + 1..at + 1 + length)?).to_lowercase());
            at += 1 + length;
        }
        Some(Self { id: word(0)?, name: labels.join("."), kind: word(at + 1)? })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = name_bytes(&self.name);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes
    }
}

/// A record: of which name, its type, for how long, and what it says.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub name: String,
    pub kind: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

impl Record {
    pub fn a(name: &str, address: Ipv4Addr, ttl: u32) -> Self {
        Self { name: name.to_owned(), kind: A, ttl, data: address.octets().to_vec() }
    }

    pub fn cname(name: &str, target: &str, ttl: u32) -> Self {
        Self { name: name.to_owned(), kind: CNAME, ttl, data: name_bytes(target) }
    }

    pub fn txt(name: &str, text: &str, ttl: u32) -> Self {
        let mut data = vec![text.len().min(255) as u8];
        data.extend(text.bytes().take(255));
        Self { name: name.to_owned(), kind: TXT, ttl, data }
    }

    /// Says for how long it is good that there is nothing.
    pub fn soa(zone: &str, ttl: u32) -> Self {
        let mut data = name_bytes(zone);
        data.extend(name_bytes(zone));
        [1, 3600, 600, 86_400, ttl].into_iter().for_each(|number: u32| data.extend(number.to_be_bytes()));
        Self { name: zone.to_owned(), kind: SOA, ttl, data }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = name_bytes(&self.name);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes.extend(self.ttl.to_be_bytes());
        bytes.extend((self.data.len() as u16).to_be_bytes());
        bytes.extend(&self.data);
        bytes
    }
}

/// An answer as it goes out.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub code: u8,
    pub is_truncated: bool,
    pub records: Vec<Record>,
    pub authority: Vec<Record>,
}

impl Reply {
    pub fn bytes(&self, question: &Question) -> Vec<u8> {
        // An answer, authoritative, recursion desired and available.
        let flags = 0x8580 | u16::from(self.is_truncated) << 9 | u16::from(self.code);
        let counts = [1, self.records.len() as u16, self.authority.len() as u16, 0];
        let mut bytes = question.id.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        counts.into_iter().for_each(|count| bytes.extend(count.to_be_bytes()));
        bytes.extend(question.bytes());
        self.records.iter().chain(&self.authority).for_each(|record| bytes.extend(record.bytes()));
        bytes
    }
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// What a server said: its code, how many records, and of the first one how long it is good and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: u8,
    pub records: u16,
    pub ttl: Option<u32>,
    pub data: Vec<u8>,
}

/// Asks a server for the A records of a name, from the thread's own namespace.
pub fn query(server: SocketAddr, name: &str) -> Result<Answer> {
    query_for(server, name, A)
}

/// The same for its text.
pub fn query_text(server: SocketAddr, name: &str) -> Result<Answer> {
    query_for(server, name, TXT)
}

fn query_for(server: SocketAddr, name: &str, kind: u16) -> Result<Answer> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let question = Question { id: 0x4242, name: name.to_owned(), kind };
    let mut bytes = question.id.to_be_bytes().to_vec();
    [0x0100, 1, 0, 0, 0].into_iter().for_each(|word: u16| bytes.extend(word.to_be_bytes()));
    bytes.extend(question.bytes());
    socket.send_to(&bytes, server)?;
    let mut answer = [0; 4096];
    let (length, _) = socket.recv_from(&mut answer).context("no answer")?;
    ensure!(length >= HEADER && answer[..2] == bytes[..2], "an answer to something else");
    let records = u16::from_be_bytes([answer[6], answer[7]]);
    // The name of a record is two bytes that point at the question's.
    let first = answer[..length].get(bytes.len() + 6..).filter(|_| records > 0);
    let ttl = first.and_then(|first| Some(u32::from_be_bytes(first.get(..4)?.try_into().ok()?)));
    let data = first.and_then(|first| first.get(6..)).unwrap_or_default().to_vec();
    Ok(Answer { code: answer[3] & 0xf, records, ttl, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_written_and_half_of_one_is_none() {
        let question = Question { id: 7, name: "2.0.0.127.bl.test".to_owned(), kind: TXT };
        let bytes = Reply::default().bytes(&question);
        assert_eq!(Question::read(&bytes), Some(question));
        assert!((0..bytes.len() - 2).all(|length| Question::read(&bytes[..length]).is_none()));
    }
}
