//! Where things are pinned, and which of them are in force.
//!
//! ```text
//! <pins>/links/<interface>    the XDP link; removing it detaches
//! <pins>/<number>/<MAP>       the maps of one plane
//! <pins>/watch/<MAP>          what is known of proven sources and open connections, for every plane
//! <pins>/watch/link           the link of the program that watches sockets
//! ```
//!
//! A new plane gets the next number. Which one is in force is not written down anywhere: it is the one whose
//! maps the attached program uses, so that no crash can leave the two apart.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    maps::MapInfo,
    programs::{links::PinnedLink, loaded_programs},
};

/// Maps of a plane, by the names the object gives them.
pub const MAPS: [&str; 21] = [
    "EPOCH",
    "SETS",
    "LISTS",
    "ENTRIES",
    "BANS",
    "BAN_FILTER",
    "BAN_COUNT",
    "SECRET",
    "CELLS",
    "TALLIES_OF",
    "CLASS_HITS",
    "ADMITTED",
    "EVENTS",
    "EVENTS_SPENT",
    "RESETS_SPENT",
    "CHALLENGES_SPENT",
    "SLOTS_OF",
    "COMPLETED",
    "LISTED",
    "LISTED_FILTER",
    "HANDSHAKES",
];

/// Maps that every plane uses and that outlive them all.
pub const LASTING: [&str; 7] = ["PROVEN", "PROVEN_FILTER", "PROVEN_OF_SITE", "OPEN", "OLDER", "MARKS", "WATCHED"];

#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface)
    }

    /// Where the maps that outlive planes are.
    pub fn watch(&self) -> PathBuf {
        self.root.join("watch")
    }

    /// The link of the program that watches sockets.
    pub fn watch_link(&self) -> PathBuf {
        self.watch().join("link")
    }

    /// Removes the maps that outlive planes, and the link with them. They live on as long as a program uses them.
    pub fn remove_watch(&self) -> io::Result<()> {
        remove_directory(&self.watch())
    }

    /// Interfaces with a pinned link, by name.
    pub fn linked_interfaces(&self) -> io::Result<Vec<String>> {
        let mut names = names_in(&self.links())?;
        names.sort();
        Ok(names)
    }

    pub fn plane(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }

    /// Numbers of the planes that are there, complete or not, ascending.
    pub fn planes(&self) -> io::Result<Vec<u64>> {
        let mut numbers: Vec<u64> = names_in(&self.root)?.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The plane that an attached program uses; failing that the newest complete one.
    pub fn in_force(&self) -> io::Result<Option<u64>> {
        let complete: Vec<u64> = self.planes()?.into_iter().filter(|number| self.is_complete(*number)).collect();
        let used = self.used_maps()?;
        let in_use = complete.iter().rev().find(|number| self.is_among(**number, &used));
        Ok(in_use.or(complete.last()).copied())
    }

    /// Whether an attached program uses the maps of a plane.
    pub fn is_in_use(&self, number: u64) -> io::Result<bool> {
        Ok(self.is_among(number, &self.used_maps()?))
    }

    fn is_among(&self, number: u64, used: &[u32]) -> bool {
        MapInfo::from_pin(self.plane(number).join("EPOCH")).is_ok_and(|info| used.contains(&info.id()))
    }

    fn is_complete(&self, number: u64) -> bool {
        MAPS.iter().all(|map| self.plane(number).join(map).exists())
    }

    /// Ids of the maps that the programs behind the pinned links use.
    fn used_maps(&self) -> io::Result<Vec<u32>> {
        let programs: Vec<u32> = self
            .linked_interfaces()?
            .iter()
            .filter_map(|interface| {
                let link = PinnedLink::from_pin(self.link(interface)).ok()?;
                let link: aya::programs::links::FdLink = link.into();
                Some(link.info().ok()?.program_id())
            })
            .collect();
        Ok(loaded_programs()
            .flatten()
            .filter(|program| programs.contains(&program.id()))
            .filter_map(|program| program.map_ids().ok().flatten())
            .flatten()
            .collect())
    }

    /// Removes the pins of a plane; its maps live on as long as a program uses them.
    pub fn remove_plane(&self, number: u64) -> io::Result<()> {
        remove_directory(&self.plane(number))
    }
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    for name in names_in(directory)? {
        fs::remove_file(directory.join(name))?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}
