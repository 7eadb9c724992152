//! What one transaction can do.

use std::collections::HashSet;

use rusqlite::{CachedStatement, Params, Transaction, params};

use super::keys::Keys;
use super::row::{self, Settled, State, StoredEvent};
use super::step::{Step, StepKind};
use super::{CORRUPT, StoreError};
use crate::disposition::Mapping;
use crate::event::{CallResult, KeptEvent, Severity};
use crate::keep::DedupeKey;

/// Steps of an event beyond which its duplicates are not recorded one by one: a sender that repeats itself without
/// end must not fill the store.
const DUPLICATES_TOLD_MAX: i64 = 100;

/// An event about to be kept.
pub struct NewEvent<'a> {
    /// The call result.
    pub call: &'a CallResult,
    /// Its idempotency key.
    pub key: Option<DedupeKey>,
    /// When it was received, Unix ms.
    pub received_ms: i64,
    /// What its code maps to now.
    pub category: &'a str,
    /// How severe that is.
    pub severity: Severity,
    /// The recorded mapping that said so.
    pub mapping: u32,
}

/// What [`Batch::keep`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is pending now.
    New(KeptEvent),
    /// Its key was kept within the window, under this id.
    Before(u64),
}

/// What [`Batch::prune_history`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many events were forgotten.
    pub events: usize,
    /// The last id looked at; `None`: there are no more so old.
    pub looked_through: Option<u64>,
}

/// Settled events of a range of ids that nobody needs any more. The newest row stays, so that no id is given twice.
const SETTLED: &str = "id > ?1 AND id <= ?2 AND state IN (1, 3) AND received_ms < ?3 \
     AND id < (SELECT max(id) FROM event) AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.event = event.id)";

/// One transaction under way.
pub struct Batch<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) next_number: &'a mut u64,
    pub(super) keys: &'a mut Keys,
    /// How many events were kept.
    kept: usize,
    /// What is done for each event: prepared once for all of them.
    for_each: [Option<CachedStatement<'a>>; Each::COUNT],
}

pub(super) type Outcome<T> = Result<T, StoreError>;

/// The statements that run for each event.
#[derive(Clone, Copy)]
pub(super) enum Each {
    FindKey,
    WriteKey,
    Insert,
    Update,
}

impl Each {
    const COUNT: usize = Self::Update as usize + 1;

    const fn sql(self) -> &'static str {
        match self {
            Self::FindKey => "SELECT event FROM seen WHERE key = ?1 AND kept_s >= ?2",
            Self::WriteKey => {
                "INSERT INTO seen(key, event, kept_s) VALUES(?1, ?2, ?3) ON CONFLICT(key) DO UPDATE \
                 SET event = excluded.event, kept_s = excluded.kept_s WHERE kept_s <= excluded.kept_s"
            }
            Self::Insert => {
                "INSERT INTO event(id, state, severity, place, attempts, mapping, received_ms, contact, code, result, \
                 stamp, category, crc, key) VALUES(?1, 0, ?2, ?1, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            }
            Self::Update => {
                "UPDATE event SET state = ?2, place = ?3, attempts = ?4, revived_ms = ?5, due_ms = ?6, \
                 settled_ms = ?7, status = ?8, latency_ms = ?9, reason = ?10, answer = ?11, crc = ?12 WHERE id = ?1"
            }
        }
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        transaction: &'a Transaction<'a>,
        next_number: &'a mut u64,
        keys: &'a mut Keys,
    ) -> Self {
        Self { transaction, next_number, keys, kept: 0, for_each: [const { None }; Each::COUNT] }
    }

    pub(super) fn prepare(&self, sql: &str) -> Outcome<CachedStatement<'a>> {
        Ok(self.transaction.prepare_cached(sql)?)
    }

    pub(super) fn each(&mut self, which: Each) -> Outcome<&mut CachedStatement<'a>> {
        let prepared = match self.for_each[which as usize].take() {
            Some(prepared) => prepared,
            None => self.prepare(which.sql())?,
        };
        Ok(self.for_each[which as usize].insert(prepared))
    }

    fn number(&mut self) -> u64 {
        let number = *self.next_number;
        *self.next_number += 1;
        number
    }

    /// Keeps an event, unless its key was kept after `dedupe_since_s` (Unix seconds).
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn keep(&mut self, new: &NewEvent<'_>, dedupe_since_s: i64) -> Outcome<Kept> {
        if let Some(key) = &new.key
            && let Some(before) = self.kept_with(key, dedupe_since_s)?
        {
            return Ok(Kept::Before(before));
        }
        let id = self.number();
        let event = KeptEvent {
            id,
            place: id,
            call: new.call.clone(),
            category: new.category.to_owned(),
            severity: new.severity,
            mapping: new.mapping,
            received_ms: new.received_ms,
            revived_ms: None,
            attempts: 0,
            due_ms: None,
        };
        let stored = StoredEvent { event, state: State::Pending, settled: Settled::default() };
        self.each(Each::Insert)?.execute(params![
            id.cast_signed(),
            stored.event.severity as i64,
            new.mapping,
            new.received_ms,
            new.call.contact_id(),
            new.call.disposition_code(),
            new.call.call_result(),
            new.call.timestamp(),
            new.category,
            row::checksum(&stored),
            new.key.as_ref().and_then(DedupeKey::given),
        ])?;
        if let Some(key) = &new.key {
            self.hold(key, id, new.received_ms / 1000);
        }
        self.kept += 1;
        Ok(Kept::New(stored.event))
    }

    /// What goes with what was done, before the commit.
    pub(super) fn finish(&mut self) -> Outcome<()> {
        self.write_keys(self.kept)
    }

    /// Writes the part of an event's row that changes: state, place, attempts, times, settlement.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn update(&mut self, stored: &StoredEvent) -> Outcome<()> {
        let StoredEvent { event, state, settled } = stored;
        self.each(Each::Update)?.execute(params![
            event.id.cast_signed(),
            *state as i64,
            event.place.cast_signed(),
            event.attempts,
            event.revived_ms,
            event.due_ms,
            settled.at_ms,
            settled.status,
            settled.latency_ms,
            settled.reason,
            settled.answer,
            row::checksum(stored),
        ])?;
        Ok(())
    }

    /// Adds a line to an event's story.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn step(&mut self, step: &Step) -> Outcome<()> {
        self.prepare(
            "INSERT INTO step(event, at_ms, kind, attempt, status, latency_ms, note) \
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            step.event.cast_signed(),
            step.at_ms,
            step.kind as i64,
            step.attempt,
            step.status,
            step.latency_ms,
            step.note,
        ])?;
        Ok(())
    }

    /// Records that an event came in again, if it is still known and its story is not full of that already.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn duplicate(&mut self, event: u64, at_ms: i64) -> Outcome<()> {
        self.prepare(
            "INSERT INTO step(event, at_ms, kind) SELECT ?1, ?2, ?3 WHERE EXISTS(SELECT 1 FROM event WHERE id = ?1) \
             AND (SELECT count(*) FROM (SELECT 1 FROM step WHERE event = ?1 LIMIT ?4)) < ?4",
        )?
        .execute(params![event.cast_signed(), at_ms, StepKind::Duplicate as i64, DUPLICATES_TOLD_MAX])?;
        Ok(())
    }

    /// Puts an event whose row fails its checksum among the dead, as it is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn bury_corrupt(&mut self, id: u64, at_ms: i64) -> Outcome<()> {
        self.prepare("UPDATE event SET state = 2, reason = ?2, settled_ms = ?3 WHERE id = ?1")?
            .execute(params![id.cast_signed(), CORRUPT, at_ms])?;
        Ok(())
    }

    /// The ids of dead events, ascending, behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn dead_ids(&self, after: u64, limit: usize) -> Outcome<Vec<u64>> {
        let mut statement =
            self.prepare("SELECT id FROM event WHERE state = 2 AND id > ?1 ORDER BY id LIMIT ?2")?;
        let ids = statement.query_map(params![after.cast_signed(), limit.cast_signed() as i64], |row| {
            Ok(row.get::<_, i64>(0)?.cast_unsigned())
        })?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    fn dead(&self, id: u64) -> Outcome<Option<Result<StoredEvent, u64>>> {
        let sql = format!("SELECT {} FROM event WHERE id = ?1 AND state = 2", row::COLUMNS);
        let mut statement = self.prepare(&sql)?;
        let mut rows = statement.query([id.cast_signed()])?;
        Ok(rows.next()?.map(row::read).transpose()?)
    }

    /// Makes a dead event pending again, at the end of its contact's lane. `None` when there is no such dead event
    /// or its content cannot be trusted.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn revive(&mut self, id: u64, at_ms: i64) -> Outcome<Option<KeptEvent>> {
        let Some(Ok(StoredEvent { mut event, settled, .. })) = self.dead(id)? else { return Ok(None) };
        let reason = settled.reason.clone();
        self.step(&Step {
            event: id,
            at_ms: settled.at_ms.unwrap_or(at_ms),
            kind: StepKind::Dead,
            attempt: Some(event.attempts),
            status: settled.status,
            latency_ms: settled.latency_ms,
            note: settled.why(),
        })?;
        self.step(&Step {
            event: id,
            at_ms,
            kind: StepKind::Revived,
            attempt: None,
            status: None,
            latency_ms: None,
            note: reason,
        })?;
        event.place = self.number();
        event.attempts = 0;
        event.revived_ms = Some(at_ms);
        event.due_ms = None;
        let stored = StoredEvent { event, state: State::Pending, settled: Settled::default() };
        self.update(&stored)?;
        Ok(Some(stored.event))
    }

    /// Gives a dead event up. `false` when there is no such dead event.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn drop_dead(&mut self, id: u64, at_ms: i64) -> Outcome<bool> {
        match self.dead(id)? {
            None => return Ok(false),
            Some(Ok(stored)) => self.update(&StoredEvent { state: State::Dropped, ..stored })?,
            Some(Err(id)) => {
                self.prepare("UPDATE event SET state = 3 WHERE id = ?1")?.execute([id.cast_signed()])?;
            }
        }
        let kind = StepKind::Dropped;
        self.step(&Step {
            event: id,
            at_ms,
            kind,
            attempt: None,
            status: None,
            latency_ms: None,
            note: None,
        })?;
        Ok(true)
    }

    /// Records a mapping as in force since `since_ms`; gives the number events refer to it by. The same mapping
    /// twice in a row is one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn record_mapping(&mut self, mapping: &Mapping, since_ms: i64) -> Outcome<u32> {
        let json = serde_json::to_string(mapping).map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut statement = self.prepare("SELECT id, json FROM mapping ORDER BY id DESC LIMIT 1")?;
        let mut rows = statement.query([])?;
        let last: Option<(u32, String)> =
            rows.next()?.map(|row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?))).transpose()?;
        if let Some((id, last_json)) = &last
            && *last_json == json
        {
            return Ok(*id);
        }
        let id = last.map_or(1, |(id, _)| id + 1);
        self.prepare("INSERT INTO mapping(id, since_ms, json) VALUES(?1, ?2, ?3)")?
            .execute(params![id, since_ms, json])?;
        Ok(id)
    }

    /// Looks at up to `limit` events behind `after_id` and forgets those settled and received before `before_ms`,
    /// with their steps. Dead letters stay until an operator decides, and what a durable subscriber still has to
    /// hear of stays until it has.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn prune_history(&mut self, after_id: u64, before_ms: i64, limit: usize) -> Outcome<Pruned> {
        let limit = limit.cast_signed() as i64;
        let (last, oldest_ms): (Option<i64>, Option<i64>) = self
            .prepare(
                "SELECT max(id), min(received_ms) \
                 FROM (SELECT id, received_ms FROM event WHERE id > ?1 ORDER BY id LIMIT ?2)",
            )?
            .query_row(params![after_id.cast_signed(), limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(last) = last.filter(|_| oldest_ms < Some(before_ms)) else {
            return Ok(Pruned { events: 0, looked_through: None });
        };
        let events = self.forget(SETTLED, params![after_id.cast_signed(), last, before_ms])?;
        Ok(Pruned { events, looked_through: Some(last.cast_unsigned()) })
    }

    /// Forgets the events that fulfil a condition, with their steps; gives how many they were. Their keys are known on.
    pub(super) fn forget(&mut self, condition: &str, params: impl Params + Copy) -> Outcome<usize> {
        self.prepare(&format!("DELETE FROM step WHERE event IN (SELECT id FROM event WHERE {condition})"))?
            .execute(params)?;
        let mut delete = self.prepare(&format!("DELETE FROM event WHERE {condition} RETURNING id"))?;
        let ids = delete.query_map(params, |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
        let forgotten = ids.collect::<Result<HashSet<_>, _>>()?;
        // In the room that is there now.
        self.write_keys_of(&forgotten)?;
        Ok(forgotten.len())
    }
}
