//! Copies that differ from the one in force: not at all, in nothing that counts, or too much to be believed at once.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::feed::Serve;
use ratelimit_tests::lists::{
    ENFORCE, Published, await_entries, check, hosts, refreshed, show, table, url, warns, warns_of_nothing,
};

/// Entries of a usual copy.
const ENTRIES: u32 = 20;

#[test]
fn a_doubled_file_is_the_same_list_and_what_has_not_changed_lives_longer() -> Result<()> {
    let good = hosts("8.0.0.1", ENTRIES)?;
    let published = Published::start(&format!("{ENFORCE}{}", table("twice", &url("/twice"), "")), |http, _| {
        http.set("/twice", Serve::Body(good.clone().into_bytes()));
    })?;
    let (site, http) = (&published.site, published.http()?);
    await_entries(site, "twice", u64::from(ENTRIES))?;
    let before = show(site, "twice")?;
    thread::sleep(Duration::from_millis(1100));
    let said = refreshed(site, "twice")?;
    ensure!(said.contains("twice: unchanged"), "{said}");
    let asked = http.requests("/twice");
    ensure!(asked.len() == 2 && asked[1].header("if-none-match").is_some(), "{asked:?}");
    let after = show(site, "twice")?;
    ensure!(after.confirmed > before.confirmed && after.expires > before.expires, "{before:?}\n{after:?}");
    ensure!(after.fetched == before.fetched, "{after:?}");

    http.set("/twice", Serve::Body(format!("{good}{good}").into_bytes()));
    refreshed(site, "twice")?;
    let doubled = show(site, "twice")?;
    ensure!(doubled.networks == before.networks && doubled.problem.is_none(), "{doubled:?}");
    ensure!(doubled.entries == u64::from(2 * ENTRIES), "{doubled:?}");
    check(site, &["8.0.0.1"], &["8.1.0.1"])
}

#[test]
fn a_list_grown_tenfold_waits_until_it_is_accepted() -> Result<()> {
    let off = "change = { lost_percent = 0, grown_times = 0 }";
    let config = format!("{ENFORCE}{}{}", table("grown", &url("/grown"), ""), table("wild", &url("/wild"), off));
    let published = Published::start(&config, |http, _| {
        http.set("/grown", Serve::Body(b"8.0.0.1\n8.0.0.2\n".to_vec()));
        http.set("/wild", Serve::Body(b"9.0.0.1\n9.0.0.2\n".to_vec()));
    })?;
    let (site, http) = (&published.site, published.http()?);
    for name in ["grown", "wild"] {
        await_entries(site, name, 2)?;
    }
    let said = site.refused("list accept grown", 1)?;
    ensure!(said.contains("no copy of grown waits to be accepted"), "{said}");

    http.set("/grown", Serve::Body(hosts("8.0.0.1", 200)?.into_bytes()));
    let said = site.refused("list refresh grown", 1)?;
    ensure!(said.contains("grown from 2 to 200 entries") && said.contains("ratelimit list accept grown"), "{said}");
    let waiting = show(site, "grown")?.waiting.context("nothing waits")?;
    ensure!(waiting.entries == 200 && waiting.why.contains("from 2 to 200") && waiting.seen.len() == 1, "{waiting:?}");
    let text = site.run("list show grown")?;
    ensure!(text.contains("a copy of 200 entries waits"), "{text}");
    warns(site, "grown", "grown from 2 to 200")?;
    check(site, &["8.0.0.1"], &["8.0.0.150"])?;
    let said = site.run("list accept grown")?;
    ensure!(said.contains("grown: 200 entries"), "{said}");
    check(site, &["8.0.0.1", "8.0.0.150"], &["8.0.0.201"])?;
    warns_of_nothing(site)?;
    // What was accepted is what the server has, and not to be asked for again.
    ensure!(refreshed(site, "grown")?.contains("grown: unchanged"));

    http.set("/wild", Serve::Body(hosts("9.0.0.1", 200)?.into_bytes()));
    refreshed(site, "wild")?;
    check(site, &["9.0.0.1", "9.0.0.150"], &["9.0.0.201"])?;
    http.set("/wild", Serve::Body(Vec::new()));
    refreshed(site, "wild")?;
    check(site, &[], &["9.0.0.1"])
}
