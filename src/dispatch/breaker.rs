//! When the API is away, a few probes instead of one call per waiting event. Pure.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::backoff;

/// So many contacts in a row must fail, with no success between, before the API counts as away.
const FAILURES_TO_OPEN: usize = 8;
/// Longest time between two probes, so that work resumes soon after the API does.
const PROBE_EVERY_MAX: Duration = Duration::from_secs(10);
/// The same while the API denies us: only an operator can mend that.
const DENIED_PROBE_EVERY_MAX: Duration = Duration::from_secs(60);

/// Knows whether the API is away.
#[derive(Debug)]
pub struct Breaker {
    failed: HashSet<u64>,
    open: Option<Open>,
    backoff_base: Duration,
    backoff_max: Duration,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    probes: u32,
    next_at: Instant,
}

/// What the breaker allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Call as many as the pace allows.
    All,
    /// One call at a time, not before this time.
    ProbeAt(Instant),
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(backoff_base: Duration, backoff_max: Duration) -> Self {
        Self { failed: HashSet::new(), open: None, backoff_base, backoff_max }
    }

    /// What is allowed now.
    #[must_use]
    pub fn permit(&self) -> Permit {
        self.open.as_ref().map_or(Permit::All, |open| Permit::ProbeAt(open.next_at))
    }

    /// The API answered: it is there. Gives how long it had been away, if it had.
    pub fn answered(&mut self, now: Instant) -> Option<Duration> {
        self.failed.clear();
        self.open.take().map(|open| now.saturating_duration_since(open.since))
    }

    /// A call for the contact with this hash came to nothing, or we were denied. `draw` in 0..=1 is the jitter.
    /// Gives whether the API counts as away from now on and did not before.
    pub fn failed(&mut self, contact: u64, denied: bool, now: Instant, draw: f64) -> bool {
        if self.open.is_none() {
            self.failed.insert(contact);
            if self.failed.len() < FAILURES_TO_OPEN {
                return false;
            }
        }
        let opened = self.open.is_none();
        let most = if denied { DENIED_PROBE_EVERY_MAX } else { PROBE_EVERY_MAX }.min(self.backoff_max);
        let open = self.open.get_or_insert(Open { since: now, probes: 0, next_at: now });
        // Calls that were out when it opened fail one after another; they are not probes.
        if opened || open.next_at <= now {
            open.probes += 1;
            let wait = backoff::ceiling(open.probes, self.backoff_base, most);
            open.next_at = now + wait.mul_f64(0.5 + draw / 2.0);
        }
        opened
    }

    /// Something changed that may have mended it: probe at once.
    pub fn nudge(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            *open = Open { since: open.since, probes: 0, next_at: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_contact_opens_nothing_and_an_outage_is_probed_ever_more_slowly() {
        let (base, max) = (Duration::from_secs(1), Duration::from_secs(300));
        let start = Instant::now();
        let mut breaker = Breaker::new(base, max);
        for _ in 0..100 {
            assert!(!breaker.failed(7, false, start, 1.0));
        }
        assert_eq!(breaker.permit(), Permit::All);
        let opened: Vec<bool> = (0..20).map(|contact| breaker.failed(contact, false, start, 1.0)).collect();
        assert_eq!(opened.iter().filter(|opened| **opened).count(), 1);
        let mut waits = Vec::new();
        let mut now = start;
        for _ in 0..6 {
            let Permit::ProbeAt(at) = breaker.permit() else { panic!("closed") };
            waits.push((at - now).as_secs());
            now = at;
            breaker.failed(1, false, now, 1.0);
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(breaker.answered(now), Some(now - start));
        assert_eq!(breaker.permit(), Permit::All);
        assert_eq!(breaker.answered(now), None);
    }
}
