//! Opening is recovery: lock, open, let SQLite replay its log, check, migrate. There is no other start.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::keys::Keys;
use super::room::{RESERVE_FRACTION, RESERVE_MAX_BYTES};
use super::{FILE_NAME, RESERVE_NAME, Store, StoreError, Sync, damaged, lock, schema, verify, wal};
use crate::clock;
use crate::config::StoreConfig;
use crate::error::Error;

/// Small pages: one event touches four of them, and every touched page is written whole. Measured at one event per
/// commit, kept and settled: 9.3 KB with 512 B pages, 12.9 KB with 1 KiB, 34.9 KB with 4 KiB; by 32: 1.7, 2.0, 3.7.
const PAGE_BYTES: u32 = 512;

/// The log is moved into the database when it has grown by this much: rarer is fewer bytes written, since a page
/// changed often in between is written once; larger is more disk beside the database.
const WAL_LIMIT_BYTES: RangeInclusive<u64> = 1024 * 1024..=16 * 1024 * 1024;
/// Within these limits, the part of `store.max_size` it may have grown by.
const WAL_FRACTION: u64 = 16;

/// Page cache per connection, in KiB.
const CACHE_KIB: i64 = 1536;

/// How long to wait for another program's lock on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

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
        let unusable = |error: StoreError| match error {
            StoreError::Damaged(why) => damaged(&path, &why),
            other => cannot("open", &other),
        };
        let recovered = match recover(&dir, &path) {
            // The log cannot even be read without a little room.
            Err(StoreError::Full) if fs::remove_file(dir.join(RESERVE_NAME)).is_ok() => recover(&dir, &path),
            recovered => recovered,
        };
        let Recovered { mut connection, store_id, next_number, keys, page_bytes, damaged_rows } =
            recovered.map_err(unusable)?;
        let reserve_bytes = (config.max_size_bytes / RESERVE_FRACTION).min(RESERVE_MAX_BYTES);
        let limit_pages = config.max_size_bytes / page_bytes;
        connection
            .pragma_update(None, "max_page_count", limit_pages.cast_signed())
            .map_err(|error| cannot("open", &error))?;
        let wal_limit_bytes =
            (config.max_size_bytes / WAL_FRACTION).clamp(*WAL_LIMIT_BYTES.start(), *WAL_LIMIT_BYTES.end());
        let wal_pages = Arc::new(AtomicU32::new(0));
        let pages_seen = Arc::clone(&wal_pages);
        connection
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
                pages_seen.store(pages.cast_unsigned(), Relaxed);
                Ok(())
            }))
            .map_err(|error| cannot("open", &error))?;
        let mut store = Self {
            connection,
            dir: dir.clone(),
            id: store_id,
            next_number,
            keys,
            page_bytes,
            wal_pages,
            wal_limit_pages: u32::try_from(wal_limit_bytes / page_bytes).unwrap_or(u32::MAX),
            keep_limit_pages: limit_pages - reserve_bytes / page_bytes,
            present_limit_pages: None,
            wal: None,
            syncing: Sync::Now,
            mended: false,
            trusted: Arc::new(AtomicBool::new(true)),
            _lock: lock,
        };
        store.bury_corrupt(&damaged_rows, clock::now_ms()).map_err(unusable)?;
        Ok(store)
    }
}

/// Contact ids are personal data: a directory we create is nobody else's business. One that was there is as its
/// owner wants it.
fn create(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A database that was opened, recovered and looked through.
struct Recovered {
    connection: Connection,
    store_id: String,
    next_number: u64,
    keys: Keys,
    page_bytes: u64,
    damaged_rows: Vec<u64>,
}

fn recover(dir: &Path, path: &Path) -> Result<Recovered, StoreError> {
    let was_in_use = verify::was_in_use(dir, path)?;
    if path.exists() {
        // SQLite would open it for reading then, and fail later with other words.
        let writable = fs::OpenOptions::new().write(true).open(path);
        writable.map_err(|error| StoreError::Failed(error.to_string()))?;
    }
    let mut connection = Connection::open(path)?;
    // What turns out to be damaged is left as it was found.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    prepare(&mut connection, path, was_in_use)?;
    if let Some(bytes) = wal::cut_short_at(&connection, path)? {
        log::error!(
            "the log of the store {} is damaged: only its first {bytes} bytes can be read. Events acknowledged \
             shortly before the last stop may be missing; ask their senders to send them again",
            path.display()
        );
    }
    let damaged_rows = verify::verify(&mut connection, path)?;
    let (store_id, next_number) = verify::read_meta(&connection)?;
    let keys = Keys::read(&connection)?;
    let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let page_bytes = page_bytes.cast_unsigned();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(Recovered { connection, store_id, next_number, keys, page_bytes, damaged_rows })
}

fn prepare(connection: &mut Connection, path: &Path, was_in_use: bool) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    super::keep_plans(connection)?;
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
    if version > 0 && application != schema::APPLICATION_ID {
        return Err(StoreError::Damaged("it was written by another program".to_owned()));
    }
    if version > schema::VERSION {
        return Err(StoreError::Newer(version));
    }
    if version == 0 && !schema::is_empty(connection)? {
        return Err(StoreError::Damaged("it holds tables, but no version of dispod's schema".to_owned()));
    }
    if version == 0 && was_in_use {
        return Err(StoreError::Damaged("it is empty, but was in use".to_owned()));
    }
    if version < schema::VERSION {
        schema::migrate(connection, version)?;
    }
    Ok(())
}
