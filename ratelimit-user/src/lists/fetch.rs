//! Lists by http and https: bounded in size and time, and redirected to https alone.

mod error;
#[cfg(test)]
mod tests;

use std::time::Duration;

use reqwest::{
    Client, ClientBuilder, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
        LOCATION,
    },
    redirect::Policy,
};
use tokio::time::timeout;
use url::Url;

use super::content::{Validators, mark_url};
use crate::config::Source;

pub use error::FetchError;

const USER_AGENT: &str = concat!("ratelimit/", env!("CARGO_PKG_VERSION"));
const MOST_REDIRECTS: usize = 5;
/// A longer ETag or date is not kept.
const LONGEST_VALIDATOR: usize = 1024;

/// What a fetch may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one body.
    pub most_bytes: u64,
    /// For one connection: name, TCP and TLS.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// For everything, redirects included.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            most_bytes: 64 * 1024 * 1024,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            whole: Duration::from_secs(120),
        }
    }
}

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The body whose validators were sent is still the one.
    NotModified,
    Body {
        bytes: Vec<u8>,
        validators: Validators,
    },
}

#[derive(Clone, Debug)]
pub struct Fetcher {
    limits: Limits,
    /// Believed instead of the system's roots.
    #[cfg(test)]
    roots: Option<Vec<reqwest::Certificate>>,
}

impl Fetcher {
    pub fn new(limits: Limits) -> Self {
        // Fails if there is one already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            limits,
            #[cfg(test)]
            roots: None,
        }
    }

    /// Fetches what is at a URL. `known` is sent along if it is of this URL; `progress` is told the bytes that came
    /// and, if the server says it, how many there will be.
    pub async fn fetch(
        &self,
        url: &Url,
        known: Option<&Validators>,
        progress: impl Fn(u64, Option<u64>),
    ) -> Result<Fetched, FetchError> {
        let too_slow = |_| FetchError::TooSlow { url: shown(url), whole: self.limits.whole };
        timeout(self.limits.whole, self.follow(url, known, progress)).await.map_err(too_slow)?
    }

    async fn follow(
        &self,
        url: &Url,
        known: Option<&Validators>,
        progress: impl Fn(u64, Option<u64>),
    ) -> Result<Fetched, FetchError> {
        let client = self.client().map_err(|error| FetchError::of_request(shown(url), &error, &self.limits))?;
        let known = known.filter(|known| known.of == mark_url(url));
        let mut at = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let name = if at == *url { shown(url) } else { format!("{}, redirected to {}", shown(url), shown(&at)) };
            let response = self.ask(&client, &at, &name, known).await?;
            match response.status() {
                StatusCode::OK => {
                    let validators = validators(url, response.headers());
                    let bytes = self.body(response, name, progress).await?;
                    return Ok(Fetched::Body { bytes, validators });
                }
                StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Fetched::NotModified),
                status if is_redirect(status) => at = redirected(&at, name, response.headers())?,
                status => return Err(FetchError::of_status(name, status, response.headers())),
            }
        }
        Err(FetchError::Redirects { url: shown(url), most: MOST_REDIRECTS })
    }

    /// Made anew for every fetch: a controller runs for years, and the roots of its machine change meanwhile.
    fn client(&self) -> reqwest::Result<Client> {
        #[cfg(test)]
        if let Some(roots) = &self.roots {
            return self.builder().tls_certs_only(roots.clone()).build();
        }
        // Where there are no roots at all, http still works, and https says what is missing.
        self.builder().build().or_else(|_| self.builder().tls_certs_only([]).build())
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .no_proxy()
            // A server may close what it answered on at any time: a redirect to it gets a connection of its own.
            .pool_max_idle_per_host(0)
            .connect_timeout(self.limits.connect)
    }

    /// Asks for a URL and waits for the head of the answer.
    async fn ask(
        &self,
        client: &Client,
        url: &Url,
        name: &str,
        known: Option<&Validators>,
    ) -> Result<Response, FetchError> {
        // What the publisher keeps is kept here: a list that is published compressed is unpacked where it is read.
        let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        for (header, value) in known.into_iter().flat_map(conditions) {
            request = request.header(header, value);
        }
        let Limits { connect, idle, .. } = self.limits;
        match timeout(connect.saturating_add(idle), request.send()).await {
            Ok(answer) => answer.map_err(|error| FetchError::of_request(name.to_owned(), &error, &self.limits)),
            Err(_) => Err(FetchError::Silent { url: name.to_owned(), idle }),
        }
    }

    async fn body(
        &self,
        mut response: Response,
        name: String,
        progress: impl Fn(u64, Option<u64>),
    ) -> Result<Vec<u8>, FetchError> {
        let Limits { most_bytes, idle, .. } = self.limits;
        let total = response.content_length();
        if total.is_some_and(|total| total > most_bytes) {
            return Err(FetchError::TooBig { url: name, most_bytes });
        }
        let mut bytes = Vec::new();
        loop {
            progress(bytes.len() as u64, total);
            let chunk = match timeout(idle, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(bytes),
                Ok(Err(error)) => return Err(FetchError::of_body(name, &error, bytes.len() as u64, total)),
                Err(_) => return Err(FetchError::Silent { url: name, idle }),
            };
            if bytes.len() as u64 + chunk.len() as u64 > most_bytes {
                return Err(FetchError::TooBig { url: name, most_bytes });
            }
            bytes.extend_from_slice(&chunk);
        }
    }
}

fn shown(url: &Url) -> String {
    Source::Url(url.clone()).to_string()
}

/// The headers that ask for a body only if it is another one. What cannot be sent is left out.
fn conditions(known: &Validators) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let header = |name, value: &Option<String>| Some((name, HeaderValue::from_str(value.as_ref()?).ok()?));
    [header(IF_NONE_MATCH, &known.etag), header(IF_MODIFIED_SINCE, &known.last_modified)].into_iter().flatten()
}

fn validators(url: &Url, headers: &HeaderMap) -> Validators {
    let text = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        (value.len() <= LONGEST_VALIDATOR).then(|| value.to_owned())
    };
    Validators { of: mark_url(url), etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where an answer sends the asker. A password goes along to the same server alone.
fn redirected(from: &Url, name: String, headers: &HeaderMap) -> Result<Url, FetchError> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let Some(mut to) = location.and_then(|location| from.join(location).ok()) else {
        return Err(FetchError::Nowhere { url: name });
    };
    if to.scheme() != "https" {
        return Err(FetchError::Insecure { url: name, to: shown(&to) });
    }
    if to.origin() == from.origin() && to.username().is_empty() && to.password().is_none() {
        // Fails only for URLs without a host, and https has one.
        let _ = to.set_username(from.username());
        let _ = to.set_password(from.password());
    }
    Ok(to)
}
