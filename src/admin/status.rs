//! `/api/status`: everything at a glance.

use std::collections::BTreeMap;

use serde::Serialize;

use super::trend::{Minute, Totals};
use super::{Desk, json, prometheus};
use crate::clock;
use crate::http::Reply;
use crate::metrics::{Metrics, StatusCounters, SubscriberMeter, SubscriberStatus};
use crate::verdict::Verdict;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    version: &'static str,
    ready: bool,
    reasons: Vec<String>,
    started: String,
    uptime_seconds: u64,
    kept: u64,
    duplicate: u64,
    delivered: u64,
    pending: u64,
    dead: u64,
    oldest_pending_seconds: u64,
    deliveries: BTreeMap<&'static str, u64>,
    api: BTreeMap<String, u64>,
    token: Token,
    store_bytes: u64,
    webhook: Webhook<'a>,
    /// Kept to delivered, over the last hour.
    latency_seconds: Option<Latency>,
    subscribers: Vec<Subscriber>,
    dropped: BTreeMap<&'a str, u64>,
    last_hour: Vec<Point>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    /// `null`: there is none, or one is being fetched.
    refresh_at: Option<String>,
    ok: u64,
    refused: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Webhook<'a> {
    address: &'a str,
    connections: u64,
    parked: u64,
    requests: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subscriber {
    name: String,
    kind: &'static str,
    pending: u64,
    delivered: u64,
    dropped: u64,
    disabled: Option<String>,
    last_error: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    at: String,
    kept: u64,
    delivered: u64,
    failed: u64,
    p99_seconds: Option<f64>,
}

pub(super) fn reply(desk: &Desk) -> Reply {
    let metrics = &desk.metrics;
    let now_ms = clock::now_ms();
    let hour = {
        let totals = Totals::of(metrics);
        let mut trend = desk.trend();
        trend.roll(&totals, now_ms);
        trend.last_hour(&totals)
    };
    let reasons = desk.health.reasons();
    let dropped = desk.bus.dropped();
    json(&Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: reasons.is_empty(),
        reasons,
        started: clock::rfc3339_ms(desk.started_ms),
        uptime_seconds: (now_ms - desk.started_ms).max(0).cast_unsigned() / 1000,
        kept: metrics.events_kept.get(),
        duplicate: metrics.events_duplicate.get(),
        delivered: metrics.delivery(Verdict::Delivered).get(),
        pending: metrics.events_pending.get(),
        dead: metrics.events_dead.get(),
        oldest_pending_seconds: prometheus::oldest_pending(metrics).as_secs(),
        deliveries: Verdict::ALL.into_iter().map(|v| (v.as_str(), metrics.delivery(v).get())).collect(),
        api: by_status(&metrics.api_requests),
        token: token(desk),
        store_bytes: metrics.store_bytes.get(),
        webhook: webhook(desk, metrics),
        latency_seconds: hour.latency_s.map(|(p50, p99)| Latency { p50, p99 }),
        subscribers: metrics
            .subscribers()
            .iter()
            .map(SubscriberMeter::status)
            .map(Subscriber::from)
            .collect(),
        dropped: prometheus::dropped_by_name(&dropped),
        last_hour: hour.minutes.into_iter().map(Point::from).collect(),
    })
}

fn token(desk: &Desk) -> Token {
    Token {
        refresh_at: desk.cxone.token_refresh_ms().map(clock::rfc3339_ms),
        ok: desk.metrics.token_requests_ok.get(),
        refused: desk.metrics.token_requests_refused.get(),
        failed: desk.metrics.token_requests_failed.get(),
    }
}

fn webhook<'a>(desk: &'a Desk, metrics: &Metrics) -> Webhook<'a> {
    Webhook {
        address: &desk.webhook_address,
        connections: metrics.webhook_connections.get(),
        parked: metrics.webhook_connections_parked.get(),
        requests: by_status(&metrics.webhook_requests),
    }
}

fn by_status(counters: &StatusCounters) -> BTreeMap<String, u64> {
    counters.seen().map(|(status, count)| (prometheus::status_name(status), count)).collect()
}

impl From<SubscriberStatus> for Subscriber {
    fn from(status: SubscriberStatus) -> Self {
        let SubscriberStatus { name, kind, pending, delivered, dropped, disabled, last_error } = status;
        Self { name, kind, pending, delivered, dropped, disabled, last_error }
    }
}

impl From<Minute> for Point {
    fn from(minute: Minute) -> Self {
        let Minute { at_ms, kept, delivered, failed, p99_s } = minute;
        Self { at: clock::rfc3339(at_ms), kept, delivered, failed, p99_seconds: p99_s }
    }
}
