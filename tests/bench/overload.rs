//! Twice what it can take: it goes on at its best rate, answers 503 beyond, and its memory stays flat.

use std::time::Duration;

use crate::daemon::{Dir, Setup};
use crate::load::{Answers, Load};
use crate::measures::Measures;
use crate::process;

/// As many as the daemon takes unless configured otherwise, and a few less.
const CONNECTIONS: usize = 1000;
/// More than may wait for the keeper, so that there is something to refuse.
const CONNECTIONS_TOO_MANY: usize = 3000;
const LAST: Duration = Duration::from_secs(4);

/// Offered at twice the rate that 64 connections get, on many connections.
pub fn twice(measures: &mut Measures) {
    let offer = Offer::make("1024", CONNECTIONS);
    measures.add("overload_best", offer.best);
    measures.add("overload_wanted", 2.0 * offer.best);
    measures.add("overload_kept", offer.answers.kept_per_s());
    measures.add("overload_p99_ms", offer.answers.latency_ms(0.99));
    measures.add("overload_failed", offer.answers.failed as f64);
    measures.add("overload_mb", offer.resident_mb);
    measures.add("overload_growth_mb", offer.growth_mb);
}

/// The same on so many connections that the queue to the keeper is full.
pub fn twice_refused(measures: &mut Measures) {
    let offer = Offer::make("4096", CONNECTIONS_TOO_MANY);
    let answers = &offer.answers;
    measures.add("refused_best", offer.best);
    measures.add("refused_kept", answers.kept_per_s());
    measures.add("refused_503", answers.refused as f64 / answers.took.as_secs_f64());
    measures.add("refused_failed", answers.failed as f64);
    measures.add("refused_mb", offer.resident_mb);
    measures.add("refused_growth_mb", offer.growth_mb);
}

struct Offer {
    best: f64,
    answers: Answers,
    resident_mb: f64,
    /// Since the first half.
    growth_mb: f64,
}

impl Offer {
    fn make(connections_max: &str, connections: usize) -> Self {
        let dir = Dir::new();
        let daemon = Setup::new(&dir).set("DISPOD_WEBHOOK_MAX_CONNECTIONS", connections_max).start();
        let best = Load::closed(daemon.webhook, 64, Duration::from_millis(1500)).run().kept_per_s();
        let load = Load::closed(daemon.webhook, connections, LAST).per_second(2.0 * best);
        let load = std::thread::spawn(|| load.run());
        let mut resident_mb = Vec::new();
        while !load.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
            resident_mb.push(process::resident(daemon.pid()).all);
        }
        let answers = load.join().expect("the load generator");
        let at = |part: f64| resident_mb[((resident_mb.len() - 1) as f64 * part) as usize];
        Self { best, answers, resident_mb: at(1.0), growth_mb: at(1.0) - at(0.5) }
    }
}
