//! What bans are exported.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::Controller;
use crate::{
    api::BanView,
    bans::By,
    config::{Export, Network},
    export::{Banned, Exporter, rest},
};

/// The service that those who ask are servers of.
const SERVICE: &str = "smtp";

/// Exports bans as they are. The file is written without the controller.
pub fn export(controller: &Mutex<Controller>, exporter: &mut Exporter) {
    let lock = || controller.lock().unwrap_or_else(PoisonError::into_inner);
    let (export, bans, spared) = lock().exported();
    let failed = exporter.export(&export, bans, &spared).err().map(|error| error.to_string());
    let mut controller = lock();
    if failed != controller.export_error {
        if let Some(error) = &failed {
            tracing::warn!("{error}");
        }
        controller.export_error = failed;
    }
}

impl Controller {
    /// The bans that go out, and what is trusted or allowed all the same.
    fn exported(&self) -> (Export, Vec<Banned>, Vec<Network>) {
        let export = self.effective.export.clone();
        if export.path.is_none() {
            return (export, Vec::new(), Vec::new());
        }
        let at = SystemTime::now();
        let goes_out = |by: By| by != By::Dnsbl || export.include_third_party;
        let own = self.bans.all().filter(|record| record.is_in_force() && record.concerns(SERVICE));
        let own = own.filter(|record| goes_out(record.by)).map(|record| Banned {
            network: record.network,
            note: record.note.clone(),
            rest: rest(record.until_s, at),
        });
        let listed = if goes_out(By::Dnsbl) { self.desk.bans() } else { Vec::new() };
        let listed = listed.into_iter().filter_map(|ban| of_listing(ban, at));
        let bans = own.chain(listed).collect();
        let spared = self.effective.trust.iter().chain(&self.effective.allow);
        let spared = spared.filter(|entry| entry.services.includes(SERVICE)).map(|entry| entry.network).collect();
        (export, bans, spared)
    }
}

fn of_listing(ban: BanView, at: SystemTime) -> Option<Banned> {
    let until = humantime::parse_rfc3339(&ban.until).ok()?;
    let concerns = ban.services.iter().any(|service| service == SERVICE);
    let rest = until.duration_since(at).unwrap_or_default();
    concerns.then_some(Banned { network: ban.network, note: ban.note, rest })
}
