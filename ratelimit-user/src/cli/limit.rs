use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand, builder::NonEmptyStringValueParser};

use crate::{
    api::{LimitView, SetLimit},
    config::{Burst, Duration, Level, Limit, Rate},
};

use super::{
    context::Context,
    table::{Align, Table, number},
};

/// Show or change how many new connections are let in
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  ratelimit limit set imap --rate 480/min --burst 600 --for 2h")]
pub(super) enum LimitCommand {
    /// Show the limits in force
    #[command(after_help = "Example:\n  ratelimit limit show")]
    Show,
    Set(Set),
    Reset(Reset),
}

/// Change a limit until it is reset; what is not given stays as it is
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ratelimit limit set smtp --rate 120/min --burst 60 --for 2h")]
#[command(group(ArgGroup::new("change").args(["rate", "burst"]).required(true).multiple(true)))]
pub(super) struct Set {
    /// As `limit show` names it
    #[arg(value_name = "SERVICE", value_parser = NonEmptyStringValueParser::new())]
    pub service: String,
    /// New connections over time, as in 10/s, 120/min, 1000/h, 5000/day
    #[arg(long)]
    pub rate: Option<Rate>,
    /// New connections at once
    #[arg(long, value_name = "COUNT")]
    pub burst: Option<Burst>,
    /// What is counted: each source, each network, or the service as a whole
    #[arg(long, value_name = "source|network|service", default_value_t = Level::Source)]
    pub level: Level,
    /// Back to the configured limit after this time, as in 90s, 2h, 7d
    #[arg(long = "for", value_name = "TIME")]
    pub for_: Option<Duration>,
}

/// Take back what `limit set` changed
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ratelimit limit reset smtp")]
pub(super) struct Reset {
    /// As `limit show` names it
    #[arg(value_name = "SERVICE", value_parser = NonEmptyStringValueParser::new())]
    pub service: String,
    /// This limit alone, instead of all of the service
    #[arg(long, value_name = "source|network|service")]
    pub level: Option<Level>,
}

impl LimitCommand {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let client = context.client()?;
        let limits = match self {
            Self::Show => client.limits()?,
            Self::Set(Set { service, rate, burst, level, for_ }) => {
                let wanted = SetLimit { level: *level, rate: *rate, burst: *burst, for_: *for_ };
                only(service, client.set_limit(service, &wanted)?)
            }
            Self::Reset(Reset { service, level }) => only(service, client.reset_limit(service, *level)?),
        };
        context.answer(&limits, |limits| text(limits))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// After a change the limits of the other services are beside the point.
fn only(service: &str, mut limits: Vec<LimitView>) -> Vec<LimitView> {
    limits.retain(|view| view.service == service);
    limits
}

pub(super) fn text(limits: &[LimitView]) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("level", Align::Left),
        ("limit", Align::Left),
        ("configured", Align::Left),
        ("until", Align::Left),
        ("absorbs forged/s", Align::Right),
    ]);
    let mut service = "";
    for view in limits {
        let first = view.service != service;
        service = &view.service;
        table.row([
            if first { service.to_owned() } else { String::new() },
            view.level.to_string(),
            windows(&view.limits),
            view.configured.as_deref().map(windows).unwrap_or_default(),
            view.until.clone().unwrap_or_default(),
            view.capacity_per_s.map(rounded).unwrap_or_default(),
        ]);
    }
    let mut out = table.text();
    if limits.iter().any(|view| view.level == Level::Service) {
        out.push_str("\nThe limit of a whole service refuses nobody; what exceeds it is counted as service_limit.\n");
    }
    out
}

pub(super) fn windows(limits: &[Limit]) -> String {
    if limits.is_empty() {
        return "off".to_owned();
    }
    limits.iter().map(Limit::to_string).collect::<Vec<_>>().join(", ")
}

/// An estimate to two digits: more would pretend to be exact.
pub(super) fn rounded(estimate: f64) -> String {
    let whole = estimate.max(0.0) as u64;
    let unit = 10_u64.pow(whole.max(1).ilog10().saturating_sub(1));
    number(whole / unit * unit)
}
