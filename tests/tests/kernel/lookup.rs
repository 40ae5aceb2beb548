//! The table of networks in the kernel against the networks themselves, on every boundary and at random.

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ratelimit_common::{Address, Entry};
use ratelimit_tests::{intervals::Intervals, look_up::Classifier, packet::mutate::Random};
use ratelimit_user::{
    config::Network,
    lists::{
        Networks,
        table::{self, Layer, Table},
    },
};

const V4_NETWORKS: usize = 1_000_000;
const V6_NETWORKS: usize = 100_000;
const RANDOM_ADDRESSES: usize = 1_000_000;
/// What each list says; one network in so many goes to the second and third.
const SAYS: [(Entry, usize); 3] = [
    (Entry::new(0, 0, 1).by_lists(1), 1),
    (Entry::new(0, 2, 0).by_lists(2), 10),
    (Entry::new(4, 0, 4).by_lists(4), 100),
];

/// One list as the reference sees it.
struct Listed {
    says: Entry,
    networks: Vec<IpNet>,
    held: Intervals,
}

impl Listed {
    fn new(says: Entry, networks: Vec<IpNet>) -> Self {
        let ends = |network: &IpNet| (Address::from(network.network()), Address::from(network.broadcast()));
        Self { says, held: Intervals::of(networks.iter().map(ends)), networks }
    }
}

#[test]
fn a_million_v4_networks_agree_with_ipnet() -> Result<()> {
    let mut random = Random::new(7);
    let lists = lists(V4_NETWORKS, &mut random, |random| {
        let length = [32, 32, 32, 32, 32, 24, 28, 16 + random.below(16) as u8][random.below(8)];
        Ok(Ipv4Net::new((random.word() as u32).into(), length)?.trunc().into())
    })?;
    agree(&lists, |random| Address::from_v4(random.word() as u32), &mut random)
}

#[test]
fn a_hundred_thousand_v6_networks_agree_with_ipnet() -> Result<()> {
    let mut random = Random::new(8);
    // Few providers, so that networks lie beside and inside one another.
    let address = |random: &mut Random| {
        let provider = 0x2000_0000_0000_0000 | (random.word() & 0xff) << 40;
        u128::from(provider | random.word() & 0xffff_ffff) << 64 | u128::from(random.word())
    };
    let lists = lists(V6_NETWORKS, &mut random, |random| {
        let length = [48, 56, 64, 64, 128, 128, 128, 34 + random.below(95) as u8][random.below(8)];
        Ok(Ipv6Net::new(address(random).into(), length)?.trunc().into())
    })?;
    agree(&lists, |random| v6(address(random)), &mut random)
}

/// The same networks in several lists, fewer from list to list.
fn lists(count: usize, random: &mut Random, draw: impl Fn(&mut Random) -> Result<IpNet>) -> Result<Vec<Listed>> {
    let all = (0..count).map(|_| draw(random)).collect::<Result<Vec<_>>>()?;
    let every = |nth: usize| all.iter().step_by(nth).copied().collect();
    Ok(SAYS.iter().map(|(says, nth)| Listed::new(*says, every(*nth))).collect())
}

fn agree(lists: &[Listed], draw: impl Fn(&mut Random) -> Address, random: &mut Random) -> Result<()> {
    let table = compiled(lists)?;
    let mut asked: Vec<Address> = lists[0].networks.iter().flat_map(boundaries).collect();
    asked.extend((0..RANDOM_ADDRESSES).map(|_| draw(random)));
    let classes = Classifier::load(&table)?.classes(&asked)?;
    let (mut differ, mut covered) = (0, 0usize);
    for (address, class) in asked.iter().zip(&classes) {
        let found = table.classes().get(usize::from(class.0));
        let expected = expected(lists, *address);
        covered += usize::from(expected != Entry::NONE);
        if found != Some(&expected) {
            println!("{}: {found:?} instead of {expected:?}", address.to_ip());
            differ += 1;
        }
    }
    println!("{} addresses asked for, {covered} of them listed", asked.len());
    ensure!(classes.len() == asked.len() && differ == 0, "{differ} of {} addresses differ", asked.len());
    ensure!((asked.len() / 5..asked.len() / 5 * 4).contains(&covered), "{covered} are listed: too many, or too few");
    Ok(())
}

fn compiled(lists: &[Listed]) -> Result<Table> {
    let networks: Vec<Networks> =
        lists.iter().map(|list| list.networks.iter().copied().map(Network::from).collect()).collect();
    let layers: Vec<_> = networks
        .iter()
        .zip(lists)
        .map(|(networks, list)| Layer { networks, says: list.says, shields: false })
        .collect();
    Ok(table::build(&layers)?)
}

/// What all lists that hold an address say, added up.
fn expected(lists: &[Listed], address: Address) -> Entry {
    lists.iter().filter(|list| list.held.contain(address)).fold(Entry::NONE, |sum, list| sum.union(list.says))
}

/// The first and the last address, and those just outside.
fn boundaries(network: &IpNet) -> Vec<Address> {
    match network {
        IpNet::V4(network) => {
            let (first, last) = (network.network().to_bits(), network.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(Address::from_v4).to_vec()
        }
        IpNet::V6(network) => {
            let (first, last) = (network.network().to_bits(), network.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(v6).to_vec()
        }
    }
}

fn v6(bits: u128) -> Address {
    Address::from_words((bits >> 64) as u64, bits as u64)
}
