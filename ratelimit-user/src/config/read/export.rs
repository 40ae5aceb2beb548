use super::node::{Fields, Node};
use super::{Reader, quoted};
use crate::config::export::{Export, LONGEST_CONTACT};
use crate::config::problem::ExportProblem;

const KEYS: &[&str] = &["path", "contact", "include_third_party", "ttl_max"];
const EXAMPLE: &str = "contact = \"postmaster@example.org\"";

impl Reader {
    pub fn export(&mut self, node: &Node<'_>, export: &mut Export) {
        let Some(fields) = self.fields(node, KEYS, "[export]") else { return };
        export.path = fields.get("path").and_then(|node| self.path(node));
        if let Some(contact) = self.contact(&fields) {
            export.contact = contact;
        }
        let third = fields.get("include_third_party");
        let third = third.and_then(|node| self.boolean(node, "include_third_party = false"));
        export.include_third_party = third.unwrap_or(export.include_third_party);
        if let Some(ttl) = self.time(&fields, "ttl_max", ("10s", "1h"), "ttl_max = \"5m\"") {
            export.ttl_max = ttl;
        }
        if fields.get("path").is_some() && fields.get("contact").is_none() {
            self.problem(node, ExportProblem::NoContact);
        }
    }

    fn contact(&mut self, fields: &Fields<'_>) -> Option<String> {
        let node = fields.get("contact")?;
        let text = self.text(node, EXAMPLE)?;
        let is_one = (1..=LONGEST_CONTACT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        // What rbldnsd puts the address in the place of.
        if is_one && !text.contains('$') {
            return Some(text.to_owned());
        }
        self.problem(node, ExportProblem::Contact { value: quoted(text) });
        None
    }
}
