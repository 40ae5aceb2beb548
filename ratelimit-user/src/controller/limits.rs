//! Limits and numbers of connections: as they are in force, and as commands change them.

use std::time::SystemTime;

use super::{Controller, Rejection, answer::rfc3339};
use crate::{
    api,
    changes::{ConnectionsChange, LimitChange, seconds},
    config::{Config, Connections, Destination, Level, Limit, Service},
};

impl Controller {
    pub fn set_limit(&mut self, service: &str, request: &api::SetLimit) -> Result<api::LimitsView, Rejection> {
        let name = self.known_service(service)?;
        let until_s = request.for_.map(|time| seconds(SystemTime::now() + time.as_std()));
        match (request.connections, request.level, request.rate, request.burst) {
            (Some(connections), None, None, None) => self.set_connections(name, connections, until_s)?,
            (Some(_), ..) => {
                return Err(Rejection::Invalid("connections have no level, rate or burst: set them apart".into()));
            }
            (None, _, None, None) => {
                return Err(Rejection::Invalid("say what to set: a rate, a burst, or connections".into()));
            }
            (None, ..) => self.set_window(name, request, until_s)?,
        }
        Ok(self.limits_view())
    }

    fn set_connections(
        &mut self,
        service: String,
        connections: Connections,
        until_s: Option<u64>,
    ) -> Result<(), Rejection> {
        self.change(|changes| {
            changes.connections.retain(|change| change.service != service);
            let service = service.clone();
            changes.connections.push(ConnectionsChange { service, connections: connections.most(), until_s });
        })?;
        tracing::info!(service, %connections, "the connections of a source were changed by command");
        Ok(())
    }

    /// The short window of a level.
    fn set_window(&mut self, name: String, request: &api::SetLimit, until_s: Option<u64>) -> Result<(), Rejection> {
        let level = request.level.unwrap_or(Level::Source);
        let mut limits = limits_of(&self.effective, &name, level);
        let short = limits.first().copied();
        let (rate, burst) =
            (request.rate.or(short.map(|limit| limit.rate)), request.burst.or(short.map(|limit| limit.burst)));
        let (Some(rate), Some(burst)) = (rate, burst) else {
            return Err(Rejection::Invalid(format!(
                "{name} has no {level} limit: give both --rate and --burst to set one"
            )));
        };
        let new = Limit { rate, burst };
        match limits.first_mut() {
            Some(first) => *first = new,
            None => limits.push(new),
        }
        self.change(|changes| {
            changes.limits.retain(|change| (change.service.as_str(), change.level) != (&name, level));
            changes.limits.push(LimitChange { service: name.clone(), level, limits, until_s });
        })?;
        tracing::info!(service = name, %level, limit = %new, "a limit was changed by command");
        Ok(())
    }

    /// Back to what is configured.
    pub fn reset_limit(&mut self, service: &str, reset: api::ResetLimit) -> Result<api::LimitsView, Rejection> {
        let name = self.known_service(service)?;
        let everything = reset.level.is_none() && !reset.connections;
        self.change(|changes| {
            let is_reset = |level| everything || reset.level == Some(level);
            changes.limits.retain(|change| change.service != name || !is_reset(change.level));
            changes.connections.retain(|change| change.service != name || !(everything || reset.connections));
        })?;
        tracing::info!(service = name, "limits were reset by command");
        Ok(self.limits_view())
    }

    pub fn limits_view(&self) -> api::LimitsView {
        let services = &self.effective.services;
        let levels = [Level::Source, Level::Network, Level::Service];
        api::LimitsView {
            limits: services.iter().flat_map(|service| levels.map(|level| self.limit_view(service, level))).collect(),
            connections: services.iter().map(|service| self.connections_view(service)).collect(),
        }
    }

    fn limit_view(&self, service: &Service, level: Level) -> api::LimitView {
        let is_it = |change: &&LimitChange| (change.service.as_str(), change.level) == (service.name.as_str(), level);
        let change = self.changes.limits.iter().find(is_it);
        api::LimitView {
            service: service.name.clone(),
            level,
            limits: limits_of(&self.effective, &service.name, level),
            configured: change.map(|_| limits_of(&self.loaded.config, &service.name, level)),
            until: change.and_then(|change| change.until_s).map(rfc3339),
            capacity_per_s: self.capacity(service, level),
        }
    }

    fn connections_view(&self, service: &Service) -> api::ConnectionsView {
        let change = self.changes.connections.iter().find(|change| change.service == service.name);
        let configured = self.loaded.config.service(&service.name).and_then(|service| service.connections);
        api::ConnectionsView {
            service: service.name.clone(),
            connections: service.connections.into(),
            configured: change.map(|_| configured.into()),
            until: change.and_then(|change| change.until_s).map(rfc3339),
            to_networks: service.to != Destination::Local,
        }
    }

    /// The least of a level's windows.
    fn capacity(&self, service: &Service, level: Level) -> Option<f64> {
        let of_level = self.layout.crowded(service).into_iter().filter(|(of, ..)| *of == level);
        of_level.map(|(_, _, region)| region.capacity()).reduce(f64::min)
    }
}

pub fn limits_of(config: &Config, service: &str, level: Level) -> Vec<Limit> {
    let Some(service) = config.service(service) else {
        return Vec::new();
    };
    match level {
        Level::Source => service.source.clone(),
        Level::Network => service.network.clone(),
        Level::Service => service.service.into_iter().collect(),
    }
}
