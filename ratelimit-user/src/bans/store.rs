//! Bans on disk.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, Row, params};

use super::{By, Record, check_length};
use crate::config::Network;

/// What leads from each version of the tables to the next; whoever changes them appends. A file of an older version is
/// brought up to date when it is opened.
const STEPS: [&str; 1] = ["
    CREATE TABLE bans (
        network TEXT PRIMARY KEY, services TEXT NOT NULL, author TEXT NOT NULL, note TEXT,
        since_s INTEGER NOT NULL, until_s INTEGER NOT NULL, hits INTEGER NOT NULL, last_hit_s INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE protections (network TEXT PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID;
"];
const VERSION: i64 = STEPS.len() as i64;
/// The end of the year 9999, behind which no time can be written down.
const LATEST_S: u64 = 253_402_300_799;
/// Longer than any backup of the file takes to copy it.
const BUSY: Duration = Duration::from_secs(5);
const BETWEEN_SERVICES: &str = ",";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}; bans are kept there. If it is damaged, move it away to start without them", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("{}: {source}; nothing was written, what was banned stays banned. Make room on that disk", path.display())]
    NoRoom { path: PathBuf, source: rusqlite::Error },
    #[error("{}: written by a newer version of ratelimit (tables {found}, known {VERSION}): use that version, or move it away", path.display())]
    Newer { path: PathBuf, found: i64 },
}

/// The database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    const FILE: &'static str = "ratelimit.db";

    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(Self::FILE);
        let directory = |source| StoreError::Directory { path: state.to_path_buf(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(directory)?;
        let prepare = || {
            let mut connection = Connection::open(&path)?;
            connection.busy_timeout(BUSY)?;
            // What was acknowledged survives a power cut.
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let version = bring_up_to_date(&mut connection)?;
            Ok((connection, version))
        };
        let (connection, version) = prepare().map_err(|source| error(&path, source))?;
        if version > VERSION {
            return Err(StoreError::Newer { path, found: version });
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(directory)?;
        Ok(Self { path, connection })
    }

    pub fn load(&self) -> Result<BTreeMap<Network, Record>, StoreError> {
        let load = || {
            let mut statement = self
                .connection
                .prepare("SELECT network, services, author, note, since_s, until_s, hits, last_hit_s FROM bans")?;
            let rows = statement.query_map([], |row| Ok(record(row)?.map(|record| (record.network, record))))?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()
        };
        load().map_err(|source| error(&self.path, source))
    }

    pub fn put(&mut self, record: &Record) -> Result<(), StoreError> {
        self.put_all(std::slice::from_ref(record))
    }

    /// All or none.
    pub fn put_all(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.at_once(records, "INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?, ?, ?, ?, ?)", |statement, record| {
            statement.execute(params![
                record.network.to_string(),
                record.services.join(BETWEEN_SERVICES),
                record.by.name(),
                record.note,
                record.since_s as i64,
                record.until_s as i64,
                record.hits as i64,
                record.last_hit_s.map(|at| at as i64),
            ])
        })
    }

    pub fn remove(&mut self, networks: &[Network]) -> Result<(), StoreError> {
        self.at_once(networks, "DELETE FROM bans WHERE network = ?", |statement, network| {
            statement.execute([network.to_string()])
        })
    }

    pub fn protect(&mut self, network: Network, until_s: u64) -> Result<(), StoreError> {
        self.at_once(&[network], "INSERT OR REPLACE INTO protections VALUES (?, ?)", |statement, network| {
            statement.execute(params![network.to_string(), until_s as i64])
        })
    }

    /// Until when networks are protected.
    pub fn protections(&self) -> Result<BTreeMap<Network, u64>, StoreError> {
        let load = || {
            let mut statement = self.connection.prepare("SELECT network, until_s FROM protections")?;
            let rows = statement.query_map([], |row| {
                let (network, until_s): (String, i64) = (row.get(0)?, row.get(1)?);
                Ok(network.parse().ok().zip(u64::try_from(until_s).ok()))
            })?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()
        };
        load().map_err(|source| error(&self.path, source))
    }

    pub fn forget_protections(&mut self, now_s: u64) -> Result<(), StoreError> {
        self.at_once(&[now_s], "DELETE FROM protections WHERE until_s <= ?", |statement, now_s| {
            statement.execute([*now_s as i64])
        })
    }

    fn at_once<T>(
        &mut self,
        items: &[T],
        sql: &str,
        execute: impl Fn(&mut rusqlite::Statement<'_>, &T) -> rusqlite::Result<usize>,
    ) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        let mut write = || {
            let transaction = self.connection.transaction()?;
            {
                let mut statement = transaction.prepare(sql)?;
                for item in items {
                    execute(&mut statement, item)?;
                }
            }
            transaction.commit()
        };
        write().map_err(|source| error(&self.path, source))
    }
}

/// The version that was found. All steps are done, or none.
fn bring_up_to_date(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction()?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or_default();
    let missing = STEPS.get(done..).unwrap_or_default();
    if !missing.is_empty() {
        missing.iter().try_for_each(|step| transaction.execute_batch(step))?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(version)
}

fn error(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::NoRoom { path, source },
        _ => StoreError::Database { path, source },
    }
}

/// `None` for a row that somebody else wrote, or that no ban can have.
fn record(row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
    let (network, services, author): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let number = |index| row.get::<_, i64>(index).map(|number| number.max(0) as u64);
    let (Ok(network), Some(by)) = (network.parse(), By::ALL.into_iter().find(|by| by.name() == author)) else {
        return Ok(None);
    };
    let (since_s, until_s) = (number(4)?, number(5)?);
    if check_length(network).is_err() || since_s.max(until_s) > LATEST_S {
        return Ok(None);
    }
    let services = services.split(BETWEEN_SERVICES).filter(|name| !name.is_empty()).map(String::from).collect();
    let last_hit_s = row.get::<_, Option<i64>>(7)?.map(|at| (at.max(0) as u64).min(LATEST_S));
    let note = row.get(3)?;
    Ok(Some(Record { network, services, by, note, since_s, until_s, hits: number(6)?, last_hit_s }))
}

#[cfg(test)]
impl Store {
    /// Makes everything fail that writes.
    pub fn refuse_writing(&self) {
        self.connection.pragma_update(None, "query_only", true).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: u32) -> Vec<Record> {
        let record = |host: u32| Record {
            network: Network::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into()),
            services: Vec::new(),
            by: By::Admin,
            note: None,
            since_s: 1,
            until_s: 4_000_000_000,
            hits: 0,
            last_hit_s: None,
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
        assert_eq!(tables(&path), 2);
    }

    #[test]
    fn on_a_full_disk_nothing_is_half_written() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Store::open(state.path()).unwrap();
        store.put_all(&records(3)).unwrap();
        store.connection.pragma_update(None, "max_page_count", 16).unwrap();
        let error = store.put_all(&records(10_000)).unwrap_err().to_string();
        assert!(error.contains("ratelimit.db") && error.contains("full"), "{error}");
        assert!(!error.contains("move it away"), "a full disk is no reason to give up bans: {error}");
        assert_eq!(store.load().unwrap().len(), 3);
        drop(store);
        assert_eq!(Store::open(state.path()).unwrap().load().unwrap().len(), 3);
    }

    #[test]
    fn a_damaged_page_is_an_error_that_says_what_to_do() {
        let state = tempfile::tempdir().unwrap();
        Store::open(state.path()).unwrap().put_all(&records(2_000)).unwrap();
        let path = state.path().join(Store::FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096..].fill(0x5a);
        fs::write(&path, bytes).unwrap();
        let error = Store::open(state.path()).and_then(|store| store.load()).unwrap_err().to_string();
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
        let store = Store::open(state.path()).unwrap();
        let row = |network: &str, author: &str, until_s: i64| {
            let sql = "INSERT INTO bans VALUES (?, '', ?, NULL, 1, ?, 0, NULL)";
            store.connection.execute(sql, params![network, author, until_s]).unwrap();
        };
        row("192.0.2.1/32", "admin", 4_000_000_000);
        row("192.0.0.0/20", "admin", 4_000_000_000);
        row("192.0.2.2/32", "somebody", 4_000_000_000);
        row("192.0.2.3/32", "admin", i64::MAX);
        row("localhost", "admin", 4_000_000_000);
        let loaded: Vec<String> = store.load().unwrap().keys().map(Network::to_string).collect();
        assert_eq!(loaded, ["192.0.2.1/32"]);
    }

    #[test]
    fn what_is_acknowledged_is_on_disk() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).unwrap();
        let said =
            |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        // 2 is FULL.
        assert_eq!(said("synchronous").unwrap(), rusqlite::types::Value::Integer(2));
        assert_eq!(said("journal_mode").unwrap(), rusqlite::types::Value::Text("wal".to_owned()));
    }
}
