//! Attaching: on real interfaces of throw-away namespaces, in each mode, over what is there already, and off again.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::Array;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use ratelimit_common::{Address, Entry, Limit, Mode, Service, ServiceId, Set};
use ratelimit_tests::kernel::fill_lists;
use ratelimit_tests::netns::{Bpffs, End, Namespace, veth};
use ratelimit_tests::objects;
use ratelimit_user::attach::{
    AttachError, AttachMode, Attached, ProgramMode, Way, attach, attach_by, attached_mode, attached_program, detach,
};
use ratelimit_user::config::Network;
use ratelimit_user::interface::Interface;
use ratelimit_user::lists::table;

const SERVER: &str = "192.0.2.1";
const CLIENT: &str = "192.0.2.2";
const PORT: u16 = 25;

/// A gateway whose `lan` is a veth, the other end of it, and a place for pins.
struct Lab {
    gateway: Namespace,
    client: Namespace,
    bpffs: Bpffs,
}

impl Lab {
    fn new(mtu: u32) -> Result<Self> {
        let lab = Self { gateway: Namespace::new("gateway")?, client: Namespace::new("client")?, bpffs: Bpffs::new()? };
        lab.connect(mtu)?;
        Ok(lab)
    }

    fn connect(&self, mtu: u32) -> Result<()> {
        veth(
            End { namespace: &self.gateway, interface: "lan", addresses: &["192.0.2.1/24"] },
            End { namespace: &self.client, interface: "wan", addresses: &["192.0.2.2/24"] },
            mtu,
        )?;
        self.wait_until_connected()
    }

    /// A new link takes a while; until then silence would say nothing about the gate.
    fn wait_until_connected(&self) -> Result<()> {
        for _ in 0..10 {
            if self.connects()? {
                return Ok(());
            }
        }
        bail!("no connection although nothing is attached")
    }

    fn pin(&self) -> PathBuf {
        self.bpffs.path().join("lan")
    }

    fn interface(&self, name: &str) -> Result<Interface> {
        Ok(self.gateway.enter(|| Interface::find(name))??)
    }

    fn attach(&self, gate: &mut Ebpf, interface: &str) -> Result<Attached, AttachError> {
        self.attach_by(gate, interface, &Way::BEST_FIRST)
    }

    fn attach_by(&self, gate: &mut Ebpf, interface: &str, ways: &[Way]) -> Result<Attached, AttachError> {
        let interface = self.interface(interface).expect("the interface is there");
        self.gateway.enter(|| attach_by(gate, &interface, &self.pin(), ways)).expect("the namespace can be entered")
    }

    fn detach(&self) -> Result<()> {
        Ok(self.gateway.enter(|| detach(&self.pin()))??)
    }

    fn mode(&self, interface: &str) -> Result<Option<AttachMode>> {
        let index = self.interface(interface)?.index;
        Ok(self.gateway.enter(|| attached_mode(index))??)
    }

    fn program(&self) -> Result<Option<u32>> {
        let index = self.interface("lan")?.index;
        Ok(self.gateway.enter(|| attached_program(index))??.map(|program| program.id))
    }

    /// Whether the client gets a connection to the server's port.
    fn connects(&self) -> Result<bool> {
        let listener = self.listen()?;
        let outcome = self.client.enter(|| {
            std::net::TcpStream::connect_timeout(&SocketAddr::new(address(SERVER), PORT), Duration::from_millis(700))
        })?;
        drop(listener);
        match outcome {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error).context("neither a connection nor silence"),
        }
    }

    fn listen(&self) -> Result<TcpListener> {
        let listener = self.gateway.enter(|| TcpListener::bind(SocketAddr::new(address(SERVER), PORT)))??;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A value as a map holds it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Wire<T>(T);

// SAFETY: only used for `Set` and `Entry`, which are `bytemuck::Pod`: any bytes are a value, and there is no padding.
unsafe impl<T: Copy + 'static> aya::Pod for Wire<T> {}

/// The gate with few cells, told to refuse the client every connection to the server's port.
fn gate() -> Result<Ebpf> {
    let mut gate = EbpfLoader::new().map_max_entries("CELLS", 64).load(objects::gate()?)?;
    let smtp = ServiceId::new(0).context("a first service")?;
    let mut set: Set = bytemuck::Zeroable::zeroed();
    set.entries = 1;
    set.put_service(smtp, Service::new("smtp", [Limit::NONE; 4], Limit::NONE, 0, [Address::mask(128); 4]), &[PORT]);
    set.put_locals(&[address(SERVER).into()], 1)?;
    set.set_mode(Some(smtp), Mode::Enforce);
    let mut sets: Array<_, Wire<Set>> = gate.map_mut("SETS").context("no sets")?.try_into()?;
    sets.set(0, Wire(set), 0)?;
    let blocked = [Network::host(address(CLIENT))].into_iter().collect();
    let layer = table::Layer { networks: &blocked, says: Entry::new(0, 0, 1), shields: false };
    fill_lists(&mut gate, 0, &table::build(&[layer])?)?;
    Ok(gate)
}

#[test]
fn a_driver_with_buffers_of_any_size_gets_the_program_for_them() -> Result<()> {
    for mtu in [1500, 9000] {
        let lab = Lab::new(mtu)?;
        let mut gate = gate()?;
        let attached = lab.attach(&mut gate, "lan")?;
        let expected =
            Attached { interface: "lan".into(), mode: AttachMode::NativeFrags, replaced: false, notes: vec![] };
        assert_eq!(attached, expected, "MTU {mtu}");
        assert_eq!(lab.mode("lan")?, Some(AttachMode::NativeFrags));
        drop(gate);
        assert!(!lab.connects()?, "the pin alone must keep the gate in place");
    }
    Ok(())
}

#[test]
fn a_refusal_carries_the_drivers_words_and_the_remedy() -> Result<()> {
    let lab = Lab::new(9000)?;
    let error = lab.attach_by(&mut gate()?, "lan", &[Way::Native]).unwrap_err();
    let AttachError::Refused { refusals, in_force: None, .. } = &error else { bail!("{error}") };
    assert_eq!(refusals[0].errno.raw_os_error(), Some(libc::ERANGE), "{error}");
    let words = refusals[0].message.as_deref().unwrap_or_default();
    assert!(words.contains("Peer MTU is too large to set XDP"), "{error}");
    assert!(error.to_string().contains("ip link set dev lan mtu 3498 (it is 9000)"), "{error}");
    assert_eq!(lab.program()?, None, "asking the driver must leave nothing behind");

    let attached = lab.attach_by(&mut gate()?, "lan", &[Way::Native, Way::GenericFrags])?;
    assert_eq!(attached.mode, AttachMode::Generic);
    assert_eq!(attached.notes.len(), 1, "{:?}", attached.notes);
    assert!(attached.notes[0].contains("Peer MTU is too large"), "{}", attached.notes[0]);
    assert!(!lab.connects()?);

    lab.gateway.ip("link set lan mtu 1500")?;
    lab.client.ip("link set wan mtu 1500")?;
    lab.detach()?;
    assert_eq!(lab.attach_by(&mut gate()?, "lan", &[Way::Native])?.mode, AttachMode::Native);
    assert_eq!(lab.mode("lan")?, Some(AttachMode::Native));
    Ok(())
}

#[test]
fn a_device_without_native_support_gets_the_gate_in_the_stack() -> Result<()> {
    let lab = Lab::new(1500)?;
    // Or the card below would answer for the address.
    lab.gateway.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    lab.gateway.ip("address flush dev lan")?;
    lab.gateway.ip("link add link lan name upper type macvlan mode bridge")?;
    lab.gateway.ip("address add 192.0.2.1/24 dev upper")?;
    lab.gateway.ip("link set upper up")?;
    lab.client.ip("neighbour flush dev wan")?;
    lab.wait_until_connected()?;
    let attached = lab.attach(&mut gate()?, "upper")?;
    assert_eq!(attached.mode, AttachMode::Generic);
    assert_eq!(attached.notes.len(), 1, "{:?}", attached.notes);
    let note = &attached.notes[0];
    assert!(note.starts_with("native_frags and native refused: "), "{note}");
    assert!(note.ends_with("the macvlan driver has no native XDP: name lan, the interface below, instead"), "{note}");
    assert!(!lab.connects()?);

    let again = lab.attach(&mut gate()?, "upper")?;
    assert_eq!((again.mode, again.replaced), (AttachMode::Generic, true));
    assert!(again.notes[0].contains("was kept, because changing its mode would leave a gap"), "{:?}", again.notes);
    assert!(!lab.connects()?);
    Ok(())
}

#[test]
fn replacing_the_program_leaves_no_gap() -> Result<()> {
    const REPLACEMENTS: usize = 60;
    let lab = Lab::new(1500)?;
    let (mut one, mut other) = (gate()?, gate()?);
    assert!(!lab.attach(&mut one, "lan")?.replaced);
    let listener = lab.listen()?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let attempts = std::thread::scope(|scope| -> Result<u64> {
        let clients = scope.spawn(|| lab.client.enter(|| knock(&stop)));
        let mut programs = Vec::new();
        for round in 0..REPLACEMENTS {
            let gate = if round % 2 == 0 { &mut other } else { &mut one };
            let replaced = lab.attach(gate, "lan");
            if !matches!(&replaced, Ok(attached) if attached.replaced && attached.mode == AttachMode::NativeFrags) {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                bail!("round {round}: {replaced:?}");
            }
            programs.extend(lab.program()?);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        programs.dedup();
        ensure!(programs.len() == REPLACEMENTS, "the program must change every time: {programs:?}");
        clients.join().expect("the clients do not panic")?
    })?;
    assert!(attempts > 100, "only {attempts} attempts");
    let accepted = listener.accept().map_err(|error| error.kind());
    assert!(matches!(accepted, Err(ErrorKind::WouldBlock)), "of {attempts} attempts one came through");
    assert_eq!(lab.mode("lan")?, Some(AttachMode::NativeFrags));
    drop(listener);
    lab.detach()?;
    lab.wait_until_connected()
}

/// Sends first packets of connections as fast as it can until told to stop, and says how many.
fn knock(stop: &std::sync::atomic::AtomicBool) -> Result<u64> {
    let server = SocketAddr::new(address(SERVER), PORT).into();
    let mut attempts = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // Without this, closing would leave the kernel to repeat nothing, but keep the port for a while.
        socket.set_linger(Some(Duration::ZERO))?;
        let _ = socket.connect(&server);
        attempts += 1;
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(attempts)
}

#[test]
fn a_replacement_that_is_refused_leaves_the_old_program_in_force() -> Result<()> {
    let lab = Lab::new(9000)?;
    lab.attach(&mut gate()?, "lan")?;
    let before = lab.program()?;
    let error = lab.attach_by(&mut gate()?, "lan", &[Way::Native]).unwrap_err();
    assert!(matches!(error, AttachError::Refused { in_force: Some(ProgramMode::Native), .. }), "{error:?}");
    assert!(error.to_string().contains("goes on filtering"), "{error}");
    assert_eq!(lab.program()?, before);
    assert!(!lab.connects()?);
    Ok(())
}

#[test]
fn another_program_on_the_interface_is_named() -> Result<()> {
    let lab = Lab::new(1500)?;
    let mut other = EbpfLoader::new().load(objects::lab()?)?;
    let pass: &mut Xdp = other.program_mut("pass").context("no program pass")?.try_into()?;
    pass.load()?;
    let id = pass.info()?.id();

    let index = lab.interface("lan")?.index;
    let link = lab.gateway.enter(|| pass.attach_to_if_index(index, XdpMode::Driver))??;
    let error = lab.attach(&mut gate()?, "lan").unwrap_err();
    let AttachError::Busy { occupant, .. } = &error else { bail!("{error}") };
    assert_eq!((occupant.program.id, occupant.by_link), (id, true));
    let said = error.to_string();
    let own = std::process::id();
    for expected in [format!("pass (id {id}, native"), format!("(pid {own})"), "; stop ".into()] {
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    pass.detach(link)?;

    let pinned = lab.bpffs.path().join("pass");
    pass.pin(&pinned)?;
    lab.gateway.ip(&format!("link set dev lan xdpgeneric pinned {}", pinned.display()))?;
    let said = lab.attach(&mut gate()?, "lan").unwrap_err().to_string();
    assert!(said.contains(&format!("pass (id {id}, generic")), "{said}");
    let (_, remedy) = said.rsplit_once("ip link").context("no remedy")?;
    lab.gateway.ip(&format!("link{remedy}"))?;
    assert_eq!(lab.attach(&mut gate()?, "lan")?.mode, AttachMode::NativeFrags);
    Ok(())
}

#[test]
fn the_pin_of_a_deleted_interface_is_replaced() -> Result<()> {
    let lab = Lab::new(1500)?;
    lab.attach(&mut gate()?, "lan")?;
    lab.gateway.ip("link delete lan")?;
    lab.connect(1500)?;
    assert!(lab.pin().exists());
    assert_eq!(lab.mode("lan")?, None);
    let attached = lab.attach(&mut gate()?, "lan")?;
    assert_eq!((attached.mode, attached.replaced), (AttachMode::NativeFrags, false));
    assert!(!lab.connects()?);

    lab.gateway.ip("link delete lan")?;
    lab.detach()?;
    assert!(!lab.pin().exists());
    Ok(())
}

#[test]
fn an_interface_that_went_away_is_said_to_be_gone() -> Result<()> {
    let lab = Lab::new(1500)?;
    let interface = lab.interface("lan")?;
    lab.gateway.ip("link delete lan")?;
    let mut gate = gate()?;
    let error = lab.gateway.enter(|| attach(&mut gate, &interface, &lab.pin()))?.unwrap_err();
    assert!(matches!(error, AttachError::Gone { .. }), "{error:?}");
    Ok(())
}

#[test]
fn detaching_leaves_nothing_even_if_someone_holds_the_link() -> Result<()> {
    let lab = Lab::new(1500)?;
    lab.attach(&mut gate()?, "lan")?;
    let held: FdLink = PinnedLink::from_pin(lab.pin())?.into();
    lab.detach()?;
    assert_eq!(lab.program()?, None);
    assert!(!lab.pin().exists());
    assert!(lab.connects()?);
    drop(held);

    let error = lab.gateway.enter(|| detach(&lab.pin()))?.unwrap_err();
    assert!(matches!(error, AttachError::NothingPinned { .. }), "{error:?}");
    Ok(())
}

#[test]
fn a_pin_of_something_else_is_not_touched() -> Result<()> {
    let lab = Lab::new(1500)?;
    let mut other = EbpfLoader::new().load(objects::lab()?)?;
    let pass: &mut Xdp = other.program_mut("pass").context("no program pass")?.try_into()?;
    pass.load()?;
    pass.pin(lab.pin())?;
    let error = lab.attach(&mut gate()?, "lan").unwrap_err();
    assert!(matches!(error, AttachError::NotALink { .. }), "{error:?}");
    assert!(lab.pin().exists());
    let error = lab.attach(&mut other, "lan").unwrap_err();
    assert!(matches!(error, AttachError::NotALink { .. }), "{error:?}");
    Ok(())
}

#[test]
fn an_object_without_the_gate_and_a_pin_outside_a_bpf_file_system_are_errors() -> Result<()> {
    let lab = Lab::new(1500)?;
    let mut other = EbpfLoader::new().load(objects::lab()?)?;
    let error = lab.attach(&mut other, "lan").unwrap_err();
    assert!(matches!(error, AttachError::MissingProgram { .. }), "{error:?}");

    let interface = lab.interface("lan")?;
    let mut gate = gate()?;
    let outside = std::env::temp_dir().join(format!("no-bpffs-{}", std::process::id()));
    let error = lab.gateway.enter(|| attach(&mut gate, &interface, &outside))?.unwrap_err();
    assert!(error.to_string().contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    assert_eq!(lab.program()?, None, "a link that cannot be pinned must not stay");
    Ok(())
}

#[test]
fn a_program_that_the_verifier_refuses_comes_with_its_words() -> Result<()> {
    use object::{Object, ObjectSection};
    let lab = Lab::new(1500)?;
    let mut broken = objects::gate()?.to_vec();
    let parsed = object::File::parse(objects::gate()?)?;
    let section = parsed.section_by_name("xdp.frags").context("no section of the program")?;
    let (start, _) = section.file_range().context("the section is empty")?;
    // The first instruction becomes `exit`, without a result.
    let first = usize::try_from(start)?;
    broken[first..first + 8].copy_from_slice(&[0x95, 0, 0, 0, 0, 0, 0, 0]);
    let mut broken = EbpfLoader::new().map_max_entries("CELLS", 64).load(&broken)?;
    let error = lab.attach(&mut broken, "lan").unwrap_err();
    let AttachError::Rejected { program: "gate_frags", log, .. } = &error else { bail!("{error:?}") };
    assert!(log.contains("unreachable insn 1"), "{error}");
    assert!(error.to_string().contains(log), "{error}");
    Ok(())
}

#[test]
fn without_privileges_the_capabilities_are_named() -> Result<()> {
    let lab = Lab::new(1500)?;
    let interface = lab.interface("lan")?;
    let mut gate = gate()?;
    let nowhere = std::env::temp_dir().join(format!("no-pin-{}", std::process::id()));
    let errors = lab.gateway.enter(|| {
        become_nobody()?;
        anyhow::Ok([&nowhere, &lab.pin()].map(|pin| attach(&mut gate, &interface, pin).unwrap_err().to_string()))
    })??;
    assert!(errors[0].contains("needs CAP_NET_ADMIN and CAP_BPF (run as root)"), "{}", errors[0]);
    assert!(errors[1].contains("(run as root)"), "{}", errors[1]);
    let pins = lab.bpffs.path().join("pins");
    let said = lab
        .gateway
        .enter(|| {
            become_nobody()?;
            anyhow::Ok(ratelimit_user::preflight::check(&pins).unwrap_err())
        })??
        .to_string();
    assert!(said.contains("CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON missing"), "{said}");
    Ok(())
}

/// This thread alone, unlike with the function of the C library.
fn become_nobody() -> Result<()> {
    const NOBODY: libc::c_long = 65_534;
    // SAFETY: takes three numbers.
    let answer = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    ensure!(answer == 0, "cannot give up privileges: {}", std::io::Error::last_os_error());
    Ok(())
}
