//! Lists: every incident that a list can cause, replayed.

mod copies;
mod feeds;
mod files;
mod formats;
mod guards;
mod powers;
mod shelf;
