//! A log line that stands for many: at most one a second, with how many it stands for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The least time between two lines.
const PERIOD: Duration = Duration::from_secs(1);

/// Says a thing at most once a second.
#[derive(Debug)]
pub(super) struct OnceASecond {
    start: Instant,
    /// When the next line may be written, in milliseconds since `start`.
    next_ms: AtomicU64,
    unsaid: AtomicU64,
}

impl Default for OnceASecond {
    fn default() -> Self {
        Self { start: Instant::now(), next_ms: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }
}

impl OnceASecond {
    /// Counts one more; `line` is called with the count when a line may be written now.
    pub(super) fn say(&self, line: impl FnOnce(u64)) {
        self.unsaid.fetch_add(1, Relaxed);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now_ms = millis(self.start.elapsed());
        let next_ms = self.next_ms.load(Relaxed);
        // Only one of several that come at once takes the turn.
        let turn = now_ms >= next_ms
            && self
                .next_ms
                .compare_exchange(next_ms, now_ms.saturating_add(millis(PERIOD)), Relaxed, Relaxed)
                .is_ok();
        if turn {
            line(self.unsaid.swap(0, Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_is_saved_up() {
        let log = OnceASecond::default();
        let mut said = Vec::new();
        for _ in 0..1000 {
            log.say(|count| said.push(count));
        }
        assert_eq!(said[0], 1);
        assert!(said.len() <= 2, "{said:?}");
    }
}
