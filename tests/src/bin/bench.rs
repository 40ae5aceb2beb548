//! `cargo xtask bench`: what the gate and its lists cost.

use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ratelimit_tests::bench::{self, Options, lists};
use serde::Serialize;

/// Measurements of the gate. Needs root; nothing leaves the namespaces it makes.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// What a packet costs in the kernel, beside a bare parser and a limiter with a table of sources
    Gate {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        /// Fail if a judged figure is missed
        #[arg(long)]
        strict: bool,
        /// How often everything is measured; the medians count
        #[arg(long, default_value_t = bench::ROUNDS, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Packets of one measurement
        #[arg(long, default_value_t = bench::PACKETS, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
        packets: u32,
    },
    /// What lists cost up to five million entries, beside LPM_TRIE, HASH, nftables and ipset
    Lists {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        /// Fail if a judged figure is missed
        #[arg(long)]
        strict: bool,
        /// How often everything is measured; the medians count
        #[arg(long, default_value_t = lists::ROUNDS, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Packets of one measurement
        #[arg(long, default_value_t = lists::PACKETS, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
        packets: u32,
        /// Leave out larger lists
        #[arg(long, default_value_t = lists::ENTRIES)]
        entries: usize,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    match arguments.benchmark {
        Benchmark::Gate { json, strict, rounds, packets } => {
            let report = bench::gate(Options { rounds, packets })?;
            show(&report, json)?;
            Ok(verdict(strict, report.all_kept()))
        }
        Benchmark::Lists { json, strict, rounds, packets, entries } => {
            let report = lists::measure(lists::Options { rounds, packets, entries })?;
            show(&report, json)?;
            Ok(verdict(strict, report.all_kept()))
        }
    }
}

fn show(report: &(impl Display + Serialize), json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn verdict(strict: bool, all_kept: bool) -> ExitCode {
    if strict && !all_kept { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
