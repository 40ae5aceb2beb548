//! What a list says of one address.

use std::net::IpAddr;

use super::{
    Found, MOST_FOUND, Problem, Said, Sink,
    text::{Line, shown},
};

pub struct Finder {
    address: IpAddr,
    found: Vec<Found>,
}

impl Finder {
    pub fn new(address: IpAddr) -> Self {
        Self { address, found: Vec::new() }
    }

    pub fn found(self) -> Vec<Found> {
        self.found
    }
}

impl Sink for Finder {
    fn said(&mut self, line: Line<'_>, said: Result<Said, Problem>) {
        let (range, excludes) = match said {
            Ok(Said::Listed { range, .. }) => (range, false),
            Ok(Said::Excluded(range)) => (range, true),
            Ok(Said::Nothing | Said::LeftOut) | Err(_) => return,
        };
        if let Some(network) = range.part_with(self.address).filter(|_| self.found.len() < MOST_FOUND) {
            self.found.push(Found { line: line.number, text: shown(line.text), network, excludes });
        }
    }

    fn notice(&mut self, _: &[u8]) {}
}
