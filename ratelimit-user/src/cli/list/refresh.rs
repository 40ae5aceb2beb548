//! How far a refresh is, with a bar for each list where somebody watches.

use std::{collections::BTreeMap, io::IsTerminal as _, process::ExitCode};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    api::ListProgress,
    cli::{context::Context, output},
    client::{ClientError, Lines},
};

const STYLE: &str = "{prefix:16} {bar:24} {binary_bytes:>10} {binary_bytes_per_sec:>12}  {msg}";
const STYLE_OF_UNKNOWN_SIZE: &str = "{prefix:16} {spinner:24} {binary_bytes:>10} {binary_bytes_per_sec:>12}  {msg}";

/// Shows what comes until all lists are done. Fails if one of them failed.
pub(super) fn follow(mut coming: Lines<'_, ListProgress>, context: &Context<'_>) -> anyhow::Result<ExitCode> {
    let mut bars = Bars::new();
    let (mut done, mut failures) = (0, 0);
    loop {
        match coming.wait() {
            Err(ClientError::StreamEnded) => break,
            Err(error) => return Err(error.into()),
            Ok(progress) => {
                if let ListProgress::Done { failed, .. } = &progress {
                    done += 1;
                    failures += usize::from(*failed);
                }
                show(&progress, &mut bars, context)?;
            }
        }
    }
    if done == 0 {
        output::note("no list may be fetched now: `ratelimit list show` says when each is due");
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(progress: &ListProgress, bars: &mut Bars, context: &Context<'_>) -> anyhow::Result<()> {
    if context.global.json {
        return output::write_json_line(progress);
    }
    match progress {
        ListProgress::Receiving { list, received_bytes, total_bytes } => {
            bars.receive(list, *received_bytes, *total_bytes);
            Ok(())
        }
        ListProgress::Done { list, outcome, failed } => {
            bars.finish(list);
            let text = format!("{list}: {outcome}");
            if *failed {
                output::note(&text);
                return Ok(());
            }
            output::write(&text)
        }
    }
}

/// Only where standard error is a terminal.
struct Bars {
    all: Option<MultiProgress>,
    by_list: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { all, by_list: BTreeMap::new() }
    }

    fn receive(&mut self, list: &str, received_bytes: u64, total_bytes: Option<u64>) {
        let Some(all) = &self.all else { return };
        let bar = self.by_list.entry(list.to_owned()).or_insert_with(|| {
            let template = if total_bytes.is_some() { STYLE } else { STYLE_OF_UNKNOWN_SIZE };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(ProgressBar::new(total_bytes.unwrap_or(0)).with_style(style).with_prefix(list.to_owned()))
        });
        bar.set_position(received_bytes);
    }

    fn finish(&mut self, list: &str) {
        if let Some(bar) = self.by_list.remove(list) {
            bar.finish_and_clear();
        }
    }
}
