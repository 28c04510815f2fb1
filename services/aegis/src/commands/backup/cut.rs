//! One moment of all databases of the embedded product, while it runs.
//!
//! The databases of the services are files of their own, and events go from one to the other: copied one after the
//! other they would show different moments, so that the audit trail knew of a change that its owner did not, or the
//! other way round. So the right to write is taken in all of them first, which takes milliseconds; then each is
//! looked at for the first time, and the right is given back. From there on each connection sees what was there at
//! that moment, whatever is written meanwhile. It is what a `kill -9` at that moment would have left, of which the
//! product makes a whole again: events that were not delivered are rows of their owner's outbox.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, ErrorCode, OpenFlags, backup::Backup, backup::StepResult};

use crate::roles::Role;

/// A product that leaves no gap for this long is not backed up.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest that one database is waited for while those before it are held; grows up to this.
const LONGEST_WAIT: Duration = Duration::from_millis(400);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(25);
/// Pages that are copied at once.
const PAGES: i32 = 2000;

/// All databases as they were at one moment.
pub struct Cut {
    /// The moment.
    pub at: DateTime<Utc>,
    /// How long nobody could write.
    pub held: Duration,
    /// The databases.
    pub databases: Vec<Snapshot>,
}

/// One database as it was then.
pub struct Snapshot {
    /// Whose it is.
    pub role: Role,
    /// The versions of its migrations.
    pub migrations: Vec<i64>,
    /// Its bytes.
    pub bytes: u64,
    connection: Connection,
}

/// The databases that are there.
pub fn files(data_dir: &Path) -> Vec<(Role, PathBuf)> {
    let file = |role: Role| (role, data_dir.join(format!("{role}.db")));
    Role::SERVICES.into_iter().map(file).filter(|(_, path)| path.is_file()).collect()
}

/// Takes the moment. Blocks.
pub fn take(data_dir: &Path) -> Result<Cut> {
    let files = files(data_dir);
    let began = Instant::now();
    let mut wait = Duration::ZERO;
    loop {
        match attempt(&files, wait) {
            Ok(cut) => return Ok(cut),
            Err(error) if is_busy(&error) && began.elapsed() < PATIENCE => {
                wait = (wait + Duration::from_millis(10)).min(LONGEST_WAIT);
                thread::sleep(PAUSE);
            }
            Err(error) if is_busy(&error) => bail!(
                "the product writes without a gap for {} s: try again when it imports nothing",
                PATIENCE.as_secs()
            ),
            Err(error) => return Err(error),
        }
    }
}

fn attempt(files: &[(Role, PathBuf)], wait: Duration) -> Result<Cut> {
    // Opened before anything is held: that takes the longest.
    let mut pairs = Vec::with_capacity(files.len());
    for (role, path) in files {
        let open = || -> Result<Connection> {
            let connection = open(path)?;
            // Reads the file's head, so that what follows finds it read.
            connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
            connection.busy_timeout(wait)?;
            Ok(connection)
        };
        let context = || format!("cannot open the database {}", path.display());
        pairs.push((*role, open().with_context(context)?, open().with_context(context)?));
    }
    let began = Instant::now();
    for (_, writer, _) in &pairs {
        writer.execute_batch("BEGIN IMMEDIATE")?;
    }
    let at = aegis_db::now();
    for (_, _, reader) in &pairs {
        reader.execute_batch("BEGIN")?;
        reader.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    }
    for (_, writer, _) in &pairs {
        writer.execute_batch("ROLLBACK")?;
    }
    let held = began.elapsed();
    let mut databases = Vec::with_capacity(pairs.len());
    for (role, writer, connection) in pairs {
        drop(writer);
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let migrations = migrations(&connection).with_context(|| format!("{role}.db is no database of {role}"))?;
        databases.push(Snapshot { role, migrations, bytes: pages.saturating_mul(size).unsigned_abs(), connection });
    }
    Ok(Cut { at, held, databases })
}

impl Snapshot {
    /// What sees the database as it was then.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Copies it into a new file, and makes sure that the copy is a sound database. Blocks.
    pub fn copy(self, to: &Path) -> Result<()> {
        let mut copy = Connection::open(to)?;
        // What matters is the archive, which is flushed at its end.
        copy.execute_batch("PRAGMA synchronous = OFF")?;
        let backup = Backup::new(&self.connection, &mut copy)?;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => break,
                StepResult::More => {}
                // Nobody else has the copy, and the source is held already.
                _ => thread::sleep(PAUSE),
            }
        }
        drop(backup);
        sound(&copy).with_context(|| format!("the database of {} is damaged", self.role))?;
        copy.close().map_err(|(_, error)| error)?;
        Ok(())
    }
}

/// Opens an existing file.
pub fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// Fails unless the pages of a database are what they should be.
pub fn sound(connection: &Connection) -> Result<()> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        other => bail!("{other}"),
    }
}

/// The versions of the migrations that were applied whole.
pub fn migrations(connection: &Connection) -> Result<Vec<i64>> {
    let mut query = connection.prepare("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")?;
    let versions = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    Ok(versions)
}

/// Somebody else has what is needed, for now.
pub fn is_busy(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    /// A count that goes from one database to the next, as events do.
    #[test]
    fn all_databases_show_one_moment_while_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |role: Role| folder.path().join(format!("{role}.db"));
        let chain = [Role::Identity, Role::Catalog, Role::Testing];
        for role in chain {
            let database = Connection::open(path(role)).unwrap();
            database
                .execute_batch(
                    "PRAGMA journal_mode = WAL; CREATE TABLE count (n INTEGER NOT NULL); INSERT INTO count VALUES (0);
                     CREATE TABLE _sqlx_migrations (version INTEGER, success BOOLEAN); INSERT INTO _sqlx_migrations VALUES (1, TRUE);",
                )
                .unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let (stop, paths) = (Arc::clone(&stop), chain.map(path));
            move || {
                let databases = paths.map(|path| Connection::open(path).unwrap());
                for database in &databases {
                    database.busy_timeout(Duration::from_secs(5)).unwrap();
                    database.execute_batch("PRAGMA synchronous = OFF").unwrap();
                }
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    for database in &databases {
                        database.execute("UPDATE count SET n = ?1", [n]).unwrap();
                    }
                }
                n
            }
        });
        for round in 0..30 {
            let cut = take(folder.path()).unwrap();
            assert!(cut.databases.iter().all(|one| one.migrations == [1]));
            let mut counts = Vec::new();
            for snapshot in cut.databases {
                // It is written on and on before each copy.
                thread::sleep(Duration::from_millis(2));
                let copy = folder.path().join(format!("copy-{round}"));
                snapshot.copy(&copy).unwrap();
                let copied = Connection::open(&copy).unwrap();
                counts.push(copied.query_row("SELECT n FROM count", [], |row| row.get::<_, i64>(0)).unwrap());
                drop(copied);
                std::fs::remove_file(&copy).unwrap();
            }
            let [first, second, third] = counts[..] else { panic!("{counts:?}") };
            assert!(first >= second && second >= third && first - third <= 1, "{counts:?}");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    }
}
