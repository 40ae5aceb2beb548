use super::*;

fn records(count: u32) -> Vec<Record> {
    let record = |host: u32| {
        let network = Network::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into());
        Record::kept(network, Vec::new(), By::Admin, None, 1, 4_000_000_000)
    };
    (0..count).map(record).collect()
}

fn tables(path: &Path) -> i64 {
    let raw = Connection::open(path).unwrap();
    raw.query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table'", [], |row| row.get(0)).unwrap()
}

#[test]
fn tables_are_made_all_or_none() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join(Store::FILE);
    // Stands in the way of the second table.
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE protections (other)").unwrap();
    Store::open(state.path()).unwrap_err();
    assert_eq!(tables(&path), 1);
    Connection::open(&path).unwrap().execute_batch("DROP TABLE protections").unwrap();
    Store::open(state.path()).unwrap();
    assert_eq!(tables(&path), 4);
}

#[test]
fn on_a_full_disk_nothing_is_half_written() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    store.put(&records(3)).unwrap();
    store.connection.pragma_update(None, "max_page_count", 16).unwrap();
    let error = store.put(&records(10_000)).unwrap_err().to_string();
    assert!(error.contains("ratelimit.db") && error.contains("full"), "{error}");
    assert!(!error.contains("move it away"), "a full disk is no reason to give up bans: {error}");
    assert_eq!(store.load().unwrap().len(), 3);
    drop(store);
    assert_eq!(Store::open(state.path()).unwrap().load().unwrap().len(), 3);
}

#[test]
fn a_damaged_page_is_an_error_that_says_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    Store::open(state.path()).unwrap().put(&records(2_000)).unwrap();
    let path = state.path().join(Store::FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let error = Store::open(state.path()).and_then(|mut store| store.load()).unwrap_err().to_string();
    assert!(error.contains("ratelimit.db") && error.contains("move it away"), "{error}");
}

#[test]
fn tables_of_a_newer_version_are_left_alone() {
    let state = tempfile::tempdir().unwrap();
    drop(Store::open(state.path()).unwrap());
    let raw = Connection::open(state.path().join(Store::FILE)).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(state.path()).unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("tables 99"), "{error}");
}

#[test]
fn rows_that_nobody_can_have_meant_are_left_out() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let row = |network: &str, author: &str, until_s: i64| {
        let sql = "INSERT INTO bans VALUES (?, '', ?, NULL, 1, ?, 0, NULL)";
        store.connection.execute(sql, params![network, author, until_s]).unwrap();
    };
    row("192.0.2.1/32", "admin", 4_000_000_000);
    row("192.0.0.0/20", "admin", 4_000_000_000);
    row("192.0.2.2/32", "somebody", 4_000_000_000);
    row("192.0.2.3/32", "admin", i64::MAX);
    row("localhost", "admin", 4_000_000_000);
    let loaded: Vec<String> = store.load().unwrap().keys().map(|(network, _)| network.to_string()).collect();
    assert_eq!(loaded, ["192.0.2.1/32"]);
}

#[test]
fn tables_of_the_first_version_are_brought_up_to_date() {
    let state = tempfile::tempdir().unwrap();
    let raw = Connection::open(state.path().join(Store::FILE)).unwrap();
    raw.execute_batch(STEPS[0]).unwrap();
    raw.pragma_update(None, "user_version", 1).unwrap();
    let row = "INSERT INTO bans VALUES (?, ?, 'log', 'passwords', 1, 4000000000, 7, 9)";
    for (network, services) in [("192.0.2.1/32", "smtp,imap"), ("192.0.2.2/32", "")] {
        raw.execute(row, [network, services]).unwrap();
    }
    raw.execute("INSERT INTO protections VALUES ('198.51.100.0/24', 4000000000)", []).unwrap();
    drop(raw);
    let mut store = Store::open(state.path()).unwrap();
    let loaded = store.load().unwrap();
    let services = |id: &Id| id.1.join(" ");
    assert_eq!(loaded.keys().map(services).collect::<Vec<_>>(), ["imap smtp", ""]);
    let record = loaded.values().next().unwrap();
    assert_eq!((record.by, record.note.as_deref(), record.hits), (By::Log, Some("passwords"), 7));
    assert_eq!((record.since_s, record.until_s, record.last_hit_s), (1, 4_000_000_000, Some(9)));
    assert_eq!(store.protections().unwrap().len(), 1);
    // Under their new names they can be struck out.
    store.remove(&loaded.into_keys().collect::<Vec<_>>()).unwrap();
    drop(store);
    assert!(Store::open(state.path()).unwrap().load().unwrap().is_empty());
}

#[test]
fn what_is_acknowledged_is_on_disk() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).unwrap();
    let said = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
    // 2 is FULL.
    assert_eq!(said("synchronous").unwrap(), rusqlite::types::Value::Integer(2));
    assert_eq!(said("journal_mode").unwrap(), rusqlite::types::Value::Text("wal".to_owned()));
}
