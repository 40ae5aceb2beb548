use std::{
    fs::{File, FileTimes},
    io::Write as _,
    os::unix::fs::symlink,
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;

use super::*;

const MOST: u64 = 100;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// The last part of every name, and what is in it.
fn texts(content: &Content) -> Vec<(&str, &str)> {
    let pieces = content.pieces.iter();
    pieces.map(|piece| (piece.name.rsplit('/').next().unwrap(), std::str::from_utf8(&piece.bytes).unwrap())).collect()
}

/// Long enough for a file system to give a change another time.
fn let_time_pass() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_file_is_one_piece_under_its_own_name() {
    let directory = directory(&[("list.txt", "192.0.2.1\n")]);
    let path = directory.path().join("list.txt");
    let content = read(&path, MOST).unwrap();
    assert_eq!(content.pieces.len(), 1);
    assert_eq!(content.pieces[0].name, path.display().to_string());
    assert_eq!(content.pieces[0].bytes, b"192.0.2.1\n");
    assert_eq!(content.pieces[0].validators, Validators::default());
    // By its name a file is read even where a directory would leave it out.
    fs::rename(&path, directory.path().join(".list.tmp")).unwrap();
    assert_eq!(read(&directory.path().join(".list.tmp"), MOST).unwrap().pieces.len(), 1);
}

#[test]
fn a_directory_is_its_files_by_order_of_name() {
    let left_out = [("c~", "no"), ("d.new", "no"), ("e.tmp", "no"), (".f", "no")];
    let directory = directory(&[&[("b", "2"), ("a", "1"), ("10", "0")], &left_out[..]].concat());
    let elsewhere = self::directory(&[("target", "3")]);
    symlink(elsewhere.path().join("target"), directory.path().join("z")).unwrap();
    fs::create_dir(directory.path().join("inner")).unwrap();
    fs::write(directory.path().join("inner/g"), "no").unwrap();
    nix::unistd::mkfifo(&directory.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let content = read(directory.path(), MOST).unwrap();
    assert_eq!(texts(&content), [("10", "0"), ("a", "1"), ("b", "2"), ("z", "3")]);
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let directory = directory(&[]);
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let link = directory.path().join("link");
    symlink(&pipe, &link).unwrap();
    let start = Instant::now();
    for path in [&*pipe, &socket, &link, Path::new("/dev/zero")] {
        let error = read(path, MOST).unwrap_err();
        assert!(matches!(&error, LocalError::Kind { path: named } if named == path), "{error}");
    }
    // The pipe might have taken the place of a file after the first look.
    assert!(!open(&pipe).unwrap().metadata().unwrap().is_file());
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_is_missing_or_empty_is_named() {
    let directory = directory(&[(".hidden", "no")]);
    let error = read(&directory.path().join("gone"), MOST).unwrap_err();
    assert!(error.to_string().contains("gone") && error.to_string().contains("correct `from`"), "{error}");
    let error = read(directory.path(), MOST).unwrap_err();
    assert!(matches!(error, LocalError::Nothing { .. }), "{error}");
    // Half a list is none.
    fs::write(directory.path().join("a"), "1").unwrap();
    symlink("nowhere", directory.path().join("b")).unwrap();
    let error = read(directory.path(), MOST).unwrap_err();
    assert!(matches!(&error, LocalError::File { path, .. } if path.ends_with("b")), "{error}");
}

#[test]
fn size_is_bounded_for_each_file_and_for_all() {
    let full = "x".repeat(MOST as usize);
    let names: Vec<String> = (0..FULL_FILES).map(|number| format!("f{number}")).collect();
    let files: Vec<_> = names.iter().map(|name| (&**name, &*full)).collect();
    let directory = directory(&files);
    assert_eq!(read(directory.path(), MOST).unwrap().len() as u64, MOST * FULL_FILES);
    fs::write(directory.path().join("one-more"), "x").unwrap();
    let error = read(directory.path(), MOST).unwrap_err();
    assert!(matches!(error, LocalError::TooBig { together: true, most_bytes, .. } if most_bytes == MOST * FULL_FILES));
    assert!(error.to_string().ends_with("larger than 800 bytes together"), "{error}");
    fs::write(directory.path().join("f0"), full + "x").unwrap();
    let error = read(directory.path(), MOST).unwrap_err();
    assert!(matches!(&error, LocalError::TooBig { together: false, path, .. } if path.ends_with("f0")), "{error}");
    // It says that it is empty, and goes on for longer.
    let error = read(Path::new("/proc/self/status"), 10).unwrap_err();
    assert!(matches!(error, LocalError::TooBig { .. }), "{error}");
}

#[test]
fn a_directory_of_too_many_files_is_refused() {
    let directory = directory(&[]);
    for number in 0..MOST_FILES {
        fs::write(directory.path().join(number.to_string()), "").unwrap();
    }
    assert_eq!(read(directory.path(), MOST).unwrap().pieces.len(), MOST_FILES);
    fs::write(directory.path().join("one-more"), "").unwrap();
    assert!(matches!(read(directory.path(), MOST), Err(LocalError::TooMany { .. })));
}

#[test]
fn what_changes_while_it_is_read_is_not_taken() {
    let changes: [fn(&Path); 3] = [
        |path| fs::write(path.join("a"), "longer").unwrap(),
        |path| fs::write(path.join("new-one"), "").unwrap(),
        |path| fs::remove_file(path.join("a")).unwrap(),
    ];
    for change in changes {
        let directory = directory(&[("a", "1"), ("b", "2")]);
        let read = read_watched(directory.path(), MOST, || change(directory.path()));
        assert!(matches!(read, Err(LocalError::Changing { .. })), "{read:?}");
    }
    let directory = directory(&[("a", "1")]);
    let leave_out = || fs::write(directory.path().join("b.tmp"), "half").unwrap();
    assert_eq!(texts(&read_watched(directory.path(), MOST, leave_out).unwrap()), [("a", "1")]);
}

#[test]
fn a_stamp_shows_every_change_and_nothing_else() {
    let directory = directory(&[("a", "1"), ("b", "2")]);
    let path = directory.path();
    let mut last = Stamp::of(path).unwrap();
    let mut changes = |what: &str, is_seen: bool| {
        let now = Stamp::of(path).unwrap();
        assert_eq!(now != last, is_seen, "{what}");
        last = now;
        let_time_pass();
    };
    changes("nothing", false);
    fs::read(path.join("a")).unwrap();
    changes("read", false);
    fs::write(path.join("a"), "9").unwrap();
    changes("written in place, as long as before", true);
    let written = fs::metadata(path.join("a")).unwrap().modified().unwrap();
    let file = File::options().write(true).open(path.join("a")).unwrap();
    (&file).write_all(b"8").unwrap();
    file.set_times(FileTimes::new().set_modified(written)).unwrap();
    changes("written in place, and the time set back", true);
    fs::write(path.join("a.new"), "7").unwrap();
    changes("prepared", false);
    fs::rename(path.join("a.new"), path.join("a")).unwrap();
    changes("replaced", true);
    symlink("nowhere", path.join("c")).unwrap();
    changes("a link that leads nowhere", true);
    fs::write(path.join("nowhere"), "6").unwrap();
    changes("which leads somewhere now", true);
    fs::remove_file(path.join("b")).unwrap();
    changes("removed", true);
    fs::create_dir(path.join("inner")).unwrap();
    changes("a directory inside", false);
    assert_eq!(Stamp::of(&path.join("gone")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_watch_waits_until_the_writer_is_quiet_and_tells_once() {
    let directory = directory(&[("list", "1")]);
    let path = directory.path().join("list");
    let mut watch = Watch::new(&path);
    let mut looks = |count: usize| (0..count).map(|_| watch.has_changed()).collect::<Vec<_>>();
    assert_eq!(looks(2), [false, false]);

    let mut file = File::options().append(true).open(&path).unwrap();
    for _ in 0..3 {
        let_time_pass();
        file.write_all(b"2").unwrap();
        assert_eq!(looks(1), [false]);
    }
    assert_eq!(looks(3), [true, false, false]);

    fs::write(directory.path().join("list.new"), "3").unwrap();
    fs::rename(directory.path().join("list.new"), &path).unwrap();
    assert_eq!(looks(3), [false, true, false]);

    fs::remove_file(&path).unwrap();
    assert_eq!(looks(3), [false, true, false]);
    fs::write(&path, "4").unwrap();
    assert_eq!(looks(3), [false, true, false]);
    assert_eq!(watch.path(), path);
}

#[test]
fn a_change_between_two_looks_that_ends_as_it_began_is_still_one() {
    let directory = directory(&[("list", "1")]);
    let path = directory.path().join("list");
    let mut watch = Watch::new(&path);
    let_time_pass();
    fs::write(&path, "2").unwrap();
    fs::write(&path, "1").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    assert_eq!([watch.has_changed(), watch.has_changed()], [false, true]);
}
