//! Reading everything, however much it is: the ids in strides, then a few whole stories at a time, each in a short
//! transaction, so that neither memory nor the write-ahead log grows with what is read.

use std::collections::VecDeque;

use rusqlite::{Row, params};

use super::{History, Step, StepKind, StoreError, StoredEvent};

/// Ids looked through by one statement.
const STRIDE: u64 = 4096;
/// Stories read in one transaction.
const STORIES_MAX: usize = 32;
/// Steps read at once of one event; every duplicate is one, so there can be any number.
const STEPS_MAX: usize = 64;

/// The columns [`read_step`] expects, in order.
pub(super) const STEP_COLUMNS: &str = "id, at_ms, kind, attempt, status, latency_ms, note";

/// Which events are of interest.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only this contact's.
    pub contact_id: Option<String>,
    /// Received at or after, Unix ms.
    pub since_ms: Option<i64>,
    /// Received before, Unix ms.
    pub until_ms: Option<i64>,
}

/// An event with its first recorded steps, both of the same instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The row, or the id alone of a damaged one.
    pub row: Result<StoredEvent, u64>,
    /// Its first steps.
    pub steps: StepsPage,
}

/// Some recorded steps of an event, in the order they were recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepsPage {
    /// The steps.
    pub steps: Vec<Step>,
    /// Go on behind this one; `None`: there are no more.
    pub continue_after: Option<i64>,
}

/// A walk through the events that were there when it began, in the order of keeping.
pub struct Walk<'a> {
    history: &'a History,
    selection: Selection,
    next_id: u64,
    last_id: u64,
    found: VecDeque<u64>,
}

impl History {
    /// Starts a walk through the events of `selection`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn walk(&self, selection: Selection) -> Result<Walk<'_>, StoreError> {
        let (next_id, last_id) = self.id_range()?;
        Ok(Walk { history: self, selection, next_id, last_id, found: VecDeque::new() })
    }

    /// Recorded steps of an event behind the one numbered `after`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn steps_after(&self, event: u64, after: i64) -> Result<StepsPage, StoreError> {
        let sql =
            format!("SELECT {STEP_COLUMNS} FROM step WHERE event = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows =
            statement.query(params![event.cast_signed(), after, STEPS_MAX.cast_signed() as i64])?;
        let mut steps = Vec::new();
        let (mut last, mut count) = (after, 0);
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            count += 1;
            steps.extend(read_step(event, row)?);
        }
        Ok(StepsPage { steps, continue_after: (count == STEPS_MAX).then_some(last) })
    }
}

impl Walk<'_> {
    /// The next few events; `None`: that was all.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn next_part(&mut self) -> Result<Option<Vec<Recorded>>, StoreError> {
        loop {
            while self.found.is_empty() && self.next_id <= self.last_id {
                self.look_further()?;
            }
            if self.found.is_empty() {
                return Ok(None);
            }
            let ids = self.found.drain(..STORIES_MAX.min(self.found.len()));
            let transaction = self.history.connection.unchecked_transaction()?;
            let mut part = Vec::new();
            for id in ids {
                // What is gone was pruned since its id was read.
                let Some(row) = self.history.event(id)? else { continue };
                part.push(Recorded { row, steps: self.history.steps_after(id, 0)? });
            }
            transaction.finish()?;
            if !part.is_empty() {
                return Ok(Some(part));
            }
        }
    }

    fn look_further(&mut self) -> Result<(), StoreError> {
        let Selection { contact_id, since_ms, until_ms } = &self.selection;
        let contact = if contact_id.is_some() { "contact = ?5" } else { "?5 IS NULL" };
        let sql = format!(
            "SELECT id FROM event WHERE id >= ?1 AND id < ?2 AND received_ms >= ?3 AND received_ms < ?4 \
             AND {contact} ORDER BY id"
        );
        let mut statement = self.history.connection.prepare_cached(&sql)?;
        let end = self.next_id.saturating_add(STRIDE).min(self.last_id.saturating_add(1));
        let range = params![
            self.next_id.cast_signed(),
            end.cast_signed(),
            since_ms.unwrap_or(i64::MIN),
            until_ms.unwrap_or(i64::MAX),
            contact_id,
        ];
        let mut rows = statement.query(range)?;
        while let Some(row) = rows.next()? {
            self.found.push_back(row.get::<_, i64>(0)?.cast_unsigned());
        }
        self.next_id = end;
        Ok(())
    }
}

/// A step; `None` of a kind that a newer dispod wrote: it is skipped, not guessed.
pub(super) fn read_step(event: u64, row: &Row<'_>) -> rusqlite::Result<Option<Step>> {
    let Some(kind) = StepKind::from_number(row.get(2)?) else { return Ok(None) };
    Ok(Some(Step {
        event,
        at_ms: row.get(1)?,
        kind,
        attempt: row.get(3)?,
        status: row.get(4)?,
        latency_ms: row.get(5)?,
        note: row.get(6)?,
    }))
}
