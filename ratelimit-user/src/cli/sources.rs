use std::process::ExitCode;

use clap::Args;

use crate::{
    api::{SourceView, SourcesBy},
    offline,
};

use super::{
    context::Context,
    explain::plain,
    table::{Align, Table, number},
};

/// More would not be read.
const MOST: std::ops::RangeInclusive<i64> = 1..=10_000;

/// Show sources: who has the most connections open, who is refused most, who came last
#[derive(Args, Debug)]
#[command(
    after_help = "Connections are counted exactly, where the listener is on this machine. Refusals are those among the latest \
    sampled events (see `ratelimit events`), only some of all. A source is proven if it completed a handshake in the last 30 days. \
    By connections it works without a controller too.\n\n\
    Examples:\n  \
    ratelimit sources\n  \
    ratelimit sources --by drops --most 50"
)]
pub(super) struct Sources {
    /// By what
    #[arg(long, value_enum, default_value_t)]
    pub by: SourcesBy,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(MOST))]
    pub most: u32,
}

impl Sources {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let Self { by, most } = *self;
        let sources =
            context.ask_or_offline(|client| client.sources(by, most), |paths| offline::sources(paths, by, most))?;
        context.answer(&sources, |sources| text(by, sources))?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn text(by: SourcesBy, sources: &[SourceView]) -> String {
    match (by, sources) {
        (SourcesBy::Connections, []) => "no source has a connection open\n".to_owned(),
        (SourcesBy::Drops, []) => "no source was refused among the latest sampled events\n".to_owned(),
        (SourcesBy::Last, []) => "no events yet\n".to_owned(),
        (_, sources) => table(sources),
    }
}

fn table(sources: &[SourceView]) -> String {
    let mut table = Table::new(&[
        ("source", Align::Left),
        ("service", Align::Left),
        ("open now", Align::Right),
        ("refused (sampled)", Align::Right),
        ("last event", Align::Left),
        ("reason", Align::Left),
        ("proven", Align::Left),
    ]);
    for source in sources {
        let open = match source.most {
            Some(most) => format!("{} of {}", number(source.connections), number(most)),
            None => number(source.connections),
        };
        table.row([
            plain(source.source),
            source.service.clone(),
            open,
            if source.drops == 0 { String::new() } else { number(source.drops) },
            source.last.clone().unwrap_or_default(),
            source.reason.clone().unwrap_or_default(),
            if source.proven { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.text()
}
