//! Rounds: with many places out, what is reported is gathered for a moment to be written in one, and what is released
//! is left for a moment to the workers that get done. Pure.

use std::time::{Duration, Instant};

use crate::handover::FEW;

/// How long, for each place that is out: so reports are never held back to fewer than 125,000 a second. With 256 places
/// 2 ms, in which ten of them report at 50 ms a call...
const PER_PLACE: Duration = Duration::from_micros(8);
/// ...and at most so long: more to be written in one gains little more.
const LAST_MAX: Duration = Duration::from_millis(4);

/// The round that is on, if one is.
#[derive(Debug, Default)]
pub(super) struct Round {
    ends_at: Option<Instant>,
}

impl Round {
    /// Begins one, unless it is on. Gives whether one is on: what few gain does not pay for their wait.
    pub(super) fn begin(&mut self, now: Instant, out: usize) -> bool {
        if self.ends_at.is_none() && out > FEW {
            let lasts = PER_PLACE * u32::try_from(out).unwrap_or(u32::MAX);
            self.ends_at = Some(now + lasts.min(LAST_MAX));
        }
        self.is_on()
    }

    /// Whether one is on.
    pub(super) fn is_on(&self) -> bool {
        self.ends_at.is_some()
    }

    /// When it ends.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.ends_at
    }

    /// Ends the one that is due to end. Gives whether none is on.
    pub(super) fn end_if_due(&mut self, now: Instant) -> bool {
        self.ends_at = self.ends_at.filter(|at| now < *at);
        !self.is_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_places_have_no_rounds() {
        let (mut round, now) = (Round::default(), Instant::now());
        assert!(!round.begin(now, FEW) && !round.is_on() && round.end_if_due(now));
    }

    #[test]
    fn a_round_lasts_as_long_as_places_are_out_but_not_for_ever() {
        let now = Instant::now();
        for (out, lasts) in [(FEW + 1, Duration::from_micros(504)), (4096, LAST_MAX)] {
            let mut round = Round::default();
            assert!(round.begin(now, out));
            assert!(round.begin(now + lasts / 2, out), "it is on");
            assert_eq!(round.ends_at(), Some(now + lasts), "it was not begun anew");
            assert!(!round.end_if_due(now + lasts / 2) && round.is_on());
            assert!(round.end_if_due(now + lasts) && !round.is_on());
        }
    }
}
