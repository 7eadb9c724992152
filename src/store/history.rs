//! Reading the store beside its writer: dead letters, the audit, what codes came in. From this or another process,
//! with the daemon running or stopped.

use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use rustix::fs::Access;
use rustix::io::Errno;

use super::row::{self, State, StoredEvent};
use super::walk::{STEP_COLUMNS, Selection, read_step};
use super::{FILE_NAME, Step, StoreError, damaged};
use crate::disposition::Mapping;
use crate::error::Error;
use crate::event::Severity;

/// What means something in the URI of a file (SQLite, "URI filenames").
const URI_RESERVED: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

/// A reader of the store; sees what was committed when each call began.
pub struct History {
    pub(super) connection: Connection,
}

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this contact's.
    pub contact_id: Option<String>,
    /// Received at or after, Unix ms.
    pub since_ms: Option<i64>,
    /// Received before, Unix ms.
    pub until_ms: Option<i64>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Only ids above this one.
    pub after_id: u64,
    /// The newest first instead of the oldest.
    pub newest_first: bool,
    /// At most so many; `None`: all.
    pub limit: Option<usize>,
}

/// A disposition code as it came in, and what it was mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeCount {
    /// The code.
    pub disposition_code: String,
    /// What it was mapped to when it was kept.
    pub category: String,
    /// How severe that was.
    pub severity: Severity,
    /// The recorded mapping that said so.
    pub mapping: u32,
    /// How many events had it.
    pub events: u64,
    /// When the last one was received, Unix ms.
    pub last_seen_ms: i64,
}

impl History {
    /// Opens the store in `dir` for reading.
    ///
    /// # Errors
    /// There is no store there, or it cannot be read; the words say which.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE_NAME);
        let cannot =
            |why: &dyn Display| Error::failed(format!("cannot read the store {}: {why}", path.display()));
        // Asked, not tried: to close the file would end the locks that this process may have on it.
        match rustix::fs::access(&path, Access::READ_OK) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                return Err(Error::failed(format!("there is no store in {} (store.dir)", dir.display())));
            }
            Err(error) => return Err(cannot(&error)),
        }
        let opened = connect(&path, "").or_else(|error| match error.sqlite_error_code() {
            // A copy on what cannot be written to, or somebody else's. Whoever has it open has a `-shm` beside it,
            // so that nobody is writing.
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) if no_log_beside(&path) => {
                connect(&path, "?immutable=1")
            }
            _ => Err(error),
        });
        opened.map(|connection| Self { connection }).map_err(|error| {
            if matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen)) {
                let hint = "a log that is still to be replayed takes the right to write to the directory";
                return cannot(&format!("{error} ({hint})"));
            }
            match StoreError::from(error) {
                StoreError::Damaged(why) => damaged(&path, &why),
                other => cannot(&other),
            }
        })
    }

    /// Calls `each` with every event that passes `filter`, or with the id of a damaged row; stops when it says
    /// `false`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn events(
        &self,
        filter: &Filter,
        mut each: impl FnMut(Result<StoredEvent, u64>) -> bool,
    ) -> Result<(), StoreError> {
        // The partial index serves the dead; everything else is a walk in the order of keeping.
        let state = match filter.state {
            Some(State::Dead) => "AND state = 2",
            Some(State::Pending) => "AND state = 0",
            Some(State::Delivered) => "AND state = 1",
            Some(State::Dropped) => "AND state = 3",
            None => "",
        };
        let contact = if filter.contact_id.is_some() { "AND contact = ?2" } else { "AND ?2 IS NULL" };
        let order = if filter.newest_first { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {} FROM event WHERE id > ?1 {contact} {state} \
             AND (?3 IS NULL OR received_ms >= ?3) AND (?4 IS NULL OR received_ms < ?4) \
             ORDER BY id {order} LIMIT ?5",
            row::COLUMNS
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![
            filter.after_id.cast_signed(),
            filter.contact_id,
            filter.since_ms,
            filter.until_ms,
            filter.limit.map_or(-1, |limit| limit.cast_signed() as i64),
        ])?;
        while let Some(row) = rows.next()? {
            if !each(row::read(row)?) {
                break;
            }
        }
        Ok(())
    }

    /// One event, in whatever state.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn event(&self, id: u64) -> Result<Option<Result<StoredEvent, u64>>, StoreError> {
        let sql = format!("SELECT {} FROM event WHERE id = ?1", row::COLUMNS);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id.cast_signed()])?;
        Ok(rows.next()?.map(row::read).transpose()?)
    }

    /// The recorded steps of one event, in the order they happened.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn steps(&self, event: u64) -> Result<Vec<Step>, StoreError> {
        let sql = format!("SELECT {STEP_COLUMNS} FROM step WHERE event = ?1 ORDER BY id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([event.cast_signed()], |row| read_step(event, row))?;
        Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }

    /// The mapping recorded under a number and since when it was in force, Unix ms.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn mapping(&self, id: u32) -> Result<Option<(Mapping, i64)>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT json, since_ms FROM mapping WHERE id = ?1")?;
        let mut rows = statement.query([id])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mapping = serde_json::from_str(row.get_ref(0)?.as_str().unwrap_or_default())
            .map_err(|error| StoreError::Damaged(format!("mapping {id}: {error}")))?;
        Ok(Some((mapping, row.get(1)?)))
    }

    /// The codes that came in within `selection` with what they were mapped to and by which mapping, the most frequent
    /// first, at most `limit`. Damaged rows are counted as they are.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn codes(&self, selection: &Selection, limit: usize) -> Result<Vec<CodeCount>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT code, category, severity, mapping, count(*), max(received_ms) FROM event \
             WHERE received_ms >= ?1 AND received_ms < ?2 AND (?3 IS NULL OR contact = ?3) \
             GROUP BY code, category, severity, mapping ORDER BY count(*) DESC, code LIMIT ?4",
        )?;
        let range = params![
            selection.since_ms.unwrap_or(i64::MIN),
            selection.until_ms.unwrap_or(i64::MAX),
            selection.contact_id,
            limit.cast_signed() as i64,
        ];
        let rows = statement.query_map(range, |row| {
            Ok(CodeCount {
                disposition_code: row.get(0)?,
                category: row.get(1)?,
                severity: Severity::ALL
                    .get(usize::from(row.get::<_, u8>(2)?))
                    .copied()
                    .unwrap_or(Severity::Medium),
                mapping: row.get(3)?,
                events: row.get::<_, i64>(4)?.cast_unsigned(),
                last_seen_ms: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn connect(path: &Path, how: &str) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let encoded = percent_encode(path.as_os_str().as_bytes(), URI_RESERVED);
    let connection = Connection::open_with_flags(format!("file:{encoded}{how}"), flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -1024)?;
    super::keep_plans(&connection)?;
    connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
    Ok(connection)
}

fn no_log_beside(path: &Path) -> bool {
    ["-shm", "-wal"].iter().all(|end| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(end);
        Path::new(&beside).symlink_metadata().is_err()
    })
}
