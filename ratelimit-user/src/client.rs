//! The client of the controller: HTTP over its Unix socket, and nothing that is not the controller's.

mod connect;
mod error;
mod follow;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::api::{
    BanRequest, BanView, Banned, ConfigView, Detached, DnsblCheck, EntryRequest, EntryView, Event, Explanation,
    LimitsView, ListMatch, ListProgress, ListView, ModeView, PEER_HEADER, PauseRequest, Refused, Reloaded,
    ReputationView, ResetLimit, ResumeRequest, SetLimit, SetMode, SourceView, SourcesBy, Status, UnbanRequest,
    Unbanned,
};
use crate::config::EntryKind;
use crate::ssh;

pub use error::{ClientError, Foreign, Stopped};
pub use follow::Lines;

/// The controller answers from memory; one that has not done so by now hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// To ask a DNSBL whether it lists an address, and then why: either may take what is configured at most (`timeout` under
/// [reputation]).
const LONGEST_CHECK: Duration = Duration::from_secs(2 * 30);
/// A full table of entries with their notes is a few MiB.
const LARGEST_ANSWER_BYTES: usize = 32 << 20;

/// Asks a controller, one connection a question. Its calls block and are not for use inside a runtime.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
    patience: Duration,
    /// Of the SSH connection this process runs under.
    peer: Option<IpAddr>,
}

impl Client {
    /// Nothing is contacted yet.
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ClientError::Runtime)?;
        Ok(Self { socket: socket.to_path_buf(), runtime, patience: PATIENCE, peer: ssh::peer() })
    }

    pub fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/v1/status")
    }

    /// The latest events, oldest first.
    pub fn recent(&self, most: usize) -> Result<Vec<Event>, ClientError> {
        self.ask(Method::GET, &format!("/v1/events?recent={most}"))
    }

    /// Events from now on, as they come.
    pub fn follow(&self) -> Result<Lines<'_, Event>, ClientError> {
        let answer = self.within_patience(false, self.send(Method::GET, "/v1/events", Bytes::new()))?;
        Ok(Lines::new(self, answer.into_body()))
    }

    pub fn explain(&self, address: IpAddr, service: Option<&str>) -> Result<Explanation, ClientError> {
        let mut path = format!("/v1/explain?address={}", encoded(&address.to_string()));
        if let Some(service) = service {
            path.push_str(&format!("&service={}", encoded(service)));
        }
        self.ask(Method::GET, &path)
    }

    pub fn mode(&self) -> Result<ModeView, ClientError> {
        self.ask(Method::GET, "/v1/mode")
    }

    pub fn set_mode(&self, wanted: &SetMode) -> Result<ModeView, ClientError> {
        self.tell(Method::PUT, "/v1/mode", wanted)
    }

    pub fn confirm(&self) -> Result<ModeView, ClientError> {
        self.ask(Method::POST, "/v1/confirm")
    }

    pub fn limits(&self) -> Result<LimitsView, ClientError> {
        self.ask(Method::GET, "/v1/limits")
    }

    pub fn set_limit(&self, service: &str, wanted: &SetLimit) -> Result<LimitsView, ClientError> {
        self.tell(Method::PUT, &format!("/v1/limits/{}", encoded(service)), wanted)
    }

    /// Back to what is configured.
    pub fn reset_limit(&self, service: &str, reset: ResetLimit) -> Result<LimitsView, ClientError> {
        let level = reset.level.map(|level| format!("&level={level}")).unwrap_or_default();
        let query = format!("connections={}{level}", reset.connections);
        self.ask(Method::DELETE, &format!("/v1/limits/{}?{query}", encoded(service)))
    }

    pub fn entries(&self, kind: EntryKind) -> Result<Vec<EntryView>, ClientError> {
        self.ask(Method::GET, &format!("/v1/entries/{kind}"))
    }

    pub fn add_entry(&self, kind: EntryKind, entry: &EntryRequest) -> Result<Vec<EntryView>, ClientError> {
        self.tell(Method::POST, &format!("/v1/entries/{kind}"), entry)
    }

    pub fn remove_entry(&self, kind: EntryKind, entry: &EntryRequest) -> Result<Vec<EntryView>, ClientError> {
        self.tell(Method::DELETE, &format!("/v1/entries/{kind}"), entry)
    }

    pub fn bans(&self) -> Result<Vec<BanView>, ClientError> {
        self.ask(Method::GET, "/v1/bans")
    }

    pub fn ban(&self, ban: &BanRequest) -> Result<Banned, ClientError> {
        self.tell(Method::POST, "/v1/bans", ban)
    }

    pub fn unban(&self, which: &UnbanRequest) -> Result<Unbanned, ClientError> {
        self.tell(Method::DELETE, "/v1/bans", which)
    }

    /// At most so many sources.
    pub fn sources(&self, by: SourcesBy, most: u32) -> Result<Vec<SourceView>, ClientError> {
        self.ask(Method::GET, &format!("/v1/sources?by={}&most={most}", by.name()))
    }

    pub fn lists(&self) -> Result<Vec<ListView>, ClientError> {
        self.ask(Method::GET, "/v1/lists")
    }

    /// What the lists say of an address.
    pub fn test_lists(&self, address: IpAddr) -> Result<Vec<ListMatch>, ClientError> {
        self.ask(Method::GET, &format!("/v1/lists/test?address={}", encoded(&address.to_string())))
    }

    /// Has a list, or all of them, brought in now, and tells how far that is.
    pub fn refresh_lists(&self, list: Option<&str>) -> Result<Lines<'_, ListProgress>, ClientError> {
        self.order_lists("refresh", list)
    }

    /// Takes the copy of a list that waits.
    pub fn accept_list(&self, list: &str) -> Result<Lines<'_, ListProgress>, ClientError> {
        self.order_lists("accept", Some(list))
    }

    fn order_lists(&self, order: &str, list: Option<&str>) -> Result<Lines<'_, ListProgress>, ClientError> {
        let list = list.map(|list| format!("?list={}", encoded(list))).unwrap_or_default();
        let path = format!("/v1/lists/{order}{list}");
        let answer = self.within_patience(true, self.send(Method::POST, &path, Bytes::new()))?;
        Ok(Lines::new(self, answer.into_body()))
    }

    /// How the DNSBLs are.
    pub fn dnsbl(&self) -> Result<ReputationView, ClientError> {
        self.ask(Method::GET, "/v1/dnsbl")
    }

    /// What the DNSBLs say of an address. They are asked now.
    pub fn check_dnsbl(&self, address: IpAddr) -> Result<DnsblCheck, ClientError> {
        let path = format!("/v1/dnsbl/check?address={}", encoded(&address.to_string()));
        self.exchange(Method::GET, &path, Bytes::new(), self.patience + LONGEST_CHECK)
    }

    pub fn pause_dnsbl(&self, wanted: &PauseRequest) -> Result<ReputationView, ClientError> {
        self.tell(Method::POST, "/v1/dnsbl/pause", wanted)
    }

    pub fn resume_dnsbl(&self, wanted: &ResumeRequest) -> Result<ReputationView, ClientError> {
        self.tell(Method::POST, "/v1/dnsbl/resume", wanted)
    }

    pub fn config(&self) -> Result<ConfigView, ClientError> {
        self.ask(Method::GET, "/v1/config")
    }

    pub fn reload(&self) -> Result<Reloaded, ClientError> {
        self.ask(Method::POST, "/v1/reload")
    }

    pub fn detach(&self) -> Result<Detached, ClientError> {
        self.ask(Method::POST, "/v1/detach")
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        self.exchange(method, path, Bytes::new(), self.patience)
    }

    fn tell<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Garbage)?;
        self.exchange(method, path, body.into(), self.patience)
    }

    fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        after: Duration,
    ) -> Result<T, ClientError> {
        self.within(after, method != Method::GET, async {
            let answer = self.send(method.clone(), path, body).await?;
            let bytes = read_whole(answer.into_body()).await?;
            serde_json::from_slice(&bytes).map_err(ClientError::Garbage)
        })
    }

    fn within_patience<T>(
        &self,
        is_change: bool,
        question: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        self.within(self.patience, is_change, question)
    }

    fn within<T>(
        &self,
        after: Duration,
        is_change: bool,
        question: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let answer = self.runtime.block_on(async { timeout(after, question).await });
        answer.unwrap_or(Err(ClientError::NoAnswer { after, is_change }))
    }

    /// Sends a request and returns the answer if it is a good one, its body still unread.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "ratelimit")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(peer) = self.peer {
            request = request.header(PEER_HEADER, peer.to_string());
        }
        let request = request.body(Full::new(body)).map_err(ClientError::Request)?;
        let stream = connect::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Broken)?;
        // What it fails with, the request fails with too.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(ClientError::Broken)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = read_whole(answer.into_body()).await?;
        Err(refusal(status, &body))
    }
}

async fn read_whole(body: Incoming) -> Result<Bytes, ClientError> {
    match Limited::new(body, LARGEST_ANSWER_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge { limit: LARGEST_ANSWER_BYTES }),
        Err(error) => Err(error.downcast().map_or_else(ClientError::Unreadable, |error| ClientError::Broken(*error))),
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Refused>(body) {
        Ok(Refused { error }) => ClientError::Refused(error),
        Err(_) => ClientError::Status(status),
    }
}

fn encoded(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
