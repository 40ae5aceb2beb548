//! Going by another policy, in other maps, and by what administrators decide.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Desk, State, asker};
use crate::{
    api::BanView,
    bans::By,
    config::{Dnsbl, Network, Verdict},
    plane::{ListedMaps, now},
    reputation::{
        Policy,
        answers::{Answers, Kept},
        in_force::{Held, Place},
        policy::Zone,
        zone::ZoneState,
    },
};

impl Desk {
    /// Goes by this policy from now on. What zones said that are still asked for stays known, and is judged anew.
    pub fn follow(&self, policy: Policy) {
        let mut state = self.lock();
        if policy != *state.policy {
            state.follow(policy);
            state.apply_again(|_| true);
        }
    }

    /// Lists in these maps from now on.
    pub fn move_to(&self, gate: ListedMaps) {
        let mut state = self.lock();
        state.gate = gate;
        state.put_all();
    }

    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.lock().policy)
    }

    /// Sources to which nothing is left, as bans.
    pub fn bans(&self) -> Vec<BanView> {
        let state = self.lock();
        state.in_force.iter().filter_map(|(place, held)| state.ban_view(place, held)).collect()
    }

    /// Lets a network go, or everybody: nothing is held against it and it is not asked about, for this long or until what
    /// is known of each ends. Returns the bans that ended, and how many others are let go.
    pub fn pardon(&self, network: Option<Network>, time: Option<Duration>) -> (Vec<BanView>, u64) {
        let mut state = self.lock();
        let at = Instant::now();
        let is_concerned = |source: IpAddr| network.is_none_or(|network| network.contains_address(source));
        let concerned = state.in_force.iter().filter(|((source, _), _)| is_concerned(*source));
        let concerned: Vec<(Place, Held)> = concerned.map(|(place, held)| (*place, held.clone())).collect();
        let ended: Vec<BanView> = concerned.iter().filter_map(|(place, held)| state.ban_view(place, held)).collect();
        match (network, time) {
            (Some(network), Some(time)) => state.pardons.push((network, at + time)),
            (_, _) => {
                let each = concerned.iter().map(|((source, _), held)| (Network::host(*source), held.judgement.until));
                state.pardons.extend(each);
            }
        }
        let others = (concerned.len() - ended.len()) as u64;
        for ((source, id), _) in concerned {
            state.apply(source, id);
        }
        (ended, others)
    }
}

impl State {
    fn follow(&mut self, policy: Policy) {
        let at = Instant::now();
        let before = std::mem::replace(&mut self.policy, Arc::new(policy));
        let policy = Arc::clone(&self.policy);
        if before.reputation.resolvers != policy.reputation.resolvers
            || before.reputation.timeout != policy.reputation.timeout
        {
            self.asker = asker(&policy);
        }
        let place_of = |zone: &Zone| {
            policy.zones.iter().position(|other| other.is_same_as(zone)).and_then(|place| u16::try_from(place).ok())
        };
        let moved: Vec<Option<u16>> = before.zones.iter().map(place_of).collect();
        let is_same = moved.iter().enumerate().all(|(from, to)| *to == u16::try_from(from).ok());
        if !is_same || moved.len() != policy.zones.len() {
            self.generation += 1;
        }
        self.move_answers(&moved);
        self.move_zones(&before, &moved, at);
        self.remember_spent();
        self.forget_places(&before);
    }

    /// Answers are read again: what they mean may be configured otherwise.
    fn move_answers(&mut self, moved: &[Option<u16>]) {
        let policy = Arc::clone(&self.policy);
        let mut answers = Answers::new(policy.reputation.answers as usize);
        for ((index, source), kept) in self.answers.iter() {
            let Some(to) = moved.get(usize::from(*index)).copied().flatten() else { continue };
            let Some(zone) = policy.zone(to) else { continue };
            let reading = zone.dnsbl.read(&kept.records);
            answers.put((to, *source), Kept { reading, ..kept.clone() });
        }
        self.answers = answers;
        let to = |index: u16| moved.get(usize::from(index)).copied().flatten();
        self.unwritten = self.unwritten.iter().filter_map(|(index, source)| Some((to(*index)?, *source))).collect();
    }

    fn move_zones(&mut self, before: &Policy, moved: &[Option<u16>], at: Instant) {
        let old = std::mem::take(&mut self.zones).into_iter().zip(&before.zones).zip(moved);
        let mut kept: HashMap<u16, (ZoneState, &Dnsbl)> =
            old.filter_map(|((state, zone), to)| Some(((*to)?, (state, &zone.dnsbl)))).collect();
        let zones = self.policy.zones.iter().zip(0u16..).map(|(zone, index)| match kept.remove(&index) {
            Some((mut state, dnsbl)) => {
                state.follow(dnsbl, &zone.dnsbl, at);
                state
            }
            None => ZoneState::new(&zone.dnsbl, at),
        });
        self.zones = zones.collect();
    }

    /// A place that is another service's now, or nobody's, says nothing of what is in force there.
    fn forget_places(&mut self, before: &Policy) {
        let policy = Arc::clone(&self.policy);
        let name_in = |policy: &Policy, place: &Place| policy.service(place.1).map(|service| service.name.clone());
        let gone: Vec<Place> = self
            .in_force
            .iter()
            .map(|(place, _)| *place)
            .filter(|place| name_in(before, place) != name_in(&policy, place))
            .collect();
        for place in gone {
            self.in_force.remove(&place);
            self.filter_is_stale = true;
            if let Err(error) = self.gate.remove(&super::acting::key_of(&place)) {
                tracing::warn!("a listed source stays so until that ends: {}", crate::describe(&error));
            }
        }
    }

    /// Into maps that hold nothing of it.
    pub(super) fn put_all(&mut self) {
        self.empty_gate();
        let all = std::mem::take(&mut self.in_force);
        for ((source, id), _) in all.iter() {
            self.apply(*source, *id);
        }
    }

    fn ban_view(&self, place: &Place, Held { judgement, since }: &Held) -> Option<BanView> {
        let at = Instant::now();
        if judgement.action != Verdict::Ban || judgement.until <= at {
            return None;
        }
        let listed = self.gate.get(&super::acting::key_of(place)).ok().flatten().unwrap_or_default();
        let last_hit_ns = (listed.hits > 0).then(|| now().0.saturating_sub(listed.last_hit_ns));
        let system = SystemTime::now();
        let shown = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        Some(BanView {
            network: Network::host(place.0),
            services: vec![self.policy.service(place.1)?.name.clone()],
            by: By::Dnsbl,
            note: Some(self.because(judgement)),
            since: shown(system - since.elapsed()),
            until: shown(system + (judgement.until - at)),
            hits: listed.hits,
            last_hit: last_hit_ns.map(|ago| shown(system - Duration::from_nanos(ago))),
        })
    }
}
