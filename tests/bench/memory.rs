//! Resident memory and wake-ups: idle, busy, with a backlog of a million.

use std::sync::OnceLock;
use std::time::Duration;

use dispod::store::{Store, Sync};

use crate::api::Api;
use crate::daemon::{Dir, PROGRAM, Setup};
use crate::load::Load;
use crate::measures::Measures;
use crate::{commands, process, start, store};

const CONNECTIONS: usize = 64;
const BUSY_PER_S: f64 = 2000.0;
const BUSY: Duration = Duration::from_secs(6);
/// Until what comes after a start is over.
const SETTLE: Duration = Duration::from_millis(1500);
const WATCH: Duration = Duration::from_secs(4);
const BACKLOG: u64 = 1_000_000;
/// Events to a transaction while the backlog is made.
const PREFILL_BATCH: u64 = 4096;

pub fn idle_and_busy(measures: &mut Measures) {
    measures.add("binary_mb", std::fs::metadata(PROGRAM).map_or(0.0, |meta| meta.len() as f64 / 1e6));
    let dir = Dir::new();
    let api = Api::start(Duration::from_millis(5));
    let daemon = Setup::new(&dir).api(api.address).start();
    std::thread::sleep(SETTLE);
    let resident = process::resident(daemon.pid());
    measures.add("idle_mb", resident.all);
    measures.add("idle_anonymous_mb", resident.anonymous);
    measures.add("threads", process::threads(daemon.pid()) as f64);
    let before = process::wake_ups(daemon.pid());
    std::thread::sleep(WATCH);
    let woken = process::wake_ups(daemon.pid()) - before;
    measures.add("idle_wake_ups", woken as f64 / WATCH.as_secs_f64());
    let load = Load::closed(daemon.webhook, CONNECTIONS, BUSY).per_second(BUSY_PER_S);
    let load = std::thread::spawn(|| load.run());
    let mut busy_mb = Vec::new();
    while !load.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
        busy_mb.push(process::resident(daemon.pid()).all);
    }
    let answers = load.join().expect("the load generator");
    measures.add("busy_per_s", answers.kept_per_s());
    measures.add("busy_p99_ms", answers.latency_ms(0.99));
    // The highest it came to.
    measures.add("busy_mb", busy_mb.into_iter().fold(0.0, f64::max));
    measures.add("busy_anonymous_mb", process::resident(daemon.pid()).anonymous);
    std::thread::sleep(SETTLE);
    measures.add("rested_mb", process::resident(daemon.pid()).all);
}

/// With a million pending and the API away.
pub fn backlog(measures: &mut Measures) {
    static STORE: OnceLock<Dir> = OnceLock::new();
    let dir = STORE.get_or_init(million_pending);
    let daemon = Setup::new(dir).exec();
    measures.add("start_million_ms", start::first_200_ms(&daemon));
    Load::closed(daemon.webhook, CONNECTIONS, SETTLE).run();
    std::thread::sleep(SETTLE);
    let resident = process::resident(daemon.pid());
    measures.add("million_mb", resident.peak);
    measures.add("million_anonymous_mb", resident.anonymous);
    commands::measure(measures, &daemon, dir, "million_status_ms", &["status"]);
}

fn million_pending() -> Dir {
    let dir = Dir::new();
    let mut kept = Store::open(&dir.store_config()).expect("a store");
    let mut number = 0;
    while number < BACKLOG {
        let end = (number + PREFILL_BATCH).min(BACKLOG);
        kept.transact(Sync::Later, |batch| (number..end).try_for_each(|n| store::keep(batch, n).map(|_| ())))
            .expect("a commit");
        number = end;
        if kept.wants_checkpoint() {
            kept.finish_checkpoint().expect("a checkpoint");
        }
    }
    dir
}
