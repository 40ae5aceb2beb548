//! The gate as the controller puts it in force, without an interface.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, Map, MapInfo};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader};
use ratelimit_common::map::CELLS_PER_LINE;
use ratelimit_common::suspicion::{note_completes, suspect};
use ratelimit_common::{Moment, SERVICES, Secret, ServiceId, Set};
use ratelimit_user::compile::{Compiled, compile};
use ratelimit_user::config::{
    Burst, Challenge, Config, Entry, EntryKind, Limit, Mode, Network, Period, Proof, Rate, Scope,
};
use ratelimit_user::guard::NeverBlock;
use ratelimit_user::layout::Layout;
use ratelimit_user::lists::Weights;
use ratelimit_user::machine::Machine;
use serde::Serialize;

use crate::kernel::{Cells, coarse_clock_ns, fill_lists};
use crate::packet::STATION;
use crate::{flood, objects};

/// What is blocked besides, as a single source.
pub(super) const BLOCKED_V4: &str = "203.0.113.7/32";
pub(super) const BLOCKED_V6: &str = "2001:db8:bad::7/128";

/// Own addresses, those the packets are for among them.
const OWN: [&str; 5] = ["127.0.0.1", "::1", "198.51.100.25", "2001:db8:25::25", "fe80::25"];
/// Of each list and family, besides.
const ENTRIES: u32 = 200;
/// The set the gate reads until it is told otherwise.
const SET: u32 = 0;
/// Where a program that is run without being attached is told that its frames come from.
const LOOPBACK: u32 = 1;
/// Cells count from this long before the start, as in a gate just started.
const BASE_BEFORE_NOW_NS: u64 = 1_000_000_000;

/// What differs between the gates that are measured. All enforce the built-in configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Setup {
    Default,
    /// Without challenges: what is over its limit is dropped.
    Plain,
    /// With limits that no run reaches, without challenges and with them.
    Wide,
    WideProving,
    /// With a service that is suspect.
    Suspect,
    /// With 1,200 networks in trust, allow and block.
    Listed,
    /// Without events.
    Quiet,
}

impl Setup {
    pub(super) const ALL: [Self; 7] =
        [Self::Default, Self::Plain, Self::Wide, Self::WideProving, Self::Suspect, Self::Listed, Self::Quiet];

    fn config(self) -> Result<Config> {
        let mut config = Config { mode: Mode::Enforce, ..Config::default() };
        let challenge = match self {
            Self::Default | Self::WideProving | Self::Suspect => Challenge::Reset,
            Self::Plain | Self::Wide | Self::Listed | Self::Quiet => Challenge::Off,
        };
        // More than any run sends.
        let challenge_rate = Rate::new(200_000_000, Period::Second).context("a rate")?;
        config.proof = Proof { challenge, challenge_rate, ..config.proof };
        match self {
            Self::Default | Self::Plain | Self::Suspect => {}
            Self::Wide | Self::WideProving => widen(&mut config)?,
            Self::Listed => list(&mut config)?,
            Self::Quiet => config.events_per_second = 0,
        }
        Ok(config)
    }
}

/// One loaded gate with maps of its own.
#[derive(Debug)]
pub(super) struct Subject {
    ebpf: Ebpf,
    setup: Setup,
    base_ns: u64,
    /// Those of the services as a whole.
    cells: Cells,
}

impl Subject {
    pub(super) fn load(setup: Setup) -> Result<Self> {
        let config = setup.config()?;
        let layout = Layout::plan(&config, None);
        let own_addresses = OWN.map(|address| address.parse().expect("an address")).to_vec();
        let processors = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
        let machine = Machine { own_addresses, processors: processors as u32, ..Machine::default() };
        let never_block = NeverBlock::of(&machine, &[], &[]);
        let (compiled, _) = compile(&config, &layout, &machine, &never_block, &Weights::default(), None)?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("CELLS", layout.lines)
            .load(objects::gate()?)
            .context("cannot load the gate's BPF object")?;
        let base_ns = fill(&mut ebpf, compiled)?;
        let xdp: &mut Xdp = ebpf.program_mut("gate").context("the object has no gate")?.try_into()?;
        xdp.load().context("the kernel refuses the gate")?;
        let cells = match ebpf.map("CELLS").context("no map CELLS")? {
            Map::Array(map) => Cells::of(map, SERVICES * CELLS_PER_LINE)?,
            other => bail!("the cells are {other:?}"),
        };
        Ok(Self { ebpf, setup, base_ns, cells })
    }

    /// Makes every service suspect again, where that is measured: suspicion ends by itself.
    pub(super) fn press(&self) -> Result<()> {
        if self.setup != Setup::Suspect {
            return Ok(());
        }
        let now = Moment(coarse_clock_ns()?).ticks_since(self.base_ns);
        for id in (0..SERVICES).filter_map(ServiceId::new) {
            note_completes(&self.cells, id);
            suspect(&self.cells, id, now);
        }
        Ok(())
    }

    pub(super) fn program(&self) -> Result<&ProgramFd> {
        Ok(self.xdp()?.fd()?)
    }

    fn xdp(&self) -> Result<&Xdp> {
        Ok(self.ebpf.program("gate").context("the object has no gate")?.try_into()?)
    }

    /// The maps and what they occupy now.
    pub(super) fn maps(&self) -> Result<Vec<MapSize>> {
        let ids = self.xdp()?.info()?.map_ids()?.context("the kernel does not tell a program's maps")?;
        ids.into_iter().map(|id| MapSize::of(&MapInfo::from_id(id)?)).collect()
    }
}

/// What one map occupies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapSize {
    pub name: String,
    pub entries_max: u32,
    /// As the kernel accounts it.
    pub memory_bytes: u64,
}

impl MapSize {
    pub(super) fn of(info: &MapInfo) -> Result<Self> {
        let map = info.fd()?;
        let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let memory = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
        Ok(Self {
            name: info.name_as_str().unwrap_or_default().to_owned(),
            entries_max: info.max_entries(),
            memory_bytes: memory.with_context(|| format!("{path} tells no memory"))?,
        })
    }
}

/// Returns from when on the cells count.
fn fill(ebpf: &mut Ebpf, compiled: Compiled) -> Result<u64> {
    const BYTES: usize = size_of::<Set>();
    let Compiled { mut set, table } = compiled;
    set.generation = 1;
    // What a program that is run without being attached is told.
    set.put_stations([(LOOPBACK, STATION)]);
    let mut sets: Array<_, [u8; BYTES]> = ebpf.map_mut("SETS").context("no map SETS")?.try_into()?;
    sets.set(SET, <&[u8; BYTES]>::try_from(bytemuck::bytes_of(&*set))?, 0)?;
    let base_ns = coarse_clock_ns()?.saturating_sub(BASE_BEFORE_NOW_NS);
    let secret = Secret::new([flood::seed(), flood::seed()], base_ns);
    let mut secrets: Array<_, [u8; size_of::<Secret>()]> =
        ebpf.map_mut("SECRET").context("no map SECRET")?.try_into()?;
    secrets.set(0, bytemuck::cast::<_, [u8; size_of::<Secret>()]>(secret), 0)?;
    fill_lists(ebpf, SET, &table.context("no table")?)?;
    Ok(base_ns)
}

/// The fastest rate there is, and a burst of most of the 24 hours it may last.
fn widen(config: &mut Config) -> Result<()> {
    let rate = Rate::new(1000, Period::Second).context("a rate")?;
    let limit = Limit { rate, burst: Burst::new(80_000_000).context("a burst")? };
    for service in &mut config.services {
        (service.source, service.network, service.service) = (vec![limit], vec![limit], None);
    }
    Ok(())
}

/// Networks all over both families' space, and the one source that is measured as blocked.
fn list(config: &mut Config) -> Result<()> {
    const SPREAD: u32 = 0x9e37_79b1;
    for (number, kind) in EntryKind::ALL.into_iter().enumerate() {
        let (first, end) = (number as u32 * ENTRIES, (number as u32 + 1) * ENTRIES);
        let mut networks = Vec::new();
        for spread in (first..end).map(|index| (index + 1).wrapping_mul(SPREAD)) {
            let v4 = IpAddr::from(Ipv4Addr::from_bits(spread));
            let v6 = IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | (u128::from(spread) << 64)));
            networks.extend(Network::truncated(v4, 24));
            networks.extend(Network::truncated(v6, 48));
        }
        if kind == EntryKind::Block {
            networks.extend([BLOCKED_V4, BLOCKED_V6].map(|network| network.parse::<Network>().expect("a network")));
        }
        let entries = networks.into_iter().map(|network| Entry { network, services: Scope::All, note: None }).collect();
        match kind {
            EntryKind::Trust => config.trust = entries,
            EntryKind::Allow => config.allow = entries,
            EntryKind::Block => config.block = entries,
        }
    }
    Ok(())
}
