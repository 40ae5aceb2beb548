//! Which XDP program an interface has.

use netlink_packet_route::link::{LinkAttribute, LinkXdp};

use super::{AttachMode, GATE, GATE_FRAGS, bpf::Hook};
use crate::interface::{NetlinkError, netlink};

/// The XDP program of an interface, ours or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedProgram {
    pub id: u32,
    /// `None` where the kernel does not tell: its name needs CAP_SYS_ADMIN.
    pub name: Option<String>,
    pub mode: ProgramMode,
}

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramMode {
    Native,
    Generic,
    /// On the card itself.
    Offloaded,
}

impl ProgramMode {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        }
    }

    pub(super) const fn hook(self) -> Hook {
        match self {
            Self::Native | Self::Offloaded => Hook::Driver,
            Self::Generic => Hook::Stack,
        }
    }
}

impl AttachedProgram {
    /// Whether it bears the name of one of our programs.
    pub fn is_gate(&self) -> bool {
        matches!(self.name.as_deref(), Some(GATE | GATE_FRAGS))
    }
}

/// The program that runs on an interface; `None` where there is none.
pub fn attached_program(index: u32) -> Result<Option<AttachedProgram>, NetlinkError> {
    let link = netlink::link(index)?;
    let programs = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(programs) => Some(programs.as_slice()),
        _ => None,
    });
    Ok(programs.and_then(first_met).map(|(id, mode)| AttachedProgram {
        id,
        name: program_info(id).and_then(|info| name(&info)),
        mode,
    }))
}

/// How our program runs on an interface; `None` where none of ours does.
pub fn attached_mode(index: u32) -> Result<Option<AttachMode>, NetlinkError> {
    let program = attached_program(index)?.filter(AttachedProgram::is_gate);
    Ok(program.map(|program| match program.mode.hook() {
        Hook::Driver if program.name.as_deref() == Some(GATE_FRAGS) => AttachMode::NativeFrags,
        Hook::Driver => AttachMode::Native,
        Hook::Stack => AttachMode::Generic,
    }))
}

/// An interface may have one program in each place; the first is the one that a link of ours would meet.
fn first_met(programs: &[LinkXdp]) -> Option<(u32, ProgramMode)> {
    let in_place = |pick: fn(&LinkXdp) -> Option<(u32, ProgramMode)>| programs.iter().find_map(pick);
    let native = in_place(|it| if let LinkXdp::DrvProgId(id) = it { Some((*id, ProgramMode::Native)) } else { None });
    let offloaded =
        in_place(|it| if let LinkXdp::HwProgId(id) = it { Some((*id, ProgramMode::Offloaded)) } else { None });
    let generic = in_place(|it| if let LinkXdp::SkbProgId(id) = it { Some((*id, ProgramMode::Generic)) } else { None });
    native.or(generic).or(offloaded)
}

pub(super) fn program_info(id: u32) -> Option<aya::programs::ProgramInfo> {
    aya::programs::loaded_programs().filter_map(Result::ok).find(|info| info.id() == id)
}

pub(super) fn name(info: &aya::programs::ProgramInfo) -> Option<String> {
    info.name_as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

pub(super) fn name_of(index: u32) -> Option<String> {
    nix::net::if_::if_indextoname(index).ok()?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_program_is_read_from_its_attribute() {
        let of = |programs: &[LinkXdp]| first_met(programs);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[LinkXdp::DrvProgId(7), LinkXdp::ProgId(7)]), Some((7, ProgramMode::Native)));
        assert_eq!(of(&[LinkXdp::SkbProgId(8)]), Some((8, ProgramMode::Generic)));
        assert_eq!(of(&[LinkXdp::HwProgId(9)]), Some((9, ProgramMode::Offloaded)));
        assert_eq!(of(&[LinkXdp::HwProgId(9), LinkXdp::DrvProgId(7)]), Some((7, ProgramMode::Native)));
    }
}
