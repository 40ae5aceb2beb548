//! The demo in words, and in one line of JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::Played;
use super::acts::{Act, Honest, Outcome, Second};
use super::judge::{Balance, Finding, balance};
use super::measure::GateTime;
use super::screen::Screen;
use super::topology::{ATTACKER, HONEST_V4, HONEST_V6, SERVER_V4, SERVER_V6, Topology};
use crate::load::Tally;

pub(super) fn prologue(screen: &mut Screen) -> Result<()> {
    screen.line("Three network namespaces, made for this demo and gone with it; no packet leaves them.")?;
    screen.line("")?;
    screen.line(&format!("  honest clients  {HONEST_V4}, {HONEST_V6}: they send mail by SMTP and read it by IMAP"))?;
    screen.line(&format!("  attacker        {ATTACKER}: floods of SYNs with valid checksums, made in the kernel"))?;
    screen.line(&format!("  mail server     {SERVER_V4}, {SERVER_V6}: Postfix and Dovecot, behind ratelimit"))?;
    screen.line("")?;
    screen.live("starting the mail server and the controller ...")
}

pub(super) fn running(screen: &mut Screen, topology: &Topology) -> Result<()> {
    screen.line("$ ratelimit run --interface honest --interface attack --mode enforce")?;
    for interface in topology.controller.status()?.interfaces {
        let how = interface.attached.as_deref().unwrap_or("NOT attached");
        screen.line(&format!("  {}: {how}", interface.name))?;
    }
    Ok(())
}

pub(super) fn title(screen: &mut Screen, act: &Act, number: usize) -> Result<()> {
    screen.line("")?;
    screen.line(&format!("Act {number}: {}, for {} s", act.title, act.duration.as_secs()))
}

pub(super) fn progress(screen: &mut Screen, second: &Second) -> Result<()> {
    let Second { elapsed, flood_per_second, change, honest: Honest { smtp, imap } } = second;
    let attack = match flood_per_second {
        None => "no flood".to_owned(),
        Some(packets) => format!(
            "{:.2} M packets/s, {:.2} % stopped",
            packets / 1e6,
            percent(change.dropped(), change.judged.saturating_sub(change.honest_syns))
        ),
    };
    screen.live(&format!(
        "  {:>3.0} s  {attack:<34}  honest: smtp {} of {}, imap {} of {}",
        elapsed.as_secs_f64(),
        smtp.completed,
        smtp.attempts,
        imap.completed,
        imap.attempts
    ))
}

pub(super) fn outcome(screen: &mut Screen, outcome: &Outcome) -> Result<()> {
    if let Some(flood) = outcome.flood {
        screen.line(&format!(
            "  {} SYNs in {:.1} s: {:.2} million a second; {} dropped or challenged, {} let in",
            number(flood.packets),
            flood.elapsed.as_secs_f64(),
            flood.mpps,
            number(outcome.dropped()),
            number(outcome.let_in())
        ))?;
    }
    let Honest { smtp, imap } = &outcome.honest;
    screen.line(&format!("  smtp: {}", conversations(smtp)))?;
    screen.line(&format!("  imap: {}", conversations(imap)))
}

/// What the program itself says at the end, and what it all came to.
pub(super) fn epilogue(screen: &mut Screen, topology: &Topology, played: &Played) -> Result<()> {
    let outcomes = &played.outcomes;
    for (number, outcome) in (1..).zip(outcomes) {
        for explained in &outcome.explanations {
            screen.line(&format!("\n$ {}        # asked during act {number}", explained.command))?;
            screen.block(&explained.answer)?;
        }
    }
    screen.line("\n$ ratelimit status")?;
    let status = topology.controller.cli(&["status"])?;
    screen.block(&(status.stdout + &status.stderr))?;
    screen.line("\nSummary\n")?;
    for (name, text) in summary(outcomes) {
        screen.line(&format!("  {name:<8}  {text}"))?;
    }
    screen.line("")?;
    screen.block(&honest_table(outcomes))
}

fn summary(outcomes: &[Outcome]) -> Vec<(&'static str, String)> {
    let total = Total::of(outcomes);
    let Total { sent, lost, dropped, let_in, seconds, .. } = total;
    let Balance { allowed, .. } = balance(outcomes);
    let mut lines = vec![
        (
            "sent",
            format!(
                "{} SYNs to port 25 in {seconds:.1} s of flood: {:.2} million a second",
                number(sent),
                total.mpps()
            ),
        ),
        ("stopped", format!("{}: {:.3} %", number(dropped), percent(dropped, sent))),
    ];
    for (reason, count) in drops_by_reason(outcomes) {
        lines.push(("", format!("{} for {reason}", number(count))));
    }
    lines.push((
        "let in",
        format!("{}; the limits of those who showed who they are allow {}", number(let_in), number(allowed)),
    ));
    if lost > 0 {
        lines.push(("lost", format!("{} in the queue of the wire, before the gate", number(lost))));
    }
    lines.push(("cost", total.cost()));
    lines
}

/// How the honest conversations fared, act by act, from the first SYN to the last answer.
fn honest_table(outcomes: &[Outcome]) -> String {
    let mut table = format!("{:<8}  {:<10}  {:>9}  {:>8}  {:>8}\n", "honest", "", "complete", "p50", "p99");
    for (number, outcome) in (1..).zip(outcomes) {
        for (protocol, tally) in [("smtp", &outcome.honest.smtp), ("imap", &outcome.honest.imap)] {
            let act = if protocol == "smtp" { format!("act {number}") } else { String::new() };
            let complete = format!("{}/{}", tally.completed, tally.attempts);
            let ms = |fraction| format!("{:.0} ms", tally.total_quantile(fraction).as_secs_f64() * 1e3);
            let (median, slowest) = (ms(0.5), ms(0.99));
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{act:<8}  {protocol:<10}  {complete:>9}  {median:>8}  {slowest:>8}");
        }
    }
    table
}

pub(super) fn findings(screen: &mut Screen, findings: &[Finding]) -> Result<()> {
    screen.line("")?;
    for finding in findings {
        let verdict = if finding.good { "ok" } else { "FAILED" };
        screen.line(&format!("  {verdict:<6}  {}", finding.text.replace('\n', "\n        ")))?;
    }
    Ok(())
}

/// What scripts read.
#[derive(Debug, Serialize)]
struct Line {
    attach_mode: String,
    flood_packets: u64,
    flood_dropped: u64,
    flood_mpps: f64,
    honest_attempts: u64,
    honest_completed: u64,
    drops_by_reason: BTreeMap<String, u64>,
    flood_let_in: u64,
    flood_lost_before_gate: u64,
    above_limit: u64,
    above_limit_dropped: u64,
    honest_dropped: u64,
    passed: bool,
}

pub(super) fn json(played: &Played, findings: &[Finding]) -> Result<String> {
    let outcomes = &played.outcomes;
    let total = Total::of(outcomes);
    let Balance { above, above_dropped, .. } = balance(outcomes);
    let line = Line {
        attach_mode: played.attach_mode.clone(),
        flood_packets: total.sent,
        flood_dropped: total.dropped,
        flood_mpps: (total.mpps() * 1000.0).round() / 1000.0,
        honest_attempts: outcomes.iter().map(|outcome| outcome.honest.attempts()).sum(),
        honest_completed: outcomes.iter().map(|outcome| outcome.honest.completed()).sum(),
        drops_by_reason: drops_by_reason(outcomes),
        flood_let_in: total.let_in,
        flood_lost_before_gate: total.lost,
        above_limit: above,
        above_limit_dropped: above_dropped,
        honest_dropped: outcomes.iter().map(|outcome| outcome.change.honest_drops).sum(),
        passed: findings.iter().all(|finding| finding.good),
    };
    Ok(serde_json::to_string(&line)?)
}

/// All floods together.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    sent: u64,
    lost: u64,
    dropped: u64,
    let_in: u64,
    seconds: f64,
    gate: GateTime,
    /// Of the controller, over all acts.
    cpu_seconds: f64,
    all_seconds: f64,
}

impl Total {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut total = Self::default();
        for outcome in outcomes {
            total.cpu_seconds += outcome.change.controller_cpu.as_secs_f64();
            total.all_seconds += outcome.elapsed.as_secs_f64();
            let Some(flood) = outcome.flood else {
                continue;
            };
            total.sent += outcome.sent();
            total.lost += outcome.change.lost;
            total.dropped += outcome.dropped();
            total.let_in += outcome.let_in();
            total.seconds += flood.elapsed.as_secs_f64();
            let gate = outcome.change.gate.unwrap_or_default();
            total.gate = GateTime { runs: total.gate.runs + gate.runs, ns: total.gate.ns + gate.ns };
        }
        total
    }

    fn mpps(&self) -> f64 {
        self.sent as f64 / self.seconds.max(1e-9) / 1e6
    }

    fn cost(&self) -> String {
        let controller = percent_of(self.cpu_seconds, self.all_seconds);
        let controller = format!("the controller {controller:.1} % of a core");
        if self.gate.runs == 0 {
            return controller;
        }
        format!(
            "{:.0} ns a packet in the gate, {:.0} % of a core at {:.2} million a second; {controller}",
            self.gate.ns as f64 / self.gate.runs as f64,
            percent_of(self.gate.ns as f64 / 1e9, self.seconds),
            self.mpps()
        )
    }
}

fn drops_by_reason(outcomes: &[Outcome]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (reason, count) in outcomes.iter().flat_map(|outcome| &outcome.change.drops) {
        *sums.entry(reason.clone()).or_default() += count;
    }
    sums
}

fn conversations(tally: &Tally) -> String {
    format!("{} of {} conversations complete, {}", tally.completed, tally.attempts, latency(tally))
}

fn latency(tally: &Tally) -> String {
    let ms = |fraction| tally.total_quantile(fraction).as_secs_f64() * 1e3;
    format!("p50 {:.0} ms, p99 {:.0} ms", ms(0.5), ms(0.99))
}

fn percent(part: u64, whole: u64) -> f64 {
    percent_of(part as f64, whole as f64)
}

fn percent_of(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole * 100.0 } else { 0.0 }
}

/// Grouped by thousands.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(number(0), "0");
        assert_eq!(number(1_000), "1,000");
        assert_eq!(number(12_345_678), "12,345,678");
    }

    #[test]
    fn the_line_has_its_keys_in_order() {
        let played = Played { attach_mode: "native".to_owned(), delivered: 0, outcomes: Vec::new() };
        let line = json(&played, &[]).unwrap();
        let start = r#"{"attach_mode":"native","flood_packets":0,"flood_dropped":0,"flood_mpps":0.0,"#;
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(r#""honest_attempts":0,"honest_completed":0,"drops_by_reason":{}"#), "{line}");
    }
}
