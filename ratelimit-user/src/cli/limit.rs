use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand, builder::NonEmptyStringValueParser};

use crate::{
    api::{ConnectionsView, LimitView, LimitsView, ResetLimit, SetLimit},
    config::{Burst, Connections, Duration, Level, Limit, Rate},
};

use super::{
    context::Context,
    table::{Align, Table, list, number},
};

/// Show or change how many connections are let in
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
#[command(
    after_help = "Examples:\n  ratelimit limit set smtp --rate 120/min --burst 60 --for 2h\n  ratelimit limit set smtp --connections 20"
)]
#[command(group(ArgGroup::new("change").args(["rate", "burst", "connections"]).required(true).multiple(true)))]
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
    /// Connections that one source may hold open, or off
    #[arg(long, value_name = "COUNT|off", conflicts_with_all = ["rate", "burst", "level"])]
    pub connections: Option<Connections>,
    /// What is counted: each source, each network, or the service as a whole
    #[arg(long, value_name = "source|network|service", default_value_t = Level::Source)]
    pub level: Level,
    /// Back to what is configured after this time, as in 90s, 2h, 7d
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
    /// This limit alone, instead of everything of the service
    #[arg(long, value_name = "source|network|service")]
    pub level: Option<Level>,
    /// The connections of a source alone, instead of everything of the service
    #[arg(long, conflicts_with = "level")]
    pub connections: bool,
}

impl LimitCommand {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let client = context.client()?;
        let limits = match self {
            Self::Show => client.limits()?,
            Self::Set(set) => only(&set.service, client.set_limit(&set.service, &set.request())?),
            Self::Reset(Reset { service, level, connections }) => {
                let reset = ResetLimit { level: *level, connections: *connections };
                only(service, client.reset_limit(service, reset)?)
            }
        };
        context.answer(&limits, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Set {
    pub fn request(&self) -> SetLimit {
        let Self { service: _, rate, burst, connections, level, for_ } = *self;
        // Connections have no level, not even the one that is written where none is.
        let level = connections.is_none().then_some(level);
        SetLimit { level, rate, burst, connections, for_ }
    }
}

/// After a change the limits of the other services are beside the point.
fn only(service: &str, mut view: LimitsView) -> LimitsView {
    view.limits.retain(|limit| limit.service == service);
    view.connections.retain(|connections| connections.service == service);
    view
}

pub(super) fn text(view: &LimitsView) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("level", Align::Left),
        ("limit", Align::Left),
        ("configured", Align::Left),
        ("until", Align::Left),
        ("absorbs forged/s", Align::Right),
    ]);
    for connections in &view.connections {
        let limits = view.limits.iter().filter(|limit| limit.service == connections.service);
        for (index, row) in limits.map(limit_row).chain([connections_row(connections)]).enumerate() {
            let service = if index == 0 { connections.service.clone() } else { String::new() };
            table.row([service].into_iter().chain(row));
        }
    }
    let behind: Vec<&str> = view.connections.iter().filter(|of| is_perhaps_blind(of)).map(|of| &*of.service).collect();
    let mut out = table.text();
    out.push_str("\nThe limit of a whole service refuses nobody; what exceeds it is counted as service_limit.\n");
    out.push_str("Connections are those that one source may hold open at the same time.\n");
    if !behind.is_empty() {
        let behind = list(&behind);
        out.push_str(&format!("Those of {behind} are counted only where the listener is on this machine.\n"));
    }
    out
}

/// Whether connections are limited that nobody may be able to count.
fn is_perhaps_blind(view: &ConnectionsView) -> bool {
    view.to_networks && view.connections.most().is_some()
}

fn limit_row(view: &LimitView) -> [String; 5] {
    [
        view.level.to_string(),
        windows(&view.limits),
        view.configured.as_deref().map(windows).unwrap_or_default(),
        view.until.clone().unwrap_or_default(),
        view.capacity_per_s.map(rounded).unwrap_or_default(),
    ]
}

fn connections_row(view: &ConnectionsView) -> [String; 5] {
    [
        "connections".to_owned(),
        view.connections.to_string(),
        view.configured.map(|configured| configured.to_string()).unwrap_or_default(),
        view.until.clone().unwrap_or_default(),
        String::new(),
    ]
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
