//! Twice what it can take: it goes on at its best rate, answers 503 beyond, and its memory stays flat.

use std::time::Duration;

use crate::daemon::{Dir, Setup};
use crate::load::Load;
use crate::measures::Measures;
use crate::process;

/// More than what may wait for the keeper, so that there is something to refuse.
const CONNECTIONS: usize = 3000;
const LAST: Duration = Duration::from_secs(4);

pub fn twice(measures: &mut Measures) {
    let dir = Dir::new();
    let daemon = Setup::new(&dir).set("DISPOD_WEBHOOK_MAX_CONNECTIONS", "4096").start();
    let best = Load::closed(daemon.webhook, 64, Duration::from_millis(1500)).run().kept_per_s();
    let offered = 2.0 * best;
    let load = Load::closed(daemon.webhook, CONNECTIONS, LAST).per_second(offered);
    let load = std::thread::spawn(|| load.run());
    let mut resident_mb = Vec::new();
    while !load.is_finished() {
        std::thread::sleep(Duration::from_millis(50));
        resident_mb.push(process::resident(daemon.pid()).all_mb);
    }
    let answers = load.join().expect("the load generator");
    let sent = answers.kept + answers.refused + answers.failed;
    measures.add("overload_best", best);
    measures.add("overload_offered", sent as f64 / answers.took.as_secs_f64());
    measures.add("overload_kept", answers.kept_per_s());
    measures.add("overload_refused_part", answers.refused as f64 / sent as f64 * 100.0);
    measures.add("overload_failed", answers.failed as f64);
    measures.add("overload_p99_ms", answers.latency_ms(0.99));
    let at = |part: f64| resident_mb[((resident_mb.len() - 1) as f64 * part) as usize];
    measures.add("overload_mb", at(1.0));
    measures.add("overload_growth_mb", at(1.0) - at(0.4));
}
