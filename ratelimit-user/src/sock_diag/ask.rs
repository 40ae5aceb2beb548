//! One question to the kernel, and its answers.

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_sock_diag::{
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// The kernel fills what it is given, but no more than 32 KiB at once, unless one socket has more to say.
const DATAGRAM_BYTES: usize = 64 << 10;
const MOST_ATTEMPTS: u32 = 5;

#[derive(Debug)]
pub(super) enum Failure {
    Refused(io::Error),
    Socket(io::Error),
    Decode(String),
    Interrupted(u32),
}

/// About all TCP sockets that fit, or one of them.
#[derive(Debug, Clone)]
pub(super) struct Question {
    message_type: u16,
    pub request: InetRequest,
    pub attributes: Vec<DefaultNla>,
}

impl Question {
    pub fn new(message_type: u16, socket_id: SocketId) -> Self {
        let request = InetRequest {
            family: if socket_id.source_address.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::empty(),
            socket_id,
        };
        Self { message_type, request, attributes: Vec::new() }
    }
}

impl NetlinkSerializable for Question {
    fn message_type(&self) -> u16 {
        self.message_type
    }

    fn buffer_len(&self) -> usize {
        self.request.buffer_len() + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (request, attributes) = buffer.split_at_mut(self.request.buffer_len());
        self.request.emit(request);
        self.attributes.as_slice().emit(attributes);
    }
}

/// One socket.
#[derive(Debug)]
struct Answer(InetResponse);

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        InetResponse::parse(payload).map(Self)
    }
}

/// All that fit and are worth keeping.
pub(super) fn dump<T>(question: &Question, keep: impl Fn(InetResponse) -> Option<T>) -> Result<Vec<T>, Failure> {
    for _ in 0..MOST_ATTEMPTS {
        let mut kept = Vec::new();
        let is_whole = ask(question, NLM_F_REQUEST | NLM_F_DUMP, &mut |answer| kept.extend(keep(answer)))?;
        if is_whole {
            return Ok(kept);
        }
    }
    Err(Failure::Interrupted(MOST_ATTEMPTS))
}

/// Has something done.
pub(super) fn order(question: &Question) -> Result<(), Failure> {
    ask(question, NLM_F_REQUEST | NLM_F_ACK, &mut drop).map(drop)
}

/// False if what was listed changed meanwhile.
fn ask(question: &Question, flags: u16, each: &mut impl FnMut(InetResponse)) -> Result<bool, Failure> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(Failure::Socket)?;
    socket.bind_auto().map_err(Failure::Socket)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(Failure::Socket)?;
    socket.send(&bytes(question, flags), 0).map_err(Failure::Socket)?;

    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut is_whole = true;
    loop {
        // With MSG_TRUNC the kernel tells how long the datagram was.
        let length = socket.recv(&mut &mut buffer[..], libc::MSG_TRUNC).map_err(Failure::Socket)?;
        let Some(datagram) = buffer.get(..length) else {
            return Err(Failure::Decode(format!("{length} bytes at once")));
        };
        let read = read(datagram, each)?;
        is_whole &= read.is_whole;
        if read.is_last {
            return Ok(is_whole);
        }
    }
}

fn bytes(question: &Question, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question.clone()));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The answer ends here.
    pub is_last: bool,
    pub is_whole: bool,
}

/// Reads the messages of one datagram.
pub(super) fn read(datagram: &[u8], each: &mut impl FnMut(InetResponse)) -> Result<Read, Failure> {
    let mut read = Read { is_last: false, is_whole: true };
    let mut rest = datagram;
    while !rest.is_empty() && !read.is_last {
        let message =
            NetlinkMessage::<Answer>::deserialize(rest).map_err(|error| Failure::Decode(error.to_string()))?;
        read.is_whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
        match message.payload {
            NetlinkPayload::InnerMessage(Answer(answer)) => each(answer),
            // A listing that fails after its start ends with the error.
            NetlinkPayload::Done(done) => {
                succeeded(done.code)?;
                read.is_last = true;
            }
            NetlinkPayload::Error(error) => {
                succeeded(error.raw_code())?;
                read.is_last = true;
            }
            NetlinkPayload::Overrun(_) => read.is_whole = false,
            _ => {}
        }
        // The decoder has checked that the length covers the header and lies inside the datagram.
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(read)
}

/// The kernel writes an error as the negative of its number, and success as 0.
fn succeeded(code: i32) -> Result<(), Failure> {
    match code {
        0.. => Ok(()),
        _ => Err(Failure::Refused(io::Error::from_raw_os_error(code.saturating_neg()))),
    }
}
