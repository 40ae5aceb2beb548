//! The publisher of lists that the gateway tests use: it misbehaves as it is told, says what it was asked, and ends.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratelimit_tests::feed::{Authority, Feed, Serve};
use ratelimit_tests::netns::{Namespace, Scratch};
use ratelimit_user::lists::content::Validators;
use ratelimit_user::lists::fetch::{FetchError, Fetched, Fetcher, Limits};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};

const ADDRESS: &str = "127.0.0.1:0";
const LIMITS: Limits = Limits {
    most_bytes: 100_000,
    connect: Duration::from_millis(200),
    idle: Duration::from_millis(100),
    whole: Duration::from_millis(600),
};

/// Asks as the controller does, from inside.
fn fetch(namespace: &Namespace, url: &str, known: Option<&Validators>) -> Result<Result<Fetched, FetchError>> {
    let url = url.parse()?;
    namespace.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(Fetcher::new(LIMITS).fetch(&url, known, |_, _| ())))
    })?
}

fn body(fetched: Result<Fetched, FetchError>) -> Result<(Vec<u8>, Validators)> {
    match fetched? {
        Fetched::Body { bytes, validators } => Ok((bytes, validators)),
        Fetched::NotModified => anyhow::bail!("not modified"),
    }
}

#[test]
fn a_feed_serves_what_it_is_told_and_says_what_it_was_asked() -> Result<()> {
    let namespace = Namespace::new("feed")?;
    let feed = Feed::start(&namespace, ADDRESS.parse()?)?;
    let list = b"192.0.2.1\n".repeat(500);
    let dated = Serve::Dated { bytes: list.clone(), last_modified: "Wed, 25 Nov 2026 10:00:00 GMT".into() };
    for (serve, is_recognised) in
        [(Serve::Body(list.clone()), true), (dated, true), (Serve::Chunked(list.clone()), false)]
    {
        feed.set("/list", serve.clone());
        let (bytes, validators) = body(fetch(&namespace, &feed.url("/list?key=1"), None)?)?;
        ensure!(bytes == list, "{} bytes of {serve:?}", bytes.len());
        let again = fetch(&namespace, &feed.url("/list?key=1"), Some(&validators))??;
        ensure!((again == Fetched::NotModified) == is_recognised, "{again:?} of {serve:?}");
    }
    feed.set("/list", Serve::Body(b"198.51.100.1\n".to_vec()));
    ensure!(body(fetch(&namespace, &feed.url("/list"), None)?)?.0 == b"198.51.100.1\n");

    let requests = feed.requests("/list");
    ensure!(requests.len() == 7 && feed.requests("/").is_empty(), "{requests:?}");
    ensure!(requests[0].path == "/list?key=1" && requests[6].path == "/list", "{requests:?}");
    ensure!(requests[0].header("User-Agent").is_some_and(|agent| agent.starts_with("ratelimit/")), "{requests:?}");
    ensure!(requests[1].header("if-none-match").is_some() && requests[0].header("if-none-match").is_none());
    ensure!(requests.is_sorted_by_key(|request| request.at));
    Ok(())
}

#[test]
fn a_feed_misbehaves_as_it_is_told() -> Result<()> {
    let namespace = Namespace::new("feed")?;
    let feed = Feed::start(&namespace, ADDRESS.parse()?)?;
    let fails = |serve: Serve, is_expected: fn(&FetchError) -> bool| -> Result<()> {
        feed.set("/list", serve.clone());
        let error =
            fetch(&namespace, &feed.url("/list"), None)?.err().with_context(|| format!("{serve:?} is taken"))?;
        ensure!(is_expected(&error), "{serve:?} is {error:?}");
        Ok(())
    };
    let busy = Serve::Status { code: 503, headers: vec!["Retry-After: 7".into()] };
    fails(busy, |error| error.retry_after() == Some(Duration::from_secs(7)))?;
    fails(Serve::Redirect(feed.url("/")), |error| matches!(error, FetchError::Insecure { .. }))?;
    fails(Serve::Never, |error| matches!(error, FetchError::Silent { .. }))?;
    let slow = Serve::Drip(Duration::from_millis(20));
    fails(slow, |error| matches!(error, FetchError::TooSlow { .. }))?;
    let short = Serve::CutShort { length_said: 100, sent: b"192.0.2.1\n".to_vec() };
    fails(short, |error| matches!(error, FetchError::CutShort { received: 10, total: Some(100), .. }))?;
    for is_said in [true, false] {
        let large = Serve::Oversized { bytes: LIMITS.most_bytes + 1, is_said };
        fails(large, |error| matches!(error, FetchError::TooBig { .. }))?;
    }
    fails(Serve::Raw(b"220 mail\r\n".to_vec()), |error| matches!(error, FetchError::Garbled { .. }))?;

    feed.set("/list", Serve::Html200);
    ensure!(body(fetch(&namespace, &feed.url("/list"), None)?)?.0.starts_with(b"<!DOCTYPE html>"));
    let error = fetch(&namespace, &feed.url("/other"), None)?.err().context("a path that was never set is served")?;
    ensure!(matches!(&error, FetchError::Status { status, .. } if status.as_u16() == 404), "{error:?}");
    Ok(())
}

#[test]
fn a_feed_ends_at_once_whatever_it_was_doing() -> Result<()> {
    let namespace = Namespace::new("feed")?;
    let feed = Feed::start(&namespace, ADDRESS.parse()?)?;
    let address = feed.address();
    feed.set("/never", Serve::Never);
    feed.set("/drip", Serve::Drip(Duration::from_secs(60)));
    let connect = |request: &'static str| -> Result<TcpStream> {
        namespace.enter(|| {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(request.as_bytes())?;
            Ok(stream)
        })?
    };
    let _silent = connect("")?;
    let _half = connect("GET /never")?;
    let _waiting = [connect("GET /never HTTP/1.1\r\n\r\n")?, connect("GET /drip HTTP/1.1\r\n\r\n")?];
    let deadline = Instant::now() + Duration::from_secs(5);
    while feed.requests("/never").len() + feed.requests("/drip").len() < 2 {
        ensure!(Instant::now() < deadline, "the requests do not arrive");
        std::thread::sleep(Duration::from_millis(5));
    }
    let start = Instant::now();
    drop(feed);
    ensure!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    let refused = namespace.enter(|| TcpStream::connect(address))?;
    ensure!(refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused), "it still listens");
    Ok(())
}

#[test]
fn a_feed_with_tls_is_believed_by_who_trusts_its_authority() -> Result<()> {
    let namespace = Namespace::new("feed")?;
    let scratch = Scratch::new()?;
    let authority = Authority::new()?;
    let feed = Feed::start_tls(&namespace, ADDRESS.parse()?, &authority)?;
    feed.set("/list", Serve::Body(b"192.0.2.1\n".to_vec()));
    ensure!(feed.url("/list").starts_with("https://127.0.0.1:"), "{feed:?}");

    let path = scratch.path().join("authority.pem");
    for (trusted, is_believed) in [(&authority, true), (&Authority::new()?, false)] {
        trusted.write(&path)?;
        let answer = ask(&namespace, feed.address(), CertificateDer::from_pem_slice(&fs::read(&path)?)?)?;
        ensure!(answer.as_ref().is_ok_and(|text| text.ends_with("192.0.2.1\n")) == is_believed, "{answer:?}");
    }
    // The roots of this machine do not know it.
    let error = fetch(&namespace, &feed.url("/list"), None)?.err().context("anybody is believed")?;
    ensure!(matches!(error, FetchError::Certificate { .. }), "{error:?}");
    Ok(())
}

fn ask(namespace: &Namespace, address: SocketAddr, root: CertificateDer<'static>) -> Result<std::io::Result<String>> {
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::from(address.ip()))?;
    let stream = namespace.enter(|| TcpStream::connect(address))??;
    let mut stream = StreamOwned::new(connection, stream);
    let mut talk = || {
        stream.write_all(b"GET /list HTTP/1.1\r\n\r\n")?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // It hangs up without taking leave of TLS.
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    };
    Ok(talk())
}
