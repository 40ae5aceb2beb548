//! From text to a configuration, walking the table by hand: each value is read for itself, so that
//! one wrong value hides no other and each is reported where it stands.

mod entry;
mod export;
mod list;
mod node;
mod proof;
mod reputation;
mod service;
mod syntax;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::diagnostic::{ConfigErrors, Diagnostic, Lines};
use super::problem::{KeyProblem, Problem, ServiceProblem, ValueProblem};
use super::{ByteSize, Config, EntryKind, Interfaces, check};
use node::{Fields, Node};
pub(super) use node::{nearest, quoted};
pub(super) use reputation::DNSBL_ENTRIES;
use syntax::Outline;

const KEYS: &[&str] = &[
    "interfaces",
    "mode",
    "memory",
    "events_per_second",
    "trust",
    "allow",
    "block",
    "never_block",
    "lists",
    "paths",
    "proof",
    "reputation",
    "export",
    "services",
];
const PATH_KEYS: &[&str] = &["socket", "pins", "state"];
const SMALLEST_MEMORY: ByteSize = ByteSize::from_mib(1);
const LARGEST_MEMORY: ByteSize = ByteSize::from_mib(1024);
/// An event costs the controller a wake-up and a record; this is far more than anyone reads.
const MOST_EVENTS_PER_SECOND: u32 = 10_000;
/// IFNAMSIZ without the final zero.
const LONGEST_INTERFACE_NAME: usize = 15;
/// `sun_path` holds 108 bytes, the last a zero.
const LONGEST_SOCKET_PATH: usize = 107;
/// Each reads the rest of the file once more; a file with more broken tables is no configuration.
const MOST_RESTARTS: usize = 50;

pub(super) fn read(text: &str, file: &str, clock_tick: Duration) -> Result<(Config, Vec<Diagnostic>), ConfigErrors> {
    let lines = Lines::new(text);
    let outline = Outline::new(text);
    let mut part = Part::read(text, 0, clock_tick, &outline);
    if part.broken_line.is_none() {
        check::check(&part.draft, &lines, &mut part.findings);
    } else {
        part.findings.errors.retain(|error| stands_alone(&error.problem));
        for _ in 0..MOST_RESTARTS {
            let next = part.broken_line.and_then(|line| outline.restart(part.base, line));
            let Some(base) = next else { break };
            let mut rest = Part::read(text, base, clock_tick, &outline);
            rest.findings.errors.retain(|error| stands_alone(&error.problem));
            part.findings.errors.append(&mut rest.findings.errors);
            (part.base, part.broken_line) = (base, rest.broken_line);
        }
    }
    match ConfigErrors::new(located(part.findings.errors, file, &lines)) {
        Some(errors) => Err(errors),
        None => Ok((part.draft.config, located(part.findings.warnings, file, &lines))),
    }
}

/// What was read from some byte on, and the line from which it is not certain.
#[derive(Debug)]
struct Part {
    base: usize,
    draft: Draft,
    findings: Findings,
    broken_line: Option<usize>,
}

impl Part {
    fn read(text: &str, base: usize, clock_tick: Duration, outline: &Outline<'_>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(&text[base..]);
        let faults = outline.faults(base, &errors);
        let mut reader = Reader::new(clock_tick, base);
        let root = DeValue::Table(table.into_inner());
        let draft = reader.root(&Node { key: String::new(), at: base, value: &root });
        let mut findings = reader.findings;
        if let Some(line) = faults.broken_line {
            findings.errors.retain(|error| error.at < line);
        }
        // Of two things said about one place, the parser's comes first.
        findings.errors.splice(0..0, faults.findings);
        Self { base, draft, findings, broken_line: faults.broken_line }
    }
}

/// Whether a problem is one even if another part of the file could not be read.
fn stands_alone(problem: &Problem) -> bool {
    match problem {
        Problem::File(_) | Problem::Value(_) | Problem::Limit(_) => true,
        Problem::Key(KeyProblem::Unknown { .. } | KeyProblem::Type { .. }) => true,
        Problem::Service(ServiceProblem::Name { .. }) => true,
        Problem::Key(KeyProblem::Missing { .. })
        | Problem::Service(_)
        | Problem::Entry(_)
        | Problem::List(_)
        | Problem::Reputation(_)
        | Problem::Export(_) => false,
    }
}

/// A configuration as far as it could be read, and where its parts stand.
#[derive(Debug)]
pub(super) struct Draft {
    pub config: Config,
    /// For each list the keys of its entries, as `trust[3]`; for DNSBLs too.
    pub entry_keys: HashMap<&'static str, Vec<String>>,
    pub ports_at: HashMap<(String, u16), usize>,
    pub listen_ports_at: HashMap<(String, u16), usize>,
    /// The services under `[reputation.services]`: name, key and place.
    pub reputation_services: Vec<(String, String, usize)>,
    /// By key; what is built in has no place.
    pub places: HashMap<String, usize>,
}

impl Draft {
    pub fn place(&self, key: &str) -> Option<usize> {
        self.places.get(key).copied()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The byte where it stands.
    pub at: usize,
    pub key: String,
    pub problem: Problem,
}

#[derive(Debug, Default)]
pub(super) struct Findings {
    pub errors: Vec<Finding>,
    pub warnings: Vec<Finding>,
}

impl Findings {
    pub fn error(&mut self, at: usize, key: impl Into<String>, problem: impl Into<Problem>) {
        self.errors.push(Finding { at, key: key.into(), problem: problem.into() });
    }

    pub fn warning(&mut self, at: usize, key: impl Into<String>, problem: impl Into<Problem>) {
        self.warnings.push(Finding { at, key: key.into(), problem: problem.into() });
    }
}

fn located(mut findings: Vec<Finding>, file: &str, lines: &Lines<'_>) -> Vec<Diagnostic> {
    findings.sort_by_key(|finding| finding.at);
    findings.dedup();
    let locate = |finding: Finding| Diagnostic {
        file: file.to_owned(),
        position: Some(lines.position(finding.at)),
        key: finding.key,
        problem: finding.problem,
    };
    findings.into_iter().map(locate).collect()
}

#[derive(Debug)]
struct Reader {
    clock_tick: Duration,
    /// What the parser's byte offsets count from.
    base: usize,
    findings: Findings,
    entry_keys: HashMap<&'static str, Vec<String>>,
    ports_at: HashMap<(String, u16), usize>,
    listen_ports_at: HashMap<(String, u16), usize>,
    reputation_services: Vec<(String, String, usize)>,
    places: HashMap<String, usize>,
}

impl Reader {
    fn new(clock_tick: Duration, base: usize) -> Self {
        Self {
            clock_tick,
            base,
            findings: Findings::default(),
            entry_keys: HashMap::new(),
            ports_at: HashMap::new(),
            listen_ports_at: HashMap::new(),
            reputation_services: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn root(&mut self, root: &Node<'_>) -> Draft {
        let mut config = Config::default();
        if let Some(fields) = self.fields(root, KEYS, "interfaces = \"auto\"") {
            self.settings(&fields, &mut config);
            config.trust = self.entries(&fields, EntryKind::Trust);
            config.allow = self.entries(&fields, EntryKind::Allow);
            config.block = self.entries(&fields, EntryKind::Block);
            if let Some(node) = fields.get("never_block") {
                config.never_block = self.plain_networks(node, "never_block = [\"192.0.2.0/24\"]");
            }
            if let Some(node) = fields.get("lists") {
                config.lists = self.lists(node);
            }
            if let Some(services) = fields.get("services") {
                config.services = self.services(services);
            }
        }
        Draft {
            config,
            entry_keys: std::mem::take(&mut self.entry_keys),
            ports_at: std::mem::take(&mut self.ports_at),
            listen_ports_at: std::mem::take(&mut self.listen_ports_at),
            reputation_services: std::mem::take(&mut self.reputation_services),
            places: std::mem::take(&mut self.places),
        }
    }

    fn settings(&mut self, fields: &Fields<'_>, config: &mut Config) {
        if let Some(interfaces) = fields.get("interfaces").and_then(|node| self.interfaces(node)) {
            config.interfaces = interfaces;
        }
        if let Some(mode) = fields.get("mode").and_then(|node| self.mode(node)) {
            config.mode = mode;
        }
        if let Some(memory) = fields.get("memory").and_then(|node| self.memory(node)) {
            config.memory = memory;
        }
        let events = fields.get("events_per_second");
        let range = 0..=u64::from(MOST_EVENTS_PER_SECOND);
        if let Some(events) = events.and_then(|node| self.integer(node, range, "events_per_second = 200")) {
            config.events_per_second = u32::try_from(events).unwrap_or(MOST_EVENTS_PER_SECOND);
        }
        if let Some(node) = fields.get("paths") {
            self.paths(node, config);
        }
        if let Some(node) = fields.get("proof") {
            self.proof(node, &mut config.proof);
        }
        if let Some(node) = fields.get("reputation") {
            self.reputation(node, &mut config.reputation);
        }
        if let Some(node) = fields.get("export") {
            self.export(node, &mut config.export);
        }
    }

    fn interfaces(&mut self, node: &Node<'_>) -> Option<Interfaces> {
        if let DeValue::String(text) = node.value {
            if text == "auto" {
                return Some(Interfaces::Auto);
            }
            self.problem(node, ValueProblem::InterfaceName { value: quoted(text) });
            return None;
        }
        let items = self.items(node, "a list of names or \"auto\"", "interfaces = [\"eth0\"]")?;
        if items.is_empty() {
            self.problem(node, ValueProblem::Empty { remedy: "name an interface, or write interfaces = \"auto\"" });
        }
        let mut names = Vec::new();
        for item in items {
            let Some(name) = self.text(&item, "interfaces = [\"eth0\"]") else { continue };
            if !is_interface_name(name) {
                self.problem(&item, ValueProblem::InterfaceName { value: quoted(name) });
            } else if names.iter().any(|known| known == name) {
                self.problem(&item, ValueProblem::Repeated { value: quoted(name) });
            } else {
                names.push(name.to_owned());
            }
        }
        Some(Interfaces::Named(names))
    }

    fn memory(&mut self, node: &Node<'_>) -> Option<ByteSize> {
        let memory = match node.value {
            DeValue::Integer(_) => ByteSize::from_bytes(self.integer(node, 0..=u64::MAX, "memory = \"32 MiB\"")?),
            _ => self.word::<ByteSize>(node, "memory = \"32 MiB\"")?,
        };
        if (SMALLEST_MEMORY..=LARGEST_MEMORY).contains(&memory) {
            return Some(memory);
        }
        let value = memory.to_string();
        let (lowest, highest) = (SMALLEST_MEMORY.to_string(), LARGEST_MEMORY.to_string());
        self.problem(node, ValueProblem::OutOfRange { value, lowest, highest });
        None
    }

    fn paths(&mut self, node: &Node<'_>, config: &mut Config) {
        let Some(fields) = self.fields(node, PATH_KEYS, "[paths]") else { return };
        let socket = fields.get("socket").and_then(|node| {
            let path = self.path(node)?;
            if path.as_os_str().len() > LONGEST_SOCKET_PATH {
                self.problem(node, ValueProblem::SocketPathTooLong { most: LONGEST_SOCKET_PATH });
            }
            Some(path)
        });
        let paths = &mut config.paths;
        paths.socket = socket.unwrap_or_else(|| paths.socket.clone());
        for (key, path) in [("pins", &mut paths.pins), ("state", &mut paths.state)] {
            if let Some(read) = fields.get(key).and_then(|node| self.path(node)) {
                *path = read;
            }
        }
    }

    fn path(&mut self, node: &Node<'_>) -> Option<PathBuf> {
        let text = self.text(node, "state = \"/var/lib/ratelimit\"")?;
        if text.starts_with('/') && !text.contains('\0') {
            return Some(PathBuf::from(text));
        }
        self.problem(node, ValueProblem::RelativePath { value: quoted(text) });
        None
    }
}

/// What the kernel takes for one (`dev_valid_name`), and not the word that stands for several.
fn is_interface_name(name: &str) -> bool {
    let odd = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte.is_ascii_control();
    (1..=LONGEST_INTERFACE_NAME).contains(&name.len()) && !["auto", ".", ".."].contains(&name) && !name.bytes().any(odd)
}
