use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use ratelimit_user::cli::{Cli, OutputClosed};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(usage) => {
            // Whoever closed the output wants no help text, and there is nobody left to tell.
            let _ = usage.print();
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
        }
    }
}

fn run(cli: &Cli) -> ExitCode {
    match cli.run() {
        Ok(code) => code,
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ratelimit: {error:#}");
            ExitCode::FAILURE
        }
    }
}
