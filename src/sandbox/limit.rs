//! Counts updates against a [`RateLimit`].

use std::time::Instant;

use super::options::{LimitStyle, RateLimit};

/// The state of one limit. A refused call costs nothing.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: RateLimit,
    /// Token bucket: when `level` was right. Fixed window: when the window began.
    since: Instant,
    /// Calls that may still be made.
    level: f64,
}

impl Limiter {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        let level = match limit.style {
            LimitStyle::TokenBucket { burst } => burst,
            LimitStyle::FixedWindow => limit.calls,
        };
        Self { limit, since: now, level: f64::from(level) }
    }

    /// Whether one more call is within the limit; counts it if so.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        // Calls are timed before they are counted, so `now` may be a little before `since`.
        let elapsed = now.saturating_duration_since(self.since);
        let periods = elapsed.as_secs_f64() / self.limit.per.as_secs_f64();
        match self.limit.style {
            LimitStyle::TokenBucket { burst } => {
                self.level = (self.level + periods * f64::from(self.limit.calls)).min(f64::from(burst));
                self.since = self.since.max(now);
            }
            LimitStyle::FixedWindow if periods >= 1.0 => {
                self.level = f64::from(self.limit.calls);
                self.since += self.limit.per.mul_f64(periods.floor());
            }
            LimitStyle::FixedWindow => {}
        }
        let allowed = self.level >= 1.0;
        if allowed {
            self.level -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn count(limiter: &mut Limiter, now: Instant, calls: usize) -> usize {
        (0..calls).filter(|_| limiter.allow(now)).count()
    }

    #[test]
    fn a_bucket_refills_evenly_up_to_its_burst() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let limit = RateLimit { style: LimitStyle::TokenBucket { burst: 5 }, ..RateLimit::per_second(10) };
        let mut limiter = Limiter::new(limit, start);
        assert_eq!(count(&mut limiter, at(0), 9), 5);
        assert_eq!(count(&mut limiter, at(201), 9), 2);
        assert_eq!(count(&mut limiter, at(100), 9), 0, "time does not run backwards");
        assert_eq!(count(&mut limiter, at(60_000), 9), 5);
    }

    #[test]
    fn a_window_starts_anew_at_its_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let limit = RateLimit { style: LimitStyle::FixedWindow, ..RateLimit::per_second(3) };
        let mut limiter = Limiter::new(limit, start);
        assert_eq!(count(&mut limiter, at(900), 9), 3);
        assert_eq!(count(&mut limiter, at(999), 9), 0);
        assert_eq!(count(&mut limiter, at(1001), 9), 3);
        assert_eq!(count(&mut limiter, at(1900), 9), 0, "windows are aligned to the start");
        assert_eq!(count(&mut limiter, at(2001), 9), 3);
    }
}
