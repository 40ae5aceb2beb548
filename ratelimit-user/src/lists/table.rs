//! From layers of networks to the table the gate looks them up in; see [`ratelimit_common::lookup`] for its shape.
//!
//! Networks lie inside one another or apart, so one sweep over them in order, with a stack of those that are open, cuts
//! the addresses into segments of one class. The segments become lines.
//!
//! Memory: nothing for no IPv4 network, else 16 MiB; and for a /24 with entries inside it 16 bytes up to two of them, 32 up
//! to five, 64 up to ten or if they say the same, 512 otherwise. An IPv6 entry takes 56 bytes at most.

mod classes;
mod sweep;
mod tree;
mod v4;

use bytemuck::Zeroable as _;
use ratelimit_common::{
    Entry,
    lookup::{LINE_BYTES, Line, ROOT},
};

use super::Networks;
use classes::Classes;

/// Networks and what is said of them.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    pub networks: &'a Networks,
    pub says: Entry,
    /// Nothing blocks these networks, whatever other layers say.
    pub shields: bool,
}

/// More distinct combinations of services and actions than there are classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "trust, allow, block and the lists treat networks in more than {} different ways: give more of them the same services",
    ratelimit_common::lookup::CLASSES
)]
pub struct TooManyClasses;

/// A compiled table.
#[derive(Clone, Debug)]
pub struct Table {
    classes: Vec<Entry>,
    v4: v4::Part,
    tree: tree::Part,
}

/// Compiles layers. What covers an address adds up.
///
/// Where there are more than [`classes::DETAILED`] classes, those beyond no longer tell which lists say it; what is done
/// never changes.
///
/// # Errors
///
/// [`TooManyClasses`] if even that does not make them few enough.
pub fn build(layers: &[Layer<'_>]) -> Result<Table, TooManyClasses> {
    let mut classes = Classes::new(layers);
    let v4 = sweep::v4(layers, &mut classes);
    let v6 = sweep::v6(layers, &mut classes);
    let classes = classes.finish()?;
    Ok(Table { classes, v4: v4::Part::of(&v4), tree: tree::Part::of(&v6) })
}

impl Table {
    /// What each class says; the first says nothing.
    pub fn classes(&self) -> &[Entry] {
        &self.classes
    }

    /// How many lines it takes.
    pub fn lines(&self) -> u32 {
        ROOT + self.v4.lines() + self.tree.lines()
    }

    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.lines()) * LINE_BYTES as u64
    }

    /// Writes it into fresh lines, all zero. Lines that are missing are left out.
    pub fn fill(&self, lines: &mut [Line]) {
        let Some((header, rest)) = lines.split_first_mut() else { return };
        let (v4, tree) = rest.split_at_mut(rest.len().min(self.v4.lines() as usize));
        self.v4.fill(v4);
        *header = self.tree.fill(tree, ROOT + self.v4.lines());
    }

    /// The table in memory of its own.
    pub fn to_lines(&self) -> Vec<Line> {
        let mut lines = vec![Line::zeroed(); self.lines() as usize];
        self.fill(&mut lines);
        lines
    }
}

#[cfg(test)]
mod tests;
