use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use proptest::prelude::*;

use super::{error::waiting_time, *};

mod server;

use server::{Authority, Server, Wire, drip, hold, ok, redirect, say};

const SECRET: &str = "sesame";
const LIMITS: Limits = Limits {
    most_bytes: 1000,
    connect: Duration::from_millis(300),
    idle: Duration::from_millis(300),
    whole: Duration::from_millis(900),
};

fn fetcher(roots: &[&Authority]) -> Fetcher {
    Fetcher { roots: Some(roots.iter().map(|authority| authority.root()).collect()), ..Fetcher::new(LIMITS) }
}

async fn fetch_with(fetcher: &Fetcher, url: &str, known: Option<&Validators>) -> Result<Fetched, FetchError> {
    let fetched = fetcher.fetch(&url.parse().unwrap(), known, |_, _| ()).await;
    if let Err(error) = &fetched {
        let said = format!("{} {error:?}", crate::describe(error));
        assert!(!said.contains(SECRET), "{said}");
        assert!(error.to_string().starts_with("http"), "no URL: {error}");
    }
    fetched
}

async fn fetch(url: &str) -> Result<Fetched, FetchError> {
    fetch_with(&fetcher(&[]), url, None).await
}

fn body(fetched: Result<Fetched, FetchError>) -> (String, Validators) {
    match fetched.unwrap() {
        Fetched::Body { bytes, validators } => (String::from_utf8(bytes).unwrap(), validators),
        Fetched::NotModified => panic!("not modified"),
    }
}

/// What a server that always answers so is reported as.
async fn error_of(answer: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static) -> FetchError {
    fetch(&Server::http(answer).url("/list")).await.unwrap_err()
}

#[tokio::test]
async fn a_body_comes_with_its_validators_and_the_request_says_who_asks() {
    let headers = "ETag: W/\"one\"\r\nLast-Modified: Wed, 25 Nov 2026 10:00:00 GMT\r\n";
    let server = Server::http(move |_, wire| ok(wire, headers, "192.0.2.1\n"));
    let url: Url = server.url("/list").parse().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    // The roots of this machine, whether it has any or not.
    let fetched =
        Fetcher::new(LIMITS).fetch(&url, None, |bytes, total| told.lock().unwrap().push((bytes, total))).await;
    let (bytes, validators) = body(fetched);
    assert_eq!(bytes, "192.0.2.1\n");
    assert_eq!(validators.etag.as_deref(), Some("W/\"one\""));
    assert_eq!(validators.last_modified.as_deref(), Some("Wed, 25 Nov 2026 10:00:00 GMT"));
    let told = told.lock().unwrap();
    assert_eq!((told.first(), told.last()), (Some(&(0, Some(10))), Some(&(10, Some(10)))));

    let [request] = &server.requests()[..] else { panic!("not one request") };
    assert!(request.starts_with("get /list?key=sesame http/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nuser-agent: ratelimit/{}\r\n", env!("CARGO_PKG_VERSION"))), "{request}");
    assert!(request.contains("\r\naccept-encoding: identity\r\n"), "{request}");
    assert!(!request.contains("\r\nif-") && !request.contains("cookie") && !request.contains("referer"), "{request}");
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let server = Server::http(|_, wire| {
        say(wire, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    });
    let (bytes, validators) = body(fetch(&server.url("/")).await);
    assert_eq!(bytes, "abcde");
    assert_eq!((validators.etag, validators.last_modified), (None, None));
}

#[tokio::test]
async fn known_validators_are_sent_to_their_own_url_alone() {
    let server = Server::http(|head, wire| {
        if head.contains("if-none-match: \"one\"\r\n") && head.contains("if-modified-since: today\r\n") {
            say(wire, "HTTP/1.1 304 Not Modified\r\n\r\n");
        } else {
            ok(wire, "ETag: \"one\"\r\nLast-Modified: today\r\n", "new");
        }
    });
    let fetcher = fetcher(&[]);
    let url = server.url("/list");
    let (_, validators) = body(fetch_with(&fetcher, &url, None).await);
    assert_eq!(fetch_with(&fetcher, &url, Some(&validators)).await.unwrap(), Fetched::NotModified);
    // Shown alike, and yet another.
    let other = format!("{url}-of-another");
    assert_eq!(body(fetch_with(&fetcher, &other, Some(&validators)).await).0, "new");
    // What was garbled on the disk is left out.
    let garbled = Validators { etag: Some("\n".into()), ..validators };
    assert_eq!(body(fetch_with(&fetcher, &url, Some(&garbled)).await).0, "new");
    let last = server.requests().pop().unwrap();
    assert!(last.contains("if-modified-since: today") && !last.contains("if-none-match"), "{last}");
}

#[tokio::test]
async fn an_endless_validator_is_not_kept() {
    let server = Server::http(|_, wire| ok(wire, &format!("ETag: \"{}\"\r\n", "e".repeat(2000)), "x"));
    assert_eq!(body(fetch(&server.url("/")).await).1.etag, None);
}

#[tokio::test]
async fn not_modified_without_having_been_asked_is_an_error() {
    let error = error_of(|_, wire| say(wire, "HTTP/1.1 304 Not Modified\r\n\r\n")).await;
    assert!(matches!(error, FetchError::Status { status: StatusCode::NOT_MODIFIED, .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_is_followed_to_https_alone() {
    let authority = Authority::new();
    let last = Server::https(&authority, |head, wire| match head.starts_with("get /list") {
        true => ok(wire, "", "safe"),
        false => redirect(wire, "/list?key=sesame"),
    });
    let to = last.url("/moved");
    let first = Server::http(move |_, wire| redirect(wire, &to));
    assert_eq!(body(fetch_with(&fetcher(&[&authority]), &first.url("/"), None).await).0, "safe");
    assert_eq!(last.requests().len(), 2);

    let plain = Server::http(|_, wire| ok(wire, "", "unsafe"));
    for to in [plain.url("/list"), "ftp://127.0.0.1/list".to_owned(), "file:///etc/passwd".to_owned()] {
        let shown = shown(&to.parse().unwrap());
        let answer = move |_: &str, wire: &mut dyn Wire| redirect(wire, &to);
        let servers = [Server::http(answer.clone()), Server::https(&authority, answer)];
        for server in servers {
            let error = fetch_with(&fetcher(&[&authority]), &server.url("/"), None).await.unwrap_err();
            assert!(matches!(&error, FetchError::Insecure { to, .. } if *to == shown), "{error}");
            assert!(error.to_string().contains("not https"), "{error}");
        }
    }
    assert_eq!(plain.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn redirects_end() {
    let authority = Authority::new();
    let server = Server::https(&authority, |head, wire| {
        let left: usize = head.split(['/', '?']).nth(1).unwrap().parse().unwrap();
        if left == 0 { ok(wire, "", "here") } else { redirect(wire, &format!("/{}?", left - 1)) }
    });
    let fetcher = fetcher(&[&authority]);
    assert_eq!(body(fetch_with(&fetcher, &server.url("/5"), None).await).0, "here");
    let error = fetch_with(&fetcher, &server.url("/6"), None).await.unwrap_err();
    assert!(matches!(error, FetchError::Redirects { most: 5, .. }), "{error}");
    let error = error_of(|_, wire| say(wire, "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n")).await;
    assert!(matches!(error, FetchError::Nowhere { .. }), "{error}");
}

#[tokio::test]
async fn a_password_goes_along_to_the_same_server_alone() {
    let authority = Authority::new();
    let other = Server::https(&authority, |_, wire| ok(wire, "", "x"));
    let elsewhere = other.url("/");
    let server = Server::https(&authority, move |head, wire| match head.starts_with("get /far") {
        true => redirect(wire, &elsewhere),
        false => redirect(wire, "/far"),
    });
    let url = server.url("/near").replace("https://", &format!("https://me:{SECRET}@"));
    body(fetch_with(&fetcher(&[&authority]), &url, None).await);
    let is_told =
        |server: &Server| server.requests().iter().map(|head| head.contains("authorization:")).collect::<Vec<_>>();
    assert_eq!((is_told(&server), is_told(&other)), (vec![true, true], vec![false]));
}

#[tokio::test]
async fn a_status_is_named_and_a_busy_server_is_left_alone_as_long_as_it_wants() {
    for (status, retry_after_s) in [(404, None), (500, None), (429, Some(90)), (503, Some(90)), (206, None)] {
        let answer = format!("HTTP/1.1 {status} So\r\nRetry-After: 90\r\nContent-Length: 2\r\n\r\nno");
        let error = error_of(move |_, wire| say(wire, &answer)).await;
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(error.retry_after(), retry_after_s.map(Duration::from_secs), "{error}");
        assert_eq!(error.to_string().contains("1m 30s"), retry_after_s.is_some(), "{error}");
    }
}

#[test]
fn a_time_to_wait_is_seconds_or_a_date_and_never_more_than_a_day() {
    let now = httpdate::parse_http_date("Wed, 25 Nov 2026 10:00:00 GMT").unwrap();
    for (said, seconds) in [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("9999999999", Some(86_400)),
        ("Wed, 25 Nov 2026 10:01:00 GMT", Some(60)),
        ("Tue, 24 Nov 2026 10:01:00 GMT", Some(0)),
        ("Fri, 25 Dec 2026 10:01:00 GMT", Some(86_400)),
        ("soon", None),
        ("-1", None),
        ("", None),
    ] {
        assert_eq!(waiting_time(said, now), seconds.map(Duration::from_secs), "{said:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_none() {
    let error = error_of(|_, wire| say(wire, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n192.0.2.1")).await;
    assert!(matches!(error, FetchError::CutShort { received: 9, total: Some(100), .. }), "{error:?}");
    assert!(error.to_string().contains("cut short after 9 bytes of 100"), "{error}");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let error = error_of(move |_, wire| say(wire, chunked)).await;
    assert!(matches!(error, FetchError::CutShort { received: 3, total: None, .. }), "{error:?}");
}

#[tokio::test]
async fn an_oversized_body_is_refused_early_where_its_length_is_said_and_late_where_not() {
    let error = error_of(|_, wire| {
        say(wire, "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n");
        hold(wire);
    });
    let start = Instant::now();
    assert!(matches!(error.await, FetchError::TooBig { most_bytes: 1000, .. }));
    assert!(start.elapsed() < LIMITS.idle);

    for (length, is_taken) in [(1000, true), (1001, false)] {
        let server = Server::http(move |_, wire| {
            say(wire, format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(length)));
        });
        let fetched = fetch(&server.url("/")).await;
        assert_eq!(fetched.is_ok(), is_taken, "{length}");
        assert!(is_taken || matches!(fetched, Err(FetchError::TooBig { .. })));
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let start = Instant::now();
    let error = error_of(|_, wire| hold(wire)).await;
    assert!(matches!(error, FetchError::Silent { idle, .. } if idle == LIMITS.idle), "{error}");
    let error = error_of(|_, wire| {
        say(wire, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx");
        hold(wire);
    });
    let error = error.await;
    assert!(matches!(error, FetchError::Silent { .. }), "{error}");
    // It accepts, and says nothing of TLS.
    let server = Server::http(|_, wire| hold(wire));
    let error = fetch(&server.url("/").replace("http://", "https://")).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("no answer within 300ms"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_server_that_is_slow_for_ever_is_given_up() {
    for head in ["HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"]
    {
        let start = Instant::now();
        let error = error_of(move |_, wire| {
            say(wire, head);
            drip(wire);
        });
        let error = error.await;
        assert!(start.elapsed() < LIMITS.whole + Duration::from_millis(500), "{:?}", start.elapsed());
        // Bytes that never become a head are no answer.
        match head.ends_with("X: ") {
            true => assert!(matches!(error, FetchError::Silent { .. }), "{error}"),
            false => assert!(matches!(error, FetchError::TooSlow { whole, .. } if whole == LIMITS.whole), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = fetch(&format!("http://{address}/?key={SECRET}")).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_is_not_believed() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let answer = |_: &str, wire: &mut dyn Wire| ok(wire, "", "forged");
    let stranger = Server::https(&unknown, answer);
    let misnamed = Server::start(Some(Arc::new(known.server("other.test"))), answer);
    for server in [&stranger, &misnamed] {
        let error = fetch_with(&fetcher(&[&known]), &server.url("/"), None).await.unwrap_err();
        assert!(matches!(error, FetchError::Certificate { .. }), "{error:?}");
        assert!(error.to_string().contains("certificate") && error.to_string().contains("clock"), "{error}");
        assert_eq!(server.requests(), Vec::<String>::new());
    }
    assert_eq!(body(fetch_with(&fetcher(&[&known, &unknown]), &stranger.url("/"), None).await).0, "forged");
    // No roots at all.
    let error = fetch(&stranger.url("/")).await.unwrap_err();
    assert!(matches!(error, FetchError::Certificate { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    for answer in ["", "220 mail.example.test ESMTP\r\n", "HTTP/1.1 200 OK\r\n", "\0\0\0\0\r\n\r\n"] {
        let error = error_of(move |_, wire| say(wire, answer)).await;
        assert!(matches!(error, FetchError::Garbled { .. }), "{answer:?}: {error:?}");
    }
    let plain = Server::http(|_, wire| ok(wire, "", ""));
    let error = fetch(&plain.url("/").replace("http://", "https://")).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
}

const HEADS: &str = "(HTTP/1.[01] [0-9]{3} x\r\n)?([a-zA-Z-]{1,12}: .{0,20}\r\n){0,3}(\r\n)?";
const LOCATIONS: &str = ".{0,40}|(https?|ftp|data|file):/{0,3}[a-z@:.]{0,10}(:[0-9]{1,6})?/.{0,10}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_answer_makes_it_panic(head in HEADS, rest: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = Server::http(move |_, wire| {
            say(wire, &head);
            say(wire, &rest);
        });
        let start = Instant::now();
        let _ = runtime.block_on(fetch(&server.url("/")));
        prop_assert!(start.elapsed() < LIMITS.whole + Duration::from_secs(2));
    }

    #[test]
    fn no_location_leads_away_from_https(location in LOCATIONS) {
        let from: Url = "http://me:sesame@lists.test/a?b".parse().unwrap();
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&location) {
            headers.insert(LOCATION, value);
        }
        if let Ok(to) = redirected(&from, String::new(), &headers) {
            prop_assert_eq!(to.scheme(), "https");
            prop_assert_ne!(to.password(), from.password());
        }
    }

    #[test]
    fn no_time_to_wait_is_too_long(said in ".{0,40}|[0-9]{1,30}") {
        prop_assert!(waiting_time(&said, SystemTime::now()).is_none_or(|wait| wait <= Duration::from_secs(86_400)));
    }
}
