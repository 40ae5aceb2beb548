//! Lists in files: replaced, edited, deleted, and many of them in a directory.

use std::fs;
use std::io::Write as _;

use anyhow::{Result, ensure};
use ratelimit_tests::gateway::{Site, eventually};
use ratelimit_tests::lists::{
    ENFORCE, Files, SOON, WATCHED, await_entries, check, refreshed, show, table, warns, warns_of_nothing,
};
use ratelimit_user::api::ListState;

fn taken_in_time(site: &Site, name: &str, entries: u64) -> Result<()> {
    let took = await_entries(site, name, entries)?;
    println!("{name}: taken after {} ms", took.as_millis());
    ensure!(took <= WATCHED, "{name} was taken after {took:?}");
    Ok(())
}

#[test]
fn a_file_that_is_replaced_or_edited_is_taken_within_seconds() -> Result<()> {
    let files = Files::new()?;
    files.write("mine", "8.0.0.1\n")?;
    let site = Site::configured(&format!("{ENFORCE}{}", table("mine", &files.from("mine"), "")))?;
    await_entries(&site, "mine", 1)?;
    check(&site, &["8.0.0.1"], &["8.0.0.2", "8.0.0.3"])?;
    files.replace("mine", "8.0.0.1\n8.0.0.2\n")?;
    taken_in_time(&site, "mine", 2)?;
    check(&site, &["8.0.0.1", "8.0.0.2"], &["8.0.0.3"])?;
    let mut file = fs::OpenOptions::new().append(true).open(files.path("mine"))?;
    file.write_all(b"8.0.0.3 # by hand\n")?;
    drop(file);
    taken_in_time(&site, "mine", 3)?;
    check(&site, &["8.0.0.1", "8.0.0.2", "8.0.0.3"], &["8.0.0.4"])?;
    // Of the same length: only the time tells.
    files.write("mine", "8.0.0.1\n8.0.0.2\n8.0.0.4 # by hand\n")?;
    eventually("the other address is in force", WATCHED, || Ok(check(&site, &["8.0.0.4"], &["8.0.0.3"]).is_ok()))?;
    warns_of_nothing(&site)
}

#[test]
fn a_file_that_is_deleted_or_spoiled_keeps_the_last_good_copy() -> Result<()> {
    let files = Files::new()?;
    files.write("mine", "8.0.0.1\n8.0.0.2\n")?;
    let site = Site::configured(&format!("{ENFORCE}{}", table("mine", &files.from("mine"), "")))?;
    await_entries(&site, "mine", 2)?;
    let has_problem = |says: &str| {
        eventually(says, SOON, || Ok(show(&site, "mine")?.problem.is_some_and(|problem| problem.contains(says))))
    };
    fs::remove_file(files.path("mine"))?;
    has_problem("No such file")?;
    warns(&site, "mine", "write it, or correct `from`")?;
    ensure!(show(&site, "mine")?.state == ListState::InForce);
    check(&site, &["8.0.0.1"], &["8.0.0.3"])?;
    let said = site.refused("list refresh mine", 1)?;
    ensure!(said.contains("No such file"), "{said}");

    files.replace("mine", "8.0.0.1\nmy list\nof friends\n")?;
    has_problem("2 of 3 lines are bad")?;
    check(&site, &["8.0.0.1", "8.0.0.2"], &["8.0.0.3"])?;
    files.replace("mine", "")?;
    has_problem("it is empty")?;
    check(&site, &["8.0.0.1", "8.0.0.2"], &["8.0.0.3"])?;

    files.replace("mine", "8.0.0.1\n8.0.0.2\n8.0.0.3\n")?;
    taken_in_time(&site, "mine", 3)?;
    check(&site, &["8.0.0.1", "8.0.0.3"], &["8.0.0.4"])?;
    warns_of_nothing(&site)
}

#[test]
fn bad_lines_are_counted_and_shown() -> Result<()> {
    let files = Files::new()?;
    let good: String = (1..=40).map(|host| format!("8.0.0.{host}\n")).collect();
    files.write("mine", format!("{good}8.0.0.0/33\n\x1b[2Jnobody\n"))?;
    let site = Site::configured(&format!("{ENFORCE}{}", table("mine", &files.from("mine"), "")))?;
    await_entries(&site, "mine", 40)?;
    check(&site, &["8.0.0.1", "8.0.0.40"], &["8.0.0.41"])?;
    let shown = show(&site, "mine")?;
    let bad: Vec<_> = shown.bad.iter().map(|bad| (bad.line, bad.text.as_str())).collect();
    ensure!(shown.bad_lines == 2 && bad == [(41, "8.0.0.0/33"), (42, "\\u{1b}[2Jnobody")], "{shown:?}");
    ensure!(shown.bad.iter().all(|bad| bad.file == files.from("mine")), "{shown:?}");
    let text = site.run("list show mine")?;
    ensure!(text.contains("mine:41: a network with a prefix longer than its address: 8.0.0.0/33"), "{text}");
    ensure!(refreshed(&site, "mine")?.contains("mine: unchanged"));
    Ok(())
}

#[test]
fn every_file_of_a_directory_is_read_and_one_more_later() -> Result<()> {
    let files = Files::new()?;
    fs::create_dir(files.path("many"))?;
    files.write("many/one.txt", "8.0.0.1\n8.0.0.2\n")?;
    files.write("many/two.txt", "8.1.0.1\n")?;
    files.write("many/.hidden", "8.9.0.1\n")?;
    files.write("many/one.txt~", "8.9.0.2\n")?;
    let site = Site::configured(&format!("{ENFORCE}{}", table("many", &files.from("many"), "")))?;
    await_entries(&site, "many", 3)?;
    check(&site, &["8.0.0.1", "8.1.0.1"], &["8.2.0.1", "8.9.0.1", "8.9.0.2"])?;
    files.write("many/three.txt", "8.2.0.1\n")?;
    taken_in_time(&site, "many", 4)?;
    check(&site, &["8.0.0.1", "8.1.0.1", "8.2.0.1"], &["8.3.0.1"])?;
    fs::remove_file(files.path("many/two.txt"))?;
    taken_in_time(&site, "many", 3)?;
    check(&site, &["8.0.0.1", "8.2.0.1"], &["8.1.0.1"])
}
