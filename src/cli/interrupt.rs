//! Ctrl-C in the middle of long work: what is in hand is finished, and the command says how to go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::Error;

/// Exit status of one who would not wait (128 and SIGINT's number, as shells have it).
pub(super) const IMPATIENT_STATUS: i32 = 130;
/// How often a wait looks whether there was a signal.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether the user wants an end.
#[derive(Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT and SIGTERM are noted; the second one ends the process at once.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn listen() -> Result<Self, Error> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: at the first signal the flag is not yet set when this one looks.
            flag::register_conditional_shutdown(signal, IMPATIENT_STATUS, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .map_err(|error| Error::failed(format!("cannot listen for signals: {error}")))?;
        }
        Ok(Self(asked))
    }

    /// Waits, but not beyond a signal; gives whether there was one.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.asked() && Instant::now() < end {
            std::thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
        }
        self.asked()
    }

    /// Whether there was a signal.
    pub(super) fn asked(&self) -> bool {
        self.0.load(SeqCst)
    }
}
