//! What DNSBLs say of an address, and what follows from it.

use std::time::Duration;

use ratelimit_common::Reason;

use crate::{
    api::{Explanation, ListingView, ServiceExplanation},
    cli::{
        dnsbl::follows,
        table::{harmless, list, span},
    },
};

/// Whether what DNSBLs say of it is what refuses it.
pub(super) fn refuses(service: &ServiceExplanation) -> bool {
    service.refused && service.reason == Reason::ListedLimit.label()
}

/// Two lines for services of which the same is said.
pub(super) fn lines(explanation: &Explanation) -> String {
    let mut said: Vec<(&ListingView, Vec<&str>)> = Vec::new();
    for service in &explanation.services {
        let Some(listing) = &service.listing else { continue };
        match said.iter_mut().find(|(other, _)| *other == listing) {
            Some((_, services)) => services.push(&service.service),
            None => said.push((listing, vec![&service.service])),
        }
    }
    let line = |(listing, services): (&ListingView, Vec<&str>)| {
        let ListingView { score, threshold, action, because, rest_s } = listing;
        let (because, services) = (harmless(because), list(&services));
        let rest = span(Duration::from_secs(*rest_s));
        let reaches = format!("score {score} reaches the threshold {threshold}");
        format!("DNSBLs list it on {services}: {reaches}: {because}\n  {} for {rest} more\n", follows(*action))
    };
    let lines: String = said.into_iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}
