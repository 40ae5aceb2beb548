//! A list in a file of a test's own.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use ratelimit_user::api::{ListState, ListView};

use super::{Site, eventually};
use crate::controller::Controller;

/// The controller looks at files once a second, and reads what has stayed as it is for two looks.
const NOTICED: Duration = Duration::from_secs(20);

/// A list of networks in documentation and private space, which is all that tests have.
#[derive(Debug)]
pub struct ListFile {
    name: String,
    path: PathBuf,
    section: String,
}

impl ListFile {
    /// `more` are further lines of its section.
    fn new(controller: &Controller, name: &str, more: &str) -> Self {
        let path = controller.config().with_file_name(format!("{name}.txt"));
        let from = path.display();
        let section = format!("\n[[lists]]\nname = \"{name}\"\nfrom = \"{from}\"\nprivate = true\n{more}\n");
        Self { name: name.to_owned(), path, section }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a configuration says to have it.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Replaces the file in one step; it is read in its turn.
    pub fn replace(&self, text: &str) -> Result<()> {
        let new = self.path.with_extension("new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path));
        written.with_context(|| format!("cannot replace {}", self.path.display()))
    }

    pub fn remove(&self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

impl Site {
    /// Adds a list to a configuration, and returns when both are in force.
    pub fn with_list(&self, config: &str, name: &str, more: &str, text: &str) -> Result<ListFile> {
        let list = ListFile::new(&self.controller, name, more);
        list.replace(text)?;
        self.controller.write_config(&format!("{config}{}", list.section()))?;
        self.run("reload")?;
        let in_force = || Ok(self.list(name)?.state == ListState::InForce);
        eventually("the list is in force", NOTICED, in_force)?;
        Ok(list)
    }

    /// What the controller says of a list.
    pub fn list(&self, name: &str) -> Result<ListView> {
        Ok(serde_json::from_value(self.controller.json(&["list", "show", name])?)?)
    }

    /// Replaces the file of a list, and returns when it is in force.
    pub fn refresh(&self, list: &ListFile, text: &str) -> Result<()> {
        list.replace(text)?;
        self.run(&format!("list refresh {}", list.name())).map(drop)
    }
}
