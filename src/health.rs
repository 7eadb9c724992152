//! Whether the daemon can do its work, for `/healthz`, `/readyz` and the watchdog.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The daemon's condition; one instance, shared.
#[derive(Debug, Default)]
pub struct Health {
    stopping: AtomicBool,
    store_failing: AtomicBool,
    backlog_full: AtomicBool,
    denied: Mutex<Option<String>>,
}

impl Health {
    /// Whether a new event could be kept now (`/healthz`).
    #[must_use]
    pub fn can_keep(&self) -> bool {
        !self.stopping() && !self.store_failing.load(Relaxed) && !self.backlog_full.load(Relaxed)
    }

    /// Whether the daemon is on its way out.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Says that the daemon is on its way out; there is no way back.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Says whether writing to the store fails.
    pub fn set_store_failing(&self, failing: bool) {
        self.store_failing.store(failing, Relaxed);
    }

    /// Says whether the backlog is at `store.max_size` or the disk is full.
    pub fn set_backlog_full(&self, full: bool) {
        self.backlog_full.store(full, Relaxed);
    }

    /// Says that the API denies us, and its reason; `None` when it accepts us again.
    pub fn set_denied(&self, reason: Option<String>) {
        *self.denied.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why the daemon is not ready (`/readyz`); empty when it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping() {
            reasons.push("stopping".to_owned());
        }
        if self.store_failing.load(Relaxed) {
            reasons.push("storage failing".to_owned());
        }
        if self.backlog_full.load(Relaxed) {
            reasons.push("backlog full".to_owned());
        }
        if let Some(reason) = &*self.denied.lock().unwrap_or_else(PoisonError::into_inner) {
            reasons.push(format!("denied: {reason}"));
        }
        reasons
    }
}
