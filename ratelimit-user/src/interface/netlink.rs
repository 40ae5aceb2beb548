//! Questions to the kernel over rtnetlink.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A refused or failed question to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("{}", refusal(.message.as_deref(), .source))]
    Refused {
        /// The kernel's or the driver's own words (the extended acknowledgement).
        message: Option<String>,
        source: io::Error,
    },
    #[error("no conversation with the kernel over netlink: {0}")]
    Socket(#[from] io::Error),
    #[error("the kernel's answer cannot be read: {0}")]
    Decode(String),
}

impl NetlinkError {
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket(source) => source.raw_os_error(),
            Self::Decode(_) => None,
        }
    }
}

fn refusal(message: Option<&str>, source: &io::Error) -> String {
    match message {
        Some(message) => format!("{message} ({source})"),
        None => source.to_string(),
    }
}

/// Every answer to a dump.
pub(crate) fn dump(question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
    ask(question, NLM_F_REQUEST | NLM_F_DUMP)
}

/// One interface, by its index.
pub(crate) fn link(index: u32) -> Result<LinkMessage, NetlinkError> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    let answers = ask(RouteNetlinkMessage::GetLink(question), NLM_F_REQUEST | NLM_F_ACK)?;
    answers
        .into_iter()
        .find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .ok_or_else(|| NetlinkError::Decode(format!("no interface in the answer about index {index}")))
}

/// All interfaces of this network namespace.
pub(crate) fn links() -> Result<Vec<LinkMessage>, NetlinkError> {
    let answers = dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .collect())
}

/// Changes an interface.
pub(crate) fn set_link(index: u32, attribute: LinkAttribute) -> Result<(), NetlinkError> {
    let mut order = LinkMessage::default();
    order.header.index = index;
    order.attributes = vec![attribute];
    ask(RouteNetlinkMessage::SetLink(order), NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

fn ask(question: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Without the first the driver's message is not sent; without the second the question comes before it.
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;

    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if read(&datagram, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Reads the messages of one datagram; true if the last of them ends the answer.
fn read(datagram: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> Result<bool, NetlinkError> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|error| NetlinkError::Decode(error.to_string()))?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => {
                return Err(NetlinkError::Refused { message: extended(&error.header), source: error.to_io() });
            }
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            _ => {}
        }
        // The decoder has checked that the length covers the header and lies inside the datagram.
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

/// The text of an extended acknowledgement: behind the header of the question come attributes, `NLMSGERR_ATTR_MSG` is one.
fn extended(acknowledgement: &[u8]) -> Option<String> {
    const QUESTION_HEADER_LEN: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let attributes = acknowledgement.get(QUESTION_HEADER_LEN..)?;
    NlasIterator::new(attributes).map_while(Result::ok).find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG).map(
        |attribute| {
            let text = attribute.value();
            String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text)).trim().to_owned()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_words_are_found_behind_the_header() {
        let mut acknowledgement = vec![0; 16];
        // NLMSGERR_ATTR_OFFS first, then the message, padded.
        acknowledgement.extend([8, 0, 2, 0, 1, 2, 3, 4]);
        acknowledgement.extend([11, 0, 1, 0]);
        acknowledgement.extend(b"no MTU\0\0");
        assert_eq!(extended(&acknowledgement).as_deref(), Some("no MTU"));
    }

    #[test]
    fn an_acknowledgement_without_words_has_none() {
        assert_eq!(extended(&[]), None);
        assert_eq!(extended(&[0; 16]), None);
        assert_eq!(extended(&[0; 18]), None);
        assert_eq!(extended(&[&[0; 16][..], &[200, 0, 1, 0, b'x']].concat()), None);
    }

    #[test]
    fn loopback_is_known_by_its_index() {
        let link = link(1).unwrap();
        assert!(link.attributes.contains(&LinkAttribute::IfName("lo".into())));
        assert_eq!(links().unwrap().iter().filter(|link| link.header.index == 1).count(), 1);
    }

    #[test]
    fn an_unknown_index_is_refused() {
        let error = super::link(0x7fff_ffff).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
    }
}
