//! From a frame and a pattern of sources to what the generator in the kernel needs.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use ipnet::IpNet;
use ratelimit_common::Address;

use crate::layout::{FRAME_START, HEAD_LEN, IN_TURN, NETWORKS, Network, Plan, SAMPLED, WORDS};

/// A TCP header without options.
const TCP_LEN: usize = 20;

/// Where the packets of a flood claim to come from.
#[derive(Debug, Clone)]
pub enum Pattern {
    Random(Vec<IpNet>),
    RoundRobin(Vec<IpNet>),
    /// Of the template's family.
    Samples(Arc<[Address]>),
}

impl Pattern {
    pub fn one(source: IpAddr) -> Self {
        Self::random([source.into()])
    }

    /// A random address of a random one of the networks: `0.0.0.0/0` is every address there is.
    pub fn random(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self::Random(networks.into_iter().collect())
    }

    /// Address after address, network after network, so that each is hit equally often.
    pub fn round_robin(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self::RoundRobin(networks.into_iter().collect())
    }

    /// One after another, and again from the first.
    pub fn samples(addresses: Arc<[Address]>) -> Self {
        Self::Samples(addresses)
    }

    pub(super) fn sampled(&self) -> &[Address] {
        match self {
            Self::Random(_) | Self::RoundRobin(_) => &[],
            Self::Samples(addresses) => addresses,
        }
    }

    fn order(&self) -> u32 {
        match self {
            Self::Random(_) => 0,
            Self::RoundRobin(_) => IN_TURN,
            Self::Samples(_) => SAMPLED,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Random(networks) | Self::RoundRobin(networks) => networks.len(),
            Self::Samples(addresses) => addresses.len(),
        }
    }
}

/// # Errors
///
/// If the frame is not a whole TCP segment, or the pattern does not fit it.
pub(super) fn plan(frame: &[u8], pattern: &Pattern) -> Result<Plan> {
    let packet = SlicedPacket::from_ethernet(frame).context("the template cannot be read")?;
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
        bail!("the template is not a TCP segment");
    };
    let ip = ip_header(&packet)?;
    let tcp_at = offset_in(frame, tcp.slice());
    let head_len = frame.len().min(HEAD_LEN);
    ensure!(tcp_at + TCP_LEN <= head_len, "the headers of the template are too long");
    Ok(Plan {
        words: words(&frame[..head_len]),
        last: head_len as u32 - 1,
        family: if is_v4(ip) { 4 } else { 6 },
        source_word: word_of(offset_in(frame, ip) + source_in(ip))?,
        tcp_word: word_of(tcp_at)?,
        header_sum: if is_v4(ip) { sum_without(ip, &[10..12, 12..16]) } else { 0 },
        segment_sum: segment_sum(ip, tcp.slice()),
        order: pattern.order(),
        sources_len: pattern.len() as u32,
        networks: networks(pattern, is_v4(ip))?,
    })
}

/// Where the source address of a frame starts, and whether it is an IPv4 address.
pub(crate) fn source_offset(frame: &[u8]) -> Result<(usize, bool)> {
    let packet = SlicedPacket::from_ethernet(frame).context("the frame cannot be read")?;
    let ip = ip_header(&packet)?;
    Ok((offset_in(frame, ip) + source_in(ip), is_v4(ip)))
}

pub(crate) fn network(given: IpNet) -> Network {
    let bits = |address| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
    Network { base: halves(bits(given.network())), hosts: halves(bits(given.hostmask())) }
}

fn ip_header<'a>(packet: &'a SlicedPacket<'_>) -> Result<&'a [u8]> {
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => Ok(ip.header().slice()),
        Some(NetSlice::Ipv6(ip)) => Ok(ip.header().slice()),
        _ => bail!("the frame is not IP"),
    }
}

fn is_v4(ip: &[u8]) -> bool {
    ip[0] >> 4 == 4
}

fn source_in(ip: &[u8]) -> usize {
    if is_v4(ip) { 12 } else { 8 }
}

fn offset_in(frame: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - frame.as_ptr().addr()
}

fn words(head: &[u8]) -> [u32; WORDS] {
    let mut bytes = [0; WORDS * 4];
    bytes[FRAME_START..FRAME_START + head.len()].copy_from_slice(head);
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

fn word_of(offset: usize) -> Result<u32> {
    let offset = offset + FRAME_START;
    ensure!(offset.is_multiple_of(4), "the headers of the template are not aligned");
    Ok((offset / 4) as u32)
}

/// Sum of the segment and its pseudo header, without what differs from packet to packet.
fn segment_sum(ip: &[u8], segment: &[u8]) -> u32 {
    const TCP: u32 = 6;
    let destination = if is_v4(ip) { &ip[16..20] } else { &ip[24..40] };
    let varying = [0..2, 4..8, 16..18];
    TCP + segment.len() as u32 + sum_without(destination, &[]) + sum_without(segment, &varying)
}

/// Sum of the 16-bit words that lie in none of the ranges.
fn sum_without(bytes: &[u8], ranges: &[std::ops::Range<usize>]) -> u32 {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let left_out = |index: usize| ranges.iter().any(|range| range.contains(&(index * 2)));
    bytes.chunks(2).enumerate().filter(|(index, _)| !left_out(*index)).map(|(_, pair)| word(pair)).sum()
}

fn networks(pattern: &Pattern, v4: bool) -> Result<[Network; NETWORKS]> {
    let mut networks = [Network::default(); NETWORKS];
    let given = match pattern {
        Pattern::Random(given) | Pattern::RoundRobin(given) => given,
        Pattern::Samples(addresses) => {
            ensure!(!addresses.is_empty(), "no samples");
            return Ok(networks);
        }
    };
    ensure!((1..=NETWORKS).contains(&given.len()), "{} networks; 1 to {NETWORKS} are possible", given.len());
    for (place, given) in networks.iter_mut().zip(given) {
        ensure!(matches!(given, IpNet::V4(_)) == v4, "{given} is not of the template's family");
        *place = network(*given);
    }
    Ok(networks)
}
