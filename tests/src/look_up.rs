//! Networks in the kernel, looked up as the gate does it, and as others do.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, HashMap};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp, XdpMode};
use ratelimit_common::ban::{Ban, BanKey};
use ratelimit_common::{Address, ClassId};
use ratelimit_user::lists::Networks;
use ratelimit_user::lists::table::Table;
use ratelimit_user::plane::{BanMaps, list_map};

use crate::enter::within;
use crate::layout::Batch;
use crate::netns::Bpffs;
use crate::receiver::{Counts, counts};
use crate::{objects, shared};

/// Most addresses classified in one go.
const BATCH: usize = 1 << 20;
/// The set that the programs read until they are told otherwise.
const SET: u32 = 0;
/// Any frame that a test run takes.
const FRAME: [u8; 64] = [0; 64];
/// Attached to an interface, to count.
const COUNTER: &str = "count_listed";

// SAFETY: repr(C), integers only, no padding.
unsafe impl aya::Pod for Batch {}

/// How a source is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The gate's table.
    Table,
    /// An LPM_TRIE.
    Trie,
    /// A HASH, which knows hosts only.
    Hash,
    /// The gate's bans.
    Bans,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Table, Self::Trie, Self::Hash, Self::Bans];

    const fn program(self) -> &'static str {
        match self {
            Self::Table => "in_table",
            Self::Trie => "in_trie",
            Self::Hash => "in_hash",
            Self::Bans => "in_bans",
        }
    }
}

/// The lab's programs with maps of their own, all empty at first.
#[derive(Debug)]
pub struct LookUp {
    ebpf: Ebpf,
}

impl LookUp {
    /// With room for so many networks in the maps that others use.
    ///
    /// # Errors
    ///
    /// Not root, or a kernel too old.
    pub fn load(networks: usize) -> Result<Self> {
        let room = u32::try_from(networks.max(1))?;
        let sized = ["TRIE_V4", "TRIE_V6", "HOSTS_V4", "HOSTS_V6"].map(|name| (name, room));
        let mut ebpf = objects::load_lab_sized(&sized)?;
        for name in Way::ALL.map(Way::program).into_iter().chain([COUNTER]) {
            program(&mut ebpf, name)?.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        Ok(Self { ebpf })
    }

    pub fn program(&self, way: Way) -> Result<ProgramFd> {
        let program: &Xdp = self.ebpf.program(way.program()).context("not in the lab's object")?.try_into()?;
        Ok(program.fd()?.try_clone()?)
    }

    pub fn put_table(&mut self, table: &Table) -> Result<()> {
        put_table(&mut self.ebpf, table)
    }

    /// One system call for each network.
    pub fn put_trie(&mut self, networks: &Networks) -> Result<()> {
        let mut v4: LpmTrie<_, [u8; 4], u32> = self.map("TRIE_V4")?.try_into()?;
        for network in networks.v4() {
            v4.insert(&Key::new(network.length().into(), network.first().to_be_bytes()), 1, 0)?;
        }
        let mut v6: LpmTrie<_, [u8; 16], u32> = self.map("TRIE_V6")?.try_into()?;
        for network in networks.v6() {
            v6.insert(&Key::new(network.length().into(), network.first().to_be_bytes()), 1, 0)?;
        }
        Ok(())
    }

    /// One system call for each host; networks are left out.
    pub fn put_hosts(&mut self, networks: &Networks) -> Result<()> {
        let mut v4: HashMap<_, u32, u32> = self.map("HOSTS_V4")?.try_into()?;
        for host in networks.v4().iter().filter(|network| network.length() == 32) {
            v4.insert(host.first(), 1, 0)?;
        }
        let mut v6: HashMap<_, [u8; 16], u32> = self.map("HOSTS_V6")?.try_into()?;
        for host in networks.v6().iter().filter(|network| network.length() == 128) {
            let address = Address::from_words((host.first() >> 64) as u64, host.first() as u64);
            v6.insert(bytemuck::cast::<_, [u8; 16]>(address), 1, 0)?;
        }
        Ok(())
    }

    /// Bans for ever, from every service, put there as the controller does.
    pub fn put_bans(&mut self, bans: &[BanKey]) -> Result<()> {
        let pins = Bpffs::new()?;
        for name in ["BANS", "BAN_COUNT", "BAN_FILTER"] {
            self.map(name)?.pin(pins.path().join(name))?;
        }
        let forever = Ban { until_ns: u64::MAX, services: u64::MAX, ..Ban::default() };
        let bans: Vec<_> = bans.iter().map(|key| (*key, forever)).collect();
        Ok(BanMaps::open(pins.path())?.restore(&bans)?)
    }

    /// Looks every source up in the table and drops it, on an interface that is given up with this value.
    pub fn attach(&mut self, namespace: &Path, interface: &str) -> Result<()> {
        within(namespace, || {
            let counter = program(&mut self.ebpf, COUNTER)?;
            counter.attach(interface, XdpMode::Driver).with_context(|| format!("cannot attach to {interface}"))?;
            Ok(())
        })
    }

    /// What came there until now.
    pub fn counts(&self) -> Result<Counts> {
        counts(&self.ebpf)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).context("not in the lab's object")
    }
}

/// A table in the kernel that is asked for classes.
#[derive(Debug)]
pub struct Classifier {
    ebpf: Ebpf,
}

impl Classifier {
    /// # Errors
    ///
    /// Not root, or a kernel too old.
    pub fn load(table: &Table) -> Result<Self> {
        let mut ebpf = objects::load_lab_sized(&[("SAMPLES", BATCH as u32), ("CLASSES", BATCH as u32)])?;
        program(&mut ebpf, "classify")?.load().context("the kernel refuses classify")?;
        put_table(&mut ebpf, table)?;
        Ok(Self { ebpf })
    }

    /// The class of each address, as the kernel finds it.
    pub fn classes(&mut self, addresses: &[Address]) -> Result<Vec<ClassId>> {
        let mut classes = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            classes.extend(self.batch(batch)?);
        }
        Ok(classes)
    }

    fn batch(&mut self, addresses: &[Address]) -> Result<Vec<ClassId>> {
        let count = addresses.len();
        let words: Vec<[u64; 2]> = addresses.iter().map(|address| address.words().into()).collect();
        shared::put(&self.ebpf, "SAMPLES", &words)?;
        // What no class has, so that an address that was left out shows.
        shared::put(&self.ebpf, "CLASSES", &vec![u64::MAX; count])?;
        let mut batch: Array<_, Batch> = self.ebpf.map_mut("BATCH").context("not in the lab's object")?.try_into()?;
        batch.set(0, Batch { next: 0, samples: count as u32 }, 0)?;
        let options = TestRunOptions { data_in: Some(&FRAME), repeat: count as u32, ..TestRunOptions::default() };
        program(&mut self.ebpf, "classify")?.test_run(options)?;
        let classes = shared::get::<u64>(&self.ebpf, "CLASSES", count)?;
        let class = |class: u64| Ok(ClassId(u16::try_from(class).context("an address was left out")?));
        classes.into_iter().map(class).collect()
    }
}

fn put_table(ebpf: &mut Ebpf, table: &Table) -> Result<()> {
    let mut lists: ArrayOfMaps<_> = ebpf.map_mut("LISTS").context("not in the lab's object")?.try_into()?;
    Ok(lists.set(SET, &list_map(table)?, 0)?)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    ensure!(nix::unistd::geteuid().is_root(), "programs in the kernel need root");
    Ok(ebpf.program_mut(name).context("not in the lab's object")?.try_into()?)
}
