//! Why the gate is not on an interface, and what to do.

use std::{fmt, io, path::PathBuf};

use super::{AttachedProgram, Occupant, ProgramMode, Refusal};
use crate::{interface::NetlinkError, preflight::KernelVersion};

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("not allowed to {action} {interface}: it needs CAP_NET_ADMIN and CAP_BPF (run as root)")]
    NotPermitted { interface: String, action: &'static str },
    #[error("{interface} is taken by another XDP program: {occupant}; {}", .occupant.remedy(.interface))]
    Busy { interface: String, occupant: Box<Occupant> },
    #[error("{}", refused(.interface, .refusals, *.in_force))]
    Refused {
        interface: String,
        refusals: Vec<Refusal>,
        /// Where the program runs that could not be replaced and goes on filtering.
        in_force: Option<ProgramMode>,
    },
    #[error("{}", rejected(.interface, .program, .errno.as_ref(), .log))]
    Rejected {
        interface: String,
        program: &'static str,
        errno: Option<io::Error>,
        /// The end of the verifier's log.
        log: String,
    },
    #[error(
        "cannot attach to {interface}: {feature} came with Linux {}, this is {running}; the oldest kernel supported is {}",
        .feature.since(), KernelVersion::OLDEST_SUPPORTED
    )]
    KernelTooOld { interface: String, feature: Feature, running: KernelVersion },
    #[error("{interface} is gone: it was deleted or moved to another network namespace; start again when it is back")]
    Gone { interface: String },
    #[error("the eBPF object has no XDP program \"{program}\": it is not the one of this version, build both anew")]
    MissingProgram { program: &'static str },
    #[error(
        "the pin {} cannot {action}: {source}; it must lie in a BPF file system (mount -t bpf bpf /sys/fs/bpf) \
         that this user may write (run as root)", .pin.display()
    )]
    Pin { pin: PathBuf, action: &'static str, source: io::Error },
    #[error("{} is no XDP link: something else is pinned there; remove it", .pin.display())]
    NotALink { pin: PathBuf },
    #[error("nothing is pinned at {}: the gate is not attached there", .pin.display())]
    NothingPinned { pin: PathBuf },
    #[error(
        "program {} is still on {interface} although its link was detached; take it off: ip link set dev {interface} xdp off",
        .program.id
    )]
    StillAttached { interface: String, program: AttachedProgram },
    #[error("cannot ask the kernel which XDP program {interface} has: {source}")]
    Netlink { interface: String, source: NetlinkError },
}

/// What an old kernel may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    Link,
    CoarseClock,
    Frags,
}

impl Feature {
    const fn since(self) -> KernelVersion {
        match self {
            Self::Link => KernelVersion { major: 5, minor: 9 },
            Self::CoarseClock => KernelVersion { major: 5, minor: 11 },
            Self::Frags => KernelVersion { major: 5, minor: 18 },
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "the XDP link",
            Self::CoarseClock => "the coarse clock for programs",
            Self::Frags => "XDP with several buffers",
        })
    }
}

/// An error if the running kernel is older than the feature.
pub(super) fn too_old(interface: &str, feature: Feature) -> Result<(), AttachError> {
    match KernelVersion::running() {
        Some(running) if running < feature.since() => {
            Err(AttachError::KernelTooOld { interface: interface.into(), feature, running })
        }
        _ => Ok(()),
    }
}

/// The end of a verifier log, where it says what it objects to.
pub(super) fn tail(log: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn refused(interface: &str, refusals: &[Refusal], in_force: Option<ProgramMode>) -> String {
    let mut text = match in_force {
        None => format!("the gate cannot be attached to {interface}"),
        Some(mode) => format!(
            "the program on {interface} ({}) cannot be replaced; the one that is there goes on filtering",
            mode.label()
        ),
    };
    for note in super::refusal::notes(&refusals.iter().collect::<Vec<_>>()) {
        text.push_str("\n  ");
        text.push_str(&note);
    }
    text
}

fn rejected(interface: &str, program: &str, errno: Option<&io::Error>, log: &str) -> String {
    let why = errno.map(|errno| format!(" ({errno})")).unwrap_or_default();
    let mut text = format!(
        "the kernel does not accept the program {program} for {interface}{why}; please report this with the kernel's version"
    );
    if !log.is_empty() {
        text.push_str(", and with the end of the verifier's log:\n");
        text.push_str(log);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let log: String = (0..100).map(|line| format!("line {line}\n\n")).collect();
        let tail = tail(&log);
        assert_eq!(tail.lines().count(), 15);
        assert!(tail.starts_with("line 85\n") && tail.ends_with("line 99"), "{tail}");
        assert_eq!(super::tail(""), "");
        assert_eq!(super::tail("one"), "one");
    }

    #[test]
    fn an_old_kernel_is_told_the_version_it_lacks() {
        let running = KernelVersion { major: 5, minor: 10 };
        let error = AttachError::KernelTooOld { interface: "eth0".into(), feature: Feature::Frags, running };
        assert_eq!(
            error.to_string(),
            "cannot attach to eth0: XDP with several buffers came with Linux 5.18, this is 5.10; \
             the oldest kernel supported is 6.1"
        );
    }

    #[test]
    fn a_failed_replacement_says_that_the_old_program_stays() {
        let error =
            AttachError::Refused { interface: "eth0".into(), refusals: vec![], in_force: Some(ProgramMode::Native) };
        assert!(error.to_string().contains("goes on filtering"), "{error}");
    }

    #[test]
    fn a_rejected_program_carries_the_log() {
        let error = AttachError::Rejected {
            interface: "eth0".into(),
            program: "gate",
            errno: Some(io::Error::from_raw_os_error(libc::EACCES)),
            log: "R4 invalid zero-sized read".into(),
        };
        assert!(error.to_string().ends_with("verifier's log:\nR4 invalid zero-sized read"), "{error}");
    }
}
