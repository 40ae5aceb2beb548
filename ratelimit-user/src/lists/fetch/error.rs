//! Why something could not be fetched.

use std::{
    error::Error,
    io,
    time::{Duration, SystemTime},
};

use humantime::format_duration;
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use super::Limits;

/// No server makes a list wait longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// URLs in it are without secrets.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{url}: no connection: {cause}; check the address, the resolver and the firewall")]
    Connect { url: String, cause: String },
    #[error(
        "{url}: {cause}; see that ca-certificates is installed and up to date and that the clock is right: nothing is \
         taken from a server that cannot prove who it is"
    )]
    Certificate { url: String, cause: String },
    #[error("{url}: not a byte for {}", format_duration(*idle))]
    Silent { url: String, idle: Duration },
    #[error("{url}: not whole after {}, given up", format_duration(*whole))]
    TooSlow { url: String, whole: Duration },
    #[error("{url}: the server answers {status}{}{}", remedy(*status), wait(*retry_after))]
    Status { url: String, status: StatusCode, retry_after: Option<Duration> },
    #[error("{url}: redirected to {to}, which is not https: anybody on the way could answer; ask for an https address")]
    Insecure { url: String, to: String },
    #[error("{url}: redirected, but to no address that can be read")]
    Nowhere { url: String },
    #[error("{url}: redirected more than {most} times; write the address it leads to into the configuration")]
    Redirects { url: String, most: usize },
    #[error("{url}: larger than {most_bytes} bytes, which is more than any list")]
    TooBig { url: String, most_bytes: u64 },
    #[error("{url}: cut short after {received} bytes{}: {cause}", of(*total))]
    CutShort { url: String, received: u64, total: Option<u64>, cause: String },
    #[error("{url}: no answer in HTTP: {cause}")]
    Garbled { url: String, cause: String },
}

impl FetchError {
    /// How long the server wants to be left alone, at most a day.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Connect { .. }
            | Self::Certificate { .. }
            | Self::Silent { .. }
            | Self::TooSlow { .. }
            | Self::Insecure { .. }
            | Self::Nowhere { .. }
            | Self::Redirects { .. }
            | Self::TooBig { .. }
            | Self::CutShort { .. }
            | Self::Garbled { .. } => None,
        }
    }

    /// Of a request that got no answer.
    pub(super) fn of_request(url: String, error: &reqwest::Error, limits: &Limits) -> Self {
        let cause = root(error);
        if chain(error).any(is_about_a_certificate) {
            Self::Certificate { url, cause }
        } else if error.is_connect() && error.is_timeout() {
            Self::Connect { url, cause: format!("no answer within {}", format_duration(limits.connect)) }
        } else if error.is_connect() {
            Self::Connect { url, cause }
        } else {
            Self::Garbled { url, cause }
        }
    }

    pub(super) fn of_status(url: String, status: StatusCode, headers: &HeaderMap) -> Self {
        let is_busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let said = headers.get(RETRY_AFTER).filter(|_| is_busy).and_then(|value| value.to_str().ok());
        let retry_after = said.and_then(|said| waiting_time(said, SystemTime::now()));
        Self::Status { url, status, retry_after }
    }

    pub(super) fn of_body(url: String, error: &reqwest::Error, received: u64, total: Option<u64>) -> Self {
        Self::CutShort { url, received, total, cause: root(error) }
    }
}

/// The value of a Retry-After header: seconds, or the time until when.
pub(super) fn waiting_time(said: &str, now: SystemTime) -> Option<Duration> {
    let wait = match said.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(said.trim()).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(LONGEST_WAIT))
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "; see whether the address needs a key, and whether this machine may have the list",
        404 | 410 => "; see whether the list has moved",
        429 => "; it is asked too often",
        _ => "",
    }
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!("; it wants to be left alone for {}", format_duration(wait)))
}

fn of(total: Option<u64>) -> String {
    total.map_or_else(String::new, |total| format!(" of {total}"))
}

fn is_about_a_certificate(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

/// What is behind it all, in its own words: those before name the URL, secrets included.
fn root(error: &reqwest::Error) -> String {
    chain(error).skip(1).last().map_or_else(|| "the request cannot be made".to_owned(), ToString::to_string)
}

/// An error and everything behind it. An `io::Error` counts for its source what is behind the error it holds, and so
/// hides that one.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held as &(dyn Error + 'static)),
        None => error.source(),
    })
}
