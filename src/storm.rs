//! Log lines that can come in storms: one a period, with the number of those left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one line through in each period and counts the others.
#[derive(Debug)]
pub struct Storm {
    every: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl Storm {
    /// At most one line in `every`.
    #[must_use]
    pub const fn every(every: Duration) -> Self {
        Self { every, state: Mutex::new((None, 0)) }
    }

    /// Calls `line` if one is due, with " (N more since the last such line)" or nothing to append.
    pub fn log(&self, line: impl FnOnce(&str)) {
        let now = Instant::now();
        let left_out = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0.is_some_and(|last| now - last < self.every) {
                state.1 += 1;
                return;
            }
            state.0 = Some(now);
            std::mem::take(&mut state.1)
        };
        let more = match left_out {
            0 => String::new(),
            n => format!(" ({n} more since the last such line)"),
        };
        line(&more);
    }
}
