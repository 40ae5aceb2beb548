//! `dnsbl`: how the DNSBLs of the configuration are, what they say of an address, and having one left alone.

mod checked;
mod shown;

use std::{net::IpAddr, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};

use crate::{
    api::{PauseRequest, ReputationView, ResumeRequest},
    client::Client,
    config::{Duration, Verdict},
};

use super::{context::Context, explain::parse_address};

pub(super) use checked::text as checked;
pub(super) use shown::{Standing, all, in_force, one, problem, unasked};

/// What `dnsbl` can do.
#[derive(Debug, Subcommand)]
pub(super) enum DnsblCommand {
    /// Show the DNSBLs: whether they are well, what they answered, what is left of their budgets
    #[command(after_help = "Examples:\n  ratelimit dnsbl show\n  ratelimit dnsbl show zen")]
    Show(Show),
    /// Ask every DNSBL about an address, and say what would follow; nothing does
    #[command(after_help = "Each question counts in the budget of its DNSBL. Most list 127.0.0.2, for tests.\n\n\
        Examples:\n  ratelimit dnsbl check 192.0.2.4\n  ratelimit dnsbl check 127.0.0.2")]
    Check(Check),
    /// Leave a DNSBL alone: it is not asked, and weighs nothing
    #[command(after_help = "Examples:\n  ratelimit dnsbl pause zen --for 2h\n  ratelimit dnsbl pause zen")]
    Pause(Pause),
    /// Ask a DNSBL again that was paused
    #[command(after_help = "Example:\n  ratelimit dnsbl resume zen")]
    Resume(Resume),
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// This DNSBL alone, with everything that is known of it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Check {
    /// As in 192.0.2.4 or 2001:db8::4
    #[arg(value_parser = parse_address)]
    pub address: IpAddr,
}

#[derive(Args, Debug)]
pub(super) struct Pause {
    /// As `dnsbl show` names it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Ask it again after this time, as in 90s, 2h, 7d
    #[arg(long = "for", value_name = "TIME")]
    pub for_: Option<Duration>,
}

#[derive(Args, Debug)]
pub(super) struct Resume {
    /// As `dnsbl show` names it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
}

impl DnsblCommand {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let client = context.client()?;
        match self {
            Self::Show(Show { name }) => show(&client, name.as_deref(), context)?,
            Self::Check(Check { address }) => context.answer(&client.check_dnsbl(*address)?, checked)?,
            Self::Pause(Pause { name, for_ }) => {
                let view = client.pause_dnsbl(&PauseRequest { dnsbl: name.clone(), for_: *for_ })?;
                context.answer(&only(name, view), standing)?;
            }
            Self::Resume(Resume { name }) => {
                let view = client.resume_dnsbl(&ResumeRequest { dnsbl: name.clone() })?;
                context.answer(&only(name, view), standing)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(client: &Client, name: Option<&str>, context: &Context<'_>) -> anyhow::Result<()> {
    let view = client.dnsbl()?;
    let Some(name) = name else { return context.answer(&view, all) };
    match find(&view, name) {
        Ok(zone) => context.answer(zone, one),
        Err(unknown) => bail!(unknown),
    }
}

/// A DNSBL by its name, or why there is none.
pub(super) fn find<'v>(view: &'v ReputationView, name: &str) -> Result<&'v crate::api::DnsblView, String> {
    view.zones.iter().find(|zone| zone.name == name).ok_or_else(|| {
        let known: Vec<&str> = view.zones.iter().map(|zone| zone.name.as_str()).collect();
        let known = if known.is_empty() { "none at all".to_owned() } else { known.join(", ") };
        format!("there is no DNSBL {name:?} ({known})")
    })
}

/// After a change the other DNSBLs are beside the point.
fn only(name: &str, mut view: ReputationView) -> ReputationView {
    view.zones.retain(|zone| zone.name == name);
    view
}

/// What holds now, a line a DNSBL.
pub(super) fn standing(view: &ReputationView) -> String {
    let line = |zone| problem(zone).unwrap_or_else(|| format!("{} is asked, and what it says counts", zone.name));
    view.zones.iter().map(|zone| format!("{}\n", line(zone))).collect()
}

/// An action, and what it is.
pub(super) const fn follows(action: Verdict) -> &'static str {
    match action {
        Verdict::Note => "note (it is told, and nothing is refused)",
        Verdict::Limit => "limit (it gets the tight limit of listed sources)",
        Verdict::Ban => "ban (everything of it is refused)",
    }
}
