//! What is kept on disk: which questions were asked on a day, and who is listed. It is a memory, not a record: what is lost
//! of it costs questions.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, params};

use super::budget::Spent;

/// Another version's file is as good as none.
const VERSION: i64 = 1;
const TABLES: &str = "
    CREATE TABLE spent (dnsbl TEXT PRIMARY KEY, day INTEGER NOT NULL, questions INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE listings (
        dnsbl TEXT NOT NULL, source TEXT NOT NULL, records TEXT NOT NULL, until_s INTEGER NOT NULL,
        PRIMARY KEY (dnsbl, source)
    ) WITHOUT ROWID;
    CREATE INDEX ends ON listings (until_s);
";
/// Longer than any backup of the file takes to copy it.
const BUSY: Duration = Duration::from_secs(5);

/// The database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

/// That a zone lists a source. The end is in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub dnsbl: String,
    pub source: IpAddr,
    pub records: Vec<Ipv4Addr>,
    pub until_s: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}; what DNSBLs said is kept there", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}; what DNSBLs said is kept there. Until it can be written, a restart asks again", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
}

impl Store {
    const FILE: &'static str = "reputation.db";

    /// A file that cannot be read is moved away: what it held is asked again.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(Self::FILE);
        let file = |source| StoreError::File { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(file)?;
        let connection = match prepare(&path) {
            Ok(Some(connection)) => Ok(connection),
            Ok(None) => anew(&path, "written by another version of ratelimit")?,
            Err(source) if is_damaged(&source) => anew(&path, &source.to_string())?,
            Err(source) => Err(source),
        };
        let connection = connection.map_err(|source| StoreError::Database { path: path.clone(), source })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(file)?;
        Ok(Self { path, connection })
    }

    pub fn spent(&self, dnsbl: &str) -> Result<Option<Spent>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT day, questions FROM spent WHERE dnsbl = ?1")?;
            let mut rows = statement.query(params![dnsbl])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some(Spent { day: unsigned(row.get(0)?), questions: unsigned(row.get(1)?) }))
        };
        read().map_err(|source| self.error(source))
    }

    pub fn put_spent(&mut self, dnsbl: &str, spent: Spent) -> Result<(), StoreError> {
        let put = || {
            let mut statement = self.connection.prepare_cached("INSERT OR REPLACE INTO spent VALUES (?1, ?2, ?3)")?;
            statement.execute(params![dnsbl, signed(spent.day), signed(spent.questions)])
        };
        put().map(drop).map_err(|source| self.error(source))
    }

    /// What has not ended.
    pub fn listings(&self, now_s: u64) -> Result<Vec<Listing>, StoreError> {
        let read = || {
            let mut statement = self
                .connection
                .prepare("SELECT dnsbl, source, records, until_s FROM listings WHERE until_s > ?1 ORDER BY until_s")?;
            let rows = statement.query_map(params![signed(now_s)], |row| {
                let (source, records): (String, String) = (row.get(1)?, row.get(2)?);
                Ok(listing(row.get(0)?, &source, &records, unsigned(row.get(3)?)))
            })?;
            // What cannot be read was never written by us.
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|source| self.error(source))
    }

    /// All or none.
    pub fn put_listings(&mut self, listings: &[Listing]) -> Result<(), StoreError> {
        let put = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            {
                let mut statement =
                    transaction.prepare_cached("INSERT OR REPLACE INTO listings VALUES (?1, ?2, ?3, ?4)")?;
                for Listing { dnsbl, source, records, until_s } in listings {
                    let records: Vec<String> = records.iter().map(ToString::to_string).collect();
                    statement.execute(params![dnsbl, source.to_string(), records.join(" "), signed(*until_s)])?;
                }
            }
            transaction.commit()
        };
        put(&mut self.connection).map_err(|source| self.error(source))
    }

    /// Strikes out what has ended.
    pub fn expire(&mut self, now_s: u64) -> Result<(), StoreError> {
        let gone = self.connection.execute("DELETE FROM listings WHERE until_s <= ?1", params![signed(now_s)]);
        gone.map(drop).map_err(|source| self.error(source))
    }

    /// Strikes out everything that a zone said.
    pub fn forget(&mut self, dnsbl: &str) -> Result<(), StoreError> {
        let gone = self.connection.execute("DELETE FROM listings WHERE dnsbl = ?1", params![dnsbl]);
        gone.map(drop).map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }
}

/// `None` if it is of another version.
fn prepare(path: &Path) -> rusqlite::Result<Option<Connection>> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok((version == 0 || version == VERSION).then_some(connection))
}

fn anew(path: &Path, why: &str) -> Result<rusqlite::Result<Connection>, StoreError> {
    let away = path.with_extension("db.damaged");
    tracing::warn!("{}: {why}; moved to {} and begun anew", path.display(), away.display());
    fs::rename(path, &away).map_err(|source| StoreError::File { path: path.to_path_buf(), source })?;
    for of_the_old in ["db-wal", "db-shm"] {
        drop(fs::remove_file(path.with_extension(of_the_old)));
    }
    Ok(prepare(path).and_then(|connection| connection.ok_or(rusqlite::Error::InvalidQuery)))
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn listing(dnsbl: String, source: &str, records: &str, until_s: u64) -> Option<Listing> {
    let records = records.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Listing { dnsbl, source: source.parse().ok()?, records, until_s })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(dnsbl: &str, last: u8, until_s: u64) -> Listing {
        let records = vec![Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, last)];
        Listing { dnsbl: dnsbl.to_owned(), source: IpAddr::from([192, 0, 2, last]), records, until_s }
    }

    #[test]
    fn it_remembers_over_a_restart_and_forgets_what_is_over() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Store::open(state.path()).unwrap();
        assert_eq!(store.spent("zen").unwrap(), None);
        store.put_spent("zen", Spent { day: 20_000, questions: 7 }).unwrap();
        store.put_spent("zen", Spent { day: 20_000, questions: 9 }).unwrap();
        store.put_listings(&[listed("zen", 1, 100), listed("zen", 2, 200), listed("other", 3, 300)]).unwrap();
        drop(store);
        let mut store = Store::open(state.path()).unwrap();
        assert_eq!(store.spent("zen").unwrap(), Some(Spent { day: 20_000, questions: 9 }));
        assert_eq!(store.listings(100).unwrap(), [listed("zen", 2, 200), listed("other", 3, 300)]);
        store.expire(200).unwrap();
        store.forget("other").unwrap();
        assert_eq!(store.listings(0).unwrap(), []);
    }

    #[test]
    fn a_damaged_file_is_moved_away_and_one_of_another_version_too() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("reputation.db");
        fs::write(&path, vec![b'x'; 4096]).unwrap();
        Store::open(state.path()).unwrap().put_listings(&[listed("zen", 1, 100)]).unwrap();
        assert!(path.with_extension("db.damaged").exists());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert_eq!(Store::open(state.path()).unwrap().listings(0).unwrap(), []);
    }
}
