//! Rounds: with many places out, what is reported is gathered for a moment to be written in one, and what is released
//! is left for a moment to the workers that get done. Pure.

use std::time::{Duration, Instant};

use crate::handover::FEW;

/// How long, for each place that is out: so reports are never held back to fewer than 125,000 a second. With 256 places
/// 2 ms, in which ten of them report at 50 ms a call.
const PER_PLACE: Duration = Duration::from_micros(8);

/// The round that is on, if one is.
#[derive(Debug, Default)]
pub(super) struct Round {
    ends_at: Option<Instant>,
}

impl Round {
    /// Begins one, unless it is on. Gives whether one is on: what few gain does not pay for their wait.
    pub(super) fn begin(&mut self, now: Instant, out: usize) -> bool {
        if self.ends_at.is_none() && out > FEW {
            self.ends_at = Some(now + PER_PLACE * u32::try_from(out).unwrap_or(u32::MAX));
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

    /// Whether none is on any more.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.ends_at = self.ends_at.filter(|at| now < *at);
        !self.is_on()
    }
}
