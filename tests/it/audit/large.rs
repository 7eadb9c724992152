//! Large, odd and damaged stores, made without a daemon.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use dispod::config::StoreConfig;
use dispod::disposition::Mapping;
use dispod::event::CallResult;
use dispod::store::{Batch, Kept, NewEvent, Settled, State, Step, StepKind, Store, StoredEvent, Sync};
use rusqlite::Connection;

use super::*;
use crate::child::memory_kib;
use crate::support::daemon::TempDir;

const EVENTS: usize = 30_000;
/// More steps than are read at once, and not a multiple of that.
const DUPLICATES: i64 = 1_000;
const MEMORY_MAX_KIB: usize = 32 * 1024;
const START_MS: i64 = 1_716_199_200_000;

/// A store with what `fill` puts into it, and a configuration that leads to it.
fn store(fill: impl FnOnce(&mut Batch<'_>, u32)) -> TempDir {
    let dir = TempDir::new();
    fs::write(dir.path().join("dispod.toml"), "[store]\ndir = \"data\"\n").unwrap();
    let config = StoreConfig { dir: dir.path().join("data"), ..StoreConfig::default() };
    let mut store = Store::open(&config).unwrap();
    store
        .transact(Sync::Now, |batch| {
            let mapping = batch.record_mapping(&Mapping::default(), START_MS)?;
            fill(batch, mapping);
            Ok(())
        })
        .unwrap();
    dir
}

fn delivered(batch: &mut Batch<'_>, mapping: u32, contact: &str, at_ms: i64) -> u64 {
    let call = CallResult::new(contact, "1001", Some("ANSWERED"), None).unwrap();
    let (category, severity) = ("do_not_call", dispod::Severity::Critical);
    let new = NewEvent { call: &call, key: None, received_ms: at_ms, category, severity, mapping };
    let Kept::New(mut event) = batch.keep(&new, 0).unwrap() else { panic!("kept before") };
    event.attempts = 2;
    let id = event.id;
    let settled =
        Settled { at_ms: Some(at_ms + 500), status: Some(200), latency_ms: Some(20), ..Settled::default() };
    batch.step(&step(id, at_ms + 100, StepKind::Attempt)).unwrap();
    batch.update(&StoredEvent { event, state: State::Delivered, settled }).unwrap();
    id
}

fn step(event: u64, at_ms: i64, kind: StepKind) -> Step {
    Step { event, at_ms, kind, attempt: None, status: None, latency_ms: None, note: None }
}

fn start(dir: &Path, arguments: &[&str]) -> Child {
    dispod(dir, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_store_and_a_reader_may_leave() {
    let dir = store(|batch, mapping| {
        for number in 0..EVENTS {
            let at_ms = START_MS + i64::try_from(number).unwrap();
            delivered(batch, mapping, &format!("contact-{}", number % 5_000), at_ms);
        }
    });
    for format in ["table", "jsonl", "csv"] {
        let mut child = start(dir.path(), &["audit", "--format", format]);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut told, mut last_kib) = (0, 0);
        for line in lines {
            told += usize::from(line.unwrap().contains("delivered"));
            // Far enough from the end for the process to be there still: the pipe and its buffer hold less.
            if told == EVENTS - 2_000 {
                last_kib = memory_kib(child.id(), "VmHWM");
            }
        }
        assert!(child.wait().unwrap().success());
        assert!(told >= EVENTS, "{told} in {format}");
        assert!((1..MEMORY_MAX_KIB).contains(&last_kib), "{last_kib} KiB for {format}");
        println!("{format}: {last_kib} KiB");
    }
    assert_eq!(records(dir.path(), &["audit", "--contact", "contact-4711"]).len(), EVENTS / 5_000 * 4);

    for format in ["table", "jsonl", "csv"] {
        let mut child = start(dir.path(), &["audit", "--format", format]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{format}: {output:?}");
    }
}

#[test]
fn any_number_of_steps_is_told_in_order() {
    let dir = store(|batch, mapping| {
        let id = delivered(batch, mapping, "often", START_MS);
        for number in 0..DUPLICATES {
            batch.step(&step(id, START_MS + 200 + number, StepKind::Duplicate)).unwrap();
        }
        delivered(batch, mapping, "once", START_MS);
    });
    let told = records(dir.path(), &["audit", "--contact", "often"]);
    assert_eq!(told.len(), usize::try_from(DUPLICATES).unwrap() + 4);
    let times: Vec<&str> = told.iter().map(|record| record["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "the delivery stands among the duplicates");
    assert_eq!(steps(&told, "often").iter().filter(|step| **step == "delivered").count(), 1);
    assert_eq!(told[1]["mappingSince"], "2024-05-20T10:00:00.000Z");
}

#[test]
fn of_a_damaged_event_the_recorded_steps_are_told() {
    let dir = store(|batch, mapping| {
        delivered(batch, mapping, "sound", START_MS);
        delivered(batch, mapping, "damaged", START_MS);
    });
    let database = Connection::open(dir.path().join("data/dispod.db")).unwrap();
    database.execute("UPDATE event SET category = 'wrong_number' WHERE contact = 'damaged'", []).unwrap();
    drop(database);
    let told = records(dir.path(), &["audit"]);
    assert_eq!(steps(&told, "sound"), ["received", "mapped", "attempt", "delivered"]);
    let [damaged, attempt] = &told[4..] else { panic!("{told:#?}") };
    assert_eq!((&damaged["step"], &damaged["at"]), (&"damaged".into(), &Value::Null));
    assert_eq!((&attempt["step"], &attempt["state"]), (&"attempt".into(), &"damaged".into()));
    for record in [damaged, attempt] {
        assert_eq!((&record["event"], &record["category"]), (&"2".into(), &Value::Null));
    }
    let csv = parse_csv(&printed(dir.path(), &["audit", "--format", "csv"]));
    assert!(csv.iter().all(|row| row.len() == NAMES.len()), "{csv:?}");
    assert!(printed(dir.path(), &["audit"]).contains("event 2: damaged, "));
}

#[test]
fn nothing_that_was_sent_reaches_a_terminal_as_a_command() {
    let dir = store(|batch, mapping| {
        let id = delivered(batch, mapping, "a\u{202e}b", START_MS);
        let note = Some("\x1b[2J\r\n\u{9b}31mred".to_owned());
        batch.step(&Step { note, ..step(id, START_MS + 1, StepKind::Attempt) }).unwrap();
    });
    let table = printed(dir.path(), &["audit"]);
    assert!(
        table.contains(r"contact a\u{202e}b,") && table.contains(r": \u{1b}[2J\r\n\u{9b}31mred"),
        "{table}"
    );
    assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table:?}");
}

#[test]
fn a_store_that_may_only_be_read_is_read() {
    let dir = store(|batch, mapping| {
        delivered(batch, mapping, "sound", START_MS);
    });
    let data = dir.path().join("data");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(&data.join("dispod.db"), 0o444);
    mode(&data, 0o555);
    // Modes mean nothing to root: then somebody else reads, who may not run the program where it is.
    let root = rustix::process::geteuid().is_root();
    let program = dir.path().join("program");
    if root {
        fs::copy(env!("CARGO_BIN_EXE_dispod"), &program).unwrap();
    }
    let audit = || {
        let mut command = if root {
            let mut command = Command::new(&program);
            command.env_clear().uid(65_534).gid(65_534);
            command
        } else {
            daemon::command()
        };
        command.args(["audit", "--config", "dispod.toml"]).current_dir(dir.path()).output().unwrap()
    };
    let output = audit();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("event 1: contact sound,"));
    let refused = |why: &str| {
        let output = audit();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains("cannot read the store data/dispod.db: ") && words.contains(why), "{words}");
    };
    mode(&data, 0o755);
    // A process that was killed leaves a log.
    fs::write(data.join("dispod.db-wal"), "").unwrap();
    mode(&data, 0o555);
    refused("a log that is still to be replayed");
    mode(&data, 0o000);
    refused("Permission denied");
    mode(&data, 0o755);
}
