//! The last good copy: when the disk is full, when it is too old, when the network is down, and when the controller is killed.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::feed::Serve;
use ratelimit_tests::gateway::eventually;
use ratelimit_tests::lists::{
    ENFORCE, Published, SMTP, SOON, await_entries, check, hosts, next, refreshed, show, table, url, warns,
    warns_of_nothing,
};
use ratelimit_user::api::ListState;

const IMAP: u16 = 143;

#[test]
fn a_full_disk_takes_nothing_out_of_force_and_is_told() -> Result<()> {
    let mut published = Published::start(&format!("{ENFORCE}{}", table("bad", &url("/bad"), "")), |http, _| {
        http.set("/bad", Serve::Body(b"8.0.0.1\n".to_vec()));
    })?;
    let (older, newer) = ((["8.0.0.1"], ["8.0.0.2"]), ["8.0.0.1", "8.0.0.2"]);
    await_entries(&published.site, "bad", 1)?;
    published.site.controller.fill_disk()?;
    published.http()?.set("/bad", Serve::Body(b"8.0.0.1\n8.0.0.2\n".to_vec()));
    refreshed(&published.site, "bad")?;
    check(&published.site, &newer, &["8.0.0.3"])?;
    let shown = show(&published.site, "bad")?;
    let problem = shown.problem.context("no problem is shown")?;
    ensure!(shown.state == ListState::InForce && shown.entries == 2, "{:?} {}", shown.state, shown.entries);
    for says in ["the list is in force, but a restart would bring back the older copy", "There is no room: make some"] {
        ensure!(problem.contains(says), "{problem}");
        warns(&published.site, "bad", says)?;
    }

    published.http = None;
    published.site.controller.restart()?;
    check(&published.site, &older.0, &older.1)
}

#[test]
fn what_was_not_kept_is_kept_as_soon_as_there_is_room() -> Result<()> {
    let mut published = Published::start(&format!("{ENFORCE}{}", table("bad", &url("/bad"), "")), |http, _| {
        http.set("/bad", Serve::Body(b"8.0.0.1\n".to_vec()));
    })?;
    await_entries(&published.site, "bad", 1)?;
    published.site.controller.fill_disk()?;
    published.http()?.set("/bad", Serve::Body(b"8.0.0.1\n8.0.0.2\n".to_vec()));
    refreshed(&published.site, "bad")?;
    published.site.controller.free_disk()?;
    // The server has nothing newer, and still it has to give it again.
    refreshed(&published.site, "bad")?;
    warns_of_nothing(&published.site)?;
    published.http = None;
    published.site.controller.restart()?;
    check(&published.site, &["8.0.0.1", "8.0.0.2"], &["8.0.0.3"])
}

#[test]
fn a_copy_past_its_age_weighs_nothing_unless_it_says_who_may_connect() -> Result<()> {
    let aging = "max_age = \"3s\"";
    let lists =
        table("bad", &url("/bad"), aging) + &table("office", &url("/office"), &format!("action = \"allow\"\n{aging}"));
    let config = format!("{ENFORCE}{lists}[services.imap]\nonly_from = [\"office\"]\n");
    let mut published = Published::start(&config, |http, _| {
        http.set("/bad", Serve::Body(b"8.0.0.1\n".to_vec()));
        http.set("/office", Serve::Body(b"9.0.0.1\n".to_vec()));
    })?;
    let site = &published.site;
    await_entries(site, "bad", 1)?;
    check(site, &["8.0.0.1"], &["8.0.0.2"])?;
    published.http = None;
    let site = &published.site;
    eventually("the copies are too old", SOON, || {
        let is_told = |name: &str| Ok::<_, anyhow::Error>(warns(site, name, "its copy is past its age").is_ok());
        Ok(is_told("bad")? && is_told("office")?)
    })?;
    eventually("the list weighs nothing", SOON, || Ok(next(site, "8.0.0.1", SMTP)? == (Reason::Admitted, true)))?;
    warns(site, "bad", "its copy is past its age and weighs nothing")?;
    ensure!(show(site, "bad")?.state == ListState::Expired);
    let text = site.run("list show bad")?;
    ensure!(text.contains("too old, weighs nothing"), "{text}");

    ensure!(next(site, "9.0.0.1", IMAP)? == (Reason::Admitted, true));
    ensure!(next(site, "9.0.0.2", IMAP)? == (Reason::Restricted, false), "who may connect is known still");
    warns(site, "office", "stays in force because it says who may connect")?;
    ensure!(show(site, "office")?.state == ListState::InForce);

    // So it is after a restart, and the same copy that comes again weighs again.
    published.site.controller.stop()?;
    published.site.controller.restart()?;
    let site = &published.site;
    ensure!(next(site, "8.0.0.1", SMTP)? == (Reason::Admitted, true));
    ensure!(next(site, "9.0.0.2", IMAP)? == (Reason::Restricted, false));
    published.publish_again(|http| http.set("/bad", Serve::Body(b"8.0.0.1\n".to_vec())))?;
    refreshed(&published.site, "bad")?;
    ensure!(next(&published.site, "8.0.0.1", SMTP)? == (Reason::Blocked, false));
    Ok(())
}

#[test]
fn a_restart_with_the_network_down_blocks_from_the_first_packet_on() -> Result<()> {
    let config = format!("{ENFORCE}{}", table("bad", &url("/bad"), "timeout = \"2s\""));
    let mut published = Published::start(&config, |http, _| {
        http.set("/bad", Serve::Body(b"8.0.0.1\n8.1.0.0/16\n".to_vec()));
    })?;
    await_entries(&published.site, "bad", 2)?;
    published.http = None;
    // Stopped, so that nothing is left in the kernel.
    published.site.controller.stop()?;
    published.site.controller.restart()?;
    let site = &published.site;
    check(site, &["8.0.0.1", "8.1.77.7"], &["8.0.0.2", "8.2.0.1"])?;
    ensure!(show(site, "bad")?.state == ListState::InForce);
    let said = site.refused("list refresh bad", 1)?;
    ensure!(said.contains("no connection"), "{said}");
    warns(site, "bad", "no connection")?;
    check(site, &["8.0.0.1", "8.1.77.7"], &["8.0.0.2", "8.2.0.1"])
}

/// So many entries take long enough to be interrupted everywhere.
const MANY: u32 = 50_000;
const KILLS: u64 = 8;

#[test]
fn killed_amid_a_refresh_it_comes_back_with_one_copy_or_the_other() -> Result<()> {
    let off = "change = { lost_percent = 0, grown_times = 0 }";
    let copies = [hosts("8.0.0.1", MANY)?, hosts("9.0.0.1", MANY)?];
    let mut published = Published::start(&format!("{ENFORCE}{}", table("bad", &url("/bad"), off)), |http, _| {
        http.set("/bad", Serve::Body(copies[0].clone().into_bytes()));
    })?;
    await_entries(&published.site, "bad", u64::from(MANY))?;
    let (mut olds, mut news) = (0, 0);
    for number in 0..KILLS {
        let was_second = next(&published.site, "9.0.0.1", SMTP)?.0 == Reason::Blocked;
        let other = &copies[usize::from(!was_second)];
        published.http()?.set("/bad", Serve::Body(other.clone().into_bytes()));
        let refresh = published.site.controller.spawn_cli(&["list", "refresh", "bad"])?;
        thread::sleep(Duration::from_millis(20 + 25 * number));
        published.site.controller.kill9()?;
        drop(refresh);
        published.http()?.set("/bad", Serve::Status { code: 500, headers: Vec::new() });
        published.site.controller.restart()?;
        let shown = show(&published.site, "bad")?;
        ensure!(shown.state == ListState::InForce && shown.entries == u64::from(MANY), "{shown:?}");
        ensure!(shown.networks == u64::from(MANY), "{shown:?}");
        let is_second = next(&published.site, "9.0.0.1", SMTP)?.0 == Reason::Blocked;
        let ends = [["8.0.0.1", "8.0.195.80"], ["9.0.0.1", "9.0.195.80"]];
        check(&published.site, &ends[usize::from(is_second)], &ends[usize::from(!is_second)])?;
        *if is_second == was_second { &mut olds } else { &mut news } += 1;
    }
    println!("killed {KILLS} times: {olds} times the old copy, {news} times the new one");
    Ok(())
}
