//! What an operator waits for, with 10,000 dead letters and a long history.

use std::time::Instant;

use dispod::store::{Kept, Settled, State, Step, StepKind, Store, StoredEvent, Sync};

use crate::daemon::{Daemon, Dir, Setup, ask};
use crate::measures::Measures;
use crate::{commands, store};

const DEAD: u64 = 10_000;
const DELIVERED: u64 = 100_000;
const BATCH: u64 = 2000;
const TIMES: usize = 21;
/// What is run beside the daemon, by the name of its figure.
const COMMANDS: [(&str, &[&str]); 8] = [
    ("status_ms", &["status"]),
    ("dead_list_ms", &["dead", "list"]),
    ("dead_json_ms", &["dead", "list", "--json"]),
    ("audit_table_ms", &["audit"]),
    ("audit_jsonl_ms", &["audit", "--format", "jsonl"]),
    ("audit_csv_ms", &["audit", "--format", "csv"]),
    ("audit_unmapped_ms", &["audit", "--unmapped"]),
    ("check_history_ms", &["check", "--against-history"]),
];

pub fn answers(measures: &mut Measures) {
    let dir = Dir::new();
    fill(&dir);
    let daemon = Setup::new(&dir).start();
    measures.add("admin_status_ms", median_ms(&daemon, "/api/status"));
    measures.add("admin_dead_ms", median_ms(&daemon, "/api/dead"));
    measures.add("admin_dead_last_ms", median_ms(&daemon, &format!("/api/dead?after={}", DEAD - 100)));
    let contact = format!("{:016}", DEAD + DELIVERED / 2);
    measures.add("admin_audit_ms", median_ms(&daemon, &format!("/api/audit?contact={contact}")));
    measures.add("admin_metrics_ms", median_ms(&daemon, "/metrics"));
    for (name, arguments) in COMMANDS {
        commands::measure(measures, &daemon, &dir, name, arguments);
    }
    commands::measure(measures, &daemon, &dir, "audit_contact_ms", &["audit", "--contact", &contact]);
    commands::measure(measures, &daemon, &dir, "dead_drop_ms", &["dead", "drop", "--all"]);
}

fn median_ms(daemon: &Daemon, target: &str) -> f64 {
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let began = Instant::now();
            let (status, _) = ask(daemon.admin, "GET", target, "").expect("an answer");
            assert_eq!(status, 200, "{target}");
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[TIMES / 2]
}

fn fill(dir: &Dir) {
    let mut kept = Store::open(&dir.store_config()).expect("a store");
    for first in (0..DEAD + DELIVERED).step_by(BATCH as usize) {
        kept.transact(Sync::Later, |batch| {
            for number in first..first + BATCH {
                let Kept::New(event) = store::keep(batch, number)? else { panic!("kept before") };
                let at_ms = event.received_ms + 20;
                let dead = number < DEAD;
                let status = Some(if dead { 404 } else { 204 });
                let reason = dead.then(|| "rejected".to_owned());
                let answer = dead.then(|| r#"{"error":"no such contact"}"#.to_owned());
                let id = event.id;
                let state = if dead { State::Dead } else { State::Delivered };
                let settled = Settled { at_ms: Some(at_ms), status, latency_ms: Some(12), reason, answer };
                batch.update(&StoredEvent { event, state, settled })?;
                batch.step(&Step {
                    event: id,
                    at_ms,
                    kind: StepKind::Attempt,
                    attempt: Some(1),
                    status: Some(503),
                    latency_ms: Some(12),
                    note: Some("Service Unavailable".to_owned()),
                })?;
            }
            Ok(())
        })
        .expect("a commit");
        if kept.wants_checkpoint() {
            kept.finish_checkpoint().expect("a checkpoint");
        }
    }
}
