//! End to end: posted in a closed loop, kept, delivered.

use std::time::{Duration, Instant};

use crate::api::Api;
use crate::daemon::{Dir, Setup};
use crate::load::Load;
use crate::measures::Measures;
use crate::process;

const CONNECTIONS: usize = 64;
const EVENTS: u64 = 30_000;
/// What it may take at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// With an API that answers at once, and the default number of workers.
pub fn at_once(measures: &mut Measures) {
    let delivered = deliver(Duration::ZERO, 16);
    measures.add("delivered_0", delivered.per_s);
    measures.add("delivered_0_cpu_us", delivered.cpu_us);
    measures.add("delivered_0_acks", delivered.acks_per_s);
    measures.add("delivered_0_ack_p99_ms", delivered.ack_p99_ms);
    measures.add("delivered_0_connections", delivered.connections_max);
    measures.add("api_cpu_us", delivered.api_cpu_us);
}

/// With an API that takes 50 ms, and 256 workers.
pub fn after_50_ms(measures: &mut Measures) {
    let delivered = deliver(Duration::from_millis(50), 256);
    measures.add("delivered_50", delivered.per_s);
    measures.add("delivered_50_cpu_us", delivered.cpu_us);
    measures.add("delivered_50_connections", delivered.connections_max);
    measures.add("delivered_50_peak_mb", delivered.peak_mb);
}

struct Delivered {
    per_s: f64,
    cpu_us: f64,
    acks_per_s: f64,
    ack_p99_ms: f64,
    connections_max: f64,
    api_cpu_us: f64,
    peak_mb: f64,
}

fn deliver(latency: Duration, workers: u32) -> Delivered {
    let dir = Dir::new();
    let api = Api::start(latency);
    let daemon =
        Setup::new(&dir).api(api.address).set("DISPOD_DELIVERY_WORKERS", &workers.to_string()).start();
    let (cpu_before, api_cpu_before) = (process::cpu_us(daemon.pid()), process::cpu_us(api.pid()));
    let began = Instant::now();
    let answers = Load::closed(daemon.webhook, CONNECTIONS, PATIENCE).events(EVENTS).run();
    assert_eq!(
        answers.kept, EVENTS,
        "not all were kept: {} refused, {} failed",
        answers.refused, answers.failed
    );
    assert!(api.wait_for_updates(EVENTS, PATIENCE), "not all were delivered: {:?}", api.seen());
    let took = began.elapsed();
    Delivered {
        per_s: EVENTS as f64 / took.as_secs_f64(),
        cpu_us: (process::cpu_us(daemon.pid()) - cpu_before) / EVENTS as f64,
        acks_per_s: answers.kept_per_s(),
        ack_p99_ms: answers.latency_ms(0.99),
        connections_max: api.seen().connections_max as f64,
        api_cpu_us: (process::cpu_us(api.pid()) - api_cpu_before) / EVENTS as f64,
        peak_mb: process::resident(daemon.pid()).peak,
    }
}
