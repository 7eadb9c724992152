//! The last hour, minute by minute, from the counters. No clock: it is told the time.

use std::collections::VecDeque;

use crate::metrics::{BUCKET_BOUNDS_S, Metrics};
use crate::verdict::Verdict;

/// Minutes kept, the running one included.
const MINUTES: usize = 60;
/// A minute.
pub(super) const MINUTE_MS: i64 = 60_000;

/// Counts per bucket of a [`crate::metrics::Histogram`].
type Counts = [u64; BUCKET_BOUNDS_S.len() + 1];

/// The counters at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    kept: u64,
    delivered: u64,
    failed: u64,
    latency: Counts,
}

impl Totals {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let delivered = metrics.delivery(Verdict::Delivered).get();
        let all: u64 = Verdict::ALL.into_iter().map(|verdict| metrics.delivery(verdict).get()).sum();
        Self {
            kept: metrics.events_kept.get(),
            delivered,
            failed: all.saturating_sub(delivered),
            latency: metrics.delivery_latency.counts(),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut latency = self.latency;
        for (count, before) in latency.iter_mut().zip(earlier.latency) {
            *count = count.saturating_sub(before);
        }
        Self {
            kept: self.kept.saturating_sub(earlier.kept),
            delivered: self.delivered.saturating_sub(earlier.delivered),
            failed: self.failed.saturating_sub(earlier.failed),
            latency,
        }
    }
}

/// What happened in one minute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Minute {
    /// When it began, Unix ms.
    pub at_ms: i64,
    /// Events kept.
    pub kept: u64,
    /// Updates the Contact API accepted.
    pub delivered: u64,
    /// Attempts that came to anything else.
    pub failed: u64,
    /// 99th percentile of kept to delivered, in seconds.
    pub p99_s: Option<f64>,
}

impl Minute {
    fn new(at_ms: i64, of: &Totals) -> Self {
        let Totals { kept, delivered, failed, latency } = of;
        let p99_s = quantile(latency, 0.99);
        Self { at_ms, kept: *kept, delivered: *delivered, failed: *failed, p99_s }
    }
}

/// The last hour.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hour {
    /// The complete minutes, oldest first, and the running one as far as it has come.
    pub minutes: Vec<Minute>,
    /// Median and 99th percentile of kept to delivered, in seconds; `None` when nothing was delivered.
    pub latency_s: Option<(f64, f64)>,
}

/// When each of the last minutes began, at most [`MINUTES`] of them, and what the counters were then.
pub(super) struct Trend {
    /// Never empty; the last one is the running one.
    starts: VecDeque<(i64, Totals)>,
}

impl Trend {
    pub(super) fn new(totals: Totals, now_ms: i64) -> Self {
        let mut starts = VecDeque::with_capacity(MINUTES);
        starts.push_back((minute_of(now_ms), totals));
        Self { starts }
    }

    /// Begins the minutes that have begun. To be called at least once a minute; what is missed counts for the minute
    /// it was last called in.
    pub(super) fn roll(&mut self, totals: &Totals, now_ms: i64) {
        let now = minute_of(now_ms);
        // The clock may have been set back: minutes that are to come again are not told twice.
        while self.starts.len() > 1 && self.running_ms() > now {
            self.starts.pop_back();
        }
        if let Some((running_ms, _)) = self.starts.back_mut().filter(|(running_ms, _)| *running_ms > now) {
            *running_ms = now;
        }
        // Of minutes nobody was awake in, more than an hour of them need not be gone through.
        let oldest = now - (MINUTES.cast_signed() as i64 - 1) * MINUTE_MS;
        let mut at_ms = (self.running_ms() + MINUTE_MS).max(oldest);
        while at_ms <= now {
            if self.starts.len() == MINUTES {
                self.starts.pop_front();
            }
            self.starts.push_back((at_ms, totals.clone()));
            at_ms += MINUTE_MS;
        }
    }

    fn running_ms(&self) -> i64 {
        self.starts.back().map_or(0, |(at_ms, _)| *at_ms)
    }

    /// The last hour up to now.
    pub(super) fn last_hour(&self, totals: &Totals) -> Hour {
        let ends = self.starts.iter().skip(1).map(|(_, totals)| totals).chain([totals]);
        let minutes = self.starts.iter().zip(ends);
        let minutes = minutes.map(|((at_ms, start), end)| Minute::new(*at_ms, &end.since(start))).collect();
        let latency = self.starts.front().map(|(_, start)| totals.since(start).latency);
        let latency_s = latency.and_then(|counts| Some((quantile(&counts, 0.5)?, quantile(&counts, 0.99)?)));
        Hour { minutes, latency_s }
    }
}

fn minute_of(ms: i64) -> i64 {
    ms - ms.rem_euclid(MINUTE_MS)
}

/// The value below which the part `q` of all observations is, in seconds; `None` when there are none. Within a
/// bucket they are taken to be spread evenly; what is above every bound is taken for the last one.
#[expect(
    clippy::cast_precision_loss,
    reason = "a quantile is an estimate; counts beyond 2^52 are not to be had"
)]
pub(super) fn quantile(counts: &Counts, q: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = q * total as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, upper) in counts.iter().zip(BUCKET_BOUNDS_S) {
        let within = *count as f64;
        if below + within >= rank && within > 0.0 {
            return Some(lower + (upper - lower) * ((rank - below) / within).clamp(0.0, 1.0));
        }
        below += within;
        lower = upper;
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_700_000_040_000;

    fn totals(kept: u64, delivered: u64, failed: u64) -> Totals {
        Totals { kept, delivered, failed, ..Totals::default() }
    }

    fn kept(hour: &Hour) -> Vec<u64> {
        hour.minutes.iter().map(|minute| minute.kept).collect()
    }

    #[test]
    fn each_minute_has_what_came_in_it() {
        let mut trend = Trend::new(totals(100, 0, 0), T + 5_000);
        assert_eq!(kept(&trend.last_hour(&totals(103, 0, 0))), [3]);
        trend.roll(&totals(104, 2, 1), T + 59_999);
        trend.roll(&totals(105, 2, 1), T + MINUTE_MS);
        let hour = trend.last_hour(&totals(112, 2, 1));
        assert_eq!(kept(&hour), [5, 7]);
        let [first, second] = &hour.minutes[..] else { panic!("{hour:?}") };
        assert_eq!((first.delivered, first.failed, second.delivered), (2, 1, 0));
        assert_eq!((first.at_ms, second.at_ms), (T, T + MINUTE_MS));
    }

    #[test]
    fn an_hour_has_sixty_minutes_and_gaps_are_empty() {
        let mut trend = Trend::new(Totals::default(), T);
        trend.roll(&totals(9, 0, 0), T + 3 * MINUTE_MS);
        assert_eq!(kept(&trend.last_hour(&totals(10, 0, 0))), [9, 0, 0, 1]);
        trend.roll(&totals(10, 0, 0), T + 500 * MINUTE_MS);
        let hour = trend.last_hour(&totals(10, 0, 0));
        assert_eq!(hour.minutes.len(), 60);
        assert_eq!(hour.minutes[59].at_ms - hour.minutes[0].at_ms, 59 * MINUTE_MS);
        assert!(kept(&hour).iter().all(|n| *n == 0));
    }

    #[test]
    fn a_clock_set_back_loses_nothing() {
        let mut trend = Trend::new(Totals::default(), T + 10 * MINUTE_MS);
        trend.roll(&totals(1, 0, 0), T + 11 * MINUTE_MS);
        trend.roll(&totals(3, 0, 0), T);
        let hour = trend.last_hour(&totals(3, 0, 0));
        assert_eq!((hour.minutes.len(), hour.minutes[0].at_ms, hour.minutes[0].kept), (1, T, 3));
    }

    #[test]
    fn the_latency_is_that_of_the_last_hour() {
        let observed = |bucket: usize, n| {
            let mut totals = Totals::default();
            totals.latency[bucket] = n;
            totals
        };
        let mut trend = Trend::new(observed(17, 500), T);
        assert_eq!(trend.last_hour(&observed(17, 500)).latency_s, None);
        let mut later = observed(17, 500);
        later.latency[0] = 10;
        let (p50, p99) = trend.last_hour(&later).latency_s.unwrap();
        assert!(p50 < p99 && p99 <= 0.0005, "{p50} {p99}");
        trend.roll(&later, T + 61 * MINUTE_MS);
        assert_eq!(trend.last_hour(&later).latency_s, None);
    }

    #[test]
    fn quantiles() {
        let mut counts = Counts::default();
        assert_eq!(quantile(&counts, 0.5), None);
        counts[3] = 100;
        assert!((quantile(&counts, 0.5).unwrap() - 0.00375).abs() < 1e-9);
        counts[BUCKET_BOUNDS_S.len()] = 100;
        assert!((quantile(&counts, 0.99).unwrap() - 86400.0).abs() < 1e-9);
    }
}
