//! Lists: every incident that a list can cause, replayed.

mod feeds;
mod files;
mod formats;
mod guards;
mod powers;
mod shelf;
