//! Bits in front of a table: who has not all of his own is not in the table.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;

use super::shared::{Access, Shared};

/// Shared with the kernel.
#[derive(Debug)]
pub struct Filter(Shared<AtomicU64>);

impl Filter {
    /// Maps an array of `count` words.
    pub fn map(map: &MapData, count: usize) -> io::Result<Self> {
        Shared::map(map, count, Access::Write).map(Self)
    }

    pub fn add(&self, word: usize, mask: u64) {
        if let Some(word) = self.0.all().get(word) {
            word.fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// These bits and no others.
    pub fn put(&self, words: &[u64]) {
        for (shared, word) in self.0.all().iter().zip(words) {
            if shared.load(Ordering::Relaxed) != *word {
                shared.store(*word, Ordering::Relaxed);
            }
        }
    }
}
