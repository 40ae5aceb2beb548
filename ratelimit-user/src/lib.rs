//! The controller of the gate.

pub mod api;
pub mod attach;
pub mod bans;
pub mod changes;
pub mod cli;
mod client;
pub mod collision;
pub mod compile;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod events;
pub mod export;
pub mod guard;
pub mod interface;
pub mod layout;
pub mod lists;
pub mod lock;
pub mod machine;
pub mod offline;
pub mod plane;
pub mod preflight;
pub mod reputation;
pub mod server;
pub mod sock_diag;
pub mod ssh;
pub mod view;

/// An error with everything behind it, for one line of text. aya's errors do not repeat their sources.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
