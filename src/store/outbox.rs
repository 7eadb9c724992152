//! The outbox: delivered events in the order of delivery, while a durable subscriber still has to hear of them, and
//! how far each subscriber has come.

use rusqlite::params;

use super::row::{self, StoredEvent};
use super::{Batch, Store, StoreError};
use crate::event::Severity;

/// One delivered event that is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place in the order of delivery.
    pub position: u64,
    /// The event.
    pub event: u64,
    /// How severe it is; `None` in a row that is damaged.
    pub severity: Option<Severity>,
}

/// How far a durable subscriber has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberRow {
    /// Its name in the configuration.
    pub name: String,
    /// Everything up to here is done with, as far as it is concerned.
    pub position: u64,
    /// Why it is told of nothing any more, with what identifies the target that said so.
    pub disabled: Option<String>,
}

impl Store {
    /// Every subscriber that has a position.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn subscribers(&self) -> Result<Vec<SubscriberRow>, StoreError> {
        let mut statement = self.connection.prepare("SELECT name, position, disabled FROM subscriber")?;
        let rows = statement.query_map([], |row| {
            let position = row.get::<_, i64>(1)?.cast_unsigned();
            Ok(SubscriberRow { name: row.get(0)?, position, disabled: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The last position given; 0: none so far.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn outbox_end(&self) -> Result<u64, StoreError> {
        let last = "SELECT max(coalesce((SELECT max(seq) FROM outbox), 0), \
                    coalesce((SELECT max(position) FROM subscriber), 0))";
        let last = self.connection.query_row(last, [], |row| row.get::<_, i64>(0))?;
        Ok(last.cast_unsigned())
    }

    /// What is to be published behind a position, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq, event, severity FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
        let rows = statement.query_map(params![after.cast_signed(), limit.cast_signed() as i64], |row| {
            let severity = usize::try_from(row.get::<_, i64>(2)?).unwrap_or(usize::MAX);
            Ok(OutboxRow {
                position: row.get::<_, i64>(0)?.cast_unsigned(),
                event: row.get::<_, i64>(1)?.cast_unsigned(),
                severity: Severity::ALL.get(severity).copied(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The event of an outbox row; `None` when it is not there or fails its checksum.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn outbox_event(&self, id: u64) -> Result<Option<StoredEvent>, StoreError> {
        let sql = format!("SELECT {} FROM event WHERE id = ?1", row::COLUMNS);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id.cast_signed()])?;
        Ok(rows.next()?.map(row::read).transpose()?.and_then(Result::ok))
    }
}

/// Which events a row through `?1` of the outbox holds, without the newest event: no id is given twice.
const FIRST_EVENTS: &str =
    "id IN (SELECT event FROM outbox WHERE seq <= ?1 AND event < (SELECT max(id) FROM event)) AND state = 1";

impl Batch<'_> {
    /// Adds a row to the outbox. One of no severity is not added.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn publish(&mut self, row: OutboxRow) -> Result<(), StoreError> {
        let OutboxRow { position, event, severity: Some(severity) } = row else { return Ok(()) };
        self.prepare("INSERT INTO outbox(seq, event, severity) VALUES(?1, ?2, ?3)")?.execute(params![
            position.cast_signed(),
            event.cast_signed(),
            severity as i64
        ])?;
        Ok(())
    }

    /// Writes how far a subscriber has come.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn put_subscriber(&mut self, row: &SubscriberRow) -> Result<(), StoreError> {
        self.prepare(
            "INSERT INTO subscriber(name, position, disabled) VALUES(?1, ?2, ?3) ON CONFLICT(name) \
             DO UPDATE SET position = excluded.position, disabled = excluded.disabled",
        )?
        .execute(params![row.name, row.position.cast_signed(), row.disabled])?;
        Ok(())
    }

    /// Forgets a subscriber.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn remove_subscriber(&mut self, name: &str) -> Result<(), StoreError> {
        self.prepare("DELETE FROM subscriber WHERE name = ?1")?.execute([name])?;
        Ok(())
    }

    /// Removes the first rows of the outbox up to a position, at most `limit`; gives how many that were.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn prune_outbox(&mut self, through: u64, limit: usize) -> Result<usize, StoreError> {
        let Some(last) = self.last_of_first(through, limit)? else { return Ok(0) };
        Ok(self.prepare("DELETE FROM outbox WHERE seq <= ?1")?.execute([last])?)
    }

    /// Like [`Batch::prune_outbox`], and forgets the rows' events with their steps.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn forget_outbox(&mut self, through: u64, limit: usize) -> Result<usize, StoreError> {
        let Some(last) = self.last_of_first(through, limit)? else { return Ok(0) };
        self.forget(FIRST_EVENTS, [last])?;
        Ok(self.prepare("DELETE FROM outbox WHERE seq <= ?1")?.execute([last])?)
    }

    fn last_of_first(&self, through: u64, limit: usize) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT max(seq) FROM (SELECT seq FROM outbox WHERE seq <= ?1 ORDER BY seq LIMIT ?2)";
        let params = params![through.cast_signed(), limit.cast_signed() as i64];
        Ok(self.prepare(sql)?.query_row(params, |row| row.get(0))?)
    }
}
