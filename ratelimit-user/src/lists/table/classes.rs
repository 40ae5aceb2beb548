//! What covers an address, as one number.

use std::collections::HashMap;

use ratelimit_common::{Entry, lookup::CLASSES};

use super::{Layer, TooManyClasses};

/// Classes that tell which lists say it. The rest is kept for classes that differ in what is done.
pub const DETAILED: usize = CLASSES / 4 * 3;

/// What the layers that cover an address add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Said {
    entry: Entry,
    shielded: bool,
}

/// One of the sums that occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u32);

/// Interns sums of layers and gives them classes.
#[derive(Debug)]
pub struct Classes {
    layers: Vec<Said>,
    states: Vec<Said>,
    state_of: HashMap<Said, State>,
    /// For each state and layer what both come to; [`UNKNOWN`] until somebody asks.
    sums: Vec<u32>,
    class_of_state: Vec<u16>,
    classes: Vec<Entry>,
    class_of_entry: HashMap<Entry, u16>,
    overflown: bool,
}

const UNKNOWN: u32 = u32::MAX;

impl Classes {
    pub fn new(layers: &[Layer<'_>]) -> Self {
        let mut classes = Self {
            layers: layers.iter().map(|layer| Said { entry: layer.says, shielded: layer.shields }).collect(),
            states: Vec::new(),
            state_of: HashMap::new(),
            sums: Vec::new(),
            class_of_state: Vec::new(),
            classes: Vec::new(),
            class_of_entry: HashMap::new(),
            overflown: false,
        };
        classes.intern(Said { entry: Entry::NONE, shielded: false });
        classes
    }

    /// Of an address that nothing covers.
    pub const NOTHING: State = State(0);

    /// What a layer adds to a state.
    pub fn add(&mut self, state: State, layer: u16) -> State {
        let place = state.0 as usize * self.layers.len() + usize::from(layer);
        match self.sums[place] {
            UNKNOWN => {
                let (before, more) = (self.states[state.0 as usize], self.layers[usize::from(layer)]);
                let entry = before.entry.union(more.entry);
                let sum = self.intern(Said { entry, shielded: before.shielded || more.shielded });
                self.sums[place] = sum.0;
                sum
            }
            known => State(known),
        }
    }

    pub fn class(&self, state: State) -> u16 {
        self.class_of_state[state.0 as usize]
    }

    pub fn finish(self) -> Result<Vec<Entry>, TooManyClasses> {
        if self.overflown { Err(TooManyClasses) } else { Ok(self.classes) }
    }

    fn intern(&mut self, said: Said) -> State {
        if let Some(state) = self.state_of.get(&said) {
            return *state;
        }
        let state = State(self.states.len() as u32);
        self.states.push(said);
        self.state_of.insert(said, state);
        self.sums.extend(std::iter::repeat_n(UNKNOWN, self.layers.len()));
        let class = self.class_of_entry(if said.shielded { said.entry.shielded() } else { said.entry });
        self.class_of_state.push(class);
        state
    }

    fn class_of_entry(&mut self, entry: Entry) -> u16 {
        if let Some(class) = self.class_of_entry.get(&entry) {
            return *class;
        }
        let anonymous = entry.by_lists(0);
        if self.classes.len() >= DETAILED && entry != anonymous {
            return self.class_of_entry(anonymous);
        }
        if self.classes.len() == CLASSES {
            self.overflown = true;
            return 0;
        }
        let class = self.classes.len() as u16;
        self.classes.push(entry);
        self.class_of_entry.insert(entry, class);
        class
    }
}
