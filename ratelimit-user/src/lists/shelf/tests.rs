use std::io::Write as _;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::lists::content::{Piece, Validators};

fn content(pieces: &[&str]) -> Content {
    let piece = |text: &&str| Piece {
        name: format!("https://lists.test/{}", text.len()),
        bytes: text.as_bytes().to_vec(),
        validators: Validators { of: "a mark".into(), etag: Some(format!("\"{text}\"")), last_modified: None },
    };
    Content { pieces: pieces.iter().map(piece).collect() }
}

fn facts(fetched_s: u64) -> Facts {
    Facts { from: vec!["a mark".into()], fetched_s, confirmed_s: fetched_s, seen_s: Vec::new() }
}

fn kept(content: &Content, facts: &Facts) -> Option<Kept> {
    Some(Kept { content: content.clone(), facts: facts.clone() })
}

fn shelf() -> (TempDir, Shelf) {
    let state = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(state.path()).unwrap();
    (state, shelf)
}

fn files(shelf: &Shelf) -> Vec<String> {
    let mut files = names(&shelf.directory).unwrap();
    files.sort();
    files
}

#[test]
fn what_is_kept_is_loaded_also_by_another_process() {
    let (state, shelf) = shelf();
    assert_eq!(shelf.load("drop").unwrap(), None);
    let copies = [content(&["192.0.2.1\n", "", "2001:db8::/32\n"]), content(&[]), content(&["\0\u{1}gzip"])];
    for (copy, time_s) in copies.iter().zip(1..) {
        shelf.keep("drop", copy, &facts(time_s)).unwrap();
        assert_eq!(shelf.load("drop").unwrap(), kept(copy, &facts(time_s)));
        assert_eq!(Shelf::open(state.path()).unwrap().load("drop").unwrap(), kept(copy, &facts(time_s)));
        assert_eq!(files(&shelf).len(), 2, "{:?}", files(&shelf));
    }
    assert_eq!(shelf.load("other").unwrap(), None);
}

#[test]
fn only_the_owner_can_look() {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(state.path().join("lists")).unwrap();
    fs::set_permissions(state.path().join("lists"), fs::Permissions::from_mode(0o755)).unwrap();
    let shelf = Shelf::open(state.path()).unwrap();
    shelf.keep("drop", &content(&["x"]), &facts(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&shelf.directory), 0o700);
    for file in files(&shelf) {
        assert_eq!(mode(&shelf.directory.join(&file)), 0o600, "{file}");
    }
}

#[test]
fn a_confirmation_changes_what_is_said_and_not_the_bytes() {
    let (_state, shelf) = shelf();
    assert!(matches!(shelf.confirm("drop", &facts(1)), Err(ShelfError::Missing { .. })));
    let copy = content(&["192.0.2.1\n"]);
    shelf.keep("drop", &copy, &facts(1)).unwrap();
    let written = |shelf: &Shelf| fs::metadata(shelf.content_path("drop", &copy.digest())).unwrap().modified().unwrap();
    let before = written(&shelf);
    let confirmed = Facts { confirmed_s: 99, ..facts(1) };
    shelf.confirm("drop", &confirmed).unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&copy, &confirmed));

    // The same bytes under another validator.
    let mut renewed = copy.clone();
    renewed.pieces[0].validators.etag = Some("\"new\"".into());
    shelf.keep("drop", &renewed, &facts(2)).unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&renewed, &facts(2)));
    assert_eq!(written(&shelf), before);
}

#[test]
fn a_candidate_lies_beside_the_good_copy() {
    let (state, shelf) = shelf();
    let (good, other) = (content(&["192.0.2.1\n"]), content(&["0.0.0.0/0\n"]));
    let waiting = Facts { seen_s: vec![5, 9], ..facts(5) };
    shelf.keep("drop", &good, &facts(1)).unwrap();
    shelf.set_aside("drop", &other, &waiting).unwrap();
    let shelf = {
        drop(shelf);
        Shelf::open(state.path()).unwrap()
    };
    assert_eq!(shelf.load("drop").unwrap(), kept(&good, &facts(1)));
    assert_eq!(shelf.candidate("drop").unwrap(), kept(&other, &waiting));

    // Accepted: for a moment both name the same bytes.
    shelf.keep("drop", &other, &facts(9)).unwrap();
    shelf.drop_candidate("drop").unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&other, &facts(9)));
    assert_eq!(shelf.candidate("drop").unwrap(), None);
    assert_eq!(files(&shelf), [format!("drop.{}", other.digest()), "drop.json".into()]);

    // Refused.
    shelf.set_aside("drop", &good, &waiting).unwrap();
    shelf.drop_candidate("drop").unwrap();
    shelf.drop_candidate("drop").unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&other, &facts(9)));
    assert_eq!(files(&shelf).len(), 2);
}

#[test]
fn after_a_crash_the_old_copy_is_whole_and_what_was_begun_is_gone() {
    let (state, shelf) = shelf();
    let (old, new) = (content(&["old"]), content(&["new"]));
    shelf.keep("drop", &old, &facts(1)).unwrap();
    let before = files(&shelf);
    // While the bytes were written; before they were named; while it was written what they are.
    fs::write(shelf.directory.join(".new-x1"), "ne").unwrap();
    fs::write(shelf.content_path("drop", &new.digest()), "new").unwrap();
    fs::write(shelf.directory.join(".new-x2"), "{\"digest\"").unwrap();
    // The first copy of a list, never named.
    fs::write(shelf.content_path("feed", &new.digest()), "new").unwrap();
    // Somebody else's.
    fs::write(shelf.directory.join("README"), "").unwrap();
    fs::write(shelf.directory.join("Drop.txt"), "").unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&old, &facts(1)));

    let shelf = Shelf::open(state.path()).unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&old, &facts(1)));
    assert_eq!(shelf.load("feed").unwrap(), None);
    assert_eq!(files(&shelf), [&["Drop.txt".to_owned(), "README".to_owned()], &before[..]].concat());

    // Named, and the old one not removed yet.
    let old_path = shelf.content_path("drop", &old.digest());
    shelf.keep("drop", &new, &facts(2)).unwrap();
    fs::write(&old_path, "old").unwrap();
    let shelf = Shelf::open(state.path()).unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&new, &facts(2)));
    assert!(!old_path.exists());
}

/// Done to the record and the bytes of a copy.
type Harm<'a> = &'a dyn Fn(&Path, &Path);

#[test]
fn damage_is_named_and_repaired_by_the_next_copy() {
    let copy = content(&["192.0.2.1\n", "192.0.2.2\n"]);
    let record = |text: &'static str| move |facts: &Path, _: &Path| fs::write(facts, text).unwrap();
    let shorter = |_: &Path, bytes: &Path| fs::write(bytes, "192.0.2.1\n").unwrap();
    let other = |_: &Path, bytes: &Path| fs::write(bytes, "192.0.2.1\n192.0.2.3\n").unwrap();
    let gone = |_: &Path, bytes: &Path| fs::remove_file(bytes).unwrap();
    let moved = |facts: &Path, _: &Path| {
        let text = fs::read_to_string(facts).unwrap().replace("\"bytes\": 10", "\"bytes\": 18446744073709551615");
        fs::write(facts, text).unwrap();
    };
    let nowhere =
        record(r#"{"digest":"../../../etc/passwd","pieces":[],"facts":{"from":[],"fetched_s":0,"confirmed_s":0}}"#);
    let damages: [(&str, Harm); 8] = [
        ("drop.json", &record("")),
        ("drop.json", &record("{")),
        ("drop.json", &record("\0\0\0\0")),
        ("drop.json", &nowhere),
        ("drop.", &moved),
        ("drop.", &shorter),
        ("drop.", &other),
        ("drop.", &gone),
    ];
    for (number, (named, damage)) in damages.into_iter().enumerate() {
        let (state, shelf) = shelf();
        shelf.keep("drop", &copy, &facts(1)).unwrap();
        let (record, bytes) = (shelf.directory.join("drop.json"), shelf.content_path("drop", &copy.digest()));
        damage(&record, &bytes);
        let shelf = Shelf::open(state.path()).unwrap();
        let error = shelf.load("drop").unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("this copy is not used"), "{number}: {error}");
        shelf.keep("drop", &copy, &facts(2)).unwrap();
        assert_eq!(shelf.load("drop").unwrap(), kept(&copy, &facts(2)), "{number}");
        assert_eq!(files(&shelf).len(), 2, "{number}");
    }
}

#[test]
fn a_copy_that_cannot_be_written_leaves_the_old_one() {
    let (old, new) = (content(&["old"]), content(&["new"]));
    // Nothing can be renamed to the name of a directory that is not empty, whoever tries.
    let in_the_way = |path: PathBuf| fs::create_dir_all(path.join("x")).unwrap();
    let (state, shelf) = shelf();
    shelf.keep("drop", &old, &facts(1)).unwrap();
    in_the_way(shelf.content_path("drop", &new.digest()));
    in_the_way(shelf.facts_path("drop", Slot::Candidate).unwrap());
    let error = shelf.keep("drop", &new, &facts(2)).unwrap_err().to_string();
    assert!(error.contains("in force, but a restart would bring back the older copy"), "{error}");
    let error = shelf.set_aside("drop", &old, &facts(2)).unwrap_err().to_string();
    assert!(error.contains("forgotten at a restart"), "{error}");
    assert_eq!(shelf.load("drop").unwrap(), kept(&old, &facts(1)));
    assert_eq!(Shelf::open(state.path()).unwrap().load("drop").unwrap(), kept(&old, &facts(1)));
    assert!(!files(&shelf).iter().any(|name| name.starts_with(TEMPORARY)));
}

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_half_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("drop.json");
    replace(&path, |file| file.write_all(b"old")).unwrap();
    let full = replace(&path, |file| {
        file.write_all(&[b'n'; 100_000])?;
        Err(io::ErrorKind::StorageFull.into())
    });
    let source = full.unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(directory.path()).unwrap(), ["drop.json"]);
    let error = ShelfError::Write { path, slot: Slot::Good, source }.to_string();
    assert!(error.contains("no room") && error.contains("make some"), "{error}");
    assert!(error.contains("in force, but a restart would bring back the older copy"), "{error}");
}

#[test]
fn lists_that_are_gone_are_forgotten_and_others_are_not() {
    let (_state, shelf) = shelf();
    for list in ["drop", "drop-6", "d"] {
        shelf.keep(list, &content(&[list]), &facts(1)).unwrap();
        shelf.set_aside(list, &content(&["other"]), &facts(1)).unwrap();
    }
    fs::write(shelf.directory.join("README"), "").unwrap();
    shelf.forget_others(&["drop", "unheard-of"]).unwrap();
    assert_eq!(shelf.load("drop").unwrap(), kept(&content(&["drop"]), &facts(1)));
    assert_eq!(shelf.candidate("drop").unwrap(), kept(&content(&["other"]), &facts(1)));
    assert_eq!(files(&shelf).len(), 5, "{:?}", files(&shelf));
    assert!(shelf.directory.join("README").exists());
    shelf.forget_others(&[]).unwrap();
    assert_eq!(files(&shelf), ["README"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("lists"), "a file").unwrap();
    let error = Shelf::open(state.path()).unwrap_err().to_string();
    assert!(error.contains("lists") && error.contains("kept there"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_other_name_becomes_a_path(list in ".{0,40}|[a-z./]{1,10}") {
        let (_state, shelf) = shelf();
        let is_kept = shelf.keep(&list, &content(&["x"]), &facts(1)).is_ok();
        prop_assert_eq!(is_kept, is_list_name(&list));
        prop_assert_eq!(is_kept, shelf.load(&list).is_ok());
        prop_assert_eq!(files(&shelf).len(), if is_kept { 2 } else { 0 });
    }

    #[test]
    fn no_damage_makes_it_panic_or_load_other_bytes(at: prop::sample::Index, byte: u8, in_record: bool, is_cut: bool) {
        let (state, shelf) = shelf();
        let copy = content(&["192.0.2.1\n", "192.0.2.2\n"]);
        shelf.keep("drop", &copy, &facts(1)).unwrap();
        let (record, bytes) = (shelf.directory.join("drop.json"), shelf.content_path("drop", &copy.digest()));
        let path = if in_record { record } else { bytes };
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(if is_cut { at } else { bytes.len() });
        fs::write(&path, bytes).unwrap();
        let bytes_of = |content: &Content| content.pieces.iter().map(|piece| piece.bytes.clone()).collect::<Vec<_>>();
        if let Ok(Some(loaded)) = Shelf::open(state.path()).unwrap().load("drop") {
            prop_assert_eq!(bytes_of(&loaded.content), bytes_of(&copy));
        }
    }
}
