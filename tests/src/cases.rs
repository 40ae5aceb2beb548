//! The one table of cases: what every kind of frame comes to, on the host and in the kernel alike.
//!
//! A case is a row of a group below: `row(name, packet, action, reason, service)`. The action is that of a gate that
//! enforces; one that observes passes every frame, for the same reason. `.given(…)` changes what the gate is
//! told, `.after(…)` sends frames first, `.family(…)` is for frames that do not show theirs.

use std::borrow::Cow;

use ratelimit_common::{Action, Family, Mode, Reason, event::tally_index};

use crate::{
    packet::SynPacket,
    tables::{Judged, World},
};

mod addresses;
mod fragments;
mod headers;
mod limits;
mod lists;
mod segments;
mod suspects;

/// The service most cases are about, and what belongs to none.
pub const SMTP: Option<&str> = Some("smtp");
pub const NONE: Option<&str> = None;

#[derive(Debug)]
pub struct Case {
    pub name: Cow<'static, str>,
    pub world: World,
    /// Sent before, in this order.
    pub before: Vec<Vec<u8>>,
    pub frame: Vec<u8>,
    pub expected: Expected,
}

/// What comes of a frame in a gate that enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub action: Action,
    pub reason: Reason,
    pub service: Option<&'static str>,
    pub family: Family,
}

/// Every case there is.
pub fn all() -> Vec<Case> {
    let groups = [
        headers::cases(),
        fragments::cases(),
        segments::cases(),
        addresses::cases(),
        lists::cases(),
        limits::cases(),
        suspects::cases(),
    ];
    groups.into_iter().flatten().collect()
}

fn row(
    name: impl Into<Cow<'static, str>>,
    packet: SynPacket,
    action: Action,
    reason: Reason,
    service: Option<&'static str>,
) -> Case {
    let expected = Expected { action, reason, service, family: packet.family() };
    Case { name: name.into(), world: World::new(), before: Vec::new(), frame: packet.build(), expected }
}

impl Case {
    fn given(self, change: impl FnOnce(World) -> World) -> Self {
        Self { world: change(self.world), ..self }
    }

    fn after(mut self, packets: impl IntoIterator<Item = SynPacket>) -> Self {
        self.before.extend(packets.into_iter().map(|packet| packet.build()));
        self
    }

    fn family(mut self, family: Family) -> Self {
        self.expected.family = family;
        self
    }

    /// The same gate and frame where nothing is enforced.
    pub fn observed(&self) -> (World, Expected) {
        (self.world.clone().mode(Mode::Observe), Expected { action: Action::Pass, ..self.expected })
    }
}

impl Expected {
    /// Where the frame is counted.
    pub fn tally(&self, world: &World) -> u32 {
        tally_index(self.reason, self.service.map(|name| world.id(name)), self.family)
    }

    pub fn is(&self, judged: &Judged, world: &World) -> bool {
        let verdict = judged.verdict;
        (verdict.action(), verdict.reason, verdict.service, judged.family)
            == (self.action, self.reason, self.service.map(|name| world.id(name)), self.family)
    }
}
