//! The store: what is kept, on stable storage. SQLite behind one narrow interface.
//!
//! **The instant of commitment.** An event counts as kept from the return of [`Store::transact`] with
//! [`Sync::Now`]: its rows are in the write-ahead log and the log was synced. Nothing before that instant may be
//! acknowledged, nothing after it may be lost.
//!
//! The states of an event, and the only ways between them:
//!
//! ```text
//!              keep                settle
//!   (sender) ───────▶ pending ──────────────▶ delivered
//!                      ▲   │ settle
//!              revive  │   ▼
//!                      dead ───────▶ dropped
//!                            drop
//! ```
//!
//! What a bad disk does:
//!
//! | what is wrong | then |
//! |---|---|
//! | an event's row fails its checksum | it is dead with reason `corrupt`, whatever state it seemed to be in |
//! | an index disagrees with its table | it is rebuilt, at the start or when it is met |
//! | anything else in the file: its schema, its pages, its length | the start is refused; at work, the daemon ends |
//! | the log cannot be read to its end | what is in front of the damage is recovered, the rest is told of |
//! | a write or a sync fails | the daemon ends without touching the files again; the next start recovers |
//! | no room, in `store.max_size` or on the disk | [`StoreError::Full`]: nothing is kept, and settlements go on |
//!
//! [`Store`] is the sole writer and belongs to the keeper's thread; [`History`] reads beside it, from this or
//! another process. Another engine can take this module's place by offering the same two types.

mod checkpoint;
mod history;
mod keys;
mod lock;
mod open;
mod outbox;
mod pages;
mod room;
mod row;
mod schema;
mod step;
mod verify;
mod wal;
mod walk;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi, params};

use crate::event::{KeptEvent, Severity};

pub use checkpoint::Checkpointer;
pub use history::{CodeCount, Filter, History};
pub use outbox::{OutboxRow, SubscriberRow};
pub use pages::{ContactPage, Steps};
pub use row::{Settled, State, StoredEvent};
pub use step::{Step, StepKind};
pub use walk::{Recorded, Selection, StepsPage, Walk};
pub use write::{Batch, Kept, NewEvent, Pruned};

/// The database's file name inside `store.dir`.
pub const FILE_NAME: &str = "dispod.db";

/// The file beside it whose space is given up when the disk is full.
pub const RESERVE_NAME: &str = "reserve";

/// Reason of a dead letter whose row does not match its checksum.
pub const CORRUPT: &str = "corrupt";

/// Reason of a dead letter that still failed at `delivery.max_age`.
pub const EXPIRED: &str = "expired";

/// Which half of the backlog: critical events are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Severity `critical`.
    Critical,
    /// Everything else.
    Rest,
}

impl Class {
    /// Both, the one to be served first in front.
    pub const ALL: [Self; 2] = [Self::Critical, Self::Rest];

    /// The class of a severity.
    #[must_use]
    pub const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Critical,
            Severity::Medium | Severity::Low => Self::Rest,
        }
    }
}

/// Whether a transaction must be on stable storage when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Yes: something in it is about to be acknowledged.
    Now,
    /// It survives kill -9 at once and a power cut after the next [`Store::sync`] or `Sync::Now`.
    Later,
}

/// Why a transaction did not happen. Nothing of it is kept.
#[derive(Debug)]
pub enum StoreError {
    /// No room, in the file's limit or on the disk. Comes right by itself when room comes.
    Full,
    /// Another program holds a lock on the file. Comes right by itself.
    Busy,
    /// The file's content cannot be trusted.
    Damaged(String),
    /// A newer dispod wrote it, with this schema version.
    Newer(i32),
    /// The disk failed us; what it holds of the last writes is unknown.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room"),
            Self::Busy => f.write_str("locked by another program"),
            Self::Damaged(why) => write!(f, "damaged: {why}"),
            Self::Newer(version) => write!(
                f,
                "it was written by a newer dispod (schema version {version}, this one knows {}) and is left as it is. \
                 Keep a copy of the directory, and install that dispod again or restore the backup made before the \
                 upgrade",
                schema::VERSION
            ),
            Self::Failed(why) => write!(f, "failing: {why}"),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let Some(said) = error.sqlite_error() else {
            // A missing row, a value of another type: SQLite is content, what it gives is not what we wrote.
            return Self::Damaged(error.to_string());
        };
        match (error.sqlite_error_code(), said.extended_code) {
            // The index of the log could not grow: a full disk by another name.
            (_, ffi::SQLITE_IOERR_SHMSIZE) | (Some(ErrorCode::DiskFull), _) => Self::Full,
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => Self::Busy,
            (_, ffi::SQLITE_READONLY_DBMOVED) => Self::Failed("removed or moved away".to_owned()),
            // Our statements fit our schema, and the file is ours to write: what does not fit is the file.
            (
                Some(
                    ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::ReadOnly
                    | ErrorCode::ConstraintViolation
                    | ErrorCode::TypeMismatch
                    | ErrorCode::Unknown,
                ),
                _,
            ) => Self::Damaged(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A row of the backlog, or the id of one that is damaged.
pub type BacklogRow = Result<KeptEvent, u64>;

/// The sole writer. Dropping it checkpoints and releases the lock.
pub struct Store {
    connection: Connection,
    dir: PathBuf,
    id: String,
    next_number: u64,
    keys: keys::Keys,
    page_bytes: u64,
    /// Pages in the write-ahead log after the last commit.
    wal_pages: Arc<AtomicU32>,
    wal_limit_pages: u32,
    /// Pages in use beyond which no new event is taken.
    keep_limit_pages: u64,
    /// The same while the disk is full.
    present_limit_pages: Option<u64>,
    wal: Option<std::fs::File>,
    syncing: Sync,
    mended: bool,
    /// False once a write or a sync failed in a way that leaves unknown what the disk holds.
    trusted: Arc<AtomicBool>,
    _lock: lock::StoreLock,
}

impl Store {
    /// Eight hex digits that name this store, so that ids of two stores can be told apart.
    #[must_use]
    pub fn store_id(&self) -> &str {
        &self.id
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// Runs `work` in one transaction: all of it is kept, or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is rolled back then.
    pub fn transact<T>(
        &mut self,
        sync: Sync,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.syncing != sync {
            let level = if sync == Sync::Now { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.syncing = sync;
        }
        let number_before = self.next_number;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = {
            let mut batch = Batch::new(&transaction, &mut self.next_number, &mut self.keys);
            work(&mut batch).and_then(|value| batch.finish().map(|()| value))
        };
        let result = result.and_then(|value| Ok(transaction.commit().map(|()| value)?));
        if result.is_ok() {
            self.keys.committed(self.next_number - 1);
        } else {
            self.next_number = number_before;
            self.keys.undo();
        }
        result
    }

    /// Makes everything committed so far survive a power cut.
    ///
    /// # Errors
    /// [`StoreError::Failed`]. A failed sync is never tried again: what it lost is unknown.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let failed = |error: std::io::Error| StoreError::Failed(error.to_string());
        if self.wal.is_none() {
            let path = self.dir.join(format!("{FILE_NAME}-wal"));
            self.wal = Some(std::fs::File::open(path).map_err(failed)?);
        }
        self.wal.as_ref().map_or(Ok(()), |wal| wal.sync_data().map_err(failed))
    }

    /// Puts events whose rows fail their checksum among the dead, as they are.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn bury_corrupt(&mut self, ids: &[u64], at_ms: i64) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let bury = |store: &mut Self| {
            store.transact(Sync::Now, |batch| ids.iter().try_for_each(|id| batch.bury_corrupt(*id, at_ms)))
        };
        let buried = match bury(self) {
            Err(StoreError::Full) => self.raise_limit().and_then(|()| bury(self)),
            // The indexes disagree with what became of the row.
            Err(StoreError::Damaged(_)) if self.mend() => bury(self),
            buried => buried,
        };
        buried?;
        for id in ids {
            log::error!("event {id} is damaged in the store: it is dead now, with reason {CORRUPT}");
        }
        Ok(())
    }

    /// Rebuilds the indexes after damage was met, once: a large file is not looked through at the start. Gives
    /// whether what failed is worth another try.
    pub fn mend(&mut self) -> bool {
        if std::mem::replace(&mut self.mended, true) {
            return false;
        }
        let rebuilt = self.connection.execute_batch("REINDEX");
        log::warn!(
            "the store is damaged: its indexes {}",
            match &rebuilt {
                Ok(()) => "were rebuilt".to_owned(),
                Err(error) => format!("cannot be rebuilt ({error})"),
            }
        );
        rebuilt.is_ok()
    }

    /// Bytes of database and log on the disk.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        let size = |name: &str| std::fs::metadata(self.dir.join(name)).map_or(0, |meta| meta.len());
        size(FILE_NAME) + size(&format!("{FILE_NAME}-wal"))
    }

    /// Nothing is moved from the log into the database any more, not even at the end: what the disk holds is
    /// unknown, and the next start finds out.
    pub fn distrust(&mut self) {
        self.trusted.store(false, Relaxed);
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    /// Pending events of `class` behind `after_place`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn pending(
        &self,
        class: Class,
        after_place: u64,
        limit: usize,
    ) -> Result<Vec<BacklogRow>, StoreError> {
        let sql = format!(
            "SELECT {} FROM event WHERE state = 0 AND (severity > 0) = ?1 AND place > ?2 ORDER BY place LIMIT ?3",
            row::COLUMNS
        );
        let rest = class == Class::Rest;
        self.backlog_rows(&sql, params![rest, after_place.cast_signed(), limit.cast_signed() as i64])
    }

    /// Pending events of one contact, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn lane(&self, contact_id: &str, limit: usize) -> Result<Vec<BacklogRow>, StoreError> {
        let sql = format!(
            "SELECT {} FROM event WHERE state = 0 AND contact = ?1 ORDER BY place LIMIT ?2",
            row::COLUMNS
        );
        self.backlog_rows(&sql, params![contact_id, limit.cast_signed() as i64])
    }

    fn backlog_rows(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<BacklogRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, row::read)?;
        rows.map(|row| Ok(row?.map(|stored| stored.event))).collect()
    }

    /// How many events are pending and how many dead.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn count(&self) -> Result<(u64, u64), StoreError> {
        let count = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let pending = count("SELECT count(*) FROM event INDEXED BY event_turn WHERE state = 0")?;
        let dead = count("SELECT count(*) FROM event INDEXED BY event_dead WHERE state = 2")?;
        Ok((pending.cast_unsigned(), dead.cast_unsigned()))
    }

    /// When the oldest pending event was received, Unix ms.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn oldest_pending_ms(&self) -> Result<Option<i64>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT received_ms FROM event WHERE state = 0 AND (severity > 0) = ?1 ORDER BY place LIMIT 1",
        )?;
        let mut oldest = None;
        for rest in [false, true] {
            let mut rows = statement.query([rest])?;
            if let Some(row) = rows.next()? {
                let received_ms: i64 = row.get(0)?;
                oldest = Some(oldest.map_or(received_ms, |other: i64| other.min(received_ms)));
            }
        }
        Ok(oldest)
    }
}

/// Has a prepared statement keep its plan. SQLite would prepare one again, at several times the cost of running it,
/// whenever another value is bound where the value might matter to the plan; to none of ours does it.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

/// The words for a file that cannot be trusted: what it is, and what to do.
#[must_use]
pub fn damaged(path: &Path, why: &str) -> crate::error::Error {
    let file = path.display();
    crate::error::Error::store_damaged(
        path,
        format!(
            "the store {file} is damaged ({why}) and is left as it is. Keep a copy of the directory, try \
             `sqlite3 {file} .recover > saved.sql` to save what can be read, and start with an empty store.dir"
        ),
    )
}
