//! What lists hold at a moment.

use std::sync::Arc;

use super::Networks;
use crate::config::{Config, Permit, Service};

/// The networks of every list, in the order of the configuration; nothing where a list weighs nothing.
#[derive(Clone, Debug, Default)]
pub struct Weights(Vec<Option<Arc<Networks>>>);

impl Weights {
    pub fn of(&self, index: usize) -> Option<&Arc<Networks>> {
        self.0.get(index)?.as_ref()
    }

    pub fn named(&self, config: &Config, list: &str) -> Option<&Arc<Networks>> {
        self.of(config.lists.iter().position(|known| known.name == list)?)
    }

    /// Whether a service admits only some. It admits everybody while a list that says whom is not there: nobody
    /// has been refused yet by what nobody has read, and mail that stands still is the greater harm.
    pub fn restrict(&self, config: &Config, service: &Service) -> bool {
        let is_there = |permit: &Permit| match permit {
            Permit::Network(_) => true,
            Permit::List(name) => self.named(config, name).is_some_and(|networks| !networks.is_empty()),
        };
        !service.only_from.is_empty() && service.only_from.iter().all(is_there)
    }

    /// Whether both are the very same copies.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): (&Option<Arc<Networks>>, &Option<Arc<Networks>>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl FromIterator<Option<Arc<Networks>>> for Weights {
    fn from_iter<I: IntoIterator<Item = Option<Arc<Networks>>>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}
