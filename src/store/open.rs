//! Opening is recovery: lock, open, let SQLite replay its log, check, migrate. There is no other start.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::Connection;

use super::{FILE_NAME, Store, StoreError, Sync, damaged, lock, schema};
use crate::config::StoreConfig;
use crate::error::Error;

/// Small pages: one event touches four of them, and every touched page is written whole. Measured at one event per
/// commit, kept and settled: 9.3 KB with 512 B pages, 12.9 KB with 1 KiB, 34.9 KB with 4 KiB; by 32: 1.7, 2.0, 3.7.
const PAGE_BYTES: u32 = 512;

/// The log is moved into the database when it has grown by this much: rarer is fewer bytes written, since a page
/// changed often in between is written once; larger is a longer pause.
const WAL_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// Page cache per connection, in KiB.
const CACHE_KIB: i64 = 2048;

/// How long to wait for another program's lock on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Up to this size the whole file is checked at the start; a larger one would delay the first 200.
const CHECKED_AT_START_BYTES: u64 = 8 * 1024 * 1024;

/// Part of `store.max_size` that new events may not use, so that those kept can always be settled...
const RESERVE_FRACTION: u64 = 8;
/// ...but not more than this.
const RESERVE_MAX_BYTES: u64 = 16 * 1024 * 1024;

impl Store {
    /// Opens the store in `config.dir`, creating or recovering it.
    ///
    /// # Errors
    /// [`Error::is_store_held`] when another process has it; [`Error::damaged_store`] when its content cannot be
    /// trusted; otherwise the directory cannot be used, and the words say why.
    pub fn open(config: &StoreConfig) -> Result<Self, Error> {
        let dir = config.dir.clone();
        let cannot = |what: &str, error: &dyn std::fmt::Display| {
            Error::failed(format!("cannot {what} the store in {}: {error}", dir.display()))
        };
        create(&dir).map_err(|error| cannot("create", &error))?;
        let lock = lock::StoreLock::take(&dir)?;
        let path = dir.join(FILE_NAME);
        let mut connection = Connection::open(&path).map_err(|error| cannot("open", &error))?;
        let opened = prepare(&mut connection, &path).and_then(|()| Ok(read_meta(&connection)?));
        let (store_id, next_number) = opened.map_err(|error| match error {
            StoreError::Damaged(why) => damaged(&path, &why),
            other => cannot("open", &other),
        })?;
        verify(&connection, &path)?;
        let page_bytes = connection
            .pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))
            .map_err(|error| cannot("open", &error))?
            .cast_unsigned();
        let reserve_bytes = (config.max_size_bytes / RESERVE_FRACTION).min(RESERVE_MAX_BYTES);
        let limit_pages = config.max_size_bytes / page_bytes;
        connection
            .pragma_update(None, "max_page_count", limit_pages.cast_signed())
            .map_err(|error| cannot("open", &error))?;
        let wal_pages = Arc::new(AtomicU32::new(0));
        let pages_seen = Arc::clone(&wal_pages);
        connection
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
                pages_seen.store(pages.cast_unsigned(), Relaxed);
                Ok(())
            }))
            .map_err(|error| cannot("open", &error))?;
        Ok(Self {
            connection,
            dir,
            id: store_id,
            next_number,
            wal_pages,
            wal_limit_pages: u32::try_from(WAL_LIMIT_BYTES / page_bytes).unwrap_or(u32::MAX),
            keep_limit_pages: limit_pages - reserve_bytes / page_bytes,
            wal: None,
            syncing: Sync::Now,
            _lock: lock,
        })
    }
}

/// Contact ids are personal data: a directory we create is nobody else's business. One that was there is as its
/// owner wants it.
fn create(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    let fresh = fs::metadata(path).map_or(true, |meta| meta.len() == 0);
    if fresh {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    }
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if version > schema::VERSION || (version > 0 && application != schema::APPLICATION_ID) {
        return Err(StoreError::Damaged(format!(
            "it was written by another program or a newer dispod (schema version {version}, this one knows {})",
            schema::VERSION
        )));
    }
    if version < schema::VERSION {
        schema::migrate(connection, version)?;
    }
    Ok(())
}

/// The store's id and the next unused number for ids and places.
fn read_meta(connection: &Connection) -> rusqlite::Result<(String, u64)> {
    let store_id =
        connection.query_row("SELECT value FROM meta WHERE name = 'store_id'", [], |row| row.get(0))?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let id = number("SELECT max(id) FROM event")?;
    let critical = number("SELECT max(place) FROM event WHERE state = 0 AND (severity > 0) = 0")?;
    let rest = number("SELECT max(place) FROM event WHERE state = 0 AND (severity > 0) = 1")?;
    let last = id.max(critical).max(rest).unwrap_or(0).cast_unsigned();
    Ok((store_id, last + 1))
}

/// Looks for damage that SQLite finds by itself, and rebuilds indexes that disagree with their table.
fn verify(connection: &Connection, path: &Path) -> Result<(), Error> {
    if fs::metadata(path).map_or(0, |meta| meta.len()) > CHECKED_AT_START_BYTES {
        return Ok(());
    }
    let first_finding =
        || connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    let fault = |error: rusqlite::Error| damaged(path, &error.to_string());
    let finding = first_finding().map_err(fault)?;
    if finding == "ok" {
        return Ok(());
    }
    log::warn!("the store's indexes are damaged ({finding}); rebuilding them");
    connection.execute_batch("REINDEX").map_err(fault)?;
    match first_finding().map_err(fault)?.as_str() {
        "ok" => Ok(()),
        finding => Err(damaged(path, finding)),
    }
}
