//! What an address has shown, and what it is asked to show.

use ratelimit_common::{Kind, Reason};

use crate::{
    api::{Explanation, ProvenView, ServiceExplanation},
    cli::table::{list, number},
    config::Level,
    events::reason_of,
};

use super::plain;

/// Whether the next connection is not refused, but asked first.
pub(super) fn is_asked(service: &ServiceExplanation) -> bool {
    reason_of(&service.reason).is_some_and(|reason| reason.kind() == Kind::Asks)
}

/// Since when it is known to be who it says.
pub(super) fn proven(explanation: &Explanation) -> String {
    // Whoever owns an address of IPv6 has all of its /64.
    let whose = if explanation.address.is_ipv4() { "" } else { " of its /64" };
    match &explanation.proven {
        None => format!("not proven: no handshake{whose} was seen in the last 30 days\n"),
        Some(ProvenView { last, exchanged: None }) => {
            format!(
                "proven: the last handshake{whose} was at {last}; no data was exchanged in a connection that is over\n"
            )
        }
        Some(ProvenView { last, exchanged: Some(exchanged) }) => {
            format!("proven: the last handshake{whose} was at {last}, the last exchange of data ended at {exchanged}\n")
        }
    }
}

/// What suspicion means for this address, and what it has to do when it is asked: nothing.
pub(super) fn asked(explanation: &Explanation) -> String {
    let services = &explanation.services;
    let names = |wanted: &dyn Fn(&ServiceExplanation) -> bool| {
        let found = services.iter().filter(|service| wanted(service));
        list(&found.map(|service| service.service.as_str()).collect::<Vec<_>>())
    };
    let is_trusted = |service: &ServiceExplanation| service.reason == Reason::Trusted.label();
    let passes = |service: &ServiceExplanation| !service.refused && !is_asked(service) && !is_trusted(service);
    let suspect = names(&|service| service.suspect);
    let proven = names(&|service| service.suspect && passes(service));
    let trusted = names(&|service| service.suspect && is_trusted(service));
    // Suspicion of the service alone would not touch who is proven.
    let over = names(&|service| is_asked(service) && (!service.suspect || explanation.proven.is_some()));
    let is_answered = services.iter().any(|service| service.reason == Reason::Challenged.label());
    let is_awaited = services.iter().any(|service| service.reason == Reason::Awaited.label());
    let sentences = [
        (!suspect.is_empty()).then(|| format!("suspect: {suspect}, so sources that are not proven are asked first")),
        (!proven.is_empty()).then(|| format!("this one is proven, and not asked on {proven}")),
        (!trusted.is_empty()).then(|| format!("this one is trusted, and not asked on {trusted}")),
        (!over.is_empty())
            .then(|| format!("over its limit on {over} by SYNs that others may have sent in its name, so it is asked first")),
        is_answered.then(|| {
            "a live host answers by itself and is let in with its next SYN; behind a firewall that swallows the question it is \
             let in when it repeats its SYN"
                .to_owned()
        }),
        is_awaited.then(|| "a live host repeats its SYN by itself and is let in then".to_owned()),
    ];
    let lines: String = sentences.into_iter().flatten().map(|sentence| format!("{sentence}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// Its open connections as a row beside its limits; none where neither is known.
pub(super) fn connections(service: &ServiceExplanation) -> Option<[String; 6]> {
    let ServiceExplanation { connections, connections_most, levels, .. } = service;
    let used = match connections_most {
        Some(most) => format!("{} of {}", number(*connections), number(*most)),
        None if *connections > 0 => number(*connections),
        None => return None,
    };
    let counted = levels.iter().find(|explained| explained.level == Level::Source);
    let next = match connections_most {
        Some(most) if connections >= most => "when one ends",
        Some(_) | None => "now",
    };
    let limit = connections_most.map_or_else(|| "off".to_owned(), |most| format!("{} open at once", number(most)));
    Some([
        service.service.clone(),
        counted.map(|explained| plain(explained.counted)).unwrap_or_default(),
        "source".to_owned(),
        limit,
        used,
        next.to_owned(),
    ])
}
