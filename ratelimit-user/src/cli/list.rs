//! `list`: what the lists of the configuration hold, and having them brought in.

mod refresh;
mod shown;

use std::{net::IpAddr, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};

use crate::{api::ListMatch, client::Client};

use super::{
    context::Context,
    entry,
    explain::parse_address,
    table::{Align, Table},
};

pub(super) use shown::{one, table};

/// What `list` can do.
#[derive(Debug, Subcommand)]
pub(super) enum ListCommand {
    /// Show the lists: entries, age, what was refused of them, what they stopped
    #[command(after_help = "Examples:\n  ratelimit list show\n  ratelimit list show drop")]
    Show(Show),
    /// Fetch a list now, or all of them; not sooner than its publisher allows
    #[command(after_help = "Example:\n  ratelimit list refresh drop")]
    Refresh(Refresh),
    /// Say which lists an address is in, and by which line
    #[command(after_help = "Example:\n  ratelimit list test 192.0.2.4")]
    Test(Test),
    /// Take the copy of a list that differs suddenly from the last good one
    #[command(after_help = "`ratelimit list show NAME` says how it differs.\n\nExample:\n  ratelimit list accept drop")]
    Accept(Accept),
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// This list alone, with everything that is known of it
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Refresh {
    /// This list alone
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Test {
    /// As in 192.0.2.4 or 2001:db8::4
    #[arg(value_parser = parse_address)]
    pub address: IpAddr,
}

#[derive(Args, Debug)]
pub(super) struct Accept {
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
}

impl ListCommand {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let client = context.client()?;
        match self {
            Self::Show(Show { name }) => show(&client, name.as_deref(), context)?,
            Self::Refresh(Refresh { name }) => {
                return refresh::follow(client.refresh_lists(name.as_deref())?, context);
            }
            Self::Test(Test { address }) => {
                let matches = client.test_lists(*address)?;
                context.answer(&matches, |matches| tested(*address, matches))?;
            }
            Self::Accept(Accept { name }) => return refresh::follow(client.accept_list(name)?, context),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(client: &Client, name: Option<&str>, context: &Context<'_>) -> anyhow::Result<()> {
    let lists = client.lists()?;
    let Some(name) = name else {
        return context.answer(&lists, |lists| match lists.is_empty() {
            true => "no lists: the configuration names none under [[lists]]\n".to_owned(),
            false => table(lists),
        });
    };
    let Some(list) = lists.iter().find(|list| list.name == name) else {
        let known: Vec<&str> = lists.iter().map(|list| list.name.as_str()).collect();
        bail!(
            "there is no list {name:?} ({})",
            if known.is_empty() { "none at all".to_owned() } else { known.join(", ") }
        );
    };
    context.answer(list, one)
}

pub(super) fn tested(address: IpAddr, matches: &[ListMatch]) -> String {
    if matches.is_empty() {
        return format!("{address} is in no list\n");
    }
    let acts = matches.iter().any(|found| found.in_force);
    let headline = match acts {
        true => format!("{address} is listed\n\n"),
        false => format!("{address} is named, but no list acts on it\n\n"),
    };
    format!("{headline}{}\n`ratelimit explain {address}` says what becomes of its next connection\n", lines(matches))
}

/// Which list, by which line.
pub(super) fn lines(matches: &[ListMatch]) -> String {
    let mut table = Table::new(&[
        ("list", Align::Left),
        ("action", Align::Left),
        ("services", Align::Left),
        ("network", Align::Left),
        ("in force", Align::Left),
        ("until", Align::Left),
        ("where", Align::Left),
        ("line", Align::Left),
    ]);
    for found in matches {
        let place = match (&found.file, found.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.clone(),
            (None, _) => String::new(),
        };
        table.row([
            found.list.clone(),
            if found.excludes { "excludes".to_owned() } else { found.action.name().to_owned() },
            entry::scope(&found.services),
            found.network.to_string(),
            if found.in_force { "yes" } else { "no" }.to_owned(),
            found.expires.clone().unwrap_or_default(),
            place,
            found.text.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}
