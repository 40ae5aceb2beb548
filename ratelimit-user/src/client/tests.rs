use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::IpAddr,
    os::unix::net::UnixListener,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query},
    http::StatusCode,
    routing::{get, post, put},
};
use tempfile::TempDir;

use super::{Client, ClientError, Foreign, LARGEST_ANSWER_BYTES, Stopped, connect::check};
use crate::api::{Detached, DnsblCheck, Event, ModeView, PauseRequest, Refused, ResetLimit, ResumeRequest, SetMode};
use crate::config::{EntryKind, Mode};

const IMPATIENT: Duration = Duration::from_millis(300);

struct Place {
    _dir: TempDir,
    socket: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    Place { _dir: dir, socket }
}

fn client(place: &Place) -> Client {
    Client { patience: IMPATIENT, ..Client::new(&place.socket).unwrap() }
}

/// Serves until the test ends.
fn serve(place: &Place, routes: Router) {
    let listener = UnixListener::bind(&place.socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            axum::serve(listener, routes).await.unwrap();
        });
    });
}

/// Answers one connection with bytes and closes it, whatever is asked.
fn answer_raw(place: &Place, bytes: &'static [u8]) {
    let listener = UnixListener::bind(&place.socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(bytes);
    });
}

fn observe() -> ModeView {
    ModeView { mode: Mode::Observe, services: [].into(), ends: Vec::new() }
}

fn event(number: u16) -> Event {
    Event {
        at: "2026-11-22T04:17:24.123Z".into(),
        reason: "admitted".into(),
        action: "pass".into(),
        mode: Mode::Observe,
        service: None,
        source: None,
        source_port: number,
        destination: None,
        port: 25,
        interface: "eth0".into(),
        detail: None,
    }
}

#[test]
fn a_good_answer_is_returned_and_bodies_arrive() {
    let place = place();
    let echo = put(async |Json(wanted): Json<SetMode>| Json(ModeView { mode: wanted.mode, ..observe() }));
    let detach = post(async || Json(Detached { interfaces: vec!["eth0".into()] }));
    serve(&place, Router::new().route("/v1/mode", echo.get(async || Json(observe()))).route("/v1/detach", detach));
    let client = client(&place);
    assert_eq!(client.mode().unwrap(), observe());
    let enforce = SetMode { mode: Mode::Enforce, service: None, for_: None, confirm: None };
    assert_eq!(client.set_mode(&enforce).unwrap().mode, Mode::Enforce);
    assert_eq!(client.detach().unwrap().interfaces, ["eth0"]);
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_controller() {
    let place = place();
    let refuse = async |Path(service): Path<String>| {
        (StatusCode::NOT_FOUND, Json(Refused { error: format!("there is no service {service:?}") }))
    };
    serve(&place, Router::new().route("/v1/limits/{service}", put(refuse).delete(refuse)));
    let client = client(&place);
    let error = client.reset_limit("a/b?c=d é", ResetLimit::default()).unwrap_err();
    assert!(matches!(&error, ClientError::Refused(said) if said == r#"there is no service "a/b?c=d é""#), "{error}");
    let error = client.entries(EntryKind::Trust).unwrap_err();
    assert!(matches!(error, ClientError::Status(StatusCode::NOT_FOUND)), "{error}");
}

#[test]
fn garbage_is_not_taken_for_an_answer() {
    let place = place();
    serve(
        &place,
        Router::new().route("/v1/mode", get(async || "{\"mode\":")).route("/v1/limits", get(async || "{\"a\":1}")),
    );
    let client = client(&place);
    assert!(matches!(client.mode(), Err(ClientError::Garbage(_))));
    assert!(matches!(client.limits(), Err(ClientError::Garbage(_))));
}

#[test]
fn something_else_than_http_is_an_error() {
    let place = place();
    answer_raw(&place, b"220 mail.example ESMTP\r\n");
    let error = client(&place).mode().unwrap_err();
    assert!(matches!(error, ClientError::Broken(_)), "{error}");
}

#[test]
fn a_connection_closed_early_is_an_error() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"mode\":"] {
        let place = place();
        answer_raw(&place, bytes);
        let error = client(&place).mode().unwrap_err();
        assert!(matches!(error, ClientError::Broken(_)), "{error}");
    }
}

#[test]
fn a_controller_that_hangs_is_left() {
    let place = place();
    let _listener = UnixListener::bind(&place.socket).unwrap();
    let client = client(&place);
    let start = Instant::now();
    let error = client.reload().unwrap_err();
    assert!(start.elapsed() < 10 * IMPATIENT);
    assert!(error.to_string().contains("`ratelimit status` shows whether it was done"), "{error}");
    let error = client.status().unwrap_err();
    assert_eq!(error.to_string(), "the controller did not answer within 0.3 s");
    assert!(matches!(client.follow(), Err(ClientError::NoAnswer { .. })));
}

#[test]
fn a_check_may_take_as_long_as_the_dnsbls_do() {
    let place = place();
    let slow = async |Query(query): Query<BTreeMap<String, IpAddr>>| {
        tokio::time::sleep(2 * IMPATIENT).await;
        Json(DnsblCheck { address: query["address"], zones: Vec::new(), services: Vec::new() })
    };
    serve(&place, Router::new().route("/v1/dnsbl/check", get(slow)));
    let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 4]);
    assert_eq!(client(&place).check_dnsbl(address).unwrap().address, address);
}

#[test]
fn a_pause_names_the_dnsbl_and_perhaps_a_time() {
    let place = place();
    let refuse = async |Json(asked): Json<serde_json::Value>| {
        (StatusCode::NOT_FOUND, Json(Refused { error: asked.to_string() }))
    };
    serve(&place, Router::new().route("/v1/dnsbl/pause", post(refuse)).route("/v1/dnsbl/resume", post(refuse)));
    let client = client(&place);
    let paused = |for_: Option<&str>| {
        let for_ = for_.map(|time| time.parse().unwrap());
        client.pause_dnsbl(&PauseRequest { dnsbl: "zen".into(), for_ }).unwrap_err().to_string()
    };
    assert_eq!(paused(Some("2h")), r#"{"dnsbl":"zen","for":"2h"}"#);
    assert_eq!(paused(None), r#"{"dnsbl":"zen"}"#);
    let resumed = client.resume_dnsbl(&ResumeRequest { dnsbl: "zen".into() }).unwrap_err();
    assert_eq!(resumed.to_string(), r#"{"dnsbl":"zen"}"#);
}

#[test]
fn an_answer_that_never_ends_is_cut_off() {
    let place = place();
    let endless = || {
        let blanks = futures_util::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![b' '; 1 << 20]));
        Body::from_stream(blanks)
    };
    serve(&place, Router::new().route("/v1/status", get(async move || endless())));
    let patient = Client::new(&place.socket).unwrap();
    let error = patient.status().unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { limit: LARGEST_ANSWER_BYTES }), "{error}");
}

#[test]
fn events_come_one_by_one_until_the_controller_ends() {
    let place = place();
    let mut lines = serde_json::to_vec(&event(1)).unwrap();
    lines.extend_from_slice(b"\n\n");
    lines.extend(serde_json::to_vec(&event(2)).unwrap());
    lines.push(b'\n');
    let pieces: Vec<Vec<u8>> = lines.chunks(7).map(<[u8]>::to_vec).collect();
    let stream = async move || {
        Body::from_stream(futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::convert::Infallible>)))
    };
    serve(&place, Router::new().route("/v1/events", get(stream)));
    let client = client(&place);
    let mut events = client.follow().unwrap();
    assert_eq!(events.wait().unwrap(), event(1));
    assert_eq!(events.wait().unwrap(), event(2));
    assert!(matches!(events.wait(), Err(ClientError::StreamEnded)));
}

#[test]
fn a_line_without_an_end_is_no_event() {
    let place = place();
    serve(&place, Router::new().route("/v1/events", get(async || vec![b'x'; 1 << 20])));
    let client = client(&place);
    assert!(matches!(client.follow().unwrap().wait(), Err(ClientError::TooLarge { .. })));
}

#[test]
fn no_socket_and_no_listener_mean_that_no_controller_runs() {
    let place = place();
    let error = client(&place).mode().unwrap_err();
    assert!(matches!(&error, ClientError::NotRunning { stopped: Stopped::NoSocket(_) }), "{error}");
    assert!(error.to_string().contains("start it with `ratelimit run`"), "{error}");
    drop(UnixListener::bind(&place.socket).unwrap());
    let error = client(&place).mode().unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { stopped: Stopped::NoListener(_) }), "{error}");
}

#[test]
fn what_is_not_the_controllers_is_not_talked_to() {
    let place = place();
    std::fs::write(&place.socket, "").unwrap();
    let error = client(&place).mode().unwrap_err();
    assert!(matches!(&error, ClientError::Foreign { foreign: Foreign::NotASocket, .. }), "{error}");

    assert_eq!(check(true, 1000, 0), Err(Foreign::Owner { uid: 1000 }));
    assert_eq!(check(true, 1000, 1001), Err(Foreign::Owner { uid: 1000 }));
    assert_eq!(check(true, 0, 1000), Ok(()));
    assert_eq!(check(true, 1000, 1000), Ok(()));
    assert_eq!(check(false, 0, 0), Err(Foreign::NotASocket));
}
