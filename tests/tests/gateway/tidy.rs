//! Nothing of the tests is left on the machine. Tests run in the order of their names, so this one comes last.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_tests::gateway::{Site, eventually};

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let mut site = Site::enforcing()?;
    site.controller.kill9()?;
    ensure!(!left()?.is_empty(), "what a running test has is not seen");
    drop(site);
    // The kernel takes a namespace apart after its last descriptor is closed.
    eventually("nothing of the tests is left", Duration::from_secs(10), || Ok(left()?.is_empty()))
        .map_err(|error| error.context(left().unwrap_or_default().join("\n")))?;
    Ok(())
}

/// Processes, mounts, directories and namespaces of this process.
fn left() -> Result<Vec<String>> {
    let mut left = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may have ended since.
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        left.extend(children.split_whitespace().map(|pid| format!("process {pid}")));
    }
    let own = format!("ratelimit-lab-{}-", std::process::id());
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    left.extend(mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount {line}")));
    let directories = fs::read_dir("/run")?.flatten().map(|entry| entry.path().display().to_string());
    left.extend(directories.filter(|path| path.contains(&own)));
    let namespaces = fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()));
    left.extend(namespaces.filter(|target| target.starts_with("net:[") || target.starts_with("mnt:[")));
    Ok(left)
}
