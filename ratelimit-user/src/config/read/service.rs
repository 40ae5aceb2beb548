use toml::de::DeValue;

use super::list::is_list_name;
use super::node::{Fields, Node, nearest, number, shortened};
use super::{Reader, quoted};
use crate::config::grammar::{Burst, Connections, GrammarError, Network, Rate};
use crate::config::limit::{Level, Limit};
use crate::config::problem::{KeyProblem, LimitProblem, ServiceProblem, ValueProblem};
use crate::config::service::{
    DEFAULT_SERVICES, Deny, Destination, LONGEST_SERVICE_NAME, MOST_LISTEN_PORTS, MOST_SERVICES, Permit, Prefix,
    Service,
};

const KEYS: &[&str] = &[
    "enabled",
    "ports",
    "listen_ports",
    "to",
    "mode",
    "source",
    "network",
    "service",
    "connections",
    "source_prefix",
    "network_prefix",
    "only_from",
    "deny",
];
const LIMIT_KEYS: &[&str] = &["rate", "burst"];
const PREFIX_KEYS: &[&str] = &["v4", "v6"];
const LIMIT_EXAMPLE: &str = "{ rate = \"300/min\", burst = 300 }";
const PORTS_EXPECTED: &str = "a list of port numbers";
const PORTS_EXAMPLE: &str = "ports = [25]";
const LISTEN_PORTS_EXAMPLE: &str = "listen_ports = [2525]";
const CONNECTIONS_EXAMPLE: &str = "connections = 50";
const DENY_EXAMPLE: &str = "deny = \"drop\"";

impl Reader {
    /// The built-in services as the file changes them, then the file's own in its order.
    pub fn services(&mut self, node: &Node<'_>) -> Vec<Service> {
        let mut services: Vec<Service> =
            DEFAULT_SERVICES.into_iter().filter_map(|(name, _)| Service::built_in(name)).collect();
        let Some(tables) = self.table(node, "[services.smtp]") else { return services };
        let mut disabled = Vec::new();
        for (name, node) in tables.in_order() {
            let built_in = services.iter().position(|service| service.name == name);
            let base = built_in.map(|index| services[index].clone());
            let Some((service, enabled)) = self.service(name, node, base) else { continue };
            if !enabled {
                disabled.push(service.name.clone());
            }
            match built_in {
                Some(index) => services[index] = service,
                None => services.push(service),
            }
        }
        services.retain(|service| !disabled.contains(&service.name));
        if services.is_empty() {
            self.problem(node, ServiceProblem::None);
        }
        for (index, service) in services.iter().enumerate().skip(MOST_SERVICES) {
            if let Some(node) = tables.get(&service.name) {
                self.problem(node, ServiceProblem::TooMany { count: index + 1 });
            }
        }
        services
    }

    /// The service and whether it is enabled.
    fn service(&mut self, name: &str, node: &Node<'_>, built_in: Option<Service>) -> Option<(Service, bool)> {
        if !is_service_name(name) {
            self.problem(node, ServiceProblem::Name { value: quoted(name) });
        }
        let fields = self.fields(node, KEYS, "[services.smtp]")?;
        let enabled = fields.get("enabled").and_then(|node| self.boolean(node, "enabled = false")).unwrap_or(true);
        let ports = fields.get("ports").map(|node| self.ports(name, node));
        if ports.is_none() && built_in.is_none() && enabled {
            let nearest = nearest(name, DEFAULT_SERVICES.into_iter().map(|(known, _)| known.to_owned()));
            self.problem(node, ServiceProblem::NoPorts { nearest });
        }
        let mut service = match (built_in, ports) {
            (Some(built_in), None) => built_in,
            (Some(built_in), Some(ports)) => Service { ports, ..built_in },
            (None, ports) => Service::starting_point(name, ports.unwrap_or_default()),
        };
        if let Some(to) = fields.get("to").and_then(|node| self.destination(node)) {
            service = service.with_destination(to);
        }
        if let Some(node) = fields.get("listen_ports") {
            service.listen_ports = self.listen_ports(name, node);
        }
        if let Some(connections) = fields.get("connections").and_then(|node| self.connections(node)) {
            service.connections = connections.most();
        }
        service.mode = fields.get("mode").and_then(|node| self.mode(node));
        self.levels(&fields, &mut service);
        self.prefixes(node, &fields, &mut service);
        self.access(&fields, &mut service);
        Some((service, enabled))
    }

    fn ports(&mut self, service: &str, node: &Node<'_>) -> Vec<u16> {
        let items = self.items(node, PORTS_EXPECTED, PORTS_EXAMPLE);
        if items.as_ref().is_some_and(Vec::is_empty) {
            self.problem(node, ServiceProblem::NoPorts { nearest: None });
        }
        let placed = self.port_numbers(&items.unwrap_or_default(), PORTS_EXAMPLE);
        self.ports_at.extend(placed.iter().map(|(port, at)| ((service.to_owned(), *port), *at)));
        placed.into_iter().map(|(port, _)| port).collect()
    }

    /// None of them means the ports of the service.
    fn listen_ports(&mut self, service: &str, node: &Node<'_>) -> Vec<u16> {
        let items = self.items(node, PORTS_EXPECTED, LISTEN_PORTS_EXAMPLE).unwrap_or_default();
        if items.len() > MOST_LISTEN_PORTS {
            self.problem(node, ServiceProblem::TooManyListenPorts { count: items.len() });
        }
        let placed = self.port_numbers(&items, LISTEN_PORTS_EXAMPLE);
        self.listen_ports_at.extend(placed.iter().map(|(port, at)| ((service.to_owned(), *port), *at)));
        placed.into_iter().map(|(port, _)| port).collect()
    }

    /// Each with the byte where it stands, none twice.
    fn port_numbers(&mut self, items: &[Node<'_>], example: &'static str) -> Vec<(u16, usize)> {
        let mut ports: Vec<(u16, usize)> = Vec::new();
        for item in items {
            let port = self.integer(item, 1..=u64::from(u16::MAX), example);
            let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
            if ports.iter().any(|(known, _)| *known == port) {
                self.problem(item, ValueProblem::Repeated { value: format!("port {port}") });
            } else {
                ports.push((port, item.at));
            }
        }
        ports
    }

    fn connections(&mut self, node: &Node<'_>) -> Option<Connections> {
        let read = match node.value {
            DeValue::String(text) if text == "off" => return Some(Connections::OFF),
            DeValue::Integer(written) => {
                let count = number(written).ok_or(GrammarError::Connections);
                count.and_then(Connections::try_from).map_err(|error| (shortened(&written.to_string()), error))
            }
            _ => {
                self.wrong_type(node, "a whole number or \"off\"", CONNECTIONS_EXAMPLE);
                return None;
            }
        };
        read.map_err(|(value, error)| self.problem(node, ValueProblem::Grammar { value, error })).ok()
    }

    fn destination(&mut self, node: &Node<'_>) -> Option<Destination> {
        let expected = "\"local\" or a list of networks";
        let example = "to = [\"192.0.2.0/24\"]";
        if let DeValue::String(text) = node.value {
            if text == "local" {
                return Some(Destination::Local);
            }
            self.wrong_type(node, expected, example);
            return None;
        }
        let networks = self.networks(node, expected, example, "name a network, or write to = \"local\"")?;
        Some(Destination::Networks(networks))
    }

    /// Who may connect, and what becomes of everybody else.
    fn access(&mut self, fields: &Fields<'_>, service: &mut Service) {
        if let Some(node) = fields.get("only_from") {
            let remedy = "nobody could connect: name a network, or leave the key out to let in everybody";
            service.only_from = self.permits(node, remedy);
        }
        if let Some(node) = fields.get("deny") {
            let Some(text) = self.text(node, DENY_EXAMPLE) else { return };
            match Deny::ALL.into_iter().find(|deny| deny.name() == text) {
                Some(deny) => service.deny = deny,
                None => self.problem(node, ValueProblem::Deny { value: quoted(text) }),
            }
        }
    }

    /// Networks and names of lists; whether the lists are there is asked when all are known.
    fn permits(&mut self, node: &Node<'_>, remedy: &'static str) -> Vec<Permit> {
        let example = "only_from = [\"192.0.2.0/24\"]";
        let Some(items) = self.items(node, "a list of networks and names of lists", example) else { return Vec::new() };
        if items.is_empty() {
            self.problem(node, ValueProblem::Empty { remedy });
        }
        let mut permits: Vec<Permit> = Vec::new();
        for item in items {
            let permit = match item.value {
                DeValue::String(text) if is_list_name(text) => Some(Permit::List(text.to_string())),
                _ => self.word(&item, example).map(Permit::Network),
            };
            let Some(permit) = permit else { continue };
            if permits.contains(&permit) {
                self.problem(&item, ValueProblem::Repeated { value: permit.to_string() });
            } else {
                permits.push(permit);
            }
        }
        permits
    }

    /// Networks, none twice, or none at all.
    pub(super) fn plain_networks(&mut self, node: &Node<'_>, example: &'static str) -> Vec<Network> {
        let items = self.items(node, "a list of networks", example).unwrap_or_default();
        items.iter().filter_map(|item| self.word(item, example)).collect()
    }

    /// Networks, none twice; an empty list is a problem.
    fn networks(
        &mut self,
        node: &Node<'_>,
        expected: &'static str,
        example: &'static str,
        remedy: &'static str,
    ) -> Option<Vec<Network>> {
        let items = self.items(node, expected, example)?;
        if items.is_empty() {
            self.problem(node, ValueProblem::Empty { remedy });
        }
        let mut networks: Vec<Network> = Vec::new();
        for item in items {
            let Some(network) = self.word(&item, example) else { continue };
            if networks.contains(&network) {
                self.problem(&item, ValueProblem::Repeated { value: network.to_string() });
            } else {
                networks.push(network);
            }
        }
        Some(networks)
    }

    fn levels(&mut self, fields: &Fields<'_>, service: &mut Service) {
        if let Some(limits) = fields.get("source").and_then(|node| self.limits(node, Level::Source)) {
            service.source = limits;
        }
        if let Some(limits) = fields.get("network").and_then(|node| self.limits(node, Level::Network)) {
            service.network = limits;
        }
        if let Some(limits) = fields.get("service").and_then(|node| self.limits(node, Level::Service)) {
            service.service = limits.first().copied();
        }
    }

    /// `None` if nothing could be read, an empty list for `off`.
    fn limits(&mut self, node: &Node<'_>, level: Level) -> Option<Vec<Limit>> {
        match node.value {
            DeValue::String(text) if text == "off" => Some(Vec::new()),
            DeValue::Table(_) => Some(vec![self.limit(node, level)?]),
            DeValue::Array(_) => {
                let items = self.items(node, "a limit", LIMIT_EXAMPLE)?;
                if items.is_empty() {
                    self.problem(node, ValueProblem::Empty { remedy: "write a limit, or \"off\"" });
                } else if items.len() > level.most_limits() {
                    self.problem(node, LimitProblem::TooMany { level, count: items.len() });
                }
                Some(items.iter().filter_map(|item| self.limit(item, level)).collect())
            }
            DeValue::String(text) => {
                self.problem(node, LimitProblem::Form { value: quoted(text) });
                None
            }
            _ => {
                self.wrong_type(node, "a limit, a list of limits or \"off\"", LIMIT_EXAMPLE);
                None
            }
        }
    }

    pub(super) fn limit(&mut self, node: &Node<'_>, level: Level) -> Option<Limit> {
        let fields = self.fields(node, LIMIT_KEYS, LIMIT_EXAMPLE)?;
        for key in LIMIT_KEYS {
            if fields.get(key).is_none() {
                self.problem(node, KeyProblem::Missing { key, example: LIMIT_EXAMPLE });
            }
        }
        let rate = fields.get("rate").and_then(|node| self.rate(node, level));
        let burst = fields.get("burst").and_then(|node| self.burst(node));
        let limit = Limit { rate: rate?, burst: burst? };
        if let Some(problem) = limit.problem(level, self.clock_tick) {
            self.problem(fields.get("burst").unwrap_or(node), problem);
        }
        Some(limit)
    }

    fn rate(&mut self, node: &Node<'_>, level: Level) -> Option<Rate> {
        let rate = self.word(node, "rate = \"300/min\"")?;
        if let Some(problem) = level.rate_problem(rate, self.clock_tick) {
            self.problem(node, problem);
            return None;
        }
        Some(rate)
    }

    fn burst(&mut self, node: &Node<'_>) -> Option<Burst> {
        let count = self.integer(node, 0..=u64::MAX, "burst = 300")?;
        match Burst::try_from(count) {
            Ok(burst) => Some(burst),
            Err(error) => {
                self.problem(node, ValueProblem::Grammar { value: count.to_string(), error });
                None
            }
        }
    }

    fn prefixes(&mut self, node: &Node<'_>, fields: &Fields<'_>, service: &mut Service) {
        let keys = ["source_prefix", "network_prefix"];
        let mut written = false;
        for (key, prefix) in keys.into_iter().zip([&mut service.source_prefix, &mut service.network_prefix]) {
            if let Some(node) = fields.get(key) {
                written = true;
                self.prefix(node, prefix);
            }
        }
        let (source, network) = (service.source_prefix, service.network_prefix);
        let families = [(4, "v4", source.v4, network.v4), (6, "v6", source.v6, network.v6)];
        for (family, name, source_len, network_len) in families {
            if written && source_len < network_len {
                let places = keys.map(|key| format!("{}.{key}.{name}", node.key));
                let found = places.into_iter().find_map(|key| Some((self.places.get(&key).copied()?, key)));
                let (at, key) = found.unwrap_or_else(|| (node.at, node.key.clone()));
                self.findings.error(at, key, ServiceProblem::PrefixOrder { family, source_len, network_len });
            }
        }
    }

    fn prefix(&mut self, node: &Node<'_>, prefix: &mut Prefix) {
        let example = "{ v4 = 32, v6 = 64 }";
        let Some(fields) = self.fields(node, PREFIX_KEYS, example) else { return };
        for (key, len, longest) in [("v4", &mut prefix.v4, 32), ("v6", &mut prefix.v6, 128)] {
            let read = fields.get(key).and_then(|node| self.integer(node, 1..=longest, example));
            if let Some(read) = read.and_then(|read| u8::try_from(read).ok()) {
                *len = read;
            }
        }
    }
}

fn is_service_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=LONGEST_SERVICE_NAME).contains(&name.len()) && name.bytes().all(allowed)
}
