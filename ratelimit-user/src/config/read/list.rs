use std::path::PathBuf;

use toml::de::DeValue;
use url::Url;

use super::node::{Fields, Node, nearest};
use super::{Reader, quoted};
use crate::config::list::{Action, Change, Format, LONGEST_LIST_NAME, List, MOST_LISTS, Source};
use crate::config::preset::Preset;
use crate::config::problem::{KeyProblem, ListProblem, ValueProblem};
use crate::config::{ByteSize, Duration, Scope};

const KEYS: &[&str] = &[
    "name",
    "preset",
    "from",
    "format",
    "refresh",
    "services",
    "action",
    "all_packets",
    "mode",
    "max_age",
    "min_count",
    "private",
    "change",
    "timeout",
    "max_size",
];
const CHANGE_KEYS: &[&str] = &["lost_percent", "grown_times"];
const NAME_EXAMPLE: &str = "name = \"drop\"";
const FROM_EXAMPLE: &str = "from = \"/etc/ratelimit/blocked.txt\"";
const MOST_SOURCES: usize = 16;
impl Reader {
    pub fn lists(&mut self, node: &Node<'_>) -> Vec<List> {
        let items = self.items(node, "tables under [[lists]]", "[[lists]]").unwrap_or_default();
        let mut lists: Vec<List> = Vec::new();
        for item in &items {
            let Some(list) = self.list(item) else { continue };
            if lists.iter().any(|known| known.name == list.name) {
                self.problem(item, ListProblem::NameTaken { name: list.name.clone() });
            } else if lists.len() == MOST_LISTS {
                self.problem(item, ListProblem::TooMany);
            } else {
                lists.push(list);
            }
        }
        lists
    }

    fn list(&mut self, node: &Node<'_>) -> Option<List> {
        let fields = self.fields(node, KEYS, "[[lists]]")?;
        let preset = fields.get("preset").map(|node| self.preset(node));
        let from = fields.get("from").map(|node| self.sources(node));
        let name = self.list_name(node, &fields);
        let mut list = match (preset, from) {
            (Some(preset), None) => List::of_preset(&name?, preset?),
            (Some(preset), Some(from)) => List { from, ..List::of_preset(&name?, preset?) },
            (None, Some(from)) => List::new(&name?, from),
            (None, None) => {
                self.problem(node, KeyProblem::Missing { key: "from", example: FROM_EXAMPLE });
                return None;
            }
        };
        self.reading(&fields, &mut list);
        self.acting(&fields, &mut list);
        self.change(&fields, &mut list.change);
        self.politeness(&fields, &list);
        Some(list)
    }

    /// How it is read, and how often.
    fn reading(&mut self, fields: &Fields<'_>, list: &mut List) {
        if let Some(node) = fields.get("format") {
            list.format = self.format(node).unwrap_or(list.format);
        }
        let durations =
            [("refresh", &mut list.refresh), ("max_age", &mut list.max_age), ("timeout", &mut list.timeout)];
        for (key, duration) in durations {
            if let Some(read) = fields.get(key).and_then(|node| self.word::<Duration>(node, "refresh = \"6h\"")) {
                *duration = read;
            }
        }
        if let Some(read) = fields.get("max_size").and_then(|node| self.word::<ByteSize>(node, "max_size = \"64 MiB\""))
        {
            list.max_size = read;
        }
        let count = fields.get("min_count").and_then(|node| self.integer(node, 1..=u64::MAX, "min_count = 3"));
        list.min_count = count.unwrap_or(list.min_count);
    }

    /// What it does, and to whom.
    fn acting(&mut self, fields: &Fields<'_>, list: &mut List) {
        if let Some(node) = fields.get("services") {
            list.services = match node.value {
                DeValue::String(text) if text == "all" => Scope::All,
                _ => self.scope(node).map_or(list.services.clone(), Scope::Services),
            };
        }
        if let Some(node) = fields.get("action") {
            list.action = self.action(node).unwrap_or(list.action);
        }
        for (key, flag) in [("all_packets", &mut list.all_packets), ("private", &mut list.private)] {
            let read = fields.get(key).and_then(|node| self.boolean(node, "private = true"));
            *flag = read.unwrap_or(*flag);
        }
        list.mode = fields.get("mode").and_then(|node| self.mode(node)).or(list.mode);
    }

    fn change(&mut self, fields: &Fields<'_>, change: &mut Change) {
        let example = "change = { lost_percent = 50, grown_times = 10 }";
        let Some(fields) = fields.get("change").and_then(|node| self.fields(node, CHANGE_KEYS, example)) else {
            return;
        };
        for (key, most, number) in
            [("lost_percent", 100, &mut change.lost_percent), ("grown_times", 1_000_000, &mut change.grown_times)]
        {
            let read = fields.get(key).and_then(|node| self.integer(node, 0..=most, example));
            *number = read.and_then(|read| u32::try_from(read).ok()).unwrap_or(*number);
        }
    }

    /// Holds the refresh against what the publisher allows.
    fn politeness(&mut self, fields: &Fields<'_>, list: &List) {
        let least = list.least_refresh();
        if let (Some(node), true) = (fields.get("refresh"), list.refresh.as_std() < least) {
            let least = least.as_secs();
            self.problem(node, ListProblem::TooOften { least_s: least });
        }
    }

    fn list_name(&mut self, node: &Node<'_>, fields: &Fields<'_>) -> Option<String> {
        let Some(named) = fields.get("name") else {
            self.problem(node, KeyProblem::Missing { key: "name", example: NAME_EXAMPLE });
            return None;
        };
        let name = self.text(named, NAME_EXAMPLE)?;
        if is_list_name(name) {
            return Some(name.to_owned());
        }
        self.problem(named, ListProblem::Name { value: quoted(name) });
        None
    }

    fn preset(&mut self, node: &Node<'_>) -> Option<Preset> {
        let name = self.text(node, "preset = \"spamhaus-drop\"")?;
        let preset = Preset::named(name);
        if preset.is_none() {
            let known: Vec<&str> = Preset::ALL.iter().map(|facts| facts.name).collect();
            let nearest = nearest(name, known.iter().copied());
            self.problem(node, ListProblem::UnknownPreset { value: quoted(name), nearest, known });
        }
        preset
    }

    /// One or several.
    fn sources(&mut self, node: &Node<'_>) -> Vec<Source> {
        if let DeValue::String(_) = node.value {
            return self.source(node).into_iter().collect();
        }
        let items = self.items(node, "a path, a URL or a list of them", FROM_EXAMPLE).unwrap_or_default();
        if items.is_empty() || items.len() > MOST_SOURCES {
            self.problem(node, ListProblem::Sources { most: MOST_SOURCES });
        }
        items.iter().filter_map(|item| self.source(item)).collect()
    }

    fn source(&mut self, node: &Node<'_>) -> Option<Source> {
        let text = self.text(node, FROM_EXAMPLE)?;
        if text.starts_with('/') && !text.contains('\0') {
            return Some(Source::Path(PathBuf::from(text)));
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            self.problem(node, ListProblem::Source { value: quoted(text) });
        }
        url.map(Source::Url)
    }

    /// `None` if it could not be read; `Some(None)` recognises the format.
    fn format(&mut self, node: &Node<'_>) -> Option<Option<Format>> {
        let text = self.text(node, "format = \"plain\"")?;
        if text == AUTO {
            return Some(None);
        }
        let format = Format::ALL.into_iter().find(|format| format.name() == text);
        if format.is_none() {
            let known: Vec<&str> = Format::ALL.into_iter().map(Format::name).chain([AUTO]).collect();
            let nearest = nearest(text, known.iter().copied());
            self.problem(node, ListProblem::Format { value: quoted(text), nearest, known });
        }
        format.map(Some)
    }

    fn action(&mut self, node: &Node<'_>) -> Option<Action> {
        let text = self.text(node, "action = \"allow\"")?;
        let action = Action::ALL.into_iter().find(|action| action.name() == text);
        if action.is_none() {
            self.problem(node, ValueProblem::Action { value: quoted(text) });
        }
        action
    }
}

const AUTO: &str = "auto";

/// Nothing that reads as an address: no dot and no colon, and not only digits.
pub(super) fn is_list_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=LONGEST_LIST_NAME).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.bytes().all(|byte| byte.is_ascii_digit())
}
