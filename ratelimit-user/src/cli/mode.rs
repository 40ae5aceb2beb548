use std::process::ExitCode;

use clap::{Args, builder::NonEmptyStringValueParser};

use crate::{
    api::{ModeEnd, ModeView, SetMode},
    client::Client,
    config::{Duration, Mode},
    offline,
};

use super::{
    context::Context,
    output,
    table::{Align, Table},
};

/// Show or set whether refusals are carried out
#[derive(Args, Debug)]
#[command(
    after_help = "observe judges and counts everything and drops nothing; enforce drops. A service drops only where both its \
    own mode and that of the whole say enforce. Without a controller it works too, but what is to end by itself then ends when one runs again; enforce with \
    --for or --confirm needs one.\n\n\
    Examples:\n  \
    ratelimit mode observe --for 1h         stops dropping for an hour\n  \
    ratelimit mode enforce --confirm 10m    drops, and stops unless confirmed in time"
)]
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
        // Only a controller can take it back in time. To observe for longer than meant is no harm, and who asks
        // for it while mail is down must get it.
        if confirm.is_some() || (for_.is_some() && mode == Mode::Enforce) {
            return Ok(context.client()?.set_mode(&wanted)?);
        }
        let time = for_.map(|time| time.as_std());
        context.ask_or_offline(
            |client| client.set_mode(&wanted),
            |paths| {
                let view = offline::set_mode(paths, mode, service.as_deref(), time)?;
                if time.is_some() {
                    output::note("it ends at that time only if a controller runs by then, else when one starts");
                }
                Ok(view)
            },
        )
    }
}

pub(super) fn text(view: &ModeView) -> String {
    let mut out = format!("{}\n", headline(view));
    out.push_str(&endings(view));
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

/// When and how changes of the mode end by themselves, a line each.
pub(super) fn endings(view: &ModeView) -> String {
    let line = |end: &ModeEnd| {
        let of = end.service.as_ref().map_or_else(String::new, |service| format!("{service}: "));
        let averted = if end.awaits_confirmation { "; `ratelimit confirm` keeps it" } else { "" };
        format!("{of}until {}, then what was before{averted}\n", end.until)
    };
    view.ends.iter().map(line).collect()
}
