use toml::de::DeValue;

use super::node::{Fields, Node};
use super::{Reader, quoted};
use crate::config::problem::{KeyProblem, ValueProblem};
use crate::config::{Entry, EntryKind, Network, Scope};

const KEYS: &[&str] = &["network", "services", "note"];
const LONGEST_NOTE: usize = 200;

impl Reader {
    pub fn entries(&mut self, fields: &Fields<'_>, kind: EntryKind) -> Vec<Entry> {
        let Some(node) = fields.get(kind.name()) else { return Vec::new() };
        let example = match kind {
            EntryKind::Trust => "trust = [\"10.0.0.0/8\"]",
            EntryKind::Allow => "allow = [\"10.0.0.0/8\"]",
            EntryKind::Block => "block = [\"10.0.0.0/8\"]",
        };
        let items = self.items(node, "a list of networks", example).unwrap_or_default();
        let read = items.iter().filter_map(|item| Some((self.entry(item, example)?, item.key.clone())));
        let (entries, keys) = read.unzip();
        self.entry_keys.insert(kind.name(), keys);
        entries
    }

    fn entry(&mut self, node: &Node<'_>, example: &'static str) -> Option<Entry> {
        match node.value {
            DeValue::String(_) => {
                let network = self.word(node, example)?;
                Some(Entry { network, services: Scope::All, note: None })
            }
            DeValue::Table(_) => self.entry_table(node),
            _ => {
                self.wrong_type(node, "a network in quotes or a table", example);
                None
            }
        }
    }

    fn entry_table(&mut self, node: &Node<'_>) -> Option<Entry> {
        let example = "network = \"10.0.0.0/8\"";
        let fields = self.fields(node, KEYS, example)?;
        let scope = fields.get("services").map(|node| self.scope(node));
        let note = fields.get("note").and_then(|node| self.note(node));
        let Some(network) = fields.get("network") else {
            self.problem(node, KeyProblem::Missing { key: "network", example });
            return None;
        };
        let network: Network = self.word(network, example)?;
        let services = match scope {
            None => Scope::All,
            Some(names) => Scope::Services(names?),
        };
        Some(Entry { network, services, note })
    }

    pub(super) fn scope(&mut self, node: &Node<'_>) -> Option<Vec<String>> {
        let example = "services = [\"smtp\"]";
        let items = self.items(node, "a list of services", example)?;
        if items.is_empty() {
            let remedy = "name a service, or leave the key out to mean all of them";
            self.problem(node, ValueProblem::Empty { remedy });
        }
        let mut names: Vec<String> = Vec::new();
        for item in items {
            let Some(name) = self.text(&item, example) else { continue };
            if names.iter().any(|known| known == name) {
                self.problem(&item, ValueProblem::Repeated { value: quoted(name) });
            } else {
                names.push(name.to_owned());
            }
        }
        Some(names)
    }

    fn note(&mut self, node: &Node<'_>) -> Option<String> {
        let note = self.text(node, "note = \"webmail\"")?;
        if note.chars().count() <= LONGEST_NOTE && !note.chars().any(char::is_control) {
            return Some(note.to_owned());
        }
        self.problem(node, ValueProblem::Note { most: LONGEST_NOTE });
        None
    }
}
