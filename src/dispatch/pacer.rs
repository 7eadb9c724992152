//! How fast the API may be called: the operator's limit, and the one the API lets us feel. Pure.
//!
//! A 429 pauses all that is not released yet for as long as the answer says. What was accepted until then tells how much the API
//! takes; after the pause calls are spaced at that rate, which then grows: fast while the limit is unknown, slowly
//! near the rate that was refused. A pause that ends in a refusal of its first call tells that the API is still closed
//! and nothing about its rate, so it lowers none. This is additive increase, multiplicative decrease, with the estimate of the
//! accepted rate as the floor of a decrease, so that one refusal after a long quiet does not stop the work.

use std::time::{Duration, Instant};

use crate::backoff;

/// After a refusal the rate falls to this part of what was refused, if the accepted rate is not higher.
const DECREASE: f64 = 0.85;
/// While the limit is unknown the rate grows by this factor a second.
const SEARCH_GROWTH_PER_S: f64 = 10.0;
/// Near the refused rate it stays below it by this part...
const HOLD: f64 = 0.98;
/// ...which it reaches within this time...
const RECOVER: Duration = Duration::from_secs(2);
/// ...and then grows by this part a second, to find out whether the limit is still there...
const CREEP_PER_S: f64 = 0.001;
/// ...and after this time without a refusal the limit counts as unknown again.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Calls that may leave at once after a pause of sending.
const BURST: f64 = 1.5;
/// The slowest pace: one call in this time.
const SLOWEST: Duration = Duration::from_secs(60);
/// Above this rate spacing calls is no limit any more.
const FASTEST_PER_S: f64 = 20_000.0;

/// Paces calls. All times are given by the caller.
#[derive(Debug)]
pub struct Pacer {
    /// `delivery.rate_limit`, if set.
    own_limit: Option<Bucket>,
    learned: Option<Learned>,
    paused_until: Option<Instant>,
    /// When the first call of this phase was made; a phase lasts from one refusal to the next.
    counting_since: Option<Instant>,
    /// Calls made in this phase.
    made: u32,
    /// Calls accepted in this phase.
    accepted: u32,
    last_phase: Option<Phase>,
    /// Refusals in a row without `Retry-After`.
    unexplained: u32,
    backoff_base: Duration,
    backoff_max: Duration,
}

#[derive(Debug)]
struct Learned {
    bucket: Bucket,
    /// The rate that was refused last, if a spaced rate was.
    refused: Option<f64>,
    /// The rate sending was resumed with, and when.
    resumed: f64,
    resumed_at: Instant,
}

/// The time from one refusal to the next, without the pause.
#[derive(Debug, Clone, Copy)]
struct Phase {
    accepted: f64,
    sending_s: f64,
    /// The lowest rate calls were made at.
    slowest_sent: f64,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    per_s: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_s: f64, burst: f64, at: Instant) -> Self {
        Self { per_s, burst, tokens: 1.0, at }
    }

    fn fill(&mut self, now: Instant) {
        let passed_s = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed_s * self.per_s).min(self.burst);
        self.at = now;
    }

    /// When a token will be there, if none is.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        self.fill(now);
        // A hair under one counts: waiting for the rest would round to no time at all.
        if self.tokens >= 0.999 {
            return None;
        }
        Some(now + Duration::from_secs_f64((1.0 - self.tokens) / self.per_s))
    }

    fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

impl Pacer {
    /// A pacer with `rate_limit` calls per second at most (0: any), and the backoff for refusals that name no time.
    #[must_use]
    pub fn new(rate_limit: u32, backoff_base: Duration, backoff_max: Duration, now: Instant) -> Self {
        let per_s = f64::from(rate_limit);
        Self {
            own_limit: (rate_limit > 0).then(|| Bucket::new(per_s, (per_s / 50.0).max(1.0), now)),
            learned: None,
            paused_until: None,
            counting_since: None,
            made: 0,
            accepted: 0,
            last_phase: None,
            unexplained: 0,
            backoff_base,
            backoff_max,
        }
    }

    /// When the next call may be made; `None`: now.
    pub fn wait(&mut self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.paused_until {
            if now < until {
                return Some(until);
            }
            self.paused_until = None;
        }
        let own = self.own_limit.as_mut().and_then(|bucket| bucket.wait(now));
        let learned = self.learned.as_mut().and_then(|learned| {
            learned.grow(now);
            learned.bucket.wait(now)
        });
        own.max(learned)
    }

    /// A call is being made.
    pub fn took(&mut self, now: Instant) {
        self.counting_since.get_or_insert(now);
        self.made += 1;
        for bucket in
            self.own_limit.iter_mut().chain(self.learned.as_mut().map(|learned| &mut learned.bucket))
        {
            bucket.take();
        }
        if self.learned.as_ref().is_some_and(|learned| learned.bucket.per_s >= FASTEST_PER_S) {
            self.learned = None;
        }
    }

    /// A call was accepted.
    pub fn accepted(&mut self) {
        self.accepted += 1;
        self.unexplained = 0;
    }

    /// A call that began at `started` was answered 429 at `now`. Calls made before a pause are refused with it:
    /// only the first one of them counts. `draw` in 0..=1 jitters a wait the answer does not name.
    pub fn refused(&mut self, started: Instant, now: Instant, retry_after: Option<Duration>, draw: f64) {
        let pause = retry_after.unwrap_or_else(|| {
            let tries = self.unexplained + 1;
            let ceiling = backoff::ceiling(tries, self.backoff_base, self.backoff_max);
            ceiling.mul_f64(0.5 + draw / 2.0)
        });
        let until = now + pause.min(crate::settle::RETRY_AFTER_MAX);
        let same_refusal = self.paused_until.is_some()
            || self.learned.as_ref().is_some_and(|learned| started < learned.resumed_at);
        if same_refusal {
            // A server may count down or up from answer to answer: the latest time holds.
            self.paused_until = self.paused_until.max(Some(until));
            if let (Some(learned), Some(until)) = (&mut self.learned, self.paused_until) {
                learned.resumed_at = learned.resumed_at.max(until);
            }
            return;
        }
        self.unexplained += u32::from(retry_after.is_none());
        match &mut self.learned {
            Some(learned) if self.made == 1 => learned.resume_at(until),
            _ => self.slow_down(now, until),
        }
        self.paused_until = Some(until);
        self.counting_since = None;
        (self.made, self.accepted) = (0, 0);
    }

    fn slow_down(&mut self, now: Instant, until: Instant) {
        let since = self.counting_since.unwrap_or(now);
        let accepted = f64::from(self.accepted);
        let sending_s = (now - since).as_secs_f64();
        // Over the whole time, the pause included, no more can have been allowed.
        let floor_per_s = accepted / (until - since).as_secs_f64().max(0.001);
        let slowest_sent = self.learned.as_ref().map_or(f64::INFINITY, |learned| learned.resumed);
        let phase = Phase { accepted, sending_s, slowest_sent };
        let estimate_per_s = self.last_phase.and_then(|last| phase.estimate_with(last));
        self.last_phase = Some(phase);
        let spaced_per_s = self.learned.as_ref().map(|learned| learned.bucket.per_s);
        let (resumed, refused) = match (spaced_per_s, estimate_per_s) {
            (None, _) => (floor_per_s.max(1.0), None),
            (Some(spaced), Some(estimate)) => {
                let refused = estimate.clamp(floor_per_s.min(spaced), spaced);
                (refused * HOLD * HOLD, Some(refused))
            }
            (Some(spaced), None) => ((spaced * DECREASE).max(floor_per_s.min(spaced * HOLD)), Some(spaced)),
        };
        let slowest = 1.0 / SLOWEST.as_secs_f64();
        let resumed = resumed.clamp(slowest, FASTEST_PER_S / 2.0);
        self.learned =
            Some(Learned { bucket: Bucket::new(resumed, BURST, until), refused, resumed, resumed_at: until });
    }
}

impl Phase {
    /// The API's rate, from two phases: what is accepted until a refusal is a burst, the same each time, and the
    /// rate times the time. Two phases of like length tell nothing, and neither does one that was at times slower
    /// than the rate found.
    fn estimate_with(self, other: Self) -> Option<f64> {
        let longer_s = self.sending_s - other.sending_s;
        let estimate = (self.accepted - other.accepted) / longer_s;
        let tells = longer_s.abs() > 0.1 * self.sending_s.max(other.sending_s);
        let never_slower = estimate <= self.slowest_sent.min(other.slowest_sent);
        (tells && never_slower && estimate > 0.0).then_some(estimate)
    }
}

impl Learned {
    fn resume_at(&mut self, at: Instant) {
        self.bucket = Bucket::new(self.resumed, BURST, at);
        self.resumed_at = at;
    }

    fn grow(&mut self, now: Instant) {
        let passed_s = now.saturating_duration_since(self.resumed_at).as_secs_f64();
        let rate = match self.refused {
            None => self.resumed * SEARCH_GROWTH_PER_S.powf(passed_s),
            Some(refused) => {
                let hold = refused * HOLD;
                let recovered = (passed_s / RECOVER.as_secs_f64()).min(1.0);
                let base = self.resumed + (hold - self.resumed).max(0.0) * recovered;
                let creep_s = (passed_s - RECOVER.as_secs_f64()).clamp(0.0, FORGET_AFTER.as_secs_f64());
                let search_s = (passed_s - FORGET_AFTER.as_secs_f64()).max(0.0);
                base * (1.0 + CREEP_PER_S * creep_s) * SEARCH_GROWTH_PER_S.powf(search_s / 20.0)
            }
        };
        self.bucket.per_s = rate.min(FASTEST_PER_S);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An API limit that is not announced.
    enum Limit {
        Bucket { per_s: f64, burst: f64, tokens: f64, at: Instant },
        Window { per_window: u32, used: u32, window: u64 },
        Closed { period: Duration },
    }

    impl Limit {
        fn allows(&mut self, now: Instant, start: Instant) -> bool {
            match self {
                Self::Bucket { per_s, burst, tokens, at } => {
                    *tokens = (*tokens + (now - *at).as_secs_f64() * *per_s).min(*burst);
                    *at = now;
                    let allowed = *tokens >= 1.0;
                    *tokens -= f64::from(u8::from(allowed));
                    allowed
                }
                Self::Window { per_window, used, window } => {
                    let current = (now - start).as_secs();
                    if current != *window {
                        (*window, *used) = (current, 0);
                    }
                    *used += 1;
                    *used <= *per_window
                }
                Self::Closed { period } => now - start >= *period,
            }
        }
    }

    /// Plays a burst of `events` through 16 workers with 2 ms calls; gives the seconds it took and the refusals.
    fn play(mut limit: Limit, start: Instant, events: u32) -> (f64, u32) {
        const WORKERS: usize = 16;
        let call = Duration::from_millis(2);
        let mut pacer = Pacer::new(0, Duration::from_secs(1), Duration::from_secs(60), start);
        let (mut now, mut delivered, mut refused) = (start, 0, 0);
        let mut out: std::collections::VecDeque<(Instant, bool)> = std::collections::VecDeque::new();
        while delivered < events {
            assert!(now - start < Duration::from_secs(600), "never finished");
            while let Some((started, allowed)) =
                out.front().copied().filter(|(started, _)| *started + call <= now)
            {
                out.pop_front();
                if allowed {
                    delivered += 1;
                    pacer.accepted();
                } else {
                    refused += 1;
                    pacer.refused(started, now, Some(Duration::from_secs(1)), 0.5);
                }
            }
            let waits = pacer.wait(now);
            if waits.is_none() && out.len() < WORKERS {
                pacer.took(now);
                out.push_back((now, limit.allows(now, start)));
                continue;
            }
            let answer = out.front().map(|(started, _)| *started + call);
            let next = if out.len() < WORKERS { answer.into_iter().chain(waits).min() } else { answer };
            now = next.expect("something is always to come").max(now + Duration::from_micros(10));
        }
        ((now - start).as_secs_f64(), refused)
    }

    #[test]
    fn an_unannounced_limit_is_found_and_kept() {
        let start = Instant::now();
        let bucket = |burst: f64| Limit::Bucket { per_s: 200.0, burst, tokens: burst, at: start };
        let window = Limit::Window { per_window: 200, used: 0, window: 0 };
        // A small burst makes every refusal dear: the pause wastes what a larger one would have saved up.
        let limits = [
            ("bucket of 200", bucket(200.0), 30.0),
            ("bucket of 20", bucket(20.0), 30.0),
            ("bucket of 5", bucket(5.0), 36.0),
            ("window of a second", window, 30.0),
        ];
        for (name, limit, at_most_s) in limits {
            let (seconds, refused) = play(limit, start, 5000);
            println!("{name}: {seconds:.1} s, {refused} refused");
            assert!(seconds < at_most_s, "{name}: {seconds:.1} s for an ideal of 25 s");
            assert!(refused <= 150, "{name}: {refused} of 5000 refused");
        }
    }

    #[test]
    fn an_api_that_was_closed_for_long_is_not_met_more_slowly_for_it() {
        let start = Instant::now();
        let (seconds, refused) = play(Limit::Closed { period: Duration::from_secs(60) }, start, 5000);
        println!("{seconds:.1} s, {refused} refused");
        assert!(seconds < 66.0, "{seconds:.1} s, of which it was closed for 60");
        // Everybody's first call, then one a second.
        assert!(
            refused <= 16 + 60,
            "{refused} calls while it was closed, each told to stay away for a second"
        );
    }
}
