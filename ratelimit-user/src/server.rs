//! The control socket: HTTP and JSON over a Unix socket. See [`crate::api`] for what is said.

use std::{
    convert::Infallible,
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path as FilePath,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::{
    net::UnixListener,
    sync::{broadcast::error::RecvError, mpsc, watch},
};

use crate::{
    api,
    config::EntryKind,
    controller::{Controller, Rejection, note_ban_hits},
    lists::{keeper, roster::JobKind},
    ssh,
};

/// The largest request that makes sense.
const LARGEST_REQUEST_BYTES: usize = 64 * 1024;

/// What every request can reach.
#[derive(Clone, Debug)]
pub struct Shared {
    pub controller: Arc<Mutex<Controller>>,
    /// Told which lists to bring in out of turn.
    pub lists: mpsc::UnboundedSender<keeper::Request>,
    /// Told when a client has asked to detach and leave.
    pub leave: watch::Sender<bool>,
}

/// Binds the socket for its owner alone. It is made under another name and moved into place, so that at no
/// time anybody else could open it, and a stale socket is replaced.
pub fn bind(path: &FilePath) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = FilePath::new(&new);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(new)?;
    fs::set_permissions(new, fs::Permissions::from_mode(0o600))?;
    fs::rename(new, path)?;
    Ok(listener)
}

/// Answers requests for ever.
pub async fn serve(listener: UnixListener, shared: Shared) -> io::Result<()> {
    let routes = Router::new()
        .route("/v1/status", get(async |shared| ask(shared, |controller| controller.status()).await))
        .route("/v1/events", get(events))
        .route("/v1/explain", get(explain))
        .route("/v1/mode", get(mode).put(set_mode))
        .route("/v1/confirm", post(async |shared| ask(shared, Controller::confirm).await))
        .route("/v1/limits", get(async |shared| ask(shared, |controller| Ok(controller.limits_view())).await))
        .route("/v1/limits/{service}", put(set_limit).delete(reset_limit))
        .route("/v1/entries/{kind}", get(entries).post(add_entry).delete(remove_entry))
        .route("/v1/bans", get(bans).post(ban).delete(unban))
        .route("/v1/sources", get(sources))
        .route("/v1/dnsbl", get(async |shared| ask(shared, |controller| controller.reputation_view()).await))
        .route("/v1/dnsbl/check", get(check_dnsbl))
        .route("/v1/dnsbl/pause", post(pause_dnsbl))
        .route("/v1/dnsbl/resume", post(resume_dnsbl))
        .route("/v1/lists", get(async |shared| ask(shared, |controller| controller.list_views()).await))
        .route("/v1/lists/test", get(test_lists))
        .route("/v1/lists/refresh", post(async |shared, query| order_lists(shared, query, JobKind::Ask).await))
        .route("/v1/lists/accept", post(async |shared, query| order_lists(shared, query, JobKind::Accept).await))
        .route("/v1/config", get(async |shared| ask(shared, |controller| Ok(controller.config_view())).await))
        .route("/v1/reload", post(async |shared| ask(shared, Controller::reload).await))
        .route("/v1/detach", post(detach))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is no such request; is the client of another version?"))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST_BYTES))
        .layer(from_fn_with_state(shared.clone(), note_peer))
        .with_state(shared);
    axum::serve(listener, routes).await
}

/// Remembers where the administrator comes from before his request is looked at.
async fn note_peer(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if let Some(peer) = peer(request.headers()) {
        let noted = tokio::task::spawn_blocking(move || lock(&shared.controller).note_peer(peer));
        if let Err(error) = noted.await {
            tracing::error!(%peer, "an administrator's peer is not noted: {error}");
        }
    }
    next.run(request).await
}

fn peer(headers: &HeaderMap) -> Option<IpAddr> {
    ssh::parse(headers.get(api::PEER_HEADER)?.to_str().ok()?)
}

#[derive(Deserialize)]
struct SourcesQuery {
    #[serde(default)]
    by: api::SourcesBy,
    most: Option<usize>,
}

/// Sources that are shown unless the client asks for another number.
const SOURCES: usize = 20;

async fn sources(shared: State<Shared>, Query(query): Query<SourcesQuery>) -> Response {
    ask(shared, move |controller| controller.sources(query.by, query.most.unwrap_or(SOURCES))).await
}

fn lock(controller: &Mutex<Controller>) -> MutexGuard<'_, Controller> {
    controller.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the controller, which nobody else has meanwhile.
async fn ask<T: Serialize + Send + 'static>(
    shared: State<Shared>,
    question: impl FnOnce(&mut Controller) -> Result<T, Rejection> + Send + 'static,
) -> Response {
    work(shared, |controller| question(&mut lock(controller))).await
}

/// Works on a thread that may block: the controller talks to the kernel and the disk.
async fn work<T: Serialize + Send + 'static>(
    State(shared): State<Shared>,
    question: impl FnOnce(&Mutex<Controller>) -> Result<T, Rejection> + Send + 'static,
) -> Response {
    aside(shared, question).await.map_or_else(|refused| refused, |answer| Json(answer).into_response())
}

/// The answer of such work, or what is said instead.
async fn aside<T: Send + 'static>(
    shared: Shared,
    question: impl FnOnce(&Mutex<Controller>) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Response> {
    let answer = tokio::task::spawn_blocking(move || question(&shared.controller));
    match answer.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(rejection)) => {
            let status = match rejection {
                Rejection::Invalid(_) => StatusCode::BAD_REQUEST,
                Rejection::Unknown(_) => StatusCode::NOT_FOUND,
                Rejection::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Err(refuse(status, &rejection.to_string()))
        }
        Err(error) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("the controller failed: {error}"))),
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(api::Refused { error: error.to_owned() })).into_response()
}

/// A request body, or why it cannot be read, in our own words.
fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Rejection> {
    body.map(|Json(body)| body).map_err(|rejection| Rejection::Invalid(rejection.body_text()))
}

#[derive(Debug, Deserialize)]
struct EventsQuery {
    recent: Option<usize>,
}

async fn events(State(shared): State<Shared>, Query(query): Query<EventsQuery>) -> Response {
    let events = lock(&shared.controller).events().clone();
    if let Some(most) = query.recent {
        return Json(events.recent(most)).into_response();
    }
    let lines = stream::unfold(events.follow(), async |mut news| {
        loop {
            match news.recv().await {
                Ok(event) => return Some((Ok::<_, Infallible>(line(&event)), news)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    ndjson(lines)
}

#[derive(Debug, Deserialize)]
struct ExplainQuery {
    address: IpAddr,
    service: Option<String>,
}

async fn explain(shared: State<Shared>, Query(query): Query<ExplainQuery>) -> Response {
    ask(shared, move |controller| controller.explain(query.address, query.service.as_deref())).await
}

async fn mode(shared: State<Shared>) -> Response {
    ask(shared, |controller| Ok(controller.mode_view())).await
}

async fn set_mode(shared: State<Shared>, request: Result<Json<api::SetMode>, JsonRejection>) -> Response {
    ask(shared, |controller| controller.set_mode(&body(request)?)).await
}

async fn set_limit(
    shared: State<Shared>,
    Path(service): Path<String>,
    request: Result<Json<api::SetLimit>, JsonRejection>,
) -> Response {
    ask(shared, move |controller| controller.set_limit(&service, &body(request)?)).await
}

async fn reset_limit(
    shared: State<Shared>,
    Path(service): Path<String>,
    Query(reset): Query<api::ResetLimit>,
) -> Response {
    ask(shared, move |controller| controller.reset_limit(&service, reset)).await
}

async fn entries(shared: State<Shared>, Path(kind): Path<EntryKind>) -> Response {
    ask(shared, move |controller| Ok(controller.entry_views(kind))).await
}

async fn add_entry(
    shared: State<Shared>,
    Path(kind): Path<EntryKind>,
    request: Result<Json<api::EntryRequest>, JsonRejection>,
) -> Response {
    ask(shared, move |controller| controller.add_entry(kind, body(request)?)).await
}

async fn remove_entry(
    shared: State<Shared>,
    Path(kind): Path<EntryKind>,
    request: Result<Json<api::EntryRequest>, JsonRejection>,
) -> Response {
    ask(shared, move |controller| controller.remove_entry(kind, body(request)?.network)).await
}

async fn bans(shared: State<Shared>) -> Response {
    work(shared, |controller| {
        note_ban_hits(controller)?;
        Ok(lock(controller).ban_views())
    })
    .await
}

async fn ban(shared: State<Shared>, request: Result<Json<api::BanRequest>, JsonRejection>) -> Response {
    ask(shared, move |controller| controller.ban(body(request)?)).await
}

async fn unban(shared: State<Shared>, request: Result<Json<api::UnbanRequest>, JsonRejection>) -> Response {
    work(shared, move |controller| {
        note_ban_hits(controller)?;
        lock(controller).unban(&body(request)?)
    })
    .await
}

#[derive(Debug, Deserialize)]
struct TestQuery {
    address: IpAddr,
}

async fn test_lists(shared: State<Shared>, Query(query): Query<TestQuery>) -> Response {
    ask(shared, move |controller| Ok(controller.test_lists(query.address))).await
}

async fn check_dnsbl(State(shared): State<Shared>, Query(query): Query<TestQuery>) -> Response {
    let desk = lock(&shared.controller).desk();
    Json(desk.check(query.address).await).into_response()
}

async fn pause_dnsbl(shared: State<Shared>, request: Result<Json<api::PauseRequest>, JsonRejection>) -> Response {
    ask(shared, move |controller| controller.pause_dnsbl(&body(request)?)).await
}

async fn resume_dnsbl(shared: State<Shared>, request: Result<Json<api::ResumeRequest>, JsonRejection>) -> Response {
    ask(shared, move |controller| controller.resume_dnsbl(&body(request)?)).await
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    list: Option<String>,
}

/// Has lists brought in, and answers with how far that is, as it goes.
async fn order_lists(State(shared): State<Shared>, Query(query): Query<ListQuery>, kind: JobKind) -> Response {
    let lists = shared.lists.clone();
    let ordered = aside(shared, move |controller| lock(controller).ask_lists(query.list.as_deref(), kind)).await;
    let jobs = match ordered {
        Ok(jobs) => jobs,
        Err(response) => return response,
    };
    let (news, coming) = mpsc::unbounded_channel();
    if lists.send(keeper::Request { jobs, news }).is_err() {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "lists are not kept any more: the controller is ending");
    }
    // It ends when the last job has let go of its end.
    let lines = stream::unfold(coming, async |mut coming| {
        let progress = coming.recv().await?;
        Some((Ok::<_, Infallible>(line(&progress)), coming))
    });
    ndjson(lines)
}

fn line(item: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(item).unwrap_or_default();
    line.push(b'\n');
    Bytes::from(line)
}

fn ndjson(lines: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// Detaching ends the controller too: without a gate it has nothing to control.
async fn detach(State(shared): State<Shared>) -> Response {
    let leave = shared.leave.clone();
    let response = ask(State(shared), |controller| controller.detach()).await;
    if response.status().is_success() {
        let _ = leave.send(true);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_cannot_be_read_is_ignored() {
        let said = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(api::PEER_HEADER, value.try_into().unwrap());
            peer(&headers).map(|peer| peer.to_string())
        };
        assert_eq!(said(b"203.0.113.7").as_deref(), Some("203.0.113.7"));
        assert_eq!(said(b"fe80::1%eth0").as_deref(), Some("fe80::1"));
        for garbage in [&b""[..], b"nobody", b"\xff\xfe", b"203.0.113.7/24", b"127.0.0.1"] {
            assert_eq!(said(garbage), None, "{garbage:?}");
        }
        assert_eq!(peer(&HeaderMap::new()), None);
    }
}
