//! Classic BPF programs that tell the kernel which frames a packet socket wants.

use std::net::IpAddr;

use socket2::SockFilter;

const ETHERNET_LEN: u32 = 14;
const ETHER_TYPE_AT: u32 = 12;
const V4_DESTINATION_AT: u32 = ETHERNET_LEN + 16;
const V6_DESTINATION_AT: u32 = ETHERNET_LEN + 24;

const BYTE: u16 = (libc::BPF_LD | libc::BPF_ABS | libc::BPF_B) as u16;
const HALF: u16 = (libc::BPF_LD | libc::BPF_ABS | libc::BPF_H) as u16;
const WORD: u16 = (libc::BPF_LD | libc::BPF_ABS | libc::BPF_W) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const WHOLE: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// What an untagged frame must hold, each a load, where from, and the value.
type Comparison = (u16, u32, u32);

/// Untagged frames to an address.
pub(super) fn to_address(address: IpAddr) -> Vec<SockFilter> {
    let (ether_type, at, octets) = match address {
        IpAddr::V4(v4) => (libc::ETH_P_IP, V4_DESTINATION_AT, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::ETH_P_IPV6, V6_DESTINATION_AT, v6.octets().to_vec()),
    };
    let words = octets.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word));
    let words = (at..).step_by(4).zip(words).map(|(at, word)| (WORD, at, word));
    let kind = (HALF, ETHER_TYPE_AT, ether_type as u32);
    all([kind].into_iter().chain(words).collect())
}

/// Frames to a hardware address, and those to several stations.
pub(super) fn to_station(mac: [u8; 6]) -> Vec<SockFilter> {
    let [a, b, c, d, e, f] = mac;
    let own = all(vec![(WORD, 0, u32::from_be_bytes([a, b, c, d])), (HALF, 4, u32::from_be_bytes([0, 0, e, f]))]);
    let to_group = [load(BYTE, 0), SockFilter::new(IF_ANY_BIT, 0, 1, 1), give(WHOLE)];
    to_group.into_iter().chain(own).collect()
}

fn all(comparisons: Vec<Comparison>) -> Vec<SockFilter> {
    let count = comparisons.len();
    let compared = comparisons.into_iter().enumerate().flat_map(|(index, (kind, at, wanted))| {
        // To the last instruction, behind the rest of the comparisons and the one that takes the frame.
        let skipped = 2 * (count - 1 - index) + 1;
        [load(kind, at), SockFilter::new(IF_EQUAL, 0, skipped as u8, wanted)]
    });
    compared.chain([give(WHOLE), give(NOTHING)]).collect()
}

fn load(kind: u16, at: u32) -> SockFilter {
    SockFilter::new(kind, 0, 0, at)
}

fn give(bytes: u32) -> SockFilter {
    SockFilter::new(RETURN, 0, 0, bytes)
}
