//! Bytes written to the disk per event, kept and settled.

use std::time::Duration;

use crate::api::Api;
use crate::daemon::{Dir, Setup};
use crate::load::Load;
use crate::measures::Measures;
use crate::process;

const PATIENCE: Duration = Duration::from_secs(30);

pub fn bytes_per_event(measures: &mut Measures) {
    measures.add("written_1_kb", kb_per_event(1, 3000));
    measures.add("written_32_kb", kb_per_event(32, 50_000));
}

fn kb_per_event(at_once: usize, events: u64) -> f64 {
    let dir = Dir::new();
    let api = Api::start(Duration::ZERO);
    let daemon = Setup::new(&dir).api(api.address).start();
    let before = process::written_bytes(daemon.pid());
    let answers = Load::closed(daemon.webhook, at_once, PATIENCE).events(events).all_at_once().run();
    assert!(api.wait_for_updates(answers.kept, PATIENCE), "not all were delivered: {:?}", api.seen());
    // Settlements are synced within a second.
    std::thread::sleep(Duration::from_millis(1200));
    (process::written_bytes(daemon.pid()) - before) as f64 / answers.kept as f64 / 1000.0
}
