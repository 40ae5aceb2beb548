//! Every format, from a file to the gate.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use ratelimit_tests::gateway::{Site, eventually};
use ratelimit_tests::lists::{ENFORCE, Files, SOON, await_entries, check, show, table};

/// A list in a format.
struct Case {
    name: &'static str,
    /// Further keys of the list.
    keys: &'static str,
    bytes: Vec<u8>,
    format: &'static str,
    entries: u64,
    listed: &'static [&'static str],
    honest: &'static [&'static str],
}

const PLAIN: &str = "\
# Addresses, networks and ranges; a comment may follow them.
8.1.0.1
8.1.1.0/24 ; a network
8.1.2.5-8.1.2.9
2a01:1::/32
";
const COUNTS: &str = "# address, number of lists\n8.2.0.1\t5\n8.2.0.2\t3\n8.2.0.3\t2\n";
const DROP: &str = "; Spamhaus DROP List (c) the lab\n8.3.0.0/24 ; SBL1\n8.3.8.0/22 ; SBL22\n";
const DROP_JSON: &str = r#"{"cidr":"8.4.0.0/24","sblid":"SBL1","rir":"arin"}
{"cidr":"2a04:1::/32","sblid":"SBL2","rir":"ripencc"}
{"type":"metadata","timestamp":1,"size":1,"records":2,"copyright":"(c) the lab","terms":"none"}
"#;
const ZONE: &str = "\
$SOA 3600 ns.example.org admin.example.org 0 600 300 86400 300
$NS 3600 ns.example.org
:127.0.0.2:listed, see https://example.org/$
8.5.0.0/24
!8.5.0.7
8.5.2.10-20
8.5.3
";
const REPORT: &str = "\
\"timestamp\",\"severity\",\"ip\",\"protocol\",\"port\",\"hostname\"
\"2026-01-01 00:00:00\",\"high\",\"8.7.0.1\",\"tcp\",25,\"one, of many\"
\"2026-01-01 00:00:00\",\"high\",\"8.7.0.2\",\"tcp\",25,\"\"
";

fn cases() -> Result<Vec<Case>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"8.8.0.1\n8.8.1.0/24\n")?;
    Ok(vec![
        Case {
            name: "plain",
            keys: "",
            bytes: PLAIN.into(),
            format: "plain",
            entries: 4,
            listed: &["8.1.0.1", "8.1.1.77", "8.1.2.5", "8.1.2.9", "2a01:1::9"],
            honest: &["8.1.0.2", "8.1.2.4", "8.1.2.10", "8.1.3.0", "2a01:2::9"],
        },
        Case {
            name: "count",
            keys: "min_count = 3",
            bytes: COUNTS.into(),
            format: "count",
            entries: 2,
            listed: &["8.2.0.1", "8.2.0.2"],
            honest: &["8.2.0.3", "8.2.0.4"],
        },
        Case {
            name: "drop-text",
            keys: "",
            bytes: DROP.into(),
            format: "drop",
            entries: 2,
            listed: &["8.3.0.1", "8.3.11.255"],
            honest: &["8.3.1.1", "8.3.12.0"],
        },
        Case {
            name: "drop-json",
            keys: "",
            bytes: DROP_JSON.into(),
            format: "drop-json",
            entries: 2,
            listed: &["8.4.0.1", "2a04:1::9"],
            honest: &["8.4.1.1", "2a04:2::9"],
        },
        Case {
            name: "zone",
            keys: "",
            bytes: ZONE.into(),
            format: "rbldnsd",
            entries: 3,
            listed: &["8.5.0.6", "8.5.0.8", "8.5.2.10", "8.5.2.20", "8.5.3.255"],
            honest: &["8.5.0.7", "8.5.2.9", "8.5.2.21", "8.5.4.0"],
        },
        Case {
            name: "report",
            keys: "",
            bytes: REPORT.into(),
            format: "shadowserver",
            entries: 2,
            listed: &["8.7.0.1", "8.7.0.2"],
            honest: &["8.7.0.3"],
        },
        Case {
            name: "gzip",
            keys: "",
            bytes: gzip.finish()?,
            format: "plain",
            entries: 2,
            listed: &["8.8.0.1", "8.8.1.1"],
            honest: &["8.8.0.2"],
        },
        Case {
            name: "zstd",
            keys: "format = \"count\"",
            bytes: zstd::encode_all(&b"8.9.0.1 1\n8.9.1.0/24 1\n"[..], 3)?,
            format: "count",
            entries: 2,
            listed: &["8.9.0.1", "8.9.1.1"],
            honest: &["8.9.0.2"],
        },
    ])
}

#[test]
fn every_format_comes_into_force() -> Result<()> {
    let (files, cases) = (Files::new()?, cases()?);
    let mut config = ENFORCE.to_owned();
    for case in &cases {
        files.write(case.name, &case.bytes)?;
        config += &table(case.name, &files.from(case.name), case.keys);
    }
    let site = Site::configured(&config)?;
    for case in &cases {
        await_entries(&site, case.name, case.entries)?;
        let shown = show(&site, case.name)?;
        ensure!(shown.formats == [case.format] && shown.bad_lines == 0 && shown.refused.count == 0, "{shown:?}");
        check(&site, case.listed, case.honest).with_context(|| case.name)?;
    }
    ensure!(show(&site, "count")?.left_out == 1, "the address with too small a count");
    let notices = show(&site, "drop-json")?.notices;
    ensure!(notices == ["(c) the lab", "none"], "{notices:?}");
    ensure!(show(&site, "drop-text")?.notices == ["Spamhaus DROP List (c) the lab"]);
    let text = site.run("list show drop-json")?;
    ensure!(text.contains("from the publisher") && text.contains("(c) the lab"), "{text}");
    Ok(())
}

/// Long enough to be seen in force, and not longer.
const SHORT: Duration = Duration::from_secs(4);

#[test]
fn a_decision_ends_in_its_time() -> Result<()> {
    let decision = |kind: &str, scope: &str, value: &str, duration: &str| {
        format!(
            "{{\"id\":1,\"origin\":\"lab\",\"type\":\"{kind}\",\"scope\":\"{scope}\",\"value\":\"{value}\",\
             \"duration\":\"{duration}\",\"scenario\":\"lab\"}}"
        )
    };
    let short = format!("{}s", SHORT.as_secs());
    let decisions = [
        decision("ban", "Ip", "8.6.0.1", "3h59m1.5s"),
        decision("ban", "Range", "8.6.1.0/24", "1h"),
        decision("ban", "Ip", "8.6.0.2", &short),
        decision("captcha", "Ip", "8.6.0.3", "1h"),
        decision("ban", "Country", "XX", "1h"),
        decision("ban", "Ip", "8.6.0.4", "-5s"),
    ];
    let files = Files::new()?;
    files.write("decisions", format!("{{\"new\":[{}],\"deleted\":null}}", decisions.join(",\n")))?;
    let site = Site::configured(&format!("{ENFORCE}{}", table("decisions", &files.from("decisions"), "")))?;
    await_entries(&site, "decisions", 3)?;
    check(&site, &["8.6.0.1", "8.6.1.77", "8.6.0.2"], &["8.6.0.3", "8.6.0.4", "8.6.2.1"])?;
    let shown = show(&site, "decisions")?;
    ensure!(shown.formats == ["crowdsec"] && shown.left_out == 3, "{shown:?}");
    let took = eventually("the short decision is over", SHORT + SOON, || Ok(show(&site, "decisions")?.entries == 2))?;
    println!("over after {} ms more", took.as_millis());
    check(&site, &["8.6.0.1", "8.6.1.77"], &["8.6.0.2"])
}
