//! Durable acknowledgements, against the same tiny_http with a handler that keeps nothing.

use std::time::Duration;

use crate::daemon::{Dir, Setup};
use crate::load::{Answers, Load};
use crate::measures::Measures;
use crate::plain::Plain;
use crate::process;

/// Connections with one request out each.
const CONNECTIONS: usize = 64;
const LAST: Duration = Duration::from_secs(2);
/// Before it is measured: threads are started and the log has its size.
const WARM_UP: Duration = Duration::from_millis(500);

/// 64 connections that are kept.
pub fn keep_alive(measures: &mut Measures) {
    let dir = Dir::new();
    let daemon = Setup::new(&dir).start();
    let load = Load::closed(daemon.webhook, CONNECTIONS, LAST);
    load.clone().lasting(WARM_UP).run();
    let cpu_before = process::cpu_us(daemon.pid());
    let answers = load.lasting(LAST).run();
    let cpu_us = process::cpu_us(daemon.pid()) - cpu_before;
    measures.add("acks_cpu_us", cpu_us / answers.kept as f64);
    measures.add("acks", answers.kept_per_s());
    measures.add("acks_p50_ms", answers.latency_ms(0.5));
    measures.add("acks_p99_ms", answers.latency_ms(0.99));
    measures.add("load_cpu_us", answers.cpu_us());
    drop(daemon);
    let plain = Plain::start();
    let answers = warm(&Load::closed(plain.address, CONNECTIONS, LAST));
    measures.add("plain", answers.kept_per_s());
    measures.add("plain_p99_ms", answers.latency_ms(0.99));
}

/// A connection for each request, 64 at a time.
pub fn connections(measures: &mut Measures) {
    let dir = Dir::new();
    let daemon = Setup::new(&dir).start();
    let answers = warm(&Load::closed(daemon.webhook, CONNECTIONS, LAST).one_request_each());
    measures.add("acks_each", answers.kept_per_s());
    measures.add("acks_each_p50_ms", answers.latency_ms(0.5));
    measures.add("acks_each_p99_ms", answers.latency_ms(0.99));
    measures.add("failed", answers.failed as f64);
    drop(daemon);
    let plain = Plain::start();
    let answers = warm(&Load::closed(plain.address, CONNECTIONS, LAST).one_request_each());
    measures.add("plain_each", answers.kept_per_s());
    measures.add("plain_each_p99_ms", answers.latency_ms(0.99));
}

fn warm(load: &Load) -> Answers {
    load.clone().lasting(WARM_UP).run();
    load.clone().lasting(LAST).run()
}
