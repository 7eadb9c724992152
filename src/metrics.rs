//! The counters of contract section 8: lock-free to write, read by the admin listener.
//!
//! No label holds a contact id, and every label's values are a fixed set, so the size is fixed too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::event::Severity;
use crate::verdict::Verdict;

/// Counts up only.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the level.
    pub fn set(&self, level: u64) {
        self.0.store(level, Relaxed);
    }

    /// Raises the level by `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Lowers the level by `n`, to 0 at the lowest.
    pub fn sub(&self, n: u64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |level| Some(level.saturating_sub(n)));
    }

    /// The level now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts by HTTP status, 100 to 599; anything else counts as 0, "no answer".
#[derive(Debug)]
pub struct StatusCounters(Box<[AtomicU64; 600]>);

impl StatusCounters {
    /// One more of that status.
    pub fn inc(&self, status: u16) {
        self.0.get(usize::from(status)).unwrap_or(&self.0[0]).fetch_add(1, Relaxed);
    }

    /// The statuses seen, with their counts, ascending.
    pub fn seen(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (0u16..)
            .zip(self.0.iter())
            .map(|(status, count)| (status, count.load(Relaxed)))
            .filter(|(_, n)| *n > 0)
    }
}

impl Default for StatusCounters {
    fn default() -> Self {
        Self(Box::new([const { AtomicU64::new(0) }; 600]))
    }
}

/// Upper bounds in seconds of [`Histogram`]'s buckets, from a fast commit to a day's backlog.
pub const BUCKET_BOUNDS_S: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
    3600.0, 86400.0,
];

/// Durations in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKET_BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Adds one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index =
            BUCKET_BOUNDS_S.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKET_BOUNDS_S.len());
        self.buckets[index].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Counts per bucket, not cumulated; the last one is above every bound.
    pub fn counts(&self) -> [u64; BUCKET_BOUNDS_S.len() + 1] {
        std::array::from_fn(|index| self.buckets[index].load(Relaxed))
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Relaxed))
    }
}

/// Why a sender was not authenticated (contract section 5: failures are counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// No credentials in the request.
    Missing,
    /// Credentials that cannot be read.
    Malformed,
    /// Credentials that match no secret.
    Mismatch,
    /// A timestamp outside the tolerance.
    Stale,
}

impl AuthFailure {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Malformed, Self::Mismatch, Self::Stale];

    /// The name used as the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::Stale => "stale",
        }
    }
}

/// How one durable subscriber is doing.
#[derive(Debug, Default)]
pub struct SubscriberMeter {
    /// Its name in the configuration.
    pub name: String,
    /// `webhook` or `file`.
    pub kind: &'static str,
    /// `dispod_subscriber_pending{subscriber}`: outcomes it has yet to accept.
    pub pending: Gauge,
    /// `dispod_subscriber_delivered_total{subscriber}`: outcomes it accepted.
    pub delivered: Counter,
    /// `dispod_subscriber_dropped_total{subscriber}`: outcomes given up, because the store was full or damaged.
    pub dropped: Counter,
    /// Why it is told of nothing any more.
    pub disabled: Note,
    /// What its last try came to, when that failed.
    pub last_error: Note,
}

impl SubscriberMeter {
    /// All of it, as it is now.
    pub fn status(&self) -> SubscriberStatus {
        SubscriberStatus {
            name: self.name.clone(),
            kind: self.kind,
            pending: self.pending.get(),
            delivered: self.delivered.get(),
            dropped: self.dropped.get(),
            disabled: self.disabled.get(),
            last_error: self.last_error.get(),
        }
    }
}

/// A [`SubscriberMeter`] read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `webhook` or `file`.
    pub kind: &'static str,
    /// Outcomes it has yet to accept.
    pub pending: u64,
    /// Outcomes it accepted since the start.
    pub delivered: u64,
    /// Outcomes given up since the start.
    pub dropped: u64,
    /// Why it is told of nothing any more.
    pub disabled: Option<String>,
    /// What its last try came to, when that failed.
    pub last_error: Option<String>,
}

/// A condition in words, or none.
#[derive(Debug, Default)]
pub struct Note(Mutex<Option<String>>);

impl Note {
    /// Says what it is now.
    pub fn set(&self, text: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// What it is now.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything dispod counts. One instance per daemon, shared.
#[derive(Debug, Default)]
pub struct Metrics {
    /// `dispod_webhook_requests_total{code}`
    pub webhook_requests: StatusCounters,
    /// `dispod_webhook_connections`
    pub webhook_connections: Gauge,
    /// `dispod_webhook_auth_failures_total{kind}`, by [`AuthFailure::ALL`].
    pub webhook_auth_failures: [Counter; AuthFailure::ALL.len()],
    /// Connections ended by the guard: deadline, size or number.
    pub webhook_connections_shed: Counter,
    /// Connections whose thread cannot be had back (see the README on what tiny_http leaks).
    pub webhook_connections_parked: Gauge,
    /// `dispod_events_kept_total`
    pub events_kept: Counter,
    /// `dispod_events_duplicate_total`
    pub events_duplicate: Counter,
    /// `dispod_events_pending`
    pub events_pending: Gauge,
    /// `dispod_events_dead`
    pub events_dead: Gauge,
    /// When the oldest pending event was kept, Unix ms; 0: none is pending.
    pub oldest_pending_ms: Gauge,
    /// `dispod_deliveries_total{verdict}`, by [`Verdict::ALL`].
    pub deliveries: [Counter; Verdict::ALL.len()],
    /// `dispod_delivery_latency_seconds`: kept to delivered.
    pub delivery_latency: Histogram,
    /// `dispod_api_requests_total{status}`
    pub api_requests: StatusCounters,
    /// `dispod_api_request_seconds`
    pub api_request: Histogram,
    /// `dispod_token_requests_total{result="ok"}`
    pub token_requests_ok: Counter,
    /// `dispod_token_requests_total{result="refused"}`: the endpoint said no.
    pub token_requests_refused: Counter,
    /// `dispod_token_requests_total{result="failed"}`: no usable answer.
    pub token_requests_failed: Counter,
    /// `dispod_published_total{severity}`, by [`Severity::ALL`].
    pub published: [Counter; Severity::ALL.len()],
    /// `dispod_store_bytes`
    pub store_bytes: Gauge,
    /// `dispod_store_commit_seconds`
    pub store_commit: Histogram,
    subscribers: OnceLock<Vec<SubscriberMeter>>,
}

impl Metrics {
    /// The counter of one verdict.
    pub fn delivery(&self, verdict: Verdict) -> &Counter {
        &self.deliveries[verdict as usize]
    }

    /// The durable subscribers, in the order of the configuration; none before [`Metrics::set_subscribers`].
    pub fn subscribers(&self) -> &[SubscriberMeter] {
        self.subscribers.get().map_or(&[], Vec::as_slice)
    }

    /// Says by name and kind which durable subscribers there are. Only the first time counts.
    pub fn set_subscribers(&self, subscribers: impl Iterator<Item = (String, &'static str)>) {
        let meter = |(name, kind)| SubscriberMeter { name, kind, ..SubscriberMeter::default() };
        self.subscribers.get_or_init(|| subscribers.map(meter).collect());
    }

    /// The counter of one severity.
    pub fn published(&self, severity: Severity) -> &Counter {
        &self.published[severity as usize]
    }

    /// The counter of one kind of authentication failure.
    pub fn auth_failure(&self, kind: AuthFailure) -> &Counter {
        &self.webhook_auth_failures[kind as usize]
    }
}
