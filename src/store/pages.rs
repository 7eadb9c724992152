//! Reading beside a busy writer: in pages, each a short transaction of its own, so that the write-ahead log can be
//! moved into the database between them.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::row::{self, StoredEvent};
use super::walk::{STEP_COLUMNS, read_step};
use super::{History, Step, StoreError};

/// Ids looked through by one statement of a search.
const SEARCH_STRIDE: u64 = 4096;

/// Part of the search for one contact's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactPage {
    /// What was found, the newest first; the id alone of a damaged row.
    pub events: Vec<Result<StoredEvent, u64>>,
    /// Go on below this id; `None`: everything was looked through.
    pub continue_below: Option<u64>,
    /// When the oldest event looked at was received, Unix ms; `None`: there is no older one.
    pub searched_back_to_ms: Option<i64>,
}

/// The last recorded steps of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    /// In the order they happened.
    pub steps: Vec<Step>,
    /// Whether there are earlier ones.
    pub more: bool,
}

impl History {
    /// Dead letters behind `after_id`, in the order of keeping, at most `limit`; the id alone of a damaged row.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn dead(&self, after_id: u64, limit: usize) -> Result<Vec<Result<StoredEvent, u64>>, StoreError> {
        let sql = format!(
            "SELECT {} FROM event INDEXED BY event_dead WHERE state = 2 AND id > ?1 ORDER BY id LIMIT ?2",
            row::COLUMNS
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map(params![after_id.cast_signed(), limit.cast_signed() as i64], row::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Events of one contact below the id `below` (`None`: from the newest), at most `limit`. Looks through the
    /// events one after the other, for about `patience`; there is no index on the contacts of settled events.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn of_contact(
        &self,
        contact_id: &str,
        below: Option<u64>,
        limit: usize,
        patience: Duration,
    ) -> Result<ContactPage, StoreError> {
        let deadline = Instant::now() + patience;
        let sql = format!(
            "SELECT {} FROM event WHERE id >= ?1 AND id < ?2 AND contact = ?3 ORDER BY id DESC LIMIT ?4",
            row::COLUMNS
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let (first, last) = self.id_range()?;
        let mut page = ContactPage { events: Vec::new(), continue_below: None, searched_back_to_ms: None };
        let mut end = below.unwrap_or(u64::MAX).min(last + 1);
        while end > first {
            let start = end.saturating_sub(SEARCH_STRIDE).max(first);
            let room = limit - page.events.len();
            let range =
                params![start.cast_signed(), end.cast_signed(), contact_id, room.cast_signed() as i64];
            let found = statement.query_map(range, row::read)?.collect::<Result<Vec<_>, _>>()?;
            let full = found.len() == room;
            end = if full { found.last().map_or(start, id_of) } else { start };
            page.events.extend(found);
            if full || Instant::now() >= deadline {
                break;
            }
        }
        if end > first {
            page.continue_below = Some(end);
            page.searched_back_to_ms = self.received_at_or_after(end)?;
        }
        Ok(page)
    }

    /// The first and the last id there is; an empty range is (1, 0).
    pub(super) fn id_range(&self) -> Result<(u64, u64), StoreError> {
        let end = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        let first = end("SELECT min(id) FROM event")?.unwrap_or(1);
        let last = end("SELECT max(id) FROM event")?.unwrap_or(0);
        Ok((first.cast_unsigned(), last.cast_unsigned()))
    }

    fn received_at_or_after(&self, id: u64) -> Result<Option<i64>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT received_ms FROM event WHERE id >= ?1 ORDER BY id LIMIT 1")?;
        let mut rows = statement.query([id.cast_signed()])?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }

    /// The last recorded steps of one event, at most `limit`. An event can have any number: every duplicate is one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn last_steps(&self, event: u64, limit: usize) -> Result<Steps, StoreError> {
        let sql = format!("SELECT {STEP_COLUMNS} FROM step WHERE event = ?1 ORDER BY id DESC LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![event.cast_signed(), limit.cast_signed() as i64 + 1])?;
        let mut steps = Vec::new();
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            seen += 1;
            if seen <= limit {
                steps.extend(read_step(event, row)?);
            }
        }
        steps.reverse();
        Ok(Steps { steps, more: seen > limit })
    }
}

fn id_of(row: &Result<StoredEvent, u64>) -> u64 {
    match row {
        Ok(stored) => stored.event.id,
        Err(id) => *id,
    }
}
