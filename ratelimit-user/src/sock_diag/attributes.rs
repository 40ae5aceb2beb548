//! What netlink-packet-sock-diag does not know: a filter by port, BPF storage of sockets, cookies as numbers.

use std::{
    collections::HashSet,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLA_TYPE_MASK, Nla, NlasIterator};

// include/uapi/linux/inet_diag.h and sock_diag.h.
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const INET_DIAG_BC_JMP: u8 = 1;
const INET_DIAG_BC_S_EQ: u8 = 11;

/// The kernel checks a filter in time that grows with its square.
const MOST_FILTERED_PORTS: usize = 256;
/// An operation, and a comparison with its operand.
const OPERATION_LEN: u16 = 4;
const COMPARISON_LEN: u16 = 8;

/// Has the kernel leave out sockets whose own port is none of these; `None` where it cannot.
pub(super) fn port_filter(ports: &HashSet<u16>) -> Option<DefaultNla> {
    let is_possible = (1..=MOST_FILTERED_PORTS).contains(&ports.len());
    is_possible.then(|| DefaultNla::new(INET_DIAG_REQ_BYTECODE, comparisons(ports)))
}

/// A comparison for each port, one after the other. Who reaches the end exactly is told of, who jumps beyond it is not.
/// The last comparison does either; those before it jump to the end by an operation of their own, because their `yes` is
/// 8 bits wide.
fn comparisons(ports: &HashSet<u16>) -> Vec<u8> {
    let mut code = Vec::new();
    // At most MOST_FILTERED_PORTS, so the length fits.
    let mut rest = (COMPARISON_LEN + OPERATION_LEN) * ports.len() as u16 - OPERATION_LEN;
    for port in ports {
        operation(&mut code, INET_DIAG_BC_S_EQ, COMPARISON_LEN as u8, COMPARISON_LEN + OPERATION_LEN);
        operation(&mut code, 0, 0, *port);
        rest -= COMPARISON_LEN;
        if rest > 0 {
            operation(&mut code, INET_DIAG_BC_JMP, OPERATION_LEN as u8, rest);
            rest -= OPERATION_LEN;
        }
    }
    code
}

/// `struct inet_diag_bc_op`: how far to go if it holds, and if not.
fn operation(code: &mut Vec<u8>, name: u8, yes: u8, no: u16) {
    code.extend([name, yes]);
    code.extend(no.to_ne_bytes());
}

/// Asks for what sockets have in one map.
pub(super) fn storage_request(map: BorrowedFd<'_>) -> DefaultNla {
    let wanted = DefaultNla::new(SK_DIAG_BPF_STORAGE_REQ_MAP_FD, map.as_raw_fd().to_ne_bytes().to_vec());
    let mut nest = vec![0; wanted.buffer_len()];
    wanted.emit(&mut nest);
    DefaultNla::new(INET_DIAG_REQ_SK_BPF_STORAGES | NLA_F_NESTED, nest)
}

/// Whether an attribute of a socket holds storage. The kernel sends none, or an empty one, for a socket without.
pub(super) fn has_storage(attribute: &DefaultNla) -> bool {
    if attribute.kind() & NLA_TYPE_MASK != INET_DIAG_SK_BPF_STORAGES {
        return false;
    }
    let mut nest = vec![0; attribute.value_len()];
    attribute.emit_value(&mut nest);
    NlasIterator::new(&nest[..]).map_while(Result::ok).any(|storage| storage.kind() == SK_DIAG_BPF_STORAGE)
}

/// The kernel sends the lower half first, each half in the machine's order.
pub(super) fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([a, b, c, d])) | u64::from(u32::from_ne_bytes([e, f, g, h])) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NlaBuffer, Parseable};
    use proptest::{collection::hash_set, prelude::*};

    /// What `inet_diag_bc_run` (net/ipv4/inet_diag.c) does with what a filter here may hold.
    fn is_kept(code: &[u8], port: u16) -> bool {
        let number = |at: usize| usize::from(u16::from_ne_bytes([code[at], code[at + 1]]));
        let mut at = 0;
        while at < code.len() {
            let holds = match code[at] {
                INET_DIAG_BC_S_EQ => number(at + 6) == usize::from(port),
                INET_DIAG_BC_JMP => false,
                other => panic!("operation {other}"),
            };
            at += if holds { usize::from(code[at + 1]) } else { number(at + 2) };
        }
        at == code.len()
    }

    fn parsed(bytes: &[u8]) -> DefaultNla {
        DefaultNla::parse(&NlaBuffer::new(bytes)).unwrap()
    }

    fn emitted(attribute: &DefaultNla) -> Vec<u8> {
        let mut bytes = vec![0; attribute.buffer_len()];
        attribute.emit(&mut bytes);
        bytes
    }

    #[test]
    fn too_many_ports_are_not_filtered_and_none_are_either() {
        let ports = |count: u16| (1..=count).collect::<HashSet<u16>>();
        assert!(port_filter(&ports(0)).is_none());
        assert!(port_filter(&ports(256)).is_some());
        assert!(port_filter(&ports(257)).is_none());
    }

    #[test]
    fn a_request_for_storage_is_a_nest_with_a_descriptor() {
        // SAFETY: only its number is read.
        let map = unsafe { BorrowedFd::borrow_raw(7) };
        let mut bytes = [0_u8; 12];
        bytes[0..2].copy_from_slice(&12_u16.to_ne_bytes());
        bytes[2..4].copy_from_slice(&0x8002_u16.to_ne_bytes());
        bytes[4..6].copy_from_slice(&8_u16.to_ne_bytes());
        bytes[6..8].copy_from_slice(&1_u16.to_ne_bytes());
        bytes[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(emitted(&storage_request(map)), bytes);
    }

    #[test]
    fn an_empty_nest_is_no_storage() {
        let storage = emitted(&DefaultNla::new(SK_DIAG_BPF_STORAGE | NLA_F_NESTED, vec![1; 16]));
        for flag in [0, NLA_F_NESTED] {
            assert!(has_storage(&DefaultNla::new(INET_DIAG_SK_BPF_STORAGES | flag, storage.clone())));
            assert!(!has_storage(&DefaultNla::new(INET_DIAG_SK_BPF_STORAGES | flag, vec![])));
        }
        assert!(!has_storage(&DefaultNla::new(INET_DIAG_SK_BPF_STORAGES + 1, storage.clone())));
        assert!(!has_storage(&DefaultNla::new(INET_DIAG_SK_BPF_STORAGES, storage[..12].to_vec())));
    }

    #[test]
    fn a_cookie_is_sent_with_its_lower_half_first() {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&0x89ab_cdef_u32.to_ne_bytes());
        bytes[4..].copy_from_slice(&0x0123_4567_u32.to_ne_bytes());
        assert_eq!(cookie(bytes), 0x0123_4567_89ab_cdef);
    }

    proptest! {
        #[test]
        fn a_filter_keeps_its_ports_and_no_other(
            ports in hash_set(any::<u16>(), 1..=MOST_FILTERED_PORTS),
            strangers in hash_set(any::<u16>(), 0..50),
        ) {
            let code = comparisons(&ports);
            for port in ports.union(&strangers) {
                prop_assert_eq!(is_kept(&code, *port), ports.contains(port));
            }
        }

        #[test]
        fn no_attribute_makes_the_search_for_storage_panic(kind: u16, value: Vec<u8>) {
            has_storage(&DefaultNla::new(kind, value.clone()));
            has_storage(&DefaultNla::new(INET_DIAG_SK_BPF_STORAGES, value));
        }

        #[test]
        fn attributes_survive_the_way_to_bytes_and_back(ports in hash_set(any::<u16>(), 1..=MOST_FILTERED_PORTS)) {
            let attribute = port_filter(&ports).unwrap();
            prop_assert_eq!(parsed(&emitted(&attribute)), attribute);
        }
    }
}
