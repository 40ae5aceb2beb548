use std::process::ExitCode;

use clap::{Args, builder::NonEmptyStringValueParser};

use crate::{
    api::{ModeView, SetMode},
    client::Client,
    config::{Duration, Mode},
    offline,
};

use super::{
    context::Context,
    table::{Align, Table},
};

/// Show or set whether refusals are carried out
///
/// observe judges and counts everything and drops nothing; enforce drops. A service drops only where both its own
/// mode and that of the gate say enforce. Without --for and --confirm it works without a controller too.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    ratelimit mode enforce --confirm 10m    back to what was before, unless `ratelimit confirm` follows\n  \
    ratelimit mode observe --for 1h         stops dropping for an hour")]
pub(super) struct ModeCommand {
    /// observe or enforce; without it the mode is shown
    #[arg(value_name = "observe|enforce")]
    pub mode: Option<Mode>,
    /// For this service alone
    #[arg(long, value_name = "SERVICE", requires = "mode", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
    /// Back to what was before after this time, as in 90s, 1h, 7d
    #[arg(long = "for", value_name = "TIME", requires = "mode")]
    pub for_: Option<Duration>,
    /// Back to what was before after this time, unless confirmed with `ratelimit confirm`
    #[arg(long, value_name = "TIME", requires = "mode", conflicts_with = "for_")]
    pub confirm: Option<Duration>,
}

impl ModeCommand {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let view = match self.mode {
            None => context.ask_or_offline(Client::mode, |paths| Ok(offline::status(paths)?.mode))?,
            Some(mode) => self.set(mode, context)?,
        };
        context.answer(&view, text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn set(&self, mode: Mode, context: &Context<'_>) -> anyhow::Result<ModeView> {
        let Self { service, for_, confirm, .. } = self;
        let wanted = SetMode { mode, service: service.clone(), for_: *for_, confirm: *confirm };
        if for_.is_some() || confirm.is_some() {
            // Only a controller can take it back in time.
            return Ok(context.client()?.set_mode(&wanted)?);
        }
        context.ask_or_offline(
            |client| client.set_mode(&wanted),
            |paths| offline::set_mode(paths, mode, service.as_deref()),
        )
    }
}

pub(super) fn text(view: &ModeView) -> String {
    let mut out = format!("{}\n", headline(view));
    if let Some(until) = until(view) {
        out.push_str(&format!("{until}\n"));
    }
    let mut services = Table::new(&[("service", Align::Left), ("mode", Align::Left), ("", Align::Left)]);
    for (service, mode) in &view.services {
        let meaning = match (view.mode, mode) {
            (Mode::Observe, Mode::Enforce) => "observes nevertheless, because the gate does",
            (_, Mode::Observe) => "nothing is dropped",
            (Mode::Enforce, Mode::Enforce) => "what is refused is dropped",
        };
        services.row([service.clone(), mode.to_string(), meaning.to_owned()]);
    }
    if !services.is_empty() {
        out.push_str(&format!("\n{}", services.text()));
    }
    out
}

/// The mode of the gate and what it means.
pub(super) fn headline(view: &ModeView) -> String {
    let observing: Vec<&str> =
        view.services.iter().filter(|(_, mode)| **mode == Mode::Observe).map(|(service, _)| service.as_str()).collect();
    match view.mode {
        Mode::Observe => "observe: everything is judged and counted, nothing is dropped".to_owned(),
        Mode::Enforce if observing.is_empty() => "enforce: what is refused is dropped".to_owned(),
        Mode::Enforce => format!("enforce: what is refused is dropped, but not on {}", observing.join(", ")),
    }
}

/// When and how the mode ends by itself.
pub(super) fn until(view: &ModeView) -> Option<String> {
    let until = view.until.as_ref()?;
    let averted = if view.awaits_confirmation { "; `ratelimit confirm` keeps it" } else { "" };
    Some(format!("until {until}, then what was before{averted}"))
}
