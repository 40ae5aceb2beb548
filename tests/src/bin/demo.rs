//! The binary behind `cargo xtask demo`.

use std::process::ExitCode;

use clap::Parser;
use ratelimit_tests::demo::{self, Interrupted};

/// What a shell adds to the number of the signal that ended a program.
const SIGNALLED: u8 = 128;

/// Floods a gateway with SYNs, in network namespaces of its own, while honest clients send and read mail
///
/// Ends with exit code 0 if every honest conversation was completed and the excess, all of it and nothing else, was
/// dropped.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask demo")]
struct Args {
    /// Text on standard error, and one last line of JSON on standard output
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match demo::run(args.json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            let signal = error.downcast_ref::<Interrupted>().and_then(|interrupted| u8::try_from(interrupted.0).ok());
            signal.map_or(ExitCode::FAILURE, |signal| ExitCode::from(SIGNALLED + signal))
        }
    }
}
