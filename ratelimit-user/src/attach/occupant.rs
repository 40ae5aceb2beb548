//! Who else has an interface.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{AttachedProgram, ProgramMode, bpf::XdpLink, query};

/// Where the pins of other programs are looked for, and how many entries are looked at.
const BPFFS: &str = "/sys/fs/bpf";
const MOST_PINS: usize = 1000;
const MOST_DEPTH: usize = 4;
/// libxdp's dispatcher, which runs several programs on one interface.
const DISPATCHER: &str = "xdp_dispatcher";

/// The XDP program that has an interface, and who keeps it there.
#[derive(Debug)]
pub struct Occupant {
    pub program: AttachedProgram,
    pub loaded_at: Option<SystemTime>,
    /// Processes that hold the program or its link open.
    pub holders: Vec<Holder>,
    /// Where its link is pinned.
    pub pins: Vec<PathBuf>,
    /// Attached by a link, which `ip link` cannot take off.
    pub by_link: bool,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
}

impl Occupant {
    pub(super) fn find(interface_index: u32, program: AttachedProgram) -> Self {
        let by_link = aya::programs::loaded_links()
            .filter_map(Result::ok)
            .any(|link| link.program_id() == program.id && link.link_type().is_ok_and(is_xdp));
        let mut pins = Vec::new();
        let mut looked_at = 0;
        find_pins(Path::new(BPFFS), interface_index, 0, &mut looked_at, &mut pins);
        Self {
            loaded_at: query::program_info(program.id).and_then(|info| info.loaded_at()),
            holders: holders(program.id),
            pins,
            by_link,
            program,
        }
    }

    /// What to do about it.
    pub fn remedy(&self, interface: &str) -> String {
        if self.program.name.as_deref() == Some(DISPATCHER) {
            return format!(
                "sharing an interface through libxdp is not supported: xdp-loader unload {interface} --all"
            );
        }
        if self.program.is_gate() {
            return "it is another ratelimit: stop that one first (ratelimit detach)".into();
        }
        match (self.by_link, self.pins.first(), self.holders.first()) {
            (true, Some(pin), _) => format!("stop the program it belongs to, or remove its pin: rm {}", pin.display()),
            (true, None, Some(holder)) => format!("stop {holder}"),
            (true, None, None) => "stop the program it belongs to".into(),
            (false, ..) => {
                let mode = match self.program.mode {
                    ProgramMode::Native => "xdpdrv",
                    ProgramMode::Generic => "xdpgeneric",
                    ProgramMode::Offloaded => "xdpoffload",
                };
                format!("stop the program it belongs to, or take it off: ip link set dev {interface} {mode} off")
            }
        }
    }
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.program.name.as_deref().unwrap_or("without a name");
        write!(f, "{name} (id {}, {}", self.program.id, self.program.mode.label())?;
        if let Some(age) = self.loaded_at.and_then(|at| SystemTime::now().duration_since(at).ok()) {
            write!(f, ", loaded {} ago", rough(age.as_secs()))?;
        }
        for (holder, word) in self.holders.iter().zip(std::iter::once("held by ").chain(std::iter::repeat(""))) {
            write!(f, ", {word}{holder}")?;
        }
        for pin in &self.pins {
            write!(f, ", pinned at {}", pin.display())?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

fn is_xdp(kind: aya::programs::links::LinkType) -> bool {
    kind == aya::programs::links::LinkType::Xdp
}

fn rough(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The processes with an open descriptor of the program or of a link of it; those that may not be looked at are left out.
fn holders(program_id: u32) -> Vec<Holder> {
    let mut holders: Vec<Holder> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| holds(*pid, program_id))
        .map(|pid| Holder { pid, command: command(pid) })
        .collect();
    holders.sort_unstable_by_key(|holder| holder.pid);
    holders
}

fn holds(pid: u32, program_id: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().any(|descriptor| {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        let is_bpf = target.to_str().is_some_and(|target| target.starts_with("anon_inode:bpf"));
        is_bpf && {
            let number = descriptor.file_name();
            let info = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(number);
            names_program(&fs::read_to_string(info).unwrap_or_default(), program_id)
        }
    })
}

/// Whether the fdinfo of a descriptor belongs to the program or to a link of it.
fn names_program(fdinfo: &str, program_id: u32) -> bool {
    fdinfo.lines().filter_map(|line| line.strip_prefix("prog_id:")).any(|value| value.trim().parse() == Ok(program_id))
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn find_pins(directory: &Path, interface_index: u32, depth: usize, looked_at: &mut usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        *looked_at += 1;
        if *looked_at > MOST_PINS {
            return;
        }
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth < MOST_DEPTH {
                find_pins(&path, interface_index, depth + 1, looked_at, found);
            }
        } else if let Ok(Some(link)) = XdpLink::open(&path)
            && link.info().is_ok_and(|info| info.interface_index == interface_index)
        {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupant(name: &str, mode: ProgramMode, by_link: bool) -> Occupant {
        Occupant {
            program: AttachedProgram { id: 42, name: Some(name.into()), mode },
            loaded_at: Some(SystemTime::now() - std::time::Duration::from_secs(600)),
            holders: vec![Holder { pid: 7, command: "katran".into() }, Holder { pid: 8, command: "watcher".into() }],
            pins: vec![],
            by_link,
        }
    }

    #[test]
    fn the_occupant_is_named_with_all_that_is_known() {
        let said = occupant("balancer", ProgramMode::Native, true).to_string();
        assert_eq!(said, "balancer (id 42, native, loaded 10 min ago, held by katran (pid 7), watcher (pid 8))");
    }

    #[test]
    fn the_remedy_depends_on_who_it_is() {
        let remedy = |occupant: Occupant| occupant.remedy("eth0");
        assert!(remedy(occupant("a", ProgramMode::Generic, false)).ends_with("ip link set dev eth0 xdpgeneric off"));
        assert!(remedy(occupant("a", ProgramMode::Native, false)).ends_with("ip link set dev eth0 xdpdrv off"));
        assert_eq!(remedy(occupant("a", ProgramMode::Native, true)), "stop katran (pid 7)");
        assert!(remedy(occupant("xdp_dispatcher", ProgramMode::Native, true)).contains("libxdp is not supported"));
        assert!(remedy(occupant("gate_frags", ProgramMode::Native, true)).contains("another ratelimit"));
        let pinned = Occupant { pins: vec!["/sys/fs/bpf/x".into()], ..occupant("a", ProgramMode::Native, true) };
        assert!(remedy(pinned).ends_with("rm /sys/fs/bpf/x"));
    }

    #[test]
    fn fdinfo_names_the_program_of_a_link() {
        let link = "pos:\t0\nlink_type:\txdp\nlink_id:\t3\nprog_tag:\tabc\nprog_id:\t42\nifindex:\t2\n";
        assert!(names_program(link, 42));
        assert!(!names_program(link, 4));
        assert!(!names_program("pos:\t0\nmap_id:\t42\n", 42));
    }

    #[test]
    fn ages_are_rough() {
        assert_eq!([0, 119, 120, 7200, 172_800].map(rough), ["0 s", "119 s", "2 min", "2 h", "2 days"]);
    }
}
