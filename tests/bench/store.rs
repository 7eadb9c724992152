//! Commits of the store, against bare append and fdatasync of the same bytes.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use dispod::event::{CallResult, Severity};
use dispod::keep::DedupeKey;
use dispod::store::{Batch, Kept, NewEvent, Store, StoreError, Sync};

use crate::daemon::Dir;
use crate::load;
use crate::measures::Measures;

const LAST: Duration = Duration::from_millis(700);
/// Events to a commit, besides one.
const BATCH: u64 = 32;

pub fn commits(measures: &mut Measures) {
    let dir = Dir::new();
    let mut store = Store::open(&dir.store_config()).expect("a store");
    let mut file = File::create(dir.path().join("appended")).expect("a file");
    let mut number = fastrand::u64(0..1 << 40);
    // The one that has gone on longest pays for what the other one left in the disk's queue: in turn, in slices.
    for (events, kept_name, bare_name) in [(1, "commits_1", "bare_1"), (BATCH, "commits_32", "bare_32")] {
        let (mut kept_s, mut bare_s) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            kept_s.push(per_second(events, || {
                store
                    .transact(Sync::Now, |batch| {
                        (0..events).try_for_each(|_| keep(batch, next(&mut number)).map(|_| ()))
                    })
                    .expect("a commit");
            }));
            bare_s.push(per_second(events, || {
                let bytes: Vec<String> = (0..events).map(|_| load::event(next(&mut number))).collect();
                file.write_all(bytes.concat().as_bytes()).and_then(|()| file.sync_data()).expect("a sync");
            }));
        }
        kept_s.sort_by(f64::total_cmp);
        bare_s.sort_by(f64::total_cmp);
        measures.add(kept_name, kept_s[1]);
        measures.add(bare_name, bare_s[1]);
    }
}

fn next(number: &mut u64) -> u64 {
    *number += 1;
    *number
}

fn per_second(events: u64, mut commit: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut commits = 0;
    while began.elapsed() < LAST / 3 {
        commit();
        commits += 1;
    }
    (commits * events) as f64 / began.elapsed().as_secs_f64()
}

/// Keeps the event of that number as the daemon does.
pub fn keep(batch: &mut Batch<'_>, number: u64) -> Result<Kept, StoreError> {
    let call = CallResult::parse(load::event(number).as_bytes()).expect("an event");
    let key = DedupeKey::from_content(&call);
    let (category, severity) = match number % 4 {
        0 => ("do_not_call", Severity::Critical),
        1 => ("callback_later", Severity::Medium),
        2 => ("wrong_number", Severity::Low),
        _ => ("unclassified", Severity::Low),
    };
    let received_ms = dispod::clock::now_ms();
    batch.keep(&NewEvent { call: &call, key, received_ms, category, severity, mapping: 1 }, 0)
}
