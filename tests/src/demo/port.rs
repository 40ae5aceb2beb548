//! What the driver of a veth end has counted, frame by frame, independently of the gate.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::netns::Namespace;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETH_SS_STATS: u32 = 1;
const NAME_LEN: usize = 32;

/// Counters of an interface since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Port {
    /// Frames that the XDP program at this end dropped.
    pub dropped: u64,
    /// Frames that it sent back.
    pub answered: u64,
    /// Frames that this end handed over and the other end had no room for.
    pub lost: u64,
}

impl Port {
    /// Asked through the ioctl, because /sys/class/net shows the namespace in which /sys was mounted.
    pub fn read(namespace: &Namespace, interface: &str) -> Result<Self> {
        let counters = namespace
            .enter(|| counters(interface))?
            .with_context(|| format!("cannot read the counters of {interface} in {}", namespace.name()))?;
        let sum = |ends: &[&str]| {
            let is_meant = |name: &str| ends.iter().any(|end| name.ends_with(end));
            counters.iter().filter(|(name, _)| is_meant(name)).map(|(_, value)| value).sum()
        };
        Ok(Self {
            dropped: sum(&["_xdp_drops"]),
            answered: sum(&["_xdp_tx"]),
            lost: sum(&["_xdp_xmit_errors", "_xdp_tx_errors"]),
        })
    }
}

fn counters(interface: &str) -> Result<Vec<(String, u64)>> {
    let count = count(interface)?;
    ensure!(count > 0, "the driver counts nothing");
    let mut names = vec![0u8; 12 + count * NAME_LEN];
    write_word(&mut names, 0, ETHTOOL_GSTRINGS);
    write_word(&mut names, 4, ETH_SS_STATS);
    write_word(&mut names, 8, u32::try_from(count)?);
    ask(interface, &mut names)?;
    let mut values = vec![0u8; 8 + count * 8];
    write_word(&mut values, 0, ETHTOOL_GSTATS);
    write_word(&mut values, 4, u32::try_from(count)?);
    ask(interface, &mut values)?;
    let values = values[8..].as_chunks().0.iter().map(|value| u64::from_ne_bytes(*value));
    Ok(names[12..].chunks(NAME_LEN).map(text).zip(values).collect())
}

/// How many counters there are.
fn count(interface: &str) -> Result<usize> {
    let mut request = [0u8; 20];
    write_word(&mut request, 0, ETHTOOL_GSSET_INFO);
    request[8..16].copy_from_slice(&(1u64 << ETH_SS_STATS).to_ne_bytes());
    ask(interface, &mut request)?;
    let [.., a, b, c, d] = request;
    Ok(u32::from_ne_bytes([a, b, c, d]) as usize)
}

fn write_word(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
}

fn text(name: &[u8]) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// `request` must begin with an ethtool command and be as long as its answer.
fn ask(interface: &str, request: &mut [u8]) -> Result<()> {
    // SAFETY: all zero is a valid `ifreq`: it holds an array and a union of plain data.
    let mut envelope: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(interface.len() < envelope.ifr_name.len(), "too long a name");
    for (to, from) in envelope.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    envelope.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the descriptor is open, the name is terminated, and the callers make every request as long as the counters
    // that it says it has room for.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut envelope) };
    Errno::result(answer)?;
    Ok(())
}
