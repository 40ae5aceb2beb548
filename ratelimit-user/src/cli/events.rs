use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use clap::Args;
use ratelimit_common::{Kind, Reason};

use crate::{
    api::Event,
    config::{Mode, Verdict},
    events::reason_of,
};

use super::{context::Context, output, table::harmless};

/// Show sampled verdicts: who was let in, refused or asked whether it is alive, or would have been; and who is listed
#[derive(Args, Debug)]
#[command(
    after_help = "Only a sample: at most so many a second as the configuration says (events_per_second). The counters of \
    `ratelimit status` are complete.\n\n\
    Example:\n  ratelimit events --follow"
)]
pub(super) struct Show {
    /// Go on with new ones as they come
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the latest to begin with
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
}

impl Show {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let client = context.client()?;
        if !self.follow {
            let recent = client.recent(self.last)?;
            context.answer(&recent, |recent| recent.iter().map(line).collect())?;
            return Ok(ExitCode::SUCCESS);
        }
        // Asked in this order, none is missed between the two; one that is in both is shown once.
        let mut coming = client.follow()?;
        let recent = client.recent(self.last)?;
        for event in &recent {
            show(event, context)?;
        }
        loop {
            let event = coming.wait()?;
            if !recent.contains(&event) {
                show(&event, context)?;
            }
        }
    }
}

fn show(event: &Event, context: &Context<'_>) -> anyhow::Result<()> {
    if context.global.json { output::write_json_line(event) } else { output::write(&line(event)) }
}

/// One line, its columns as wide as what is usual.
pub(super) fn line(event: &Event) -> String {
    let Event { at, reason, .. } = event;
    let service = event.service.as_deref().unwrap_or("-");
    let (verdict, about) = (verdict(event), about(event));
    format!("{at}  {verdict:<11} {reason:<14}  {service:<11}  {about}\n")
}

/// Whom it is about: a frame from one end to the other, or a source of which something was found out.
fn about(event: &Event) -> String {
    let end = |address: Option<IpAddr>, port: u16| match address {
        None => "-".to_owned(),
        Some(address) => SocketAddr::new(address, port).to_string(),
    };
    let detail = event.detail.as_deref().map(|detail| format!("  {}", harmless(detail))).unwrap_or_default();
    if event.interface.is_empty() {
        let source = event.source.map_or_else(|| "-".to_owned(), |source| source.to_string());
        return format!("{source}{detail}");
    }
    let source = end(event.source, event.source_port);
    let destination = end(event.destination, event.port);
    format!("{source} > {destination}  {}{detail}", event.interface)
}

fn verdict(event: &Event) -> &str {
    match reason_of(&event.reason).map(Reason::kind) {
        Some(Kind::Refuses) if event.action == "pass" => "would drop",
        Some(Kind::Asks) if event.action == "pass" => "would ask",
        None if event.mode == Mode::Observe && event.action == Verdict::Limit.name() => "would limit",
        None if event.mode == Mode::Observe && event.action == Verdict::Ban.name() => "would ban",
        Some(Kind::Passes | Kind::Refuses | Kind::Asks | Kind::Absorbs) | None => &event.action,
    }
}
