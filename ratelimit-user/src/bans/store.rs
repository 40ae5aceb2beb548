//! Bans on disk.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, Row, params};

use super::{By, Id, ProvenSource, Record, check_length};
use crate::config::Network;

#[cfg(test)]
mod tests;

/// What leads from each version of the tables to the next; whoever changes them appends. A file of an older version is
/// brought up to date when it is opened.
const STEPS: [&str; 3] = [
    "
    CREATE TABLE bans (
        network TEXT PRIMARY KEY, services TEXT NOT NULL, author TEXT NOT NULL, note TEXT,
        since_s INTEGER NOT NULL, until_s INTEGER NOT NULL, hits INTEGER NOT NULL, last_hit_s INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE protections (network TEXT PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID;
    ",
    // A network may have several bans, each for services of its own.
    "
    CREATE TABLE bans_of_services (
        network TEXT NOT NULL, services TEXT NOT NULL, author TEXT NOT NULL, note TEXT,
        since_s INTEGER NOT NULL, until_s INTEGER NOT NULL, hits INTEGER NOT NULL, last_hit_s INTEGER,
        PRIMARY KEY (network, services)
    ) WITHOUT ROWID;
    INSERT INTO bans_of_services SELECT network, services, author, note, since_s, until_s, hits, last_hit_s FROM bans;
    DROP TABLE bans;
    ALTER TABLE bans_of_services RENAME TO bans;
    CREATE TABLE peers (address TEXT PRIMARY KEY, seen_s INTEGER NOT NULL) WITHOUT ROWID;
    ",
    "
    CREATE TABLE proven (
        source TEXT PRIMARY KEY, last_s INTEGER NOT NULL, exchanged_s INTEGER
    ) WITHOUT ROWID;
    ",
];
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

    /// Rows whose services are written otherwise than [`Id`] has them are written anew.
    pub fn load(&mut self) -> Result<BTreeMap<Id, Record>, StoreError> {
        let load = || {
            let mut statement = self
                .connection
                .prepare("SELECT network, services, author, note, since_s, until_s, hits, last_hit_s FROM bans")?;
            let rows = statement.query_map([], |row| Ok(record(row)?.map(|record| (row.get(1), record))))?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<(rusqlite::Result<String>, Record)>>>()
        };
        let rows = load().map_err(|source| error(&self.path, source))?;
        let (mut unsorted, mut sorted) = (Vec::new(), Vec::new());
        for (written, record) in &rows {
            if let Some(written) = written.as_ref().ok().filter(|written| **written != joined(&record.services)) {
                unsorted.push((record.network, vec![written.clone()]));
                sorted.push(record.clone());
            }
        }
        self.put(&sorted)?;
        self.remove(&unsorted)?;
        Ok(rows.into_iter().map(|(_, record)| (record.id(), record)).collect())
    }

    /// All or none.
    pub fn put(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.at_once(records, "INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?, ?, ?, ?, ?)", |statement, record| {
            statement.execute(params![
                record.network.to_string(),
                joined(&record.services),
                record.by.name(),
                record.note,
                record.since_s as i64,
                record.until_s as i64,
                record.hits as i64,
                record.last_hit_s.map(|at| at as i64),
            ])
        })
    }

    /// Writes down what bans that are there have stopped.
    pub fn put_hits(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let sql = "UPDATE bans SET hits = ?, last_hit_s = ? WHERE network = ? AND services = ?";
        self.at_once(records, sql, |statement, record| {
            statement.execute(params![
                record.hits as i64,
                record.last_hit_s.map(|at| at as i64),
                record.network.to_string(),
                joined(&record.services),
            ])
        })
    }

    pub fn remove(&mut self, ids: &[Id]) -> Result<(), StoreError> {
        self.at_once(ids, "DELETE FROM bans WHERE network = ? AND services = ?", |statement, (network, services)| {
            statement.execute([network.to_string(), joined(services)])
        })
    }

    /// When administrators were last there.
    pub fn peers(&self) -> Result<BTreeMap<IpAddr, u64>, StoreError> {
        let load = || {
            let mut statement = self.connection.prepare("SELECT address, seen_s FROM peers")?;
            let rows = statement.query_map([], |row| {
                let (address, seen_s): (String, i64) = (row.get(0)?, row.get(1)?);
                Ok(address.parse().ok().zip(u64::try_from(seen_s).ok()))
            })?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()
        };
        load().map_err(|source| error(&self.path, source))
    }

    /// These and no others.
    pub fn put_peers(&mut self, peers: &BTreeMap<IpAddr, u64>) -> Result<(), StoreError> {
        let mut write = || {
            let transaction = self.connection.transaction()?;
            transaction.execute("DELETE FROM peers", [])?;
            for (address, seen_s) in peers {
                let row = params![address.to_string(), *seen_s as i64];
                transaction.execute("INSERT INTO peers VALUES (?, ?)", row)?;
            }
            transaction.commit()
        };
        write().map_err(|source| error(&self.path, source))
    }

    /// Sources that completed a handshake.
    /// The latest first: there may not be room for all.
    pub fn proven(&self) -> Result<Vec<ProvenSource>, StoreError> {
        let load = || {
            let mut statement =
                self.connection.prepare("SELECT source, last_s, exchanged_s FROM proven ORDER BY last_s DESC")?;
            let rows = statement.query_map([], |row| {
                let (source, last_s, exchanged_s): (String, i64, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let time = |at: i64| u64::try_from(at).ok();
                Ok(source.parse().ok().zip(time(last_s)).map(|(source, last_s)| ProvenSource {
                    source,
                    last_s,
                    exchanged_s: exchanged_s.and_then(time),
                }))
            })?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()
        };
        load().map_err(|source| error(&self.path, source))
    }

    pub fn put_proven(&mut self, sources: &[ProvenSource]) -> Result<(), StoreError> {
        self.at_once(sources, "INSERT OR REPLACE INTO proven VALUES (?, ?, ?)", |statement, proven| {
            let exchanged_s = proven.exchanged_s.map(|at| at as i64);
            statement.execute(params![proven.source.to_string(), proven.last_s as i64, exchanged_s])
        })
    }

    pub fn forget_proven(&mut self, before_s: u64) -> Result<(), StoreError> {
        self.at_once(&[before_s], "DELETE FROM proven WHERE last_s < ?", |statement, before_s| {
            statement.execute([*before_s as i64])
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

fn joined(services: &[String]) -> String {
    services.join(BETWEEN_SERVICES)
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
    let record = Record::kept(network, services, by, row.get(3)?, since_s, until_s);
    Ok(Some(Record { hits: number(6)?, last_hit_s, ..record }))
}

#[cfg(test)]
impl Store {
    /// Makes everything fail that writes.
    pub fn refuse_writing(&self) {
        self.connection.pragma_update(None, "query_only", true).unwrap();
    }
}
