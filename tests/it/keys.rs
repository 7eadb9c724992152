//! Idempotency keys: known wherever they are, in memory or in the table; the expired ones go, step by step.

use dispod::config::StoreConfig;
use dispod::disposition::Mapping;
use dispod::event::{CallResult, Severity};
use dispod::keep::DedupeKey;
use dispod::store::{Batch, Kept, NewEvent, OutboxRow, Settled, State, Store, StoreError, StoredEvent, Sync};

use crate::support::daemon::TempDir;

const KEYS: u32 = 1000;
const STEP: usize = 128;
const LONG_AGO_S: i64 = 1000;
const EXPIRED_BEFORE_S: i64 = 2000;
const LATELY_S: i64 = 3000;
/// So many events later a key is in the table: a lot is closed after 12,288 and written twice as fast as others come.
const A_LOT: u32 = 24 * 1024;
const BATCH: u32 = 512;
/// Room for their keys and some of their events.
const FULL_BYTES: u64 = 2560 * 1024;

fn open(dir: &TempDir) -> Store {
    Store::open(&StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() }).unwrap()
}

/// Keeps an event with the key `number` stands for, half of them from headers.
fn keep(batch: &mut Batch<'_>, number: u32, at_s: i64, since_s: i64) -> Result<Kept, StoreError> {
    let mapping = Mapping::default();
    let time = format!("2024-05-20T10:{:02}:{:02}Z", number / 60 % 60, number % 60);
    let call = CallResult::new(&format!("contact-{number}"), "1001", None, Some(&time)).unwrap();
    let key = match number % 4 {
        0 | 1 => DedupeKey::from_content(&call),
        _ => Some(DedupeKey::from_header(&number.to_string())),
    };
    let category = mapping.category("1001");
    let severity = mapping.severity(category);
    let new = NewEvent { call: &call, key, received_ms: at_s * 1000, category, severity, mapping: 1 };
    batch.keep(&new, since_s)
}

fn is_new(batch: &mut Batch<'_>, number: u32, at_s: i64) -> bool {
    matches!(keep(batch, number, at_s, 0).unwrap(), Kept::New(_))
}

/// Keeps events of these numbers, all of them new, and says that they were delivered.
fn keep_all(store: &mut Store, numbers: std::ops::Range<u32>) {
    for first in numbers.clone().step_by(BATCH as usize) {
        store
            .transact(Sync::Later, |batch| {
                for number in first..numbers.end.min(first + BATCH) {
                    let Kept::New(event) = keep(batch, number, LATELY_S, 0)? else {
                        panic!("{number} is new")
                    };
                    batch.update(&StoredEvent {
                        event,
                        state: State::Delivered,
                        settled: Settled::default(),
                    })?;
                }
                Ok(())
            })
            .unwrap();
    }
}

/// Those of the numbers that are no duplicates; nothing is kept.
fn unknown(store: &mut Store, mut numbers: std::ops::Range<u32>) -> Option<u32> {
    let mut found = None;
    let refused = store.transact(Sync::Later, |batch| {
        found = numbers.find(|number| is_new(batch, *number, LATELY_S));
        Err::<(), _>(StoreError::Busy)
    });
    assert!(matches!(refused, Err(StoreError::Busy)));
    found
}

/// How many keys lie in the table.
fn in_table(dir: &TempDir) -> u32 {
    let connection = rusqlite::Connection::open(dir.path().join("dispod.db")).unwrap();
    connection.query_row("SELECT count(*) FROM seen", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_key_is_known_in_memory_in_a_lot_in_the_table_and_after_a_start() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    // In memory only; and as if killed, since the end of a store writes none.
    keep_all(&mut store, 0..KEYS);
    assert_eq!(in_table(&dir), 0);
    assert_eq!(unknown(&mut store, 0..KEYS), None);
    drop(store);
    let mut store = open(&dir);
    assert_eq!(unknown(&mut store, 0..KEYS), None);
    // Until some of a lot is written, and some is not.
    let mut kept = KEYS;
    while in_table(&dir) == 0 {
        keep_all(&mut store, kept..kept + BATCH);
        kept += BATCH;
    }
    assert!(in_table(&dir) < kept - BATCH);
    assert_eq!(unknown(&mut store, 0..kept), None);
    drop(store);
    let mut store = open(&dir);
    assert_eq!(unknown(&mut store, 0..kept), None);
    keep_all(&mut store, kept..kept + A_LOT);
    assert!(in_table(&dir) > kept);
    assert_eq!(unknown(&mut store, 0..kept + A_LOT), None);
    drop(store);
    assert_eq!(unknown(&mut open(&dir), 0..kept + A_LOT), None);
    assert_eq!(unknown(&mut open(&dir), kept + A_LOT..kept + A_LOT + 1), Some(kept + A_LOT));
}

#[test]
fn events_without_a_key_are_not_read_at_every_start() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    let call = CallResult::new("contact", "1001", None, None).unwrap();
    let (category, severity) = ("do_not_call", Severity::Critical);
    let new = NewEvent { call: &call, key: None, received_ms: 0, category, severity, mapping: 1 };
    for _ in 0..A_LOT / BATCH {
        store
            .transact(Sync::Later, |batch| (0..BATCH).try_for_each(|_| batch.keep(&new, 0).map(|_| ())))
            .unwrap();
        // A settlement's transaction keeps nothing.
        store.transact(Sync::Later, |_| Ok(())).unwrap();
    }
    let file = rusqlite::Connection::open(dir.path().join("dispod.db")).unwrap();
    let through: u32 =
        file.query_row("SELECT value FROM meta WHERE name = 'keys_through'", [], |row| row.get(0)).unwrap();
    assert!(through > A_LOT / 4, "{through}");
}

#[test]
fn a_key_outlives_its_event() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    keep_all(&mut store, 0..KEYS);
    let forgotten = store.transact(Sync::Now, |batch| batch.prune_history(0, i64::MAX, KEYS as usize));
    // The newest row stays.
    assert_eq!(forgotten.unwrap().events, KEYS as usize - 1);
    assert_eq!(unknown(&mut store, 0..KEYS), None);
    drop(store);
    assert_eq!(unknown(&mut open(&dir), 0..KEYS), None);
}

#[test]
fn a_key_outlives_its_event_that_a_subscriber_did_not_come_for() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    keep_all(&mut store, 0..KEYS);
    let forgotten = store.transact(Sync::Now, |batch| {
        for position in 1..u64::from(KEYS) {
            let severity = Some(Severity::Critical);
            batch.publish(OutboxRow { position, event: position, severity })?;
        }
        batch.forget_outbox(u64::MAX >> 1, KEYS as usize)
    });
    assert_eq!(forgotten.unwrap(), KEYS as usize - 1);
    drop(store);
    assert_eq!(unknown(&mut open(&dir), 0..KEYS), None);
}

#[test]
fn a_key_of_a_transaction_that_did_not_happen_is_not_known() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    keep_all(&mut store, 0..1);
    assert_eq!(unknown(&mut store, 0..KEYS), Some(1));
    assert_eq!(unknown(&mut store, 0..KEYS), Some(1), "and neither is it the second time");
    // Nor is what replaced an expired one: the old one is known as before.
    let refused = store.transact(Sync::Now, |batch| {
        assert!(matches!(keep(batch, 0, LATELY_S + 10, LATELY_S + 1).unwrap(), Kept::New(_)));
        Err::<(), _>(StoreError::Busy)
    });
    assert!(refused.is_err());
    let expired =
        |batch: &mut Batch<'_>, since_s| Ok(matches!(keep(batch, 0, LATELY_S, since_s)?, Kept::New(_)));
    assert!(!store.transact(Sync::Now, |batch| expired(batch, LATELY_S)).unwrap());
    assert!(store.transact(Sync::Now, |batch| expired(batch, LATELY_S + 1)).unwrap());
}

#[test]
fn the_expired_ones_are_forgotten_step_by_step_and_no_others() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    let is_old = |number: u32| number.is_multiple_of(2);
    store
        .transact(Sync::Now, |batch| {
            for number in 0..KEYS {
                assert!(is_new(batch, number, if is_old(number) { LONG_AGO_S } else { LATELY_S }));
            }
            Ok(())
        })
        .unwrap();
    keep_all(&mut store, KEYS..KEYS + A_LOT);
    let (mut steps, looked_at) = (0, in_table(&dir));
    let mut after = Vec::new();
    while let Some(last) =
        store.transact(Sync::Now, |batch| batch.prune_seen(&after, EXPIRED_BEFORE_S, STEP)).unwrap()
    {
        assert!(last > after, "it goes on");
        after = last;
        steps += 1;
    }
    assert_eq!(steps, u64::from(looked_at).div_ceil(STEP as u64));
    let new_again = store.transact(Sync::Now, |batch| {
        Ok((0..KEYS).filter(|number| is_new(batch, *number, LATELY_S)).collect::<Vec<_>>())
    });
    assert_eq!(new_again.unwrap(), (0..KEYS).filter(|n| is_old(*n)).collect::<Vec<_>>());
}

#[test]
fn an_event_that_cannot_be_read_costs_its_own_key_at_most() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    keep_all(&mut store, 0..KEYS);
    drop(store);
    let file = rusqlite::Connection::open(dir.path().join("dispod.db")).unwrap();
    for damage in ["received_ms = 'x' WHERE id = 1", "key = 'x' WHERE id = 2", "contact = x'ff' WHERE id = 3"]
    {
        file.execute_batch(&format!("UPDATE event SET {damage}")).unwrap();
    }
    drop(file);
    let mut store = open(&dir);
    assert_eq!(unknown(&mut store, 3..KEYS), None);
    assert_eq!(unknown(&mut store, 0..1), Some(0));
}

#[test]
fn a_full_store_loses_no_key() {
    let dir = TempDir::new();
    let config =
        StoreConfig { dir: dir.path().to_owned(), max_size_bytes: FULL_BYTES, ..StoreConfig::default() };
    let mut store = Store::open(&config).unwrap();
    let (mut kept, mut after, mut refused) = (0, 0, 0);
    while kept < A_LOT {
        let settled = |event| StoredEvent { event, state: State::Delivered, settled: Settled::default() };
        let batch = store.transact(Sync::Later, |batch| {
            (kept..kept + BATCH).try_for_each(|number| match keep(batch, number, LATELY_S, 0)? {
                Kept::New(event) => batch.update(&settled(event)),
                Kept::Before(id) => panic!("{number} is not event {id}"),
            })
        });
        match batch {
            Ok(()) => kept += BATCH,
            Err(StoreError::Full) => {
                refused += 1;
                let pruned = store
                    .transact(Sync::Later, |batch| batch.prune_history(after, i64::MAX, BATCH as usize / 2));
                after = pruned.unwrap().looked_through.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }

    assert!(refused > 5, "full only {refused} times");
    assert_eq!(unknown(&mut store, 0..kept), None);
    drop(store);
    assert_eq!(unknown(&mut Store::open(&config).unwrap(), 0..kept), None);
}

/// As version 1 of the schema had it: every key in the table.
#[test]
fn a_store_from_before_keys_were_held_in_memory_is_taken_over() {
    let dir = TempDir::new();
    let mut store = open(&dir);
    // The newest row stays when the others are forgotten, and so does its key in memory.
    keep_all(&mut store, 0..A_LOT + 1);
    let written = in_table(&dir);
    store.transact(Sync::Now, |batch| batch.prune_history(0, i64::MAX, A_LOT as usize)).unwrap();
    assert!(in_table(&dir) > written);
    drop(store);
    let file = rusqlite::Connection::open(dir.path().join("dispod.db")).unwrap();
    file.execute_batch(
        "DELETE FROM meta WHERE name = 'keys_through'; ALTER TABLE event DROP COLUMN key; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(file);
    let mut store = open(&dir);
    assert_eq!(unknown(&mut store, 0..A_LOT), None);
    let more = A_LOT + 1..A_LOT + 1 + KEYS;
    keep_all(&mut store, more.clone());
    drop(store);
    assert_eq!(unknown(&mut open(&dir), more), None);
}
