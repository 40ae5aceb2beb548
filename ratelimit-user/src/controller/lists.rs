//! The lists: what comes in is judged here, and put in force.

use std::{net::IpAddr, time::SystemTime};

use super::{Controller, Rejection, answer::rfc3339, hits::Count, services_of};
use crate::{
    api,
    changes::seconds,
    config::{self, Action, Network, Permit, fold_address},
    lists::{
        Roster,
        bring::{Copy, Failure, News},
        list::{Belief, Good, List},
        reading::{Line, Read},
        roster::{Job, JobKind, Refusal, marks},
        screen::{Refusals, is_too_wide},
        shelf::{Facts, ShelfError},
    },
};

impl Controller {
    pub fn lists(&self) -> &Roster {
        &self.roster
    }

    /// What is due now; `changed` are lists of files that changed.
    pub fn due_lists(&mut self, changed: &[String]) -> Vec<Job> {
        let now_s = seconds(SystemTime::now());
        let mut jobs = self.roster.due(now_s);
        // One that may not be asked for now is asked in its turn.
        let may_be_asked = |list: &List| list.not_before_s() <= now_s;
        for name in changed {
            if self.roster.get(name).is_some_and(may_be_asked) {
                jobs.extend(self.roster.ask(name, JobKind::Ask, now_s));
            }
        }
        jobs
    }

    /// One list out of turn, or all that may be asked for now.
    pub fn ask_lists(&mut self, name: Option<&str>, kind: JobKind) -> Result<Vec<Job>, Rejection> {
        let now_s = seconds(SystemTime::now());
        let Some(name) = name else {
            let names: Vec<String> = self.roster.all().map(|list| list.config.name.clone()).collect();
            return Ok(names.iter().filter_map(|name| self.roster.ask(name, kind, now_s).ok()).collect());
        };
        let job = self.roster.ask(name, kind, now_s).map_err(|refusal| self.refusal(name, &refusal))?;
        if let (JobKind::Accept, Some(list)) = (kind, self.roster.get_mut(name)) {
            list.accept_next();
        }
        Ok(vec![job])
    }

    /// Takes the outcome of a job. Whatever fails leaves the last good copy in force.
    pub fn take_list(&mut self, name: &str, brought: Result<News, Failure>) -> Result<String, Rejection> {
        let now_s = seconds(SystemTime::now());
        let Some(list) = self.roster.get_mut(name) else {
            return Err(Rejection::Unknown(format!("the list {name} has gone from the configuration meanwhile")));
        };
        match brought {
            Err(Failure { text, retry_after }) => {
                list.fail(text.clone(), retry_after, now_s);
                tracing::warn!(list = name, "not refreshed, the last good copy stays in force: {text}");
                Err(Rejection::Failed(anyhow::Error::msg(text)))
            }
            Ok(News::Unchanged) => {
                list.confirm(now_s);
                let facts = list.good.as_ref().map(facts);
                self.note_on_shelf(name, |roster| {
                    let shelf = roster.shelf();
                    shelf.drop_candidate(name)?;
                    facts.map_or(Ok(()), |facts| shelf.confirm(name, &facts))
                });
                self.weigh_lists()?;
                Ok("unchanged".to_owned())
            }
            Ok(News::Reread(Ok(read))) => {
                let before = list.reread(*read);
                self.weigh_or_restore(name, before, now_s)?;
                self.outcome(name)
            }
            Ok(News::Reread(Err(problem))) => {
                let problem = format!("the copy that is kept could not be read again: {problem}");
                list.fail_to_reread(problem.clone());
                tracing::warn!(list = name, "{problem}");
                Err(Rejection::Failed(anyhow::Error::msg(problem)))
            }
            Ok(News::Copy(copy)) if copy.origin.from != marks(&list.config) => {
                list.ask_anew(now_s);
                Err(Rejection::Invalid(format!("the sources of {name} have changed meanwhile; it is asked for anew")))
            }
            Ok(News::Copy(copy)) => match list.judge(&copy.read, &copy.origin, now_s) {
                Belief::Good => self.take_copy(name, *copy, now_s),
                Belief::Waits => self.set_aside(name, &copy, now_s),
            },
        }
    }

    /// Puts lists in force whose weight has changed by time alone.
    pub fn weigh_lists(&mut self) -> Result<(), Rejection> {
        let weights = self.roster.weights(&self.effective, seconds(SystemTime::now()));
        if weights.is_same(&self.weights) {
            return Ok(());
        }
        self.put_in_force(self.loaded.clone(), self.changes.clone(), self.interfaces.clone())
    }

    fn take_copy(&mut self, name: &str, copy: Copy, now_s: u64) -> Result<String, Rejection> {
        let Copy { content, read, origin } = copy;
        let good = Good { read, origin, fetched_s: now_s, confirmed_s: now_s };
        let facts = facts(&good);
        let before = self.roster.get_mut(name).and_then(|list| list.take(good, now_s));
        self.weigh_or_restore(name, before, now_s)?;
        let is_kept = self.note_on_shelf(name, |roster| {
            let shelf = roster.shelf();
            shelf.keep(name, &content, &facts)?;
            shelf.drop_candidate(name)
        });
        if let (false, Some(list)) = (is_kept, self.roster.get_mut(name)) {
            list.bring_again();
        }
        let outcome = self.outcome(name)?;
        tracing::info!(list = name, "in force: {outcome}");
        self.log_refusals(name);
        Ok(outcome)
    }

    fn log_refusals(&self, name: &str) {
        let read = self.roster.get(name).and_then(|list| Some((&list.config, &list.good.as_ref()?.read)));
        let Some((config, read)) = read else { return };
        for refusal in self.refusals(config, read).shown {
            tracing::info!(list = name, network = %refusal.network, "an entry was refused or cut: {}", refusal.why);
        }
    }

    fn set_aside(&mut self, name: &str, copy: &Copy, now_s: u64) -> Result<String, Rejection> {
        let Some(list) = self.roster.get_mut(name) else { return self.outcome(name) };
        list.wait(now_s);
        let problem = list.problem.clone().unwrap_or_default();
        let seen_s = list.candidate.as_ref().map_or(Vec::new(), |candidate| candidate.seen_s.clone());
        let facts = Facts { from: copy.origin.from.clone(), fetched_s: now_s, confirmed_s: now_s, seen_s };
        self.note_on_shelf(name, |roster| roster.shelf().set_aside(name, &copy.content, &facts));
        tracing::warn!(list = name, "{problem}");
        Err(Rejection::Failed(anyhow::Error::msg(problem)))
    }

    /// Puts what a list holds now in force, or gives it back what it held.
    fn weigh_or_restore(&mut self, name: &str, before: Option<Good>, now_s: u64) -> Result<(), Rejection> {
        let weighed = self.weigh_lists();
        if let (Err(error), Some(list)) = (&weighed, self.roster.get_mut(name)) {
            list.good = before;
            list.fail(format!("the new copy could not be put in force: {error}"), None, now_s);
        }
        weighed
    }

    /// A disk that fails takes nothing out of force; it is said. Returns whether it did not fail.
    fn note_on_shelf(&mut self, name: &str, note: impl FnOnce(&Roster) -> Result<(), ShelfError>) -> bool {
        let Err(error) = note(&self.roster) else { return true };
        tracing::error!(list = name, "{error}");
        if let Some(list) = self.roster.get_mut(name) {
            list.problem = Some(error.to_string());
        }
        false
    }

    fn outcome(&self, name: &str) -> Result<String, Rejection> {
        let list = self.roster.get(name).ok_or_else(|| self.refusal(name, &Refusal::Unknown))?;
        let read = list.good.as_ref().map(|good| &good.read);
        Ok(read.map_or_else(|| "nothing".to_owned(), |read| summary(read, self.refusals(&list.config, read).count)))
    }

    fn refusal(&self, name: &str, refusal: &Refusal) -> Rejection {
        match refusal {
            Refusal::Unknown => {
                let names: Vec<&str> = self.roster.all().map(|list| list.config.name.as_str()).collect();
                let known = if names.is_empty() { "the configuration has none".to_owned() } else { names.join(", ") };
                Rejection::Unknown(format!("there is no list {name:?} ({known})"))
            }
            Refusal::Busy => Rejection::Invalid(format!("{name} is being refreshed already")),
            Refusal::TooEarly { not_before_s } => Rejection::Invalid(format!(
                "{name} may not be fetched again before {}: its publisher bars who asks more often",
                rfc3339(*not_before_s)
            )),
            Refusal::NothingWaits => Rejection::Invalid(format!("no copy of {name} waits to be accepted")),
        }
    }

    /// What an administrator should know of, a line a list.
    pub(super) fn list_warnings(&self) -> Vec<String> {
        let now_s = seconds(SystemTime::now());
        let warning = |list: &List| {
            let name = &list.config.name;
            let state = match (&list.good, list.is_too_old(now_s)) {
                (None, _) => Some("it weighs nothing, for it was never read".to_owned()),
                (Some(_), true) if self.effective.is_permit(name) => {
                    Some("its copy is past its age, and stays in force because it says who may connect".to_owned())
                }
                (Some(_), true) => Some("its copy is past its age and weighs nothing".to_owned()),
                (Some(_), false) => None,
            };
            let parts: Vec<String> = state.into_iter().chain(list.problem.clone()).collect();
            (!parts.is_empty()).then(|| format!("list {name}: {}", parts.join("; ")))
        };
        self.roster.all().filter_map(warning).collect()
    }

    pub fn list_views(&self) -> Result<Vec<api::ListView>, Rejection> {
        let now_s = seconds(SystemTime::now());
        let live = self.plane.maps().list_hits().map_err(anyhow::Error::from)?;
        Ok(self.roster.all().map(|list| self.list_view(list, self.hits.of(&list.config.name, &live), now_s)).collect())
    }

    fn list_view(&self, list: &List, stopped: Count, now_s: u64) -> api::ListView {
        let config = &list.config;
        let good = list.good.as_ref();
        let read = good.map(|good| &good.read);
        api::ListView {
            name: config.name.clone(),
            preset: config.preset.map(|preset| preset.to_string()),
            from: config.from.iter().map(ToString::to_string).collect(),
            formats: read.map_or(Vec::new(), formats),
            services: services_of(&config.services),
            action: config.action,
            all_packets: config.all_packets,
            mode: config.mode,
            state: self.list_state(list, now_s),
            entries: read.map_or(0, |read| read.entries),
            networks: read.map_or(0, |read| read.networks.len() as u64),
            fetched: good.map(|good| rfc3339(good.fetched_s)),
            confirmed: good.map(|good| rfc3339(good.confirmed_s)),
            expires: list.expires_s().map(rfc3339),
            next_refresh: rfc3339(list.next_s.max(now_s)),
            problem: list.problem.clone(),
            left_out: read.map_or(0, |read| read.left_out),
            bad_lines: read.map_or(0, Read::bad_lines),
            bad: read.map_or(Vec::new(), bad_lines),
            refused: read.map_or_else(Default::default, |read| self.refusals(config, read)),
            waiting: list.candidate.as_ref().map(|candidate| api::WaitingCopy {
                entries: candidate.read.entries,
                why: candidate.why.clone(),
                seen: candidate.seen_s.iter().map(|at| rfc3339(*at)).collect(),
            }),
            notices: read.map_or(Vec::new(), |read| read.notices.clone()),
            hits: stopped.hits,
            last_hit: stopped.last_s.map(rfc3339),
        }
    }

    /// What was refused of a list, and what is cut out of it because nothing may block it.
    fn refusals(&self, config: &config::List, read: &Read) -> Refusals {
        let mut refused = read.refused.clone();
        if config.action == Action::Allow {
            return refused;
        }
        for network in read.networks.meeting(self.never_block.as_list()) {
            refused.add(network, || {
                let spared: Vec<String> = self.never_block.all_meeting(network).map(ToString::to_string).collect();
                format!("spares {}", spared.join("; "))
            });
        }
        refused
    }

    fn list_state(&self, list: &List, now_s: u64) -> api::ListState {
        match &list.good {
            None => api::ListState::Missing,
            Some(_) if list.weight(now_s, self.effective.is_permit(&list.config.name)).is_none() => {
                api::ListState::Expired
            }
            Some(_) => api::ListState::InForce,
        }
    }

    /// What the lists say of an address, line by line.
    pub fn test_lists(&self, address: IpAddr) -> Vec<api::ListMatch> {
        let now_s = seconds(SystemTime::now());
        self.roster.all().flat_map(|list| self.matches(list, address, now_s)).collect()
    }

    /// Lists that say something of an address for a service.
    pub(super) fn lists_around(&self, address: IpAddr, service: &str) -> Vec<api::ListMatch> {
        let now_s = seconds(SystemTime::now());
        let concerns = |list: &&List| {
            let names = |permit: &Permit| matches!(permit, Permit::List(name) if *name == list.config.name);
            let permits = self.effective.service(service).is_some_and(|service| service.only_from.iter().any(names));
            permits || list.config.services.includes(service)
        };
        let lists = self.roster.all().filter(concerns);
        let weighs = |list: &&List| self.list_state(list, now_s) == api::ListState::InForce;
        lists.filter(weighs).flat_map(|list| self.matches(list, address, now_s)).collect()
    }

    /// Lists in force that allow a network as a whole, each with the network of its own that holds it.
    pub(super) fn allowing_around(&self, network: Network) -> Vec<(config::List, Network)> {
        let now_s = seconds(SystemTime::now());
        let allowing = self.roster.all().filter(|list| list.config.action == Action::Allow);
        let holding = allowing.filter_map(|list| {
            let networks = list.weight(now_s, self.effective.is_permit(&list.config.name))?;
            let around = networks.around(network.address()).into_iter().find(|around| around.contains(network))?;
            Some((list.config.clone(), around))
        });
        holding.collect()
    }

    fn matches(&self, list: &List, address: IpAddr, now_s: u64) -> Vec<api::ListMatch> {
        let address = fold_address(address);
        let Some(good) = &list.good else { return Vec::new() };
        let around = good.read.networks.around(address);
        let in_force = !around.is_empty() && self.list_state(list, now_s) == api::ListState::InForce;
        let view = |network: Network, line: Option<Line>| api::ListMatch {
            list: list.config.name.clone(),
            action: list.config.action,
            services: services_of(&list.config.services),
            network,
            in_force: in_force && !is_too_wide(network),
            excludes: line.as_ref().is_some_and(|line| line.found.excludes),
            file: line.as_ref().map(|line| line.piece.clone()),
            line: line.as_ref().map(|line| line.found.line),
            text: line.map(|line| line.found.text),
            expires: list.expires_s().map(rfc3339),
        };
        let lines = self.roster.find(list, address, now_s);
        match lines.is_empty() {
            true => around.into_iter().map(|network| view(network, None)).collect(),
            false => lines.into_iter().map(|line| view(line.found.network, Some(line))).collect(),
        }
    }
}

fn facts(good: &Good) -> Facts {
    let Good { origin, fetched_s, confirmed_s, .. } = good;
    Facts { from: origin.from.clone(), fetched_s: *fetched_s, confirmed_s: *confirmed_s, seen_s: Vec::new() }
}

fn summary(read: &Read, refused: u64) -> String {
    let mut parts = vec![format!("{} entries, {} networks", read.entries, read.networks.len())];
    if read.bad_lines() > 0 {
        parts.push(format!("{} bad lines", read.bad_lines()));
    }
    if refused > 0 {
        parts.push(format!("{refused} entries refused or cut"));
    }
    parts.join(", ")
}

fn formats(read: &Read) -> Vec<String> {
    let mut formats: Vec<String> = read.formats.iter().map(ToString::to_string).collect();
    formats.dedup();
    formats
}

fn bad_lines(read: &Read) -> Vec<api::BadLine> {
    let of_piece = |(piece, bad): &(String, crate::lists::format::Bad)| {
        let line = |line: &crate::lists::format::BadLine| api::BadLine {
            file: piece.clone(),
            line: line.line,
            text: line.text.clone(),
            problem: line.problem.clone(),
        };
        bad.lines.iter().map(line).collect::<Vec<_>>()
    };
    read.bad.iter().flat_map(of_piece).collect()
}
