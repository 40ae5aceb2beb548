//! Bans as a zone file for rbldnsd, for whoever asks for them by DNS.
//!
//! The file is a *combined* dataset: a group of entries for each time to live, because rbldnsd knows one for each. It says itself
//! when it is over, so that bans which nobody keeps any more are nobody's bans.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    changes::seconds,
    config::{Export, Network},
};

/// How often bans are looked at.
pub const EVERY: Duration = Duration::from_secs(10);
/// From a change here until rbldnsd has read it: the above, and as long again until it looks (`-c 10s`).
const SLACK_S: u64 = 20;
/// Times to live, in seconds, besides the longest that is allowed.
const TIMES_S: [u64; 7] = [10, 30, 60, 120, 300, 600, 1800];
/// Written anew so often, changed or not; without that it is over after this time.
const STAMP_EVERY: Duration = Duration::from_secs(60);
const EXPIRES_S: u64 = 300;
const LONGEST_NOTE: usize = 120;

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    pub network: Network,
    pub note: Option<String>,
    pub rest: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("bans are not exported: {}: {source}; check that the directory of `path` in [export] is there and has room", path.display())]
pub struct ExportError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the file when it has to be.
#[derive(Debug, Default)]
pub struct Exporter {
    /// Where what was written last, and when.
    last: Option<(PathBuf, String, Instant)>,
}

impl Exporter {
    /// Does nothing where nothing is configured.
    pub fn export(&mut self, export: &Export, bans: Vec<Banned>, spared: &[Network]) -> Result<(), ExportError> {
        let Some(path) = &export.path else {
            if let Some((path, _, _)) = self.last.take() {
                tracing::info!("bans are not exported any more; {} is over in {EXPIRES_S} s", path.display());
            }
            return Ok(());
        };
        let entries = entries(bans, spared, export);
        let is_written = |(before, written, at): &(PathBuf, String, Instant)| {
            before == path && *written == entries && at.elapsed() < STAMP_EVERY
        };
        if self.last.as_ref().is_some_and(is_written) {
            return Ok(());
        }
        let text = format!("{}{entries}", head(SystemTime::now()));
        replace(path, text.as_bytes()).map_err(|source| ExportError { path: path.clone(), source })?;
        self.last = Some((path.clone(), entries, Instant::now()));
        Ok(())
    }
}

/// When it is over, which rbldnsd wants in UTC. When it was written is not said: another machine's clock may be late, and would
/// refuse a file from the future.
fn head(at: SystemTime) -> String {
    let over = humantime::format_rfc3339_seconds(at + Duration::from_secs(EXPIRES_S)).to_string();
    let over = over.replace(['-', 'T'], ":").replace('Z', "");
    format!("# Bans of ratelimit, written anew by itself: changes are lost.\n$TIMESTAMP - {over}\n")
}

/// All groups with their entries. No answer is remembered for longer than its ban has left. What is spared inside of a wider
/// ban is taken out of it.
fn entries(bans: Vec<Banned>, spared: &[Network], export: &Export) -> String {
    let longest_s = export.ttl_max.as_std().as_secs();
    let mut groups: BTreeMap<(bool, u64), String> = BTreeMap::new();
    // Who asks tests with this one whether there is anybody.
    groups.entry((false, longest_s)).or_default().push_str("127.0.0.2 :127.0.0.2:test entry\n");
    for Banned { network, note, rest } in bans {
        let Some(ttl_s) = time_to_live(rest, longest_s) else { continue };
        if spared.iter().any(|spared| spared.contains(network)) {
            continue;
        }
        let group = groups.entry((!network.is_ipv4(), ttl_s)).or_default();
        // Writing into a string cannot fail.
        let _ = writeln!(group, "{} :127.0.0.2:{}", range(network), text(note.as_deref(), &export.contact));
        for inner in spared.iter().filter(|spared| network.contains(**spared)) {
            let _ = writeln!(group, "!{}", range(*inner));
        }
    }
    let group = |((is_v6, ttl_s), entries): (&(bool, u64), &String)| {
        let (kind, name) = if *is_v6 { ("ip6trie", "v6") } else { ("ip4set", "v4") };
        format!("$DATASET {kind}:{name}-{ttl_s} @\n$TTL {ttl_s}\n{entries}")
    };
    groups.iter().map(group).collect()
}

/// `None` where a ban is over before anybody could rely on it.
fn time_to_live(rest: Duration, longest_s: u64) -> Option<u64> {
    let left_s = rest.as_secs().saturating_sub(SLACK_S);
    if left_s >= longest_s {
        return Some(longest_s);
    }
    TIMES_S.into_iter().rev().find(|time_s| *time_s <= left_s.min(longest_s))
}

/// A single address has no length in rbldnsd's files; a prefix has.
fn range(network: Network) -> String {
    let whole = if network.is_ipv4() { 32 } else { 128 };
    match network.prefix_len() == whole && network.is_ipv4() {
        true => network.address().to_string(),
        false => format!("{}/{}", network.address(), network.prefix_len()),
    }
}

/// Why, and whom to write to: one line of printable ASCII, without what rbldnsd puts something else in the place of, and
/// beginning with a word, because some first letters have a meaning.
fn text(note: Option<&str>, contact: &str) -> String {
    let Some(note) = note.map(str::trim).filter(|note| !note.is_empty()) else { return format!("Banned; {contact}") };
    let printable = |letter: char| if matches!(letter, ' '..='~') && letter != '$' { letter } else { '?' };
    let note: String = note.chars().take(LONGEST_NOTE).map(printable).collect();
    format!("Banned: {note}; {contact}")
}

/// After a crash there is the old file or the new one. The directory may be another user's: what stands in the way of the new
/// one is removed and not followed.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    let new = directory.join(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(directory)?.sync_all()
}

/// How long a ban has left by the wall clock.
pub fn rest(until_s: u64, at: SystemTime) -> Duration {
    Duration::from_secs(until_s.saturating_sub(seconds(at)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn export(path: Option<PathBuf>) -> Export {
        Export { path, contact: "postmaster@example.org".into(), ..Export::default() }
    }

    fn banned(network: &str, note: Option<&str>, rest_s: u64) -> Banned {
        let note = note.map(str::to_owned);
        Banned { network: network.parse().unwrap(), note, rest: Duration::from_secs(rest_s) }
    }

    #[test]
    fn entries_stand_under_what_they_have_left() {
        let bans = vec![
            banned("192.0.2.7", Some("guesses passwords"), 3600),
            banned("198.51.100.0/24", None, 100),
            banned("192.0.2.8", Some("over soon"), 25),
            banned("2001:db8:7::/64", Some("costs $5\nand more"), 90),
            banned("2001:db8:7::7", Some("one"), 3600),
            banned("203.0.113.9", Some("trusted by now"), 3600),
        ];
        let spared =
            ["198.51.100.25/32", "203.0.113.0/28", "2001:db8:7::99/128"].map(|network| network.parse().unwrap());
        assert_eq!(
            entries(bans, &spared, &export(None)),
            "$DATASET ip4set:v4-60 @\n$TTL 60\n\
             198.51.100.0/24 :127.0.0.2:Banned; postmaster@example.org\n!198.51.100.25\n\
             $DATASET ip4set:v4-300 @\n$TTL 300\n\
             127.0.0.2 :127.0.0.2:test entry\n\
             192.0.2.7 :127.0.0.2:Banned: guesses passwords; postmaster@example.org\n\
             $DATASET ip6trie:v6-60 @\n$TTL 60\n\
             2001:db8:7::/64 :127.0.0.2:Banned: costs ?5?and more; postmaster@example.org\n!2001:db8:7::99/128\n\
             $DATASET ip6trie:v6-300 @\n$TTL 300\n\
             2001:db8:7::7/128 :127.0.0.2:Banned: one; postmaster@example.org\n"
        );
    }

    #[test]
    fn the_head_says_when_it_is_over() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_710_030);
        assert!(head(at).ends_with("\n$TIMESTAMP - 2026:11:26:16:25:30\n"), "{}", head(at));
    }

    #[test]
    fn it_is_written_where_something_changed_and_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own");
        let (mut exporter, export) = (Exporter::default(), export(Some(path.clone())));
        exporter.export(&export, vec![banned("192.0.2.7", None, 3600)], &[]).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("\n192.0.2.7 :127.0.0.2:Banned;"));
        fs::write(&path, "seen").unwrap();
        exporter.export(&export, vec![banned("192.0.2.7", None, 3000)], &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "seen", "nothing has changed");
        // Somebody else's file must not be written through.
        let victim = directory.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join(".own.new")).unwrap();
        exporter.export(&export, Vec::new(), &[]).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("192.0.2.7"));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let export = export(Some(directory.path().join("gone/own")));
        let error = Exporter::default().export(&export, Vec::new(), &[]).unwrap_err().to_string();
        assert!(error.contains("gone/own") && error.contains("check that the directory"), "{error}");
    }

    proptest! {
        #[test]
        fn no_note_breaks_a_line_or_begins_another(note in any::<String>(), rest_s in 0u64..1_000_000) {
            let ban = Banned { network: "192.0.2.7".parse().unwrap(), note: Some(note), rest: Duration::from_secs(rest_s) };
            let text = entries(vec![ban], &[], &export(None));
            let of_ban: Vec<&str> = text.lines().filter(|line| !line.starts_with("$") && !line.contains("test entry")).collect();
            prop_assert_eq!(of_ban.len(), usize::from(rest_s >= 30));
            for line in of_ban {
                prop_assert!(line.starts_with("192.0.2.7 :127.0.0.2:Banned") && line.len() < 255 && line.is_ascii());
                prop_assert!(!line.contains('$') && line.ends_with("; postmaster@example.org"));
            }
        }

        #[test]
        fn no_answer_outlives_its_ban(rest_s in 0u64..10_000, longest_s in 10u64..=3600) {
            if let Some(ttl_s) = time_to_live(Duration::from_secs(rest_s), longest_s) {
                prop_assert!(ttl_s + SLACK_S <= rest_s && ttl_s <= longest_s);
            }
        }
    }
}
