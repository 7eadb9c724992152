//! Idempotency keys: the newest are held in memory, the others lie in the table `seen`.
//!
//! Keys come in no order, and written one by one each costs a page of its own. So they are held until there is a lot
//! of them, and the lot is written in the order of the keys, a portion with each transaction that keeps: neighbours
//! share their pages. Nothing is in memory alone: what is held follows from the rows of the events behind
//! `keys_through` (table `meta`), and is read from them at the start.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::write::{Batch, Each, Outcome};
use crate::event::CallResult;
use crate::keep::DedupeKey;

/// A lot is closed when the events since the last one are so many: its table has 16,384 places then, half a megabyte...
const LOT_EVENTS_MAX: u64 = 12 * 1024;
/// ...or after this time, about the one within which keys lie together (see [`DedupeKey`]).
const LOT_AGE: Duration = Duration::from_secs(1);
/// Keys of a lot written by a transaction that keeps, at least...
const PORTION_MIN: usize = 64;
/// ...or for each event kept so many, so that a lot is written before the next one is closed.
const PORTION_PER_EVENT: usize = 2;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    /// The event it was kept with.
    event: u64,
    /// When, Unix seconds.
    kept_s: i64,
}

type Bytes = [u8; 16];

/// The keys of the newest events.
pub(super) struct Keys {
    /// Of the events since the last lot was closed.
    young: HashMap<Bytes, Held>,
    /// When that was; `None`: before the start, and they are a lot at once.
    young_since: Option<Instant>,
    /// The lot being written, in order.
    lot: Vec<(Bytes, Held)>,
    /// The first keys of the lot that are written.
    written: usize,
    /// The last event whose key is in the lot; behind it are the young.
    lot_through: u64,
    /// There is a lot, and not all of it is written or `keys_through` does not say so.
    writing: bool,
    /// This transaction makes `keys_through` say so.
    finished: bool,
    /// What this transaction added, with what it replaced...
    added: Vec<(Bytes, Option<Held>)>,
    /// ...and what of the lot was written before it.
    written_before: usize,
}

impl Keys {
    /// The keys of the events that are not yet in the table.
    pub(super) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let through: i64 =
            connection
                .query_row("SELECT value FROM meta WHERE name = 'keys_through'", [], |row| row.get(0))?;
        let last: Option<i64> = connection.query_row("SELECT max(id) FROM event", [], |row| row.get(0))?;
        // Whoever has taken rows out of the table has not taken this back.
        let through = through.clamp(0, last.unwrap_or(0).max(0));
        let mut statement = connection.prepare(
            "SELECT id, received_ms, key, contact, code, result, stamp FROM event WHERE id > ?1 ORDER BY id",
        )?;
        let keys = statement.query_map([through], |row| Ok(key_of(row)))?;
        let young = keys.filter_map(Result::transpose).collect::<Result<HashMap<_, _>, _>>()?;
        Ok(Self {
            young_since: young.is_empty().then(Instant::now),
            young,
            lot: Vec::new(),
            written: 0,
            lot_through: through.cast_unsigned(),
            writing: false,
            finished: false,
            added: Vec::new(),
            written_before: 0,
        })
    }

    fn find(&self, key: &Bytes) -> Option<Held> {
        let in_lot = || self.lot.binary_search_by(|(other, _)| other.cmp(key)).ok();
        self.young.get(key).copied().or_else(|| in_lot().map(|place| self.lot[place].1))
    }

    fn add(&mut self, key: Bytes, held: Held) {
        let before = self.young.insert(key, held);
        self.added.push((key, before));
    }

    /// The transaction is on the disk; `last` is the last id given. Closes a lot when it is time.
    pub(super) fn committed(&mut self, last: u64) {
        self.added.clear();
        self.written_before = self.written;
        if std::mem::take(&mut self.finished) {
            self.writing = false;
            self.lot.clear();
            (self.written, self.written_before) = (0, 0);
        }
        if self.writing || last <= self.lot_through {
            return;
        }
        let now = Instant::now();
        let old = self.young_since.is_none_or(|since| now - since >= LOT_AGE);
        if old || last - self.lot_through >= LOT_EVENTS_MAX {
            self.lot.extend(self.young.drain());
            self.lot.sort_unstable_by_key(|(key, _)| *key);
            self.lot_through = last;
            self.writing = true;
            self.young_since = Some(now);
        }
    }

    /// The transaction did not happen.
    pub(super) fn undo(&mut self) {
        for (key, before) in self.added.drain(..).rev() {
            match before {
                Some(before) => self.young.insert(key, before),
                None => self.young.remove(&key),
            };
        }
        self.written = self.written_before;
        self.finished = false;
    }
}

/// An event's key; `None` if it has none, or cannot be trusted, which is found elsewhere.
fn key_of(row: &Row<'_>) -> Option<(Bytes, Held)> {
    let number = |index: usize| row.get::<_, i64>(index).ok();
    let text = |index: usize| row.get_ref(index).ok()?.as_str_or_null().ok().flatten();
    let held = Held { event: number(0)?.cast_unsigned(), kept_s: number(1)? / 1000 };
    let key = if let Some(given) = row.get(2).ok()? {
        DedupeKey::Given(given)
    } else {
        let call = CallResult::new(text(3)?, text(4)?, text(5), text(6)).ok()?;
        DedupeKey::from_content(&call)?
    };
    Some((*key.bytes(), held))
}

impl Batch<'_> {
    /// The event a key was kept with after `since_s` (Unix seconds).
    pub(super) fn kept_with(&mut self, key: &DedupeKey, since_s: i64) -> Outcome<Option<u64>> {
        let key = key.bytes();
        if let Some(held) = self.keys.find(key).filter(|held| held.kept_s >= since_s) {
            return Ok(Some(held.event));
        }
        let event = self.each(Each::FindKey)?.query_row(params![key, since_s], |row| row.get::<_, i64>(0));
        Ok(event.optional()?.map(i64::cast_unsigned))
    }

    /// Holds the key of an event that is kept.
    pub(super) fn hold(&mut self, key: &DedupeKey, event: u64, kept_s: i64) {
        self.keys.add(*key.bytes(), Held { event, kept_s });
    }

    /// Writes a portion of the lot, after so many events were kept.
    pub(super) fn write_keys(&mut self, kept: usize) -> Outcome<()> {
        if !self.keys.writing || kept == 0 {
            return Ok(());
        }
        let portion = PORTION_MIN.max(kept * PORTION_PER_EVENT);
        let end = self.keys.lot.len().min(self.keys.written + portion);
        for place in self.keys.written..end {
            self.write_key(self.keys.lot[place])?;
        }
        if end == self.keys.lot.len() {
            self.prepare("UPDATE meta SET value = ?1 WHERE name = 'keys_through'")?
                .execute([self.keys.lot_through.cast_signed()])?;
            self.keys.finished = true;
        }
        self.keys.written = end;
        Ok(())
    }

    /// Writes the keys of these events that are not written yet: their rows are gone.
    pub(super) fn write_keys_of(&mut self, forgotten: &HashSet<u64>) -> Outcome<()> {
        if forgotten.is_empty() {
            return Ok(());
        }
        let lot = self.keys.lot.iter().skip(self.keys.written).copied();
        let young = self.keys.young.iter().map(|(key, held)| (*key, *held));
        let keys: Vec<_> = lot.chain(young).filter(|(_, held)| forgotten.contains(&held.event)).collect();
        keys.into_iter().try_for_each(|key| self.write_key(key))
    }

    fn write_key(&mut self, (key, held): (Bytes, Held)) -> Outcome<()> {
        self.each(Each::WriteKey)?.execute(params![key, held.event.cast_signed(), held.kept_s])?;
        Ok(())
    }

    /// Looks at up to `limit` keys of the table behind `after` and forgets those kept before `before_s`. Gives the last
    /// one looked at; `None`: there are no more.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn prune_seen(&mut self, after: &[u8], before_s: i64, limit: usize) -> Outcome<Option<Vec<u8>>> {
        let last: Option<Vec<u8>> = self
            .prepare("SELECT max(key) FROM (SELECT key FROM seen WHERE key > ?1 ORDER BY key LIMIT ?2)")?
            .query_row(params![after, limit.cast_signed() as i64], |row| row.get(0))?;
        if let Some(last) = &last {
            self.prepare("DELETE FROM seen WHERE key > ?1 AND key <= ?2 AND kept_s < ?3")?
                .execute(params![after, last, before_s])?;
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = LOT_EVENTS_MAX;

    /// Keys that have just closed a lot.
    fn keys() -> Keys {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE meta(name, value); INSERT INTO meta VALUES('keys_through', 0); \
                 CREATE TABLE event(id, received_ms, key, contact, code, result, stamp)",
            )
            .unwrap();
        let mut keys = Keys::read(&connection).unwrap();
        for event in 1..=MANY {
            keys.add(u128::from(MANY - event).to_be_bytes(), Held { event, kept_s: 1 });
        }
        keys.committed(MANY);
        keys
    }

    #[test]
    fn a_portion_whose_commit_failed_is_written_again() {
        let mut keys = keys();
        assert!(keys.writing && keys.lot.is_sorted_by_key(|(key, _)| *key));
        keys.written = 64;
        keys.undo();
        assert_eq!(keys.written, 0);
        keys.written = 64;
        keys.committed(MANY);
        (keys.written, keys.finished) = (keys.lot.len(), true);
        keys.undo();
        assert!(!keys.finished);
        assert_eq!((keys.written, keys.lot.len() as u64), (64, MANY));
    }

    #[test]
    fn a_lot_is_given_up_when_it_is_written_and_the_next_one_closed() {
        let mut keys = keys();
        keys.add([1; 16], Held { event: MANY + 1, kept_s: 1 });
        keys.committed(MANY + 1);
        assert_eq!((keys.young.len(), keys.lot_through), (1, MANY), "one lot at a time");
        (keys.written, keys.finished) = (keys.lot.len(), true);
        keys.committed(MANY + 1);
        assert!(keys.lot.is_empty() && !keys.writing && keys.find(&[1; 16]).is_some());
        keys.committed(2 * MANY);
        assert_eq!((keys.young.len(), keys.lot.len(), keys.lot_through), (0, 1, 2 * MANY));
    }
}
