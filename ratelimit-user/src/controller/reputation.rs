//! Reputation: what the desk says, with what commands changed about it.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use super::{Controller, Rejection, answer::rfc3339, proof::Killed};
use crate::{
    api,
    config::{Verdict, fold_address},
    reputation::Kill,
};

impl Controller {
    pub fn reputation_view(&self) -> Result<api::ReputationView, Rejection> {
        let mut view = self.desk.view();
        view.not_told = self.plane.watch().watched().map_err(anyhow::Error::from)?.not_told;
        for zone in &mut view.zones {
            let pause = self.changes.pause_of(&zone.name);
            zone.paused = pause.map(|pause| api::Pause { until: pause.until_s.map(rfc3339) });
        }
        Ok(view)
    }

    /// Has a DNSBL left alone: it is not asked, and weighs nothing.
    pub fn pause_dnsbl(&mut self, request: &api::PauseRequest) -> Result<api::ReputationView, Rejection> {
        let name = self.known_dnsbl(&request.dnsbl)?;
        self.change(|changes| changes.pause(&name, request.for_.map(|time| time.as_std())))?;
        tracing::info!(dnsbl = name, "paused by command");
        self.reputation_view()
    }

    pub fn resume_dnsbl(&mut self, request: &api::ResumeRequest) -> Result<api::ReputationView, Rejection> {
        let name = self.known_dnsbl(&request.dnsbl)?;
        if self.changes.pause_of(&name).is_none() {
            return Err(Rejection::Invalid(format!("{name} is not paused")));
        }
        self.change(|changes| _ = changes.resume(&name))?;
        tracing::info!(dnsbl = name, "resumed by command");
        self.reputation_view()
    }

    /// Ends open connections of sources that DNSBLs list.
    pub fn end_connections(&self, kills: &[Kill]) {
        let mut sources: BTreeMap<&String, HashSet<IpAddr>> = BTreeMap::new();
        for Kill { source, service } in kills {
            sources.entry(service).or_default().insert(*source);
        }
        for (service, sources) in sources {
            let is_listed = |source| sources.contains(&fold_address(source));
            match self.kill_of(is_listed, std::slice::from_ref(service)) {
                Killed { ended, failed: None } => {
                    tracing::debug!(service, ended, "ended connections of listed sources")
                }
                Killed { failed: Some(error), .. } => {
                    tracing::warn!(service, "connections of listed sources could not be ended: {error}");
                }
            }
        }
    }

    /// Warnings of what would do otherwise than it seems.
    pub(super) fn reputation_warnings(&self) -> Vec<String> {
        let reputation = &self.effective.reputation;
        let unwatched = self.plane.unwatched().is_some() && !reputation.dnsbl.is_empty();
        let mut warnings = Vec::new();
        if unwatched {
            warnings.push("no DNSBL is asked about anybody: handshakes are not seen, as said under proof".to_owned());
        }
        let acts_by_ban = self.effective.services.iter().any(|service| {
            reputation.action_of(&service.name) == Verdict::Ban
                && reputation.dnsbl.iter().any(|dnsbl| dnsbl.is_asked_for(&service.name))
        });
        if acts_by_ban && reputation.ttl_max.as_std() > LONG_BAN {
            warnings.push(format!(
                "reputation: sources that DNSBLs list are banned for up to {}: who is delisted waits as long; lower `max` of `ttl`",
                reputation.ttl_max
            ));
        }
        warnings
    }

    fn known_dnsbl(&self, name: &str) -> Result<String, Rejection> {
        let all = &self.effective.reputation.dnsbl;
        if all.iter().any(|dnsbl| dnsbl.name == name) {
            return Ok(name.to_owned());
        }
        let known: Vec<&str> = all.iter().map(|dnsbl| dnsbl.name.as_str()).collect();
        Err(Rejection::Unknown(match known.is_empty() {
            true => format!("there is no DNSBL {name}: none is configured"),
            false => format!("there is no DNSBL {name}; there are: {}", known.join(", ")),
        }))
    }
}

/// Longer than postscreen believes any answer.
const LONG_BAN: Duration = Duration::from_secs(3600);
