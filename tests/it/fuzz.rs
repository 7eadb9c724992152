//! What comes from outside, mutated by chance from a corpus in `tests/data/fuzz`: nothing panics, what is accepted
//! is within its limits, and what is written reads back the same. The same rounds each time; with `FUZZ_ROUNDS` in
//! the environment as many others as wished, from another seed each time.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use dispod::backoff;
use dispod::config::{Config, StoreConfig, WebhookConfig};
use dispod::disposition::Mapping;
use dispod::event::CallResult;
use dispod::keep::DedupeKey;
use dispod::store::{FILE_NAME, Filter, History, Kept, NewEvent, Settled, State, Store, StoredEvent, Sync};
use fastrand::Rng;

use crate::door;
use crate::support::daemon::TempDir;

const ROUNDS: usize = 20_000;
const SEED: u64 = 0xd15_b0d;
/// Bytes that mean something to one parser or another.
const TOKENS: [&[u8]; 20] = [
    b"\"",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"null",
    b"-0",
    b"1e999",
    b"\r\n",
    b"\n",
    b"\0",
    b":",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"contactId",
    b"\xff",
    b"\xf0\x9f\x98\x80",
    b"99999999999999999999",
    b"=",
    b"'''",
];

/// Rounds and seed of a run.
fn rounds(standard: usize) -> (usize, u64) {
    match std::env::var("FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()) {
        Some(rounds) => (rounds, fastrand::u64(..)),
        None => (standard, SEED),
    }
}

/// The files of a corpus.
fn corpus(directory: &str, extension: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(directory);
    let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(paths.len() >= 4, "no corpus in {}", directory.display());
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One of the corpus, changed a little.
fn mutate(random: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=bytes.len());
        let to = random.usize(at..=(at + 20).min(bytes.len()));
        match random.u8(..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            4 => bytes.truncate(at),
            5 => {
                let other = &corpus[random.usize(..corpus.len())];
                bytes.splice(at.., other[random.usize(..=other.len())..].iter().copied());
            }
            _ => {
                let token = TOKENS[random.usize(..TOKENS.len())];
                bytes.splice(at..to, token.iter().copied());
            }
        }
    }
    bytes
}

/// Runs `check` for the corpus as it is, then for what becomes of it. A panic is told with its input.
fn fuzz(corpus: &[Vec<u8>], standard: usize, mut check: impl FnMut(&[u8])) {
    let (rounds, seed) = rounds(standard);
    let mut random = Rng::with_seed(seed);
    let mut tell = Told { seed, input: Vec::new() };
    for round in 0..corpus.len() + rounds {
        tell.input = corpus.get(round).cloned().unwrap_or_else(|| mutate(&mut random, corpus));
        check(&tell.input);
    }
}

/// Says on a panic what caused it.
struct Told {
    seed: u64,
    input: Vec<u8>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, input {:?}", self.seed, String::from_utf8_lossy(&self.input));
        }
    }
}

#[test]
fn an_event_is_within_its_limits_and_reads_back_the_same() {
    let mut taken = 0;
    fuzz(&corpus("fuzz/events", "json"), ROUNDS, |body| match CallResult::parse(body) {
        Ok(call) => {
            taken += 1;
            let parts = [
                Some(call.contact_id()),
                Some(call.disposition_code()),
                call.call_result(),
                call.timestamp(),
            ];
            for (part, max_bytes) in parts.into_iter().zip([256, 128, 256, 256]) {
                let part = part.unwrap_or("absent");
                assert!(
                    (1..=max_bytes).contains(&part.len()) && !part.chars().any(char::is_control),
                    "{call:?}"
                );
            }
            let again = serde_json::json!({
                "contactId": parts[0], "dispositionCode": parts[1], "callResult": parts[2], "timestamp": parts[3],
            });
            assert_eq!(CallResult::parse(again.to_string().as_bytes()).as_ref(), Ok(&call));
            assert_eq!(DedupeKey::from_content(&call).is_some(), call.timestamp().is_some());
        }
        Err(error) => assert!((1..200).contains(&error.to_string().len()), "{error}"),
    });
    assert!(taken > ROUNDS / 50, "only {taken} were events");
}

#[test]
fn a_configuration_is_refused_with_words_or_reads_back_the_same() {
    // Parsing one takes long.
    const CONFIGS: usize = ROUNDS / 4;
    const SECRET: &str = "\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    let mut taken = 0;
    fuzz(&corpus("valid", "toml"), CONFIGS, |text| {
        let text = String::from_utf8_lossy(text);
        match Config::from_toml(&text) {
            Ok(config) => {
                taken += 1;
                let written = config.to_toml();
                let again = Config::from_toml(&written.replace("\"***\"", SECRET));
                let again = again.unwrap_or_else(|error| panic!("{error}\n{written}"));
                assert_eq!(again.to_toml(), written);
            }
            Err(error) => assert!(error.is_config() && !error.to_string().is_empty()),
        }
    });
    assert!(taken > CONFIGS / 50, "only {taken} were configurations");
}

#[test]
fn retry_after_is_a_wait_or_nothing() {
    const NOW_S: u64 = 1_700_000_000;
    let corpus =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz/retry_after.txt"));
    let corpus: Vec<_> = corpus.unwrap().lines().map(|line| line.as_bytes().to_vec()).collect();
    assert!(corpus.len() > 10);
    fuzz(&corpus, ROUNDS, |value| {
        let value = String::from_utf8_lossy(value);
        let wait = backoff::retry_after(&value, NOW_S);
        if let Ok(seconds) = value.trim().parse::<u64>() {
            assert_eq!(wait, Some(Duration::from_secs(seconds)));
        }
    });
}

#[test]
fn a_request_is_answered_once_for_each_event_it_brings() {
    const REQUESTS: usize = ROUNDS / 10;
    const AT_ONCE: usize = 4;
    // Each leaves its port unused for a minute.
    const CONNECTIONS_MAX: usize = 20_000;
    let second = Duration::from_secs(1);
    let door = door::open_with(&WebhookConfig { read_timeout: second, ..door::config() });
    let corpus = corpus("fuzz/requests", "http");
    let acknowledged = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for part in 0..AT_ONCE {
            let (door, corpus, acknowledged) = (&door, &corpus, &acknowledged);
            scope.spawn(move || {
                let (rounds, seed) = rounds(REQUESTS);
                let mut random = Rng::with_seed(seed + part as u64);
                for _ in 0..rounds.min(CONNECTIONS_MAX) / AT_ONCE {
                    let request = mutate(&mut random, corpus);
                    let answers = send(door, &request);
                    let count = answers.matches("\r\n\r\nReceived").count()
                        + answers.matches("{\"status\":\"received\"}").count();
                    acknowledged.fetch_add(count, SeqCst);
                    let words = String::from_utf8_lossy(&request).into_owned();
                    assert!(answers.is_empty() || answers.starts_with("HTTP/1."), "{words:?}: {answers:?}");
                }
            });
        }
    });
    door.assert_serves();
    assert_eq!(door.kept_count(), acknowledged.load(SeqCst) + 1);
    assert!(acknowledged.into_inner() > REQUESTS / 50);
    assert!(door.failures.is_empty());
    door.close();
}

/// All that comes back for these bytes, sent and ended.
fn send(door: &door::Door, request: &[u8]) -> String {
    let mut stream = door.connect();
    // It may have been refused before it was all sent.
    let _ = std::io::Write::write_all(&mut stream, request);
    door::finish(&stream);
    let (_, answers) = door::read_to_end(&mut stream);
    String::from_utf8_lossy(&answers).into_owned()
}

/// A store with one event of each state.
fn events(dir: &Path) -> Vec<StoredEvent> {
    let mut store = Store::open(&StoreConfig { dir: dir.to_owned(), ..StoreConfig::default() }).unwrap();
    let stored = store.transact(Sync::Now, |batch| {
        let mapping = batch.record_mapping(&Mapping::default(), 1)?;
        let states = [State::Pending, State::Delivered, State::Dead, State::Dropped];
        let keep = |(number, state): (i64, State)| {
            let call = CallResult::new("1234567890", "1001", Some("ANSWERED"), Some("2024-05-20T10:00:00Z"));
            let new = NewEvent {
                call: &call.unwrap(),
                key: None,
                received_ms: 1_700_000_000_000 + number,
                category: "do_not_call",
                severity: dispod::Severity::Critical,
                mapping,
            };
            let Kept::New(event) = batch.keep(&new, 0)? else { panic!("a duplicate") };
            let settled = match state {
                State::Pending => Settled::default(),
                _ => Settled { at_ms: Some(2), status: Some(200), latency_ms: Some(3), ..Settled::default() },
            };
            let stored = StoredEvent { event, state, settled };
            batch.update(&stored)?;
            Ok(stored)
        };
        (0..).zip(states).map(keep).collect()
    });
    stored.unwrap()
}

fn value(random: &mut Rng) -> rusqlite::types::Value {
    use rusqlite::types::Value;
    const NUMBERS: [i64; 8] = [0, 1, 2, -1, 200, i64::MAX, i64::MIN, 1 << 40];
    let length = random.usize(..12);
    match random.u8(..5) {
        0 => Value::Null,
        1 => Value::Integer(NUMBERS[random.usize(..NUMBERS.len())]),
        2 => Value::Real(random.f64() * 1e300),
        3 => Value::Text(std::iter::repeat_with(|| random.alphanumeric()).take(length).collect()),
        _ => Value::Blob(std::iter::repeat_with(|| random.u8(..)).take(length).collect()),
    }
}

#[test]
fn a_row_that_was_changed_is_never_taken_for_an_event() {
    const ROWS: usize = ROUNDS / 4;
    const COLUMNS: [&str; 19] = [
        "state",
        "severity",
        "place",
        "attempts",
        "mapping",
        "received_ms",
        "contact",
        "code",
        "result",
        "stamp",
        "category",
        "revived_ms",
        "due_ms",
        "settled_ms",
        "status",
        "latency_ms",
        "reason",
        "answer",
        "crc",
    ];
    let dir = TempDir::new();
    let events = events(dir.path());
    let other = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let history = History::open(dir.path()).unwrap();
    let (rounds, seed) = rounds(ROWS);
    let mut random = Rng::with_seed(seed);
    let mut damaged = 0;
    for _ in 0..rounds {
        let original = &events[random.usize(..events.len())];
        let (id, column, value) =
            (original.event.id, COLUMNS[random.usize(..COLUMNS.len())], value(&mut random));
        let before: rusqlite::types::Value = other
            .query_row(&format!("SELECT {column} FROM event WHERE id = ?1"), [id.cast_signed()], |row| {
                row.get(0)
            })
            .unwrap();
        let set = format!("UPDATE event SET {column} = ?2 WHERE id = ?1");
        // NOT NULL columns refuse it.
        if other.execute(&set, rusqlite::params![id.cast_signed(), value]).is_err() {
            continue;
        }
        match history.event(id).unwrap().expect("a row") {
            Ok(stored) => assert_eq!(&stored, original, "seed {seed}: {column} = {value:?}"),
            Err(found) => {
                assert_eq!(found, id);
                damaged += 1;
            }
        }
        let mut rows = 0;
        history
            .events(&Filter::default(), |_| {
                rows += 1;
                true
            })
            .unwrap();
        assert_eq!(rows, events.len(), "seed {seed}: {column} = {value:?}");
        other.execute(&set, rusqlite::params![id.cast_signed(), before]).unwrap();
    }
    assert!(damaged > rounds / 2, "{damaged} of {rounds} were found out");
}
