//! How the kernel's bytes are read. What it says about real sockets is asked in `tests/tests/gateway/sockets.rs`.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_DUMP_INTR};
use netlink_packet_sock_diag::inet::InetResponseHeader;
use proptest::{collection::vec, prelude::*};

use super::{
    ask::{Read, read},
    *,
};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const WHOLE_AND_LAST: Read = Read { is_last: true, is_whole: true };

/// A connection from ::ffff:192.0.2.7, port 40000, to port 25.
fn answer() -> InetResponse {
    let socket_id = SocketId {
        source_port: 25,
        destination_port: 40_000,
        source_address: "::ffff:192.0.2.1".parse().unwrap(),
        destination_address: "::ffff:192.0.2.7".parse().unwrap(),
        interface_id: 0,
        cookie: [7, 0, 0, 0, 0, 0, 0, 0],
    };
    let header = InetResponseHeader {
        family: constants::AF_INET6,
        state: constants::TCP_ESTABLISHED,
        timer: None,
        socket_id,
        recv_queue: 3,
        send_queue: 37,
        uid: 0,
        inode: 0,
    };
    InetResponse { header, nlas: Default::default() }
}

fn changed(change: impl FnOnce(&mut InetResponse)) -> InetResponse {
    let mut answer = answer();
    change(&mut answer);
    answer
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((16 + payload.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn answered(flags: u16) -> Vec<u8> {
    let mut payload = vec![0; answer().buffer_len()];
    answer().emit(&mut payload);
    message(constants::SOCK_DIAG_BY_FAMILY, flags, &payload)
}

fn code(kind: u16, code: i32) -> Vec<u8> {
    message(kind, 0, &[&code.to_ne_bytes()[..], &[0; 16]].concat())
}

fn all(datagram: &[u8]) -> (Vec<InetResponse>, Result<Read, SockDiagError>) {
    let mut found = Vec::new();
    let read = read(datagram, &mut |answer| found.push(answer));
    (found, read.map_err(SockDiagError::from))
}

#[test]
fn answers_are_read_until_the_end_and_not_beyond() {
    let more = answered(0);
    let (found, read) = all(&[&more[..], &more].concat());
    assert_eq!(found, [answer(), answer()]);
    assert_eq!(read.unwrap(), Read { is_last: false, is_whole: true });

    let (found, read) = all(&[&more[..], &code(NLMSG_DONE, 0), &more].concat());
    assert_eq!(found, [answer()]);
    assert_eq!(read.unwrap(), WHOLE_AND_LAST);
    assert_eq!(all(&code(NLMSG_ERROR, 0)).1.unwrap(), WHOLE_AND_LAST);
    assert_eq!(all(&message(NLMSG_DONE, 0, &[])).1.unwrap(), WHOLE_AND_LAST);
}

#[test]
fn an_interrupted_listing_is_noticed() {
    let (found, read) = all(&[answered(NLM_F_DUMP_INTR), answered(0), code(NLMSG_DONE, 0)].concat());
    assert_eq!(found.len(), 2);
    assert_eq!(read.unwrap(), Read { is_last: true, is_whole: false });
}

#[test]
fn a_refusal_says_what_to_do() {
    let error = |kind, number: i32| all(&code(kind, -number)).1.unwrap_err();
    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        assert!(error(kind, libc::ENOENT).to_string().contains("modprobe tcp_diag"));
        assert!(error(kind, libc::EOPNOTSUPP).to_string().contains("CONFIG_INET_DIAG_DESTROY"));
        assert!(error(kind, libc::EPERM).to_string().contains("run as root"));
        assert!(error(kind, libc::EINVAL).to_string().contains("Invalid argument"));
        assert!(matches!(all(&code(kind, i32::MIN)).1, Err(SockDiagError::Refused(_))));
    }
}

#[test]
fn half_a_message_cannot_be_read() {
    let whole = answered(0);
    let (found, read) = all(&whole[..whole.len() - 4]);
    assert!(found.is_empty());
    assert!(matches!(read, Err(SockDiagError::Decode(_))));
}

#[test]
fn a_mapped_address_is_shown_as_ipv4_and_kept_as_the_kernel_knows_it() {
    let connection = connection(answer()).unwrap();
    assert_eq!(connection.local, "192.0.2.1:25".parse().unwrap());
    assert_eq!(connection.remote, "192.0.2.7:40000".parse().unwrap());
    assert_eq!((connection.state, connection.cookie), (State::Established, 7));
    let question = Question::new(SOCK_DESTROY, connection.id);
    assert_eq!(question.request.family, constants::AF_INET6);
    assert_eq!(question.request.socket_id, answer().header.socket_id);
}

#[test]
fn the_rest_of_a_closed_socket_is_no_connection() {
    let rest = changed(|answer| {
        answer.header.state = constants::TCP_FIN_WAIT2;
        answer.header.timer = Some(Timer::TimeWait);
    });
    assert_eq!(connection(rest), None);
    let kept_alive = changed(|answer| {
        answer.header.state = constants::TCP_FIN_WAIT2;
        answer.header.timer = Some(Timer::KeepAlive(std::time::Duration::from_secs(1)));
    });
    assert_eq!(connection(kept_alive).unwrap().state, State::FinWait2);
}

#[test]
fn sockets_that_are_in_another_state_by_now_are_left_out() {
    for state in 0..=u8::MAX {
        let answer = changed(|answer| answer.header.state = state);
        let is_connection = matches!(state, 1 | 4 | 5 | 8 | 9 | 11);
        assert_eq!(connection(answer.clone()).is_some(), is_connection, "state {state}");
        assert_eq!(listener(answer).is_some(), state == 10, "state {state}");
    }
}

#[test]
fn a_listener_tells_its_queue() {
    let found = listener(changed(|answer| answer.header.state = constants::TCP_LISTEN)).unwrap();
    assert_eq!(found, Listener { address: "192.0.2.1:25".parse().unwrap(), backlog: 37, queued: 3 });
}

#[test]
fn storage_marks_a_connection() {
    let mut storage = vec![0; 8];
    DefaultNla::new(1 | NLA_F_NESTED, vec![0; 4]).emit(&mut storage);
    let with = |storage| changed(|answer| answer.nlas.push(Nla::Other(DefaultNla::new(20 | NLA_F_NESTED, storage))));
    assert!(connection(with(storage)).unwrap().is_marked);
    assert!(!connection(with(vec![])).unwrap().is_marked);
    assert!(!connection(answer()).unwrap().is_marked);
}

#[test]
fn no_ports_are_no_question() {
    assert_eq!(connections(&[], None).unwrap(), []);
    assert_eq!(listeners(&[]).unwrap(), []);
    assert!(half_open(&[]).unwrap().is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..600)) {
        let _ = all(&bytes);
    }

    /// Bytes that look right at first get further.
    #[test]
    fn no_message_makes_the_reader_panic(
        family in prop::sample::select(vec![constants::AF_INET, constants::AF_INET6]),
        state: u8,
        body in vec(any::<u8>(), 0..80),
        attributes in vec((0_u16..25, vec(any::<u8>(), 0..260)), 0..4),
        cut in 0_usize..400,
    ) {
        let mut payload = [&[family, state][..], &body].concat();
        payload.resize(72, 0);
        for (kind, value) in attributes {
            let attribute = DefaultNla::new(kind, value);
            let start = payload.len();
            payload.resize(start + attribute.buffer_len(), 0);
            attribute.emit(&mut payload[start..]);
        }
        let mut datagram = message(constants::SOCK_DIAG_BY_FAMILY, 0, &payload);
        for answer in all(&datagram).0 {
            let _ = (connection(answer.clone()), listener(answer));
        }
        datagram.truncate(cut);
        let _ = all(&datagram);
    }
}
