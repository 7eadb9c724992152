//! What an event costs in bytes written: flash wears out.

use dispod::config::StoreConfig;
use dispod::disposition::Mapping;
use dispod::event::CallResult;
use dispod::keep::DedupeKey;
use dispod::store::{Batch, Kept, NewEvent, Settled, State, Store, StoredEvent, Sync};

use crate::support::daemon::TempDir;

/// Events kept singly.
const SINGLY: u32 = 4096;
/// Events kept by 32, so many that most of their keys are written, in lots of 12,288.
const BY_32: u32 = 40 * 1024;

/// Bytes this process has caused to be written to storage.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

fn keep(batch: &mut Batch<'_>, number: u32, mapping: &Mapping) -> StoredEvent {
    let contact = format!("12345{number:05}");
    let call = CallResult::new(&contact, "1001", Some("ANSWERED"), Some("2024-05-20T10:00:00Z")).unwrap();
    let category = mapping.category("1001");
    let new = NewEvent {
        call: &call,
        key: DedupeKey::from_content(&call),
        received_ms: dispod::clock::now_ms(),
        category,
        severity: mapping.severity(category),
        mapping: 1,
    };
    let Kept::New(event) = batch.keep(&new, 0).unwrap() else { panic!("a duplicate") };
    StoredEvent { event, state: State::Pending, settled: Settled::default() }
}

fn delivered(mut stored: StoredEvent) -> StoredEvent {
    stored.event.attempts = 1;
    stored.state = State::Delivered;
    stored.settled = Settled {
        at_ms: Some(dispod::clock::now_ms()),
        status: Some(200),
        latency_ms: Some(12),
        ..Settled::default()
    };
    stored
}

/// Keeps, settles and audits `events` in batches of `size`, each synced, the settlements in a commit of their own.
fn bytes_per_event(events: u32, size: u32) -> u64 {
    let dir = TempDir::new();
    let mapping = Mapping::default();
    let mut store =
        Store::open(&StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() }).unwrap();
    let mut checkpointer = store.checkpointer().unwrap();
    let before = written_bytes();
    for first in (0..events).step_by(size as usize) {
        let kept = store
            .transact(Sync::Now, |batch| {
                Ok((first..first + size).map(|n| keep(batch, n, &mapping)).collect::<Vec<_>>())
            })
            .unwrap();
        let settled: Vec<_> = kept.into_iter().map(delivered).collect();
        store
            .transact(Sync::Later, |batch| settled.iter().try_for_each(|stored| batch.update(stored)))
            .unwrap();
        if store.wants_checkpoint() {
            checkpointer.run().unwrap();
            store.finish_checkpoint().unwrap();
        }
    }
    drop(store);
    (written_bytes() - before) / u64::from(events)
}

#[test]
#[ignore = "run by the test below in a process of its own: the count is the process's"]
fn measured_alone() {
    println!("singly {} B, by 32 {} B per event", bytes_per_event(SINGLY, 1), bytes_per_event(BY_32, 32));
}

#[test]
fn an_event_kept_settled_and_audited_writes_little() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bytes::measured_alone", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("singly ")).unwrap_or_else(|| panic!("{text}"));
    println!("{line}");
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [singly, batched, ..] = numbers[..] else {
        let numbers: Vec<u64> =
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        panic!("{line} {numbers:?}");
    };
    assert!(singly < 9_000, "{singly} B per event kept singly");
    assert!(batched < 1_500, "{batched} B per event kept by 32");
}
