//! Publishers that fail, lie or stall: the last good copy stays in force until they are well again.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use ratelimit_tests::feed::{Feed, Serve};
use ratelimit_tests::lists::{
    ENFORCE, Published, await_entries, check, hosts, refresh, refreshed, secure_url, show, table, url, warns,
    warns_of_nothing,
};
use ratelimit_user::api::ListState;

/// Entries of a good copy.
const ENTRIES: u32 = 20;
/// What a list that is to time out may take.
const TIMEOUT: &str = "timeout = \"2s\"";

/// How a list is published that has these addresses.
type Publish = fn(&str) -> Result<Vec<u8>>;

/// What goes wrong with a list after it was good once.
struct Incident {
    name: &'static str,
    /// Further keys of the list.
    keys: &'static str,
    publish: Publish,
    /// From the good copy.
    serve: fn(&[u8]) -> Serve,
    /// What is said of it.
    says: &'static [&'static str],
}

impl Default for Incident {
    fn default() -> Self {
        Self { name: "", keys: "", publish: plain, serve: |_| Serve::Never, says: &[] }
    }
}

fn plain(text: &str) -> Result<Vec<u8>> {
    Ok(text.as_bytes().to_vec())
}

fn packed(text: &str) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

fn drop_json(text: &str) -> Result<Vec<u8>> {
    let record = |address: &str| format!("{{\"cidr\":\"{address}/32\",\"sblid\":\"SBL1\",\"rir\":\"arin\"}}\n");
    let records: String = text.lines().map(record).collect();
    let count = text.lines().count();
    let trailer = "\"type\":\"metadata\",\"timestamp\":1,\"size\":1,\"copyright\":\"(c) the lab\"";
    Ok(format!("{records}{{{trailer},\"records\":{count}}}\n").into_bytes())
}

/// The first so many percent of it.
fn part(bytes: &[u8], percent: usize) -> Vec<u8> {
    bytes[..bytes.len() * percent / 100].to_vec()
}

fn first_lines(bytes: &[u8], count: usize) -> Vec<u8> {
    bytes.split_inclusive(|byte| *byte == b'\n').take(count).flatten().copied().collect()
}

/// Without one of its lines, from the end.
fn without_line(bytes: &[u8], from_end: usize) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    lines.remove(lines.len() - 1 - from_end);
    lines.concat()
}

/// A program instead of a list, the same every time.
fn garbage() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    b"\x7fELF".iter().copied().chain((0..4096).map(|_| next())).collect()
}

fn status(code: u16, headers: &[&str]) -> Serve {
    Serve::Status { code, headers: headers.iter().map(ToString::to_string).collect() }
}

fn broken_bodies() -> Vec<Incident> {
    let usual = Incident::default;
    vec![
        Incident {
            name: "cut-short",
            serve: |good| Serve::CutShort { length_said: good.len() as u64, sent: part(good, 60) },
            says: &["cut short after"],
            ..usual()
        },
        Incident {
            name: "tail-gone",
            serve: |good| Serve::Body(first_lines(good, 8)),
            says: &["60 % of its 20 entries are gone, 8 are there now", "ratelimit list accept tail-gone"],
            ..usual()
        },
        Incident {
            name: "cut-line",
            serve: |good| Serve::Body(part(good, 40)),
            says: &["1 of 9 lines are bad, more than 5 %"],
            ..usual()
        },
        Incident { name: "page", serve: |_| Serve::Html200, says: &["a web page instead of a list"], ..usual() },
        Incident {
            name: "empty",
            serve: |_| Serve::Body(Vec::new()),
            says: &["it is empty and had 20 entries", "ratelimit list accept empty"],
            ..usual()
        },
        Incident { name: "garbage", serve: |_| Serve::Body(garbage()), says: &["not text"], ..usual() },
        Incident {
            name: "wrong-count",
            publish: drop_json,
            serve: |good| Serve::Body(without_line(good, 3)),
            says: &["says that there are 20 records, but there are 19"],
            ..usual()
        },
        Incident {
            name: "no-trailer",
            publish: drop_json,
            serve: |good| Serve::Body(without_line(good, 0)),
            says: &["the trailer with the number of records is missing"],
            ..usual()
        },
        Incident {
            name: "packed",
            publish: packed,
            serve: |good| Serve::Body(part(good, 70)),
            says: &["cut off or damaged, it does not unpack (gzip"],
            ..usual()
        },
        Incident {
            name: "too-big",
            keys: "max_size = \"64 KiB\"",
            serve: |_| Serve::Oversized { bytes: 1 << 20, is_said: true },
            says: &["larger than 65536 bytes"],
            ..usual()
        },
        Incident {
            name: "too-big-unsaid",
            keys: "max_size = \"64 KiB\"",
            serve: |_| Serve::Oversized { bytes: 1 << 20, is_said: false },
            says: &["larger than 65536 bytes"],
            ..usual()
        },
    ]
}

fn broken_servers() -> Vec<Incident> {
    let usual = Incident::default;
    vec![
        Incident { name: "silent", keys: TIMEOUT, serve: |_| Serve::Never, says: &["2s"], ..usual() },
        Incident {
            name: "drip",
            keys: TIMEOUT,
            serve: |_| Serve::Drip(Duration::from_millis(50)),
            says: &["not whole after 2s"],
            ..usual()
        },
        Incident { name: "failing", serve: |_| status(500, &[]), says: &["the server answers 500"], ..usual() },
        Incident {
            name: "busy",
            serve: |_| status(503, &["Retry-After: 7200"]),
            says: &["the server answers 503", "left alone for 2h"],
            ..usual()
        },
        Incident {
            name: "insecure",
            serve: |_| Serve::Redirect(url("/elsewhere")),
            says: &["redirected to http://192.0.2.2:8000/elsewhere, which is not https"],
            ..usual()
        },
        Incident {
            name: "loop",
            serve: |_| Serve::Redirect(secure_url("/loop")),
            says: &["redirected more than 5 times"],
            ..usual()
        },
        Incident { name: "no-http", serve: |_| Serve::Raw(garbage()), says: &["no answer in HTTP"], ..usual() },
    ]
}

/// A list with addresses of its own.
struct Case {
    incident: Incident,
    good: Vec<u8>,
    /// One address more.
    better: Vec<u8>,
    listed: String,
    added: String,
}

impl Case {
    fn new(number: usize, incident: Incident) -> Result<Self> {
        let first = format!("8.{number}.0.1");
        Ok(Self {
            good: (incident.publish)(&hosts(&first, ENTRIES)?)?,
            better: (incident.publish)(&hosts(&first, ENTRIES + 1)?)?,
            listed: first,
            added: format!("8.{number}.0.{}", ENTRIES + 1),
            incident,
        })
    }

    fn path(&self) -> String {
        format!("/{}", self.incident.name)
    }

    fn url(&self) -> String {
        if self.is_secure() { secure_url(&self.path()) } else { url(&self.path()) }
    }

    /// Only https may redirect in a circle: http is not followed anywhere.
    fn is_secure(&self) -> bool {
        self.incident.name == "loop"
    }

    fn set(&self, http: &Feed, https: &Feed, serve: Serve) {
        let feed = if self.is_secure() { https } else { http };
        feed.set(&self.path(), serve);
    }

    /// A bad answer changes nothing and is told, a good one comes into force.
    fn replay(&self, published: &Published) -> Result<()> {
        let Incident { name, serve, says, .. } = &self.incident;
        let (site, http) = (&published.site, published.http()?);
        self.set(http, &published.https, serve(&self.good));
        let failed = refresh(site, name)?;
        ensure!(failed.status.code() == Some(1) && failed.stdout.is_empty(), "{failed:?}");
        let shown = show(site, name)?;
        let problem = shown.problem.context("no problem is shown")?;
        for words in *says {
            ensure!(failed.stderr.contains(words) && problem.contains(words), "{words:?}: {failed:?}, {problem}");
            warns(site, name, words)?;
        }
        ensure!(shown.state == ListState::InForce && shown.entries == u64::from(ENTRIES), "{:?}", shown.state);
        check(site, &[&self.listed], &[&self.added])?;

        self.set(http, &published.https, Serve::Body(self.better.clone()));
        let said = refreshed(site, name)?;
        ensure!(said.contains(&format!("{name}: {} entries", ENTRIES + 1)), "{said}");
        let shown = show(site, name)?;
        ensure!(shown.problem.is_none() && shown.waiting.is_none(), "{:?} {:?}", shown.problem, shown.waiting);
        check(site, &[&self.listed, &self.added], &[])
    }
}

fn replay(incidents: Vec<Incident>) -> Result<()> {
    let cases: Vec<Case> =
        incidents.into_iter().enumerate().map(|(at, incident)| Case::new(at, incident)).collect::<Result<_>>()?;
    let tables: String = cases.iter().map(|case| table(case.incident.name, &case.url(), case.incident.keys)).collect();
    let published = Published::start(&format!("{ENFORCE}{tables}"), |http, https| {
        cases.iter().for_each(|case| case.set(http, https, Serve::Body(case.good.clone())));
    })?;
    for case in &cases {
        await_entries(&published.site, case.incident.name, u64::from(ENTRIES))?;
    }
    warns_of_nothing(&published.site)?;
    for case in &cases {
        let start = Instant::now();
        case.replay(&published)
            .with_context(|| format!("{}:\n{}", case.incident.name, published.site.controller.log()))?;
        println!("{}: {} ms", case.incident.name, start.elapsed().as_millis());
    }
    warns_of_nothing(&published.site)
}

#[test]
fn what_is_no_list_changes_nothing() -> Result<()> {
    replay(broken_bodies())
}

#[test]
fn servers_that_fail_change_nothing() -> Result<()> {
    replay(broken_servers())
}

#[test]
fn a_server_that_wants_to_be_left_alone_is() -> Result<()> {
    let config = format!("{ENFORCE}{}{}", table("busy", &url("/busy"), ""), table("well", &url("/well"), ""));
    let published = Published::start(&config, |http, _| {
        http.set("/busy", status(503, &["Retry-After: 7200"]));
        http.set("/well", Serve::Body(b"8.0.0.1\n".to_vec()));
    })?;
    await_entries(&published.site, "well", 1)?;
    warns(&published.site, "busy", "it weighs nothing, for it was never read")?;
    let (busy, well) = (show(&published.site, "busy")?, show(&published.site, "well")?);
    // The other is due within 66 minutes.
    ensure!(busy.next_refresh > well.next_refresh, "{} and {}", busy.next_refresh, well.next_refresh);
    ensure!(busy.state == ListState::Missing, "{:?}", busy.state);
    Ok(())
}
