use std::process::ExitCode;

use clap::Args;
use ratelimit_common::{Kind, Reason};

use crate::{api::Event, events::reason_of};

use super::{context::Context, output};

/// Show sampled verdicts: who was let in, refused or asked whether it is alive, or would have been
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
    let Event { at, reason, interface, .. } = event;
    let service = event.service.as_deref().unwrap_or("-");
    let end = |address: Option<std::net::IpAddr>, port: u16| match address {
        None => "-".to_owned(),
        Some(address) => std::net::SocketAddr::new(address, port).to_string(),
    };
    let source = end(event.source, event.source_port);
    let destination = end(event.destination, event.port);
    let verdict = verdict(event);
    format!("{at}  {verdict:<10}  {reason:<14}  {service:<11}  {source} > {destination}  {interface}\n")
}

fn verdict(event: &Event) -> &str {
    match reason_of(&event.reason).map(Reason::kind) {
        Some(Kind::Refuses) if event.action == "pass" => "would drop",
        Some(Kind::Asks) if event.action == "pass" => "would ask",
        Some(Kind::Passes | Kind::Refuses | Kind::Asks | Kind::Absorbs) | None => &event.action,
    }
}
