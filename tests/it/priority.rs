//! Critical first, also from the disk, and nobody starves: of the rest, what waits for a minute has its turn after
//! every 16 critical ones.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use dispod::dispatch::lanes::{CRITICAL_RUN_MAX, PATIENCE};
use dispod::sandbox::{Reply, Sandbox};

use crate::support::SOON;
use crate::support::daemon::{Daemon, config_for};
use crate::support::scene::{Event, Line, all_applied, behaving, count, daemon, wait_settled};
use crate::support::shelf;

/// One worker: the order of the updates is the order dispatch chose.
const ONE_WORKER: (&str, &str) = ("DISPOD_DELIVERY_WORKERS", "1");
/// A window that holds next to nothing of the backlog.
const SMALL_WINDOW: (&str, &str) = ("DISPOD_DELIVERY_QUEUE", "32");
/// How long a call takes: long enough for the window to be filled again meanwhile, also on a busy machine.
const SLOW: Duration = Duration::from_millis(2);

fn critical(number: usize) -> Event {
    Event::new(&format!("critical-{number}"), 0, &format!("critical-{number}"))
}

fn low(number: usize) -> Event {
    Event::new(&format!("low-{number}"), 3, &format!("low-{number}"))
}

/// The updates as a line of `C`s and `l`s.
fn classes(sandbox: &Sandbox) -> String {
    let class = |line: String| if line.starts_with("[critical-") { 'C' } else { 'l' };
    all_applied(sandbox).into_iter().map(class).collect()
}

/// A daemon whose store was filled before it started.
fn on_a_filled_store(sandbox: &Sandbox, fill: impl FnOnce(&std::path::Path)) -> Daemon {
    let nothing = behaving(|behaviour| behaviour.outage = Reply::Status(503));
    let mut daemon = Daemon::start_with(&config_for(&nothing), &[ONE_WORKER, SMALL_WINDOW]);
    daemon.kill9();
    fill(&daemon.dir().join("data"));
    std::fs::write(daemon.dir().join("dispod.toml"), config_for(sandbox)).unwrap();
    daemon.restart();
    daemon
}

#[test]
fn critical_events_kept_behind_a_backlog_on_disk_go_before_it() {
    const LOW: usize = 400;
    const CRITICAL: usize = 60;
    let sandbox = behaving(|behaviour| behaviour.outage = Reply::Status(503));
    let daemon = daemon(&sandbox, &[ONE_WORKER, SMALL_WINDOW]);
    let mut line = Line::open(daemon.webhook_addr()).unwrap();
    // The critical ones come while the API is away, so that they find the whole backlog waiting.
    for event in (0..LOW).map(low).chain((0..CRITICAL).map(critical)) {
        assert_eq!(line.post(&event).unwrap(), 200);
    }
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    wait_settled(&daemon);
    let order = classes(&sandbox);
    assert_eq!(order.len(), LOW + CRITICAL);
    // The probe that finds the API back may have been chosen before the first critical event was kept, and some of
    // the critical ones may be waiting for their retry just then.
    let ahead = order.find("llll").expect("the low ones come together, last");
    let late = order[ahead..].matches('C').count();
    assert!(late <= CRITICAL / 10, "{late} critical ones in the midst of the rest: {order}");
}

/// What of the rest may go while dispatch has yet to read the critical ones of the backlog it starts with.
const AT_THE_START_MAX: usize = 3;

#[test]
fn all_critical_ones_go_before_a_young_rest_and_old_ones_of_the_rest_have_their_turn() {
    const LOW: usize = 35;
    const CRITICAL: usize = 600;
    let patience_ms = i64::try_from(PATIENCE.as_millis()).unwrap();
    let run = CRITICAL_RUN_MAX as usize;
    let young = |low: usize| "C".repeat(CRITICAL) + &"l".repeat(low);
    let old = |low: usize| ("C".repeat(run) + "l").repeat(low) + &"C".repeat(CRITICAL - run * low);
    let cases: [(i64, &dyn Fn(usize) -> String); 2] = [(0, &young), (2 * patience_ms, &old)];
    for (age_ms, promised) in cases {
        let sandbox = behaving(|behaviour| behaviour.latency = SLOW..=SLOW);
        let events = || (0..LOW).map(low).chain((0..CRITICAL).map(critical));
        let daemon = on_a_filled_store(&sandbox, |dir| shelf::fill(dir, age_ms, events()));
        wait_settled(&daemon);
        let order = classes(&sandbox);
        let rest = order.trim_start_matches('l');
        let at_the_start = order.len() - rest.len();
        assert!(at_the_start <= AT_THE_START_MAX, "{age_ms} ms old: {order}");
        assert_eq!(rest, promised(LOW - at_the_start), "{age_ms} ms old");
    }
}

#[test]
fn the_rest_goes_on_during_a_stream_of_critical_events() {
    const LOW: usize = 40;
    const SENDERS: usize = 2;
    let sandbox = behaving(|behaviour| behaviour.latency = SLOW..=SLOW);
    let old_ms = 2 * i64::try_from(PATIENCE.as_millis()).unwrap();
    let daemon = on_a_filled_store(&sandbox, |dir| {
        // A head start, so that the stream never runs dry.
        shelf::fill(dir, 0, (0..200).map(critical));
        shelf::fill(dir, old_ms, (0..LOW).map(low));
    });
    let enough = AtomicBool::new(false);
    let address = daemon.webhook_addr();
    let (left, order) = thread::scope(|scope| {
        for sender in 0..SENDERS {
            let enough = &enough;
            scope.spawn(move || {
                let mut line = Line::open(address).unwrap();
                for number in (1000 + sender..).step_by(SENDERS).take_while(|_| !enough.load(SeqCst)) {
                    assert_eq!(line.post(&critical(number)).unwrap(), 200);
                }
            });
        }
        let last_low = || sandbox.contact(&low(LOW - 1).contact).is_some_and(|contact| contact.updates > 0);
        let came = crate::support::wait_until(SOON, last_low);
        let seen = (count(&daemon, "pending"), classes(&sandbox));
        enough.store(true, SeqCst);
        assert!(came, "the last of the rest never had its turn: {}", seen.1);
        seen
    });
    assert!(left > 0, "the stream ran dry: {order}");
    let runs: Vec<usize> = order.split('l').map(str::len).collect();
    assert!(runs[..LOW].iter().all(|run| *run <= CRITICAL_RUN_MAX as usize), "{runs:?}");
}
