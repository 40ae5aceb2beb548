//! Puts the gate on an interface and keeps it there: one pinned link for each interface.

mod bpf;
mod error;
mod occupant;
mod query;
mod refusal;

use std::{fmt, io, os::fd::AsFd, path::Path};

use aya::{
    Ebpf,
    programs::{ProgramError, Xdp},
};
pub use bpf::SocketLink;
use bpf::{Hook, XdpLink};
pub use error::AttachError;
pub use occupant::{Holder, Occupant};
pub use query::{AttachedProgram, ProgramMode, attached_mode, attached_program};
pub use refusal::Refusal;

use crate::interface::Interface;

/// The program for drivers that receive a frame in one piece.
pub const GATE: &str = "gate";
/// The program for drivers that may split a frame over several buffers.
pub const GATE_FRAGS: &str = "gate_frags";

/// How the gate runs on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel has spent anything; frames of any size.
    NativeFrags,
    /// In the driver; frames of one buffer.
    Native,
    /// In the network stack, after the kernel has built its packet: correct, but several times dearer.
    Generic,
}

/// One way to attach: which program, and where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    NativeFrags,
    Native,
    GenericFrags,
    Generic,
}

/// The gate is on the interface, and its link is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub interface: String,
    pub mode: AttachMode,
    /// Whether a link was there already and only its program was replaced, without a gap.
    pub replaced: bool,
    /// Why it is not a better mode, and what would make it one.
    pub notes: Vec<String>,
}

impl AttachMode {
    pub const fn label(self) -> &'static str {
        match self {
            Self::NativeFrags => "native_frags",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    pub const fn is_native(self) -> bool {
        match self {
            Self::NativeFrags | Self::Native => true,
            Self::Generic => false,
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Way {
    pub const BEST_FIRST: [Self; 4] = [Self::NativeFrags, Self::Native, Self::GenericFrags, Self::Generic];

    pub const fn mode(self) -> AttachMode {
        match self {
            Self::NativeFrags => AttachMode::NativeFrags,
            Self::Native => AttachMode::Native,
            Self::GenericFrags | Self::Generic => AttachMode::Generic,
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::NativeFrags | Self::GenericFrags => GATE_FRAGS,
            Self::Native | Self::Generic => GATE,
        }
    }

    const fn hook(self) -> Hook {
        match self {
            Self::NativeFrags | Self::Native => Hook::Driver,
            Self::GenericFrags | Self::Generic => Hook::Stack,
        }
    }
}

/// Attaches the gate in the best way that works, or replaces the program of the link that is pinned already.
pub fn attach(ebpf: &mut Ebpf, interface: &Interface, pin: &Path) -> Result<Attached, AttachError> {
    attach_by(ebpf, interface, pin, &Way::BEST_FIRST)
}

/// The same with a choice of ways, the best first. A link that is there already keeps the place it has.
pub fn attach_by(ebpf: &mut Ebpf, interface: &Interface, pin: &Path, ways: &[Way]) -> Result<Attached, AttachError> {
    if let Some(link) = open_pin(pin)? {
        let present = attached_program(interface.index).map_err(|source| netlink_error(interface, source))?;
        let info = link.info().map_err(|source| pin_error(pin, "be read", source))?;
        match present {
            Some(present) if info.interface_index == interface.index && info.program_id == present.id => {
                return replace(ebpf, interface, &link, present.mode, ways);
            }
            // The interface was deleted, or deleted and made anew, since the link was pinned.
            _ => remove_pin(pin)?,
        }
    }
    attach_anew(ebpf, interface, pin, ways)
}

/// Takes the gate off the interface of a pinned link, and removes the pin.
pub fn detach(pin: &Path) -> Result<(), AttachError> {
    let link = open_pin(pin)?.ok_or_else(|| AttachError::NothingPinned { pin: pin.into() })?;
    let info = link.info().map_err(|source| pin_error(pin, "be read", source))?;
    match link.detach() {
        Ok(()) => {}
        // Already off, because its interface is gone.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        Err(_) if info.interface_index == 0 => {}
        Err(source) => return Err(pin_error(pin, "be detached", source)),
    }
    remove_pin(pin)?;
    match attached_program(info.interface_index) {
        Ok(Some(program)) if program.id == info.program_id => Err(AttachError::StillAttached {
            interface: query::name_of(info.interface_index).unwrap_or_else(|| info.interface_index.to_string()),
            program,
        }),
        _ => Ok(()),
    }
}

fn replace(
    ebpf: &mut Ebpf,
    interface: &Interface,
    link: &XdpLink,
    present: ProgramMode,
    ways: &[Way],
) -> Result<Attached, AttachError> {
    let hook = present.hook();
    let mut refusals = Vec::new();
    for way in ways.iter().filter(|way| way.hook() == hook) {
        let program = load(ebpf, interface, *way)?;
        let fd = program.fd().map_err(|source| program_error(interface, *way, source))?;
        match link.replace(fd.as_fd()) {
            Ok(()) => {
                let mut attached = attached(interface, *way, &refusals, true);
                if hook == Hook::Stack {
                    attached.notes.insert(0, refusal::stays_generic(interface));
                }
                return Ok(attached);
            }
            Err(source) if source.raw_os_error() == Some(libc::ENOLINK) => {
                return Err(AttachError::Gone { interface: interface.name.clone() });
            }
            // Over netlink the driver could not be asked for its words: the interface is taken, by ourselves.
            Err(source) => refusals.push(Refusal::new(*way, source, None, interface)),
        }
    }
    Err(AttachError::Refused { interface: interface.name.clone(), refusals, in_force: Some(present) })
}

fn attach_anew(ebpf: &mut Ebpf, interface: &Interface, pin: &Path, ways: &[Way]) -> Result<Attached, AttachError> {
    let mut refusals = Vec::new();
    for way in ways {
        let program = load(ebpf, interface, *way)?;
        let fd = program.fd().map_err(|source| program_error(interface, *way, source))?;
        match XdpLink::create(fd.as_fd(), interface.index, way.hook()) {
            Ok(link) => {
                link.pin(pin).map_err(|source| pin_error(pin, "be made", source))?;
                return Ok(attached(interface, *way, &refusals, false));
            }
            Err(source) => {
                refuse_all(interface, &source)?;
                let words = refusal::ask_driver(interface.index, fd.as_fd(), way.hook());
                refusals.push(Refusal::new(*way, source, words, interface));
            }
        }
    }
    Err(AttachError::Refused { interface: interface.name.clone(), refusals, in_force: None })
}

/// An error where a refusal has reasons that no other way of attaching would change.
fn refuse_all(interface: &Interface, source: &io::Error) -> Result<(), AttachError> {
    let name = || interface.name.clone();
    if matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
        return Err(AttachError::NotPermitted { interface: name(), action: "attach the gate to" });
    }
    let busy = matches!(source.raw_os_error(), Some(libc::EBUSY | libc::EEXIST));
    match attached_program(interface.index) {
        Ok(Some(program)) if busy => {
            Err(AttachError::Busy { interface: name(), occupant: Box::new(Occupant::find(interface.index, program)) })
        }
        Ok(_) => error::too_old(&interface.name, error::Feature::Link),
        // Of an interface that does not exist the link only says EINVAL.
        Err(error) if error.errno() == Some(libc::ENODEV) => Err(AttachError::Gone { interface: name() }),
        Err(source) => Err(netlink_error(interface, source)),
    }
}

fn load<'a>(ebpf: &'a mut Ebpf, interface: &Interface, way: Way) -> Result<&'a mut Xdp, AttachError> {
    let missing = || AttachError::MissingProgram { program: way.program() };
    let program: &mut Xdp =
        ebpf.program_mut(way.program()).ok_or_else(missing)?.try_into().map_err(|_: ProgramError| missing())?;
    if program.fd().is_err() {
        program.load().map_err(|source| program_error(interface, way, source))?;
    }
    Ok(program)
}

fn program_error(interface: &Interface, way: Way, source: ProgramError) -> AttachError {
    let (errno, log) = match &source {
        ProgramError::LoadError { io_error, verifier_log } => (io_error.raw_os_error(), verifier_log.to_string()),
        ProgramError::SyscallError(error) => (error.io_error.raw_os_error(), String::new()),
        _ => (None, String::new()),
    };
    // The verifier has the same number for some of its objections, but it gives reasons.
    if errno == Some(libc::EPERM) && log.trim().is_empty() {
        return AttachError::NotPermitted { interface: interface.name.clone(), action: "load the gate for" };
    }
    let feature = match way.program() {
        GATE_FRAGS => error::Feature::Frags,
        _ => error::Feature::CoarseClock,
    };
    match error::too_old(&interface.name, feature) {
        Err(too_old) => too_old,
        Ok(()) => AttachError::Rejected {
            interface: interface.name.clone(),
            program: way.program(),
            errno: errno.map(io::Error::from_raw_os_error),
            log: error::tail(&log),
        },
    }
}

fn attached(interface: &Interface, way: Way, refusals: &[Refusal], replaced: bool) -> Attached {
    let better: Vec<&Refusal> = refusals.iter().filter(|refusal| refusal.way.mode() != way.mode()).collect();
    Attached { interface: interface.name.clone(), mode: way.mode(), replaced, notes: refusal::notes(&better) }
}

/// The link pinned there, `None` where nothing is.
fn open_pin(pin: &Path) -> Result<Option<XdpLink>, AttachError> {
    match XdpLink::open(pin) {
        Ok(Some(link)) => Ok(Some(link)),
        Ok(None) => Err(AttachError::NotALink { pin: pin.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(pin_error(pin, "be opened", source)),
    }
}

fn remove_pin(pin: &Path) -> Result<(), AttachError> {
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| pin_error(pin, "be removed", source)),
    }
}

fn pin_error(pin: &Path, action: &'static str, source: io::Error) -> AttachError {
    AttachError::Pin { pin: pin.into(), action, source }
}

fn netlink_error(interface: &Interface, source: crate::interface::NetlinkError) -> AttachError {
    AttachError::Netlink { interface: interface.name.clone(), source }
}
