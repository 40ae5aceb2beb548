//! What a configuration says of networks, layer by layer.

use std::{collections::BTreeMap, sync::Arc};

use ratelimit_common::Entry;

use super::{
    Networks, Weights,
    table::{self, Table, TooManyClasses},
};
use crate::{
    config::{Action, Config, EntryKind, Mode, Network, Permit, Scope},
    guard::NeverBlock,
    layout::Layout,
};

/// What is said of networks. Equal layers make equal tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers(Vec<Layer>);

#[derive(Clone, Debug)]
struct Layer {
    networks: Arc<Networks>,
    says: Entry,
    /// Nothing blocks its networks, whatever other layers say.
    shields: bool,
}

impl PartialEq for Layer {
    fn eq(&self, other: &Self) -> bool {
        let same = || Arc::ptr_eq(&self.networks, &other.networks) || self.networks == other.networks;
        self.says == other.says && self.shields == other.shields && same()
    }
}

impl Eq for Layer {}

impl Layers {
    /// `own` are addresses of this machine, which may connect to every service.
    pub fn of(
        config: &Config,
        layout: &Layout,
        own: &Arc<Networks>,
        never_block: &NeverBlock,
        lists: &Weights,
    ) -> Self {
        let mut layers = Self::default();
        layers.add_entries(config, layout);
        layers.add_lists(config, layout, lists);
        layers.add_only_from(config, layout, own, lists);
        if layers.0.iter().any(|layer| layer.says != layer.says.shielded()) {
            let networks = Arc::clone(never_block.as_list());
            layers.0.push(Layer { networks, says: Entry::NONE, shields: true });
        }
        layers
    }

    pub fn entries(&self) -> usize {
        self.0.iter().map(|layer| layer.networks.len()).sum()
    }

    /// The services for which packets of open connections are blocked too.
    pub fn of_all_packets(&self) -> u16 {
        self.0.iter().fold(0, |all, layer| all | layer.says.of_all_packets())
    }

    pub fn build(&self) -> Result<Table, TooManyClasses> {
        let layers: Vec<_> = self
            .0
            .iter()
            .map(|layer| table::Layer { networks: &layer.networks, says: layer.says, shields: layer.shields })
            .collect();
        table::build(&layers)
    }

    fn add(&mut self, networks: Arc<Networks>, says: Entry) {
        if says != Entry::NONE && !networks.is_empty() {
            self.0.push(Layer { networks, says, shields: false });
        }
    }

    /// One layer for each kind and each set of services, however many entries there are.
    fn add_entries(&mut self, config: &Config, layout: &Layout) {
        for kind in EntryKind::ALL {
            let mut by_services = BTreeMap::<u16, Vec<Network>>::new();
            for entry in config.entries(kind) {
                by_services.entry(bits(&entry.services, layout)).or_default().push(entry.network);
            }
            for (services, networks) in by_services {
                let says = match kind {
                    EntryKind::Trust => Entry::new(services, 0, 0),
                    EntryKind::Allow => Entry::new(0, services, 0),
                    EntryKind::Block => Entry::new(0, 0, services),
                };
                self.add(Arc::new(networks.into_iter().collect()), says);
            }
        }
    }

    /// A layer for each list that weighs anything, whatever its size.
    fn add_lists(&mut self, config: &Config, layout: &Layout, lists: &Weights) {
        for (index, list) in config.lists.iter().enumerate() {
            let Some(networks) = lists.of(index) else { continue };
            let services = bits(&list.services, layout);
            let says = match list.action {
                Action::Allow => Entry::new(0, services, 0),
                Action::Block if list.mode == Some(Mode::Observe) => Entry::NONE.observing(services),
                Action::Block => {
                    let all_packets = if list.all_packets { services } else { 0 };
                    Entry::new(0, 0, services).blocking_all_packets(all_packets)
                }
            };
            self.add(Arc::clone(networks), says.by_lists(1 << index));
        }
    }

    fn add_only_from(&mut self, config: &Config, layout: &Layout, own: &Arc<Networks>, lists: &Weights) {
        let restricted = layout.bits_of(config, |service| lists.restrict(config, service));
        self.add(Arc::clone(own), Entry::NONE.permitting(restricted));
        for service in config.services.iter().filter(|service| lists.restrict(config, service)) {
            let says = Entry::NONE.permitting(layout.place(&service.name).map_or(0, |place| place.id.bit()));
            let mut networks = Vec::new();
            for permit in &service.only_from {
                match permit {
                    Permit::Network(network) => networks.push(*network),
                    Permit::List(name) => {
                        let of_list = lists.named(config, name);
                        of_list.into_iter().for_each(|networks| self.add(Arc::clone(networks), says));
                    }
                }
            }
            self.add(Arc::new(networks.into_iter().collect()), says);
        }
    }
}

/// The services of a scope, one bit each.
fn bits(scope: &Scope, layout: &Layout) -> u16 {
    match scope {
        Scope::All => u16::MAX,
        Scope::Services(names) => {
            let places = names.iter().filter_map(|name| layout.place(name));
            places.fold(0, |all, place| all | place.id.bit())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use ratelimit_common::{Address, lookup::find};

    fn entry(text: &str, machine: &Machine, address: &str) -> Entry {
        let config = Config::parse(text, "test").unwrap().config;
        let own = machine.own_addresses.iter().map(|address| Network::host(*address)).collect();
        let never_block = NeverBlock::of(machine, &[], &[]);
        let layout = Layout::plan(&config, None);
        let layers = Layers::of(&config, &layout, &Arc::new(own), &never_block, &Weights::default());
        let table = layers.build().unwrap();
        let address: std::net::IpAddr = address.parse().unwrap();
        table.classes()[usize::from(find(table.to_lines().as_slice(), Address::from(address)).0)]
    }

    fn nobody() -> Machine {
        Machine::default()
    }

    fn machine() -> Machine {
        let list = |address: &str| vec![address.parse().unwrap()];
        Machine {
            own_addresses: list("192.0.2.1"),
            gateways: list("192.0.2.2"),
            resolvers: list("192.0.2.3"),
            processors: 1,
            ..Machine::default()
        }
    }

    const ALL: u16 = u16::MAX;

    #[test]
    fn a_network_says_what_the_wider_ones_say_too() {
        let text = r#"block = ["10.0.0.0/8", "192.0.2.0/24"]
                      allow = ["10.1.0.0/16"]
                      trust = ["10.1.2.3"]"#;
        assert_eq!(entry(text, &nobody(), "10.200.0.1"), Entry::new(0, 0, ALL));
        assert_eq!(entry(text, &nobody(), "10.1.0.1"), Entry::new(0, ALL, ALL));
        assert_eq!(entry(text, &nobody(), "10.1.2.3"), Entry::new(ALL, ALL, ALL));
        assert_eq!(entry(text, &nobody(), "11.0.0.0"), Entry::NONE);
    }

    #[test]
    fn all_of_ipv6_says_nothing_of_ipv4() {
        let text = r#"block = ["::/0", "198.51.100.0/24"]"#;
        assert_eq!(entry(text, &nobody(), "203.0.113.1"), Entry::NONE);
        assert_eq!(entry(text, &nobody(), "2001:db8::1"), Entry::new(0, 0, ALL));
        let text = "trust = [\"::/0\"]\nblock = [\"0.0.0.0/0\"]";
        assert_eq!(entry(text, &nobody(), "203.0.113.1"), Entry::new(0, 0, ALL));
        assert_eq!(entry(text, &nobody(), "2001:db8::1"), Entry::new(ALL, 0, 0));
    }

    #[test]
    fn own_addresses_are_never_blocked_and_always_permitted() {
        let text = "block = [\"192.0.2.0/24\"]\n[services.smtp]\nonly_from = [\"198.51.100.0/24\"]";
        let smtp = Entry::NONE.permitting(1);
        assert_eq!(entry(text, &machine(), "192.0.2.1"), smtp);
        assert_eq!(entry(text, &machine(), "192.0.2.9"), Entry::new(0, 0, ALL));
        assert_eq!(entry(text, &machine(), "198.51.100.9"), smtp);
    }

    #[test]
    fn what_the_machine_needs_is_never_blocked_and_not_permitted_more_than_others() {
        let text = "block = [\"192.0.2.0/24\"]\n[services.smtp]\nonly_from = [\"198.51.100.0/24\"]";
        for needed in ["192.0.2.2", "192.0.2.3"] {
            assert_eq!(entry(text, &machine(), needed), Entry::NONE, "{needed}");
            assert_eq!(entry(text, &nobody(), needed), Entry::new(0, 0, ALL), "{needed}");
        }
    }
}
