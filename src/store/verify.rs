//! Looking for damage at the start: of the file as a whole, of its schema, of single rows.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::{StoreError, row, schema};

/// Up to this size the whole file is checked at the start...
const CHECKED_WHOLE_BYTES: u64 = 8 * 1024 * 1024;
/// ...of a larger one as much as this time allows: the first 200 is not to wait for it. What is damaged beyond is
/// found when it is read.
const CHECK_TIME_MAX: Duration = Duration::from_millis(250);
/// Steps of the check between two looks at the clock.
const CHECK_STEPS: i32 = 256;
/// Findings listed by one check.
const FINDINGS_MAX: u32 = 1000;
/// Ids and places above this were not given by us.
const NUMBER_MAX: u64 = 1 << 62;

/// Whether a database in `dir` has been in use: then one with nothing in it is no new one. Whoever removes the file
/// itself wants a new one.
pub(super) fn was_in_use(dir: &Path, path: &Path) -> Result<bool, StoreError> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    if size(path) == 0 && size(&path.with_extension("db-wal")) > 0 {
        return Err(StoreError::Damaged("it is empty or gone, but its log is there".to_owned()));
    }
    Ok(path.exists() && dir.join(super::RESERVE_NAME).exists())
}

/// Looks for damage that SQLite can find, and rebuilds indexes that disagree with their table. Gives the ids of
/// rows that fail their checksum, as far as the file was looked through.
pub(super) fn verify(connection: &mut Connection, path: &Path) -> Result<Vec<u64>, StoreError> {
    if let Some(name) = schema::difference(connection)? {
        return Err(StoreError::Damaged(format!("its schema is not dispod's at {name}")));
    }
    let whole = fs::metadata(path).map_or(0, |meta| meta.len()) <= CHECKED_WHOLE_BYTES;
    if !whole {
        let deadline = Instant::now() + CHECK_TIME_MAX;
        connection.progress_handler(CHECK_STEPS, Some(move || Instant::now() >= deadline))?;
    }
    let findings = findings(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    if let Some(finding) = findings?.first() {
        log::warn!("the store's indexes are damaged ({finding}): rebuilding them");
        connection.execute_batch("REINDEX")?;
        if let Some(finding) = self::findings(connection)?.first() {
            return Err(StoreError::Damaged(finding.clone()));
        }
    }
    if whole { damaged_rows(connection) } else { Ok(Vec::new()) }
}

/// What is wrong, but for values of the wrong type in single events: those rows fail their checksum.
fn findings(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let check = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({FINDINGS_MAX})"))?;
        let lines = statement.query_map([], |row| row.get(0))?;
        lines.collect()
    };
    let is_of_one_row = |line: &str| line.contains(" value in event.");
    match check() {
        Ok(lines) => Ok(lines.into_iter().filter(|line| line != "ok" && !is_of_one_row(line)).collect()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Every event whose checksum does not match, whatever state it seems to be in: that may be what is damaged.
fn damaged_rows(connection: &Connection) -> Result<Vec<u64>, StoreError> {
    let sql =
        format!("SELECT {} FROM event NOT INDEXED WHERE reason IS NOT '{}'", row::COLUMNS, super::CORRUPT);
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], row::read)?;
    let mut damaged = Vec::new();
    for row in rows {
        damaged.extend(row?.err());
    }
    Ok(damaged)
}

/// The store's id and the next unused number for ids and places.
pub(super) fn read_meta(connection: &Connection) -> Result<(String, u64), StoreError> {
    let store_id =
        connection.query_row("SELECT value FROM meta WHERE name = 'store_id'", [], |row| row.get(0))?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let id = number("SELECT max(id) FROM event")?;
    let critical = number("SELECT max(place) FROM event WHERE state = 0 AND (severity > 0) = 0")?;
    let rest = number("SELECT max(place) FROM event WHERE state = 0 AND (severity > 0) = 1")?;
    let last = id.max(critical).max(rest).unwrap_or(0).cast_unsigned();
    let first = number("SELECT min(id) FROM event")?.unwrap_or(1);
    if first < 1 || last > NUMBER_MAX {
        return Err(StoreError::Damaged(format!("an event has an impossible number, {first} or {last}")));
    }
    Ok((store_id, last + 1))
}
