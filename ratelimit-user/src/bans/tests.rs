use super::*;
use crate::config::Config;

fn record(network: &str, for_s: u64) -> Record {
    let (services, note) = (vec!["smtp".into()], Some("guesses passwords".into()));
    Record::new(network.parse().unwrap(), services, &Ground::Word, note, Duration::from_secs(for_s)).unwrap()
}

fn of_services(network: &str, services: &[&str], for_s: u64) -> Record {
    let services = services.iter().map(|name| (*name).to_owned()).collect();
    Record::new(network.parse().unwrap(), services, &Ground::Word, None, Duration::from_secs(for_s)).unwrap()
}

fn add(book: &mut Book, record: Record) {
    book.ban(record, |_| Ok(())).unwrap();
}

fn networks(book: &Book) -> Vec<String> {
    book.all().map(|record| record.network.to_string()).collect()
}

fn layout() -> Layout {
    Layout::plan(&Config::default(), None)
}

fn strike_out(book: &mut Book, after_s: u64) -> Vec<Record> {
    let at = SystemTime::now() + Duration::from_secs(after_s);
    let mut struck = Vec::new();
    loop {
        let over = book.over(at, 2);
        if over.is_empty() {
            return struck;
        }
        struck.extend(book.remove(&over).unwrap());
    }
}

#[test]
fn bans_outlive_the_book_and_end() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    for (network, for_s) in [("192.0.2.7", 60), ("198.51.100.0/24", 3600), ("2001:db8::/64", 60)] {
        add(&mut book, record(network, for_s));
    }
    book.note_hits(&[("192.0.2.7".parse().unwrap(), 9, Some(5))]).unwrap();
    drop(book);
    let mut book = Book::open(state.path()).unwrap();
    assert_eq!(networks(&book), ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/64"]);
    let found: Vec<_> = book.around("::ffff:192.0.2.7".parse().unwrap()).collect();
    assert_eq!((found.len(), found[0].hits, found[0].last_hit_s), (1, 9, Some(5)));
    assert_eq!(book.inside("198.51.0.0/16".parse().unwrap()).count(), 1);
    let over = strike_out(&mut book, 100);
    assert_eq!((over.len(), networks(&book)), (2, vec!["198.51.100.0/24".to_owned()]));
    drop(book);
    assert_eq!(Book::open(state.path()).unwrap().len(), 1);
}

#[test]
fn a_newer_ban_for_the_same_services_replaces_the_older_and_no_other() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    let older = of_services("192.0.2.7", &["smtp", "imap"], 3600);
    let other = of_services("192.0.2.7", &["smtp"], 1800);
    let newer = of_services("192.0.2.7", &["imap", "smtp"], 60);
    for one in [older, other.clone(), newer.clone()] {
        add(&mut book, one);
    }
    assert_eq!(book.all().cloned().collect::<Vec<_>>(), [newer, other.clone()]);
    assert_eq!(book.networks().count(), 1);
    assert_eq!(book.around("192.0.2.7".parse().unwrap()).count(), 2);
    strike_out(&mut book, 100);
    drop(book);
    let book = Book::open(state.path()).unwrap();
    assert_eq!(book.all().map(Record::id).collect::<Vec<_>>(), [other.id()]);
}

#[test]
fn a_ban_that_the_kernel_refuses_is_not_in_the_book_either() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    let refuse = |_: &Book| Err(MapError::KeyNotFound);
    let error = book.ban(record("192.0.2.7", 60), refuse).unwrap_err().to_string();
    assert!(error.contains("192.0.2.7/32 is not banned, and nothing has changed"), "{error}");
    assert!(book.is_empty() && Book::open(state.path()).unwrap().is_empty());

    let older = record("192.0.2.7", 3600);
    add(&mut book, older.clone());
    book.ban(record("192.0.2.7", 60), refuse).unwrap_err();
    assert_eq!(book.all().collect::<Vec<_>>(), [&older]);
    drop(book);
    assert_eq!(Book::open(state.path()).unwrap().all().next().unwrap().until_s, older.until_s);
}

#[test]
fn a_ban_that_cannot_be_taken_back_is_said_to_come() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    let refuse = |book: &Book| {
        book.store.refuse_writing();
        Err(MapError::KeyNotFound)
    };
    let error = book.ban(record("192.0.2.7", 60), refuse).unwrap_err().to_string();
    assert!(error.contains("could not be taken back") && error.contains("ratelimit unban"), "{error}");
    assert_eq!(book.len(), 1, "so that unban finds it");
}

#[test]
fn what_is_held_turns_when_the_first_of_several_ends() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    for one in [of_services("192.0.2.7", &["imap"], 100), of_services("192.0.2.7", &["smtp"], 200)] {
        add(&mut book, one);
    }
    add(&mut book, record("192.0.2.8", 100));
    let (network, start) = ("192.0.2.7".parse().unwrap(), now());
    let after = |seconds: u64| Moment(start.0 + seconds * 1_000_000_000);
    assert_eq!(book.turned(&layout(), start, after(50)), []);
    assert_eq!(book.turned(&layout(), after(50), after(98)), [network]);
    assert_eq!(book.turned(&layout(), after(98), after(150)), []);
    let end = |seconds| book.in_kernel(network, &layout(), after(seconds)).map(|(_, ban)| Moment(ban.until_ns));
    let ends: Vec<_> = book.of(network).map(|record| Some(record.until)).collect();
    assert_eq!([end(0), end(98), end(201)], [ends[0], ends[1], None]);
}

#[test]
fn a_hit_counts_for_every_ban_of_the_network() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    let network = "192.0.2.7".parse().unwrap();
    let counted = |book: &Book| {
        let of = book.of(network).map(|record| (record.hits, record.last_hit_s)).collect::<Vec<_>>();
        let (_, entry) = book.in_kernel(network, &layout(), now()).unwrap();
        (of, entry.hits)
    };
    add(&mut book, of_services("192.0.2.7", &["imap"], 100));
    book.note_hits(&[(network, 5, Some(1))]).unwrap();
    add(&mut book, of_services("192.0.2.7", &["smtp"], 200));
    assert_eq!(counted(&book), (vec![(5, Some(1)), (0, None)], 5), "the entry counts on from where it was");
    book.note_hits(&[(network, 7, Some(2))]).unwrap();
    assert_eq!(counted(&book), (vec![(7, Some(2)), (2, Some(2))], 7));
    book.note_hits(&[(network, 7, Some(3))]).unwrap();
    assert_eq!(counted(&book).0, [(7, Some(2)), (2, Some(2))], "nothing new");
    drop(book);
    assert_eq!(counted(&Book::open(state.path()).unwrap()).0, [(7, Some(2)), (2, Some(2))]);
}

#[test]
fn a_wall_clock_that_is_set_back_makes_no_ban_longer() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    let mut short = record("192.0.2.7", 3600);
    short.until = now();
    add(&mut book, short);
    assert_eq!(book.in_kernel("192.0.2.7".parse().unwrap(), &layout(), now()), None);
    assert_eq!(strike_out(&mut book, 0).len(), 1);
}

#[test]
fn what_was_unbanned_is_protected_from_automatic_bans_alone() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    book.protect("::ffff:192.0.2.7".parse().unwrap(), Duration::from_secs(100)).unwrap();
    drop(book);
    let mut book = Book::open(state.path()).unwrap();
    let by_log = |network| Record { by: By::Log, ..record(network, 60) };
    for network in ["192.0.2.7", "192.0.2.0/24", "192.0.0.0/16"] {
        let error = book.ban(by_log(network), |_| Ok(())).unwrap_err();
        assert!(matches!(error, BanError::Protected { rest_s: 90..=100, .. }), "{error}");
    }
    add(&mut book, by_log("192.0.2.8"));
    add(&mut book, record("192.0.2.0/24", 60));
    let later = by_log("192.0.2.7");
    add(&mut book, Record { since_s: later.since_s + 101, until_s: later.until_s + 101, ..later });
    strike_out(&mut book, 1000);
    book.forget_protections(SystemTime::now() + Duration::from_secs(1000)).unwrap();
    assert!(book.is_empty() && book.protections.is_empty() && book.store.protections().unwrap().is_empty());
}

#[test]
fn what_cannot_be_written_down_is_not_in_the_book_either() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    add(&mut book, record("192.0.2.7", 60));
    book.store.refuse_writing();
    let ids = [record("192.0.2.7", 60).id()];
    book.ban(record("192.0.2.8", 60), |_| panic!("the kernel is not asked")).unwrap_err();
    book.remove(&ids).unwrap_err();
    book.note_hits(&[("192.0.2.7".parse().unwrap(), 9, Some(5))]).unwrap_err();
    book.protect("192.0.2.9".parse().unwrap(), Duration::from_secs(9)).unwrap_err();
    assert_eq!((networks(&book), book.all().next().unwrap().hits), (vec!["192.0.2.7/32".to_owned()], 0));
    assert!(book.protections.is_empty());
}

#[test]
fn other_prefix_lengths_are_refused_with_those_there_are() {
    let state = tempfile::tempdir().unwrap();
    let mut book = Book::open(state.path()).unwrap();
    for network in ["192.0.2.0/25", "10.0.0.0/8", "2001:db8::/32"] {
        let error = book.ban(record(network, 60), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("/32, /24, /16") && error.contains("/128, /64, /56, /48"), "{error}");
    }
    assert!(book.is_empty());
}

#[test]
fn what_is_no_database_is_named_and_left_alone() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("ratelimit.db"), "this is no database, and it is long enough to be sure").unwrap();
    let error = Book::open(state.path()).unwrap_err().to_string();
    assert!(error.contains("ratelimit.db") && error.contains("move it away"), "{error}");
}
