//! Why one way to attach was refused, in the driver's words, and what would change that.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use aya_obj::generated::{XDP_FLAGS_REPLACE, XDP_FLAGS_UPDATE_IF_NOEXIST};
use netlink_packet_route::link::{LinkAttribute, LinkXdp};

use super::{Way, bpf::Hook};
use crate::interface::{Interface, NetlinkError, netlink};

/// What fits into a page of 4 KiB beside the room that drivers keep free in front and behind.
const SINGLE_BUFFER_MTU: u32 = 3498;

/// One way to attach that the kernel or the driver refused.
#[derive(Debug)]
pub struct Refusal {
    pub way: Way,
    pub errno: io::Error,
    /// The driver's or the kernel's own words, where it had any.
    pub message: Option<String>,
    pub remedy: Option<String>,
}

impl Refusal {
    pub(super) fn new(way: Way, errno: io::Error, message: Option<String>, interface: &Interface) -> Self {
        let remedy = remedy(errno.raw_os_error().unwrap_or(0), message.as_deref().unwrap_or(""), interface);
        Self { way, errno, message, remedy }
    }

    fn reason(&self) -> String {
        let mut text = match &self.message {
            Some(message) => format!("{message} ({})", self.errno),
            None => self.errno.to_string(),
        };
        if let Some(remedy) = &self.remedy {
            text.push_str("; ");
            text.push_str(remedy);
        }
        text
    }
}

/// One line for each reason; ways that were refused for the same one share it.
pub(super) fn notes(refusals: &[&Refusal]) -> Vec<String> {
    let mut lines: Vec<(Vec<&str>, String)> = Vec::new();
    for refusal in refusals {
        let (label, reason) = (refusal.way.mode().label(), refusal.reason());
        match lines.iter_mut().find(|(_, known)| *known == reason) {
            Some((labels, _)) if labels.contains(&label) => {}
            Some((labels, _)) => labels.push(label),
            None => lines.push((vec![label], reason)),
        }
    }
    lines.into_iter().map(|(labels, reason)| format!("{} refused: {reason}", labels.join(" and "))).collect()
}

/// What to say where a generic link was kept.
pub(super) fn stays_generic(interface: &Interface) -> String {
    format!(
        "the present link on {interface} is generic and was kept, because changing its mode would leave a gap; \
         to try native again: ratelimit detach, then start anew"
    )
}

/// Repeats a refused attachment over netlink, because only there the driver says why.
pub(super) fn ask_driver(interface_index: u32, program: BorrowedFd<'_>, hook: Hook) -> Option<String> {
    let fd = program.as_raw_fd();
    let flags = XDP_FLAGS_UPDATE_IF_NOEXIST | hook.flags();
    let attempt = vec![LinkXdp::Fd(fd), LinkXdp::Flags(flags)];
    match netlink::set_link(interface_index, LinkAttribute::Xdp(attempt)) {
        Err(NetlinkError::Refused { message, .. }) => message,
        Err(_) => None,
        Ok(()) => {
            // What is attached this way dies with nobody and cannot be pinned: it must not stay.
            let flags = XDP_FLAGS_REPLACE | hook.flags();
            let undo = vec![LinkXdp::Fd(-1), LinkXdp::Flags(flags), LinkXdp::ExpectedFd(fd as u32)];
            let undone = netlink::set_link(interface_index, LinkAttribute::Xdp(undo));
            undone.err().map(|error| format!("attached without a link, and that cannot be undone: {error}"))
        }
    }
}

fn remedy(errno: i32, message: &str, interface: &Interface) -> Option<String> {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let name = &interface.name;
    if says(&["lro"]) {
        Some(format!("ethtool -K {name} lro off"))
    } else if says(&["gro_hw", "gro-hw", "hw-gro", "hw gro", "csum"]) {
        Some(format!("ethtool -K {name} rx-gro-hw off"))
    } else if says(&["split", "hds"]) {
        Some(format!("ethtool -G {name} tcp-data-split off"))
    } else if says(&["mtu", "frame", "too large", "linear"]) || (message.is_empty() && errno == libc::ERANGE) {
        Some(smaller_mtu(interface))
    } else if says(&["queue", "channel", "ring"]) || errno == libc::ENOSPC {
        Some(format!(
            "change the number of channels (ethtool -l {name} shows them; half of the maximum leaves room for XDP): \
             ethtool -L {name} combined N"
        ))
    } else if says(&["upper device"]) {
        Some(format!("take the XDP program off the bond or bridge that {name} belongs to"))
    } else if errno == libc::EOPNOTSUPP {
        Some(no_native(interface))
    } else {
        None
    }
}

fn smaller_mtu(interface: &Interface) -> String {
    let name = &interface.name;
    if interface.mtu > SINGLE_BUFFER_MTU {
        format!("lower the MTU: ip link set dev {name} mtu {SINGLE_BUFFER_MTU} (it is {})", interface.mtu)
    } else {
        // A veth is refused for its peer's MTU, and some drivers take less than a page.
        format!("lower the MTU of {name} (it is {}) or of its peer; 1500 suits every driver", interface.mtu)
    }
}

fn no_native(interface: &Interface) -> String {
    let driver = interface.driver.as_deref().or(interface.kind.as_deref()).unwrap_or("this");
    match &interface.lower {
        Some(lower) => format!("the {driver} driver has no native XDP: name {lower}, the interface below, instead"),
        None => format!("the {driver} driver has no native XDP in this kernel; generic works, at a higher cost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(mtu: u32, lower: Option<&str>) -> Interface {
        Interface {
            name: "eth0".into(),
            index: 2,
            mtu,
            kind: None,
            driver: Some("virtio_net".into()),
            mac: None,
            lower: lower.map(str::to_owned),
        }
    }

    fn refusal(way: Way, errno: i32, message: Option<&str>, interface: &Interface) -> Refusal {
        Refusal::new(way, io::Error::from_raw_os_error(errno), message.map(str::to_owned), interface)
    }

    /// Messages of the drivers veth, virtio_net (Linux 5.15 and 6.1), i40e, mlx5, bnxt, ena and of the core.
    #[test]
    fn the_remedy_follows_from_the_drivers_words() {
        let jumbo = interface(9000, None);
        for (errno, message, expected) in [
            (libc::ERANGE, "Peer MTU is too large to set XDP", "mtu 3498"),
            (libc::ERANGE, "", "mtu 3498"),
            (libc::EINVAL, "MTU too large to enable XDP without frags", "mtu 3498"),
            (libc::EINVAL, "MTU too large for linear frames and XDP prog does not support frags", "mtu 3498"),
            (libc::EOPNOTSUPP, "Can't set XDP while host is implementing LRO/CSUM, disable LRO/CSUM first", "lro off"),
            (
                libc::EOPNOTSUPP,
                "Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first",
                "rx-gro-hw off",
            ),
            (libc::EINVAL, "can't set XDP while LRO is on, disable LRO first", "lro off"),
            (libc::EOPNOTSUPP, "ethtool rx/tx channels must be combined to support XDP", "ethtool -L eth0"),
            (libc::ENOSPC, "XDP expects number of rx queues not less than peer tx queues", "ethtool -L eth0"),
            (libc::EBUSY, "unable to install XDP to device using tcp-data-split", "tcp-data-split off"),
            (libc::EEXIST, "Cannot attach when an upper device already has a program", "bond or bridge"),
            (libc::EOPNOTSUPP, "Underlying driver does not support XDP in native mode", "no native XDP"),
        ] {
            let refusal = refusal(Way::Native, errno, Some(message), &jumbo);
            let remedy = refusal.remedy.as_deref().unwrap_or_default();
            assert!(remedy.contains(expected), "{message}: {remedy}");
        }
    }

    #[test]
    fn an_interface_on_another_one_is_told_to_name_that() {
        let refusal = refusal(Way::Native, libc::EOPNOTSUPP, None, &interface(1500, Some("eth1")));
        assert!(refusal.remedy.unwrap().contains("name eth1"));
    }

    #[test]
    fn ways_refused_for_one_reason_share_a_line() {
        let interface = interface(1500, None);
        let one = refusal(Way::NativeFrags, libc::EOPNOTSUPP, Some("no"), &interface);
        let same = refusal(Way::Native, libc::EOPNOTSUPP, Some("no"), &interface);
        let other = refusal(Way::Generic, libc::ENOMEM, None, &interface);
        let notes = notes(&[&one, &same, &other]);
        assert_eq!(notes.len(), 2);
        assert!(notes[0].starts_with("native_frags and native refused: no ("), "{}", notes[0]);
        assert!(notes[1].starts_with("generic refused: "), "{}", notes[1]);
    }
}
