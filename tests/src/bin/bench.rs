//! `cargo xtask bench`: what the gate costs.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ratelimit_tests::bench::{self, Options};

/// Measurements of the gate. Needs root; nothing is sent.
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
    let Benchmark::Gate { json, strict, rounds, packets } = arguments.benchmark;
    let report = bench::gate(Options { rounds, packets })?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if strict && !report.all_kept() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
