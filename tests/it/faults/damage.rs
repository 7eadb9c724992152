//! Cut and flipped bytes in every file of the store: the start is refused with words, or damaged events are dead as
//! `corrupt`. Never is there an event that was not sent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dispod::Error;
use dispod::config::StoreConfig;
use dispod::disposition::Mapping;
use dispod::event::CallResult;
use dispod::keep::DedupeKey;
use dispod::store::{
    Batch, Class, FILE_NAME, Filter, History, Kept, NewEvent, RESERVE_NAME, Settled, State, Step, StepKind,
    Store, StoreError, StoredEvent, Sync,
};

use crate::support::daemon::TempDir;

/// Events of each state in the store that gets damaged.
const EVENTS_PER_STATE: u64 = 30;
const STATES: [State; 4] = [State::Pending, State::Delivered, State::Dead, State::Dropped];
/// The seed of the damage; printed with what fails.
const SEED: u64 = 0xd15b;

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { dir: dir.to_owned(), ..StoreConfig::default() }
}

/// The event that is kept as number `number`, in the state it is brought to.
fn keep(batch: &mut Batch<'_>, number: u64, state: State, mapping: u32) -> Result<StoredEvent, StoreError> {
    let table = Mapping::default();
    let code = ["1001", "2001", "3001"][usize::try_from(number % 3).unwrap()];
    let contact = format!("contact-{:03}", number / 2);
    let call = CallResult::new(&contact, code, Some("ANSWERED"), Some(&format!("stamp {number}"))).unwrap();
    let category = table.category(code);
    let new = NewEvent {
        call: &call,
        key: DedupeKey::from_content(&call),
        received_ms: 1_700_000_000_000 + number.cast_signed(),
        category,
        severity: table.severity(category),
        mapping,
    };
    let Kept::New(event) = batch.keep(&new, 0)? else { panic!("a duplicate") };
    let settled = match state {
        State::Pending => Settled::default(),
        _ => Settled {
            at_ms: Some(1_700_000_100_000),
            status: Some(200),
            latency_ms: Some(7),
            reason: (state != State::Delivered).then(|| "rejected".to_owned()),
            answer: (state != State::Delivered).then(|| "no such contact".to_owned()),
        },
    };
    let stored = StoredEvent { event, state, settled };
    if state != State::Pending {
        batch.update(&stored)?;
    }
    batch.step(&Step {
        event: stored.event.id,
        at_ms: 1_700_000_000_500,
        kind: StepKind::Attempt,
        attempt: Some(1),
        status: Some(503),
        latency_ms: Some(9),
        note: Some("away".to_owned()),
    })?;
    Ok(stored)
}

/// Fills a store, one commit an event; what it holds, by id.
fn fill(store: &mut Store) -> BTreeMap<u64, StoredEvent> {
    let mapping = store.transact(Sync::Now, |batch| batch.record_mapping(&Mapping::default(), 1)).unwrap();
    (0..EVENTS_PER_STATE * STATES.len() as u64)
        .map(|number| {
            let state = STATES[usize::try_from(number).unwrap() % STATES.len()];
            let stored = store.transact(Sync::Later, |batch| keep(batch, number, state, mapping)).unwrap();
            (stored.event.id, stored)
        })
        .collect()
}

/// The files of a store as bytes, so that a damaged copy is quickly made.
struct Image {
    files: Vec<(&'static str, Vec<u8>)>,
    events: BTreeMap<u64, StoredEvent>,
}

impl Image {
    /// `closed`: everything is in the database; otherwise it is in the log, as after a kill.
    fn make(closed: bool) -> Self {
        const WAL: &str = "dispod.db-wal";
        let dir = TempDir::new();
        let mut store = Store::open(&config(dir.path())).unwrap();
        fs::write(dir.path().join(RESERVE_NAME), "").unwrap();
        let events = fill(&mut store);
        let mut kept_open = Some(store);
        if closed {
            kept_open = None;
        }
        let read = |name: &'static str| fs::read(dir.path().join(name)).ok().map(|bytes| (name, bytes));
        let files: Vec<_> = [FILE_NAME, WAL, RESERVE_NAME].into_iter().filter_map(read).collect();
        assert_eq!(files.iter().any(|(name, bytes)| *name == WAL && bytes.len() > 10_000), !closed);
        drop(kept_open);
        Self { files, events }
    }

    fn bytes(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|(file, _)| *file == name).unwrap().1
    }

    /// The store opened with one file as `damaged`.
    fn open_with(&self, name: &str, damaged: &[u8]) -> (TempDir, Result<Store, Error>) {
        let dir = TempDir::new();
        for (file, bytes) in &self.files {
            let bytes = if *file == name { damaged } else { bytes };
            fs::write(dir.path().join(file), bytes).unwrap();
        }
        let opened = Store::open(&config(dir.path()));
        (dir, opened)
    }

    /// What became of the events after damage called `what`; whether the store could be opened.
    fn check(&self, name: &str, damaged: &[u8], what: &str) -> Option<Found> {
        let (dir, opened) = self.open_with(name, damaged);
        let mut store = match opened {
            Ok(store) => store,
            Err(error) => {
                let words = error.to_string();
                assert_eq!(error.exit_status(), 1, "{what}: {words}");
                assert!(words.contains("Keep a copy"), "{what}: no advice in: {words}");
                return None;
            }
        };
        let mut found = Found::default();
        for class in Class::ALL {
            let rows = store.pending(class, 0, usize::MAX >> 1).unwrap();
            let damaged: Vec<u64> = rows.iter().filter_map(|row| row.as_ref().err().copied()).collect();
            store.bury_corrupt(&damaged, 1).unwrap();
            for event in rows.into_iter().flatten() {
                assert_eq!(event, self.events[&event.id].event, "{what}");
                assert_eq!(self.events[&event.id].state, State::Pending, "{what}");
                found.pending += 1;
            }
        }
        let history = History::open(dir.path()).unwrap();
        let (mut ids, mut sound_dead) = (0, 0);
        let every = |row: Result<StoredEvent, u64>| {
            ids += 1;
            match row {
                Ok(stored) => {
                    assert_eq!(stored, self.events[&stored.event.id], "{what}");
                    sound_dead += u64::from(stored.state == State::Dead);
                }
                Err(_) => found.corrupt += 1,
            }
            true
        };
        history.events(&Filter::default(), every).unwrap();
        found.events = ids;
        let (pending, dead) = store.count().unwrap();
        // Every damaged row is among the dead, whatever state it was in.
        assert_eq!((pending, dead), (found.pending, sound_dead + found.corrupt), "{what}");
        found.dead = dead;
        Some(found)
    }
}

#[derive(Debug, Default)]
struct Found {
    events: u64,
    pending: u64,
    dead: u64,
    corrupt: u64,
}

/// Runs `check` for every number, by two threads; gives how many could be opened.
fn for_each(numbers: std::ops::Range<u64>, check: impl Fn(u64) -> bool + std::marker::Sync) -> u64 {
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let (check, numbers) = (&check, numbers.clone());
            scope.spawn(move || numbers.filter(|number| number % 2 == half && check(*number)).count() as u64)
        });
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    })
}

/// Damage that leaves the length: a bit, a byte, or a few zeros.
fn flip(bytes: &[u8], round: u64) -> (Vec<u8>, String) {
    let mut random = fastrand::Rng::with_seed(SEED + round);
    let mut damaged = bytes.to_vec();
    // The header has a share of its own: it is small, and matters most.
    let offset = if round.is_multiple_of(4) { random.usize(..100) } else { random.usize(..bytes.len()) };
    match round % 3 {
        0 => damaged[offset] ^= 1 << random.u8(..8),
        1 => damaged[offset] = random.u8(..),
        _ => damaged[offset..].iter_mut().take(16).for_each(|byte| *byte = 0),
    }
    (damaged, format!("round {round} of {SEED}, offset {offset}"))
}

#[test]
fn flipped_bytes_in_the_database_make_events_dead_or_refuse_the_start() {
    const ROUNDS: u64 = 600;
    let image = Image::make(true);
    let whole = image.events.len() as u64;
    let corrupt = std::sync::atomic::AtomicU64::new(0);
    let opened = for_each(0..ROUNDS, |round| {
        let (damaged, what) = flip(image.bytes(FILE_NAME), round);
        let Some(found) = image.check(FILE_NAME, &damaged, &what) else { return false };
        // Nothing is gone: each is as it was, or dead and called corrupt.
        assert_eq!(found.events, whole, "{what}");
        assert!(found.pending + found.corrupt >= EVENTS_PER_STATE, "{what}: {found:?}");
        assert!(found.dead + found.corrupt >= EVENTS_PER_STATE, "{what}: {found:?}");
        corrupt.fetch_add(found.corrupt, std::sync::atomic::Ordering::Relaxed);
        true
    });
    println!(
        "{opened} of {ROUNDS} opened, {} rows corrupt",
        corrupt.load(std::sync::atomic::Ordering::Relaxed)
    );
    assert!((ROUNDS / 10..ROUNDS * 9 / 10).contains(&opened), "{opened} of {ROUNDS} opened");
    assert!(corrupt.into_inner() > 10);
}

#[test]
fn flipped_bytes_in_the_log_never_make_another_event() {
    const ROUNDS: u64 = 200;
    let image = Image::make(false);
    let opened = for_each(0..ROUNDS, |round| {
        let (damaged, what) = flip(image.bytes("dispod.db-wal"), round);
        image.check("dispod.db-wal", &damaged, &what).is_some()
    });
    assert!(opened > ROUNDS / 2, "{opened} of {ROUNDS} opened");
}

#[test]
fn a_truncated_database_is_refused_with_words_at_every_length() {
    const CUTS: u64 = 120;
    let image = Image::make(true);
    let bytes = image.bytes(FILE_NAME);
    let opened = for_each(0..CUTS, |cut| {
        let length = if cut < 20 {
            usize::try_from(cut).unwrap() * 51
        } else {
            bytes.len() * usize::try_from(cut).unwrap() / 120
        };
        image.check(FILE_NAME, &bytes[..length], &format!("cut at {length}")).is_some()
    });
    assert_eq!(opened, 0, "a part was taken for the whole");
}

#[test]
fn a_truncated_log_gives_what_was_kept_up_to_there() {
    const CUTS: u64 = 120;
    let image = Image::make(false);
    let bytes = image.bytes("dispod.db-wal");
    let last = std::sync::Mutex::new(BTreeMap::new());
    for_each(0..CUTS, |cut| {
        let length = bytes.len() * usize::try_from(cut).unwrap() / 120;
        let found = image.check("dispod.db-wal", &bytes[..length], &format!("cut at {length}"));
        last.lock().unwrap().insert(length, found.as_ref().map_or(0, |found| found.events));
        found.is_some()
    });
    let events: Vec<u64> = last.into_inner().unwrap().into_values().collect();
    assert!(events.is_sorted(), "{events:?}");
    assert!(events.iter().any(|count| (20..80).contains(count)), "{events:?}");
}

#[test]
fn one_damaged_row_of_a_large_store_is_dead_and_the_others_are_delivered() {
    // Too large to be looked through at the start.
    const BULK_BYTES: usize = 200_000;
    let dir = TempDir::new();
    let mut store = Store::open(&config(dir.path())).unwrap();
    let bulk = "x".repeat(BULK_BYTES);
    let ids = store.transact(Sync::Now, |batch| {
        (0..60)
            .map(|number| {
                let state = if number < 50 { State::Dead } else { State::Pending };
                let mut stored = keep(batch, number * 2, state, 1)?;
                if state == State::Dead {
                    stored.settled.answer = Some(bulk.clone());
                    batch.update(&stored)?;
                }
                Ok(stored.event.id)
            })
            .collect::<Result<Vec<_>, _>>()
    });
    drop(store);
    let path = dir.path().join(FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 9_000_000);
    let row = b"contact-0553001".as_slice();
    let place = bytes.windows(row.len()).position(|window| window == row).unwrap();
    bytes[place + 9] = b'9';
    fs::write(&path, &bytes).unwrap();

    let mut store = Store::open(&config(dir.path())).unwrap();
    let mut sound = Vec::new();
    for class in Class::ALL {
        let rows = store.pending(class, 0, 100).unwrap();
        let damaged: Vec<u64> = rows.iter().filter_map(|row| row.as_ref().err().copied()).collect();
        store.bury_corrupt(&damaged, 1).unwrap();
        sound.extend(rows.into_iter().flatten().map(|event| event.id));
    }
    sound.sort_unstable();
    let ids = ids.unwrap();
    let others: Vec<u64> = ids[50..].iter().copied().filter(|id| *id != ids[55]).collect();
    assert_eq!(sound, others);
    assert_eq!(store.count().unwrap(), (9, 51));
}
