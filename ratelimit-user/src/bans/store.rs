//! Bans on disk.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, Row, params};

use super::{By, Record};
use crate::config::Network;

/// Raised when the tables change; an older one is brought up to date when it is opened.
const VERSION: i64 = 1;
const TABLES: &str = "
    CREATE TABLE bans (
        network TEXT PRIMARY KEY, services TEXT NOT NULL, author TEXT NOT NULL, note TEXT,
        since_s INTEGER NOT NULL, until_s INTEGER NOT NULL, hits INTEGER NOT NULL, last_hit_s INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE protections (network TEXT PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = 1;
";
/// Longer than any backup of the file takes to copy it.
const BUSY: Duration = Duration::from_secs(5);
const BETWEEN_SERVICES: &str = ",";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}; bans are kept there. If it is damaged, move it away to start without them", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
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
            let connection = Connection::open(&path)?;
            connection.busy_timeout(BUSY)?;
            // What was acknowledged survives a power cut.
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version == 0 {
                connection.execute_batch(TABLES)?;
            }
            Ok((connection, version))
        };
        let (connection, version) = prepare().map_err(|source| StoreError::Database { path: path.clone(), source })?;
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
        load().map_err(|source| self.error(source))
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
        write().map_err(|source| StoreError::Database { path: self.path.clone(), source })
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }
}

/// `None` for a row that somebody else wrote.
fn record(row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
    let (network, services, author): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let number = |index| row.get::<_, i64>(index).map(|number| number.max(0) as u64);
    let (Ok(network), Some(by)) = (network.parse(), By::ALL.into_iter().find(|by| by.name() == author)) else {
        return Ok(None);
    };
    let services = services.split(BETWEEN_SERVICES).filter(|name| !name.is_empty()).map(String::from).collect();
    let last_hit_s = row.get::<_, Option<i64>>(7)?.map(|at| at.max(0) as u64);
    let note = row.get(3)?;
    Ok(Some(Record {
        network,
        services,
        by,
        note,
        since_s: number(4)?,
        until_s: number(5)?,
        hits: number(6)?,
        last_hit_s,
    }))
}
