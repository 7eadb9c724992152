//! A subscriber's thread: ask, hand over, say how far it came; wait and try again when it fails.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select};

use super::{Backoff, Delivery, Line, Target, Told};
use crate::backoff;
use crate::flow::{Accepted, Order, OutboxEntry, OutboxOrder};
use crate::metrics::{Metrics, SubscriberMeter};
use crate::settle::RETRY_AFTER_MAX;
use crate::storm::Storm;

/// Most outcomes asked for at once.
const READ_MAX: usize = 64;
/// How often a lasting failure is logged...
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// ...and one that comes and goes.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// What a subscriber's thread owns.
pub(super) struct Room {
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) target: Box<dyn Target>,
    pub(super) backoff: Backoff,
    pub(super) line: Arc<Line>,
    pub(super) told: Arc<Told>,
    pub(super) nudged: Receiver<()>,
    pub(super) metrics: Arc<Metrics>,
    /// Tries in a row that failed.
    pub(super) failures: u32,
    pub(super) failing: bool,
    pub(super) logs: Logs,
}

/// What a subscriber says, each at its pace.
pub(super) struct Logs {
    failures: Storm,
    lasting: Storm,
    changes: Storm,
}

impl Default for Logs {
    fn default() -> Self {
        let [failures, changes] = [Storm::every(LOG_EVERY), Storm::every(LOG_EVERY)];
        Self { failures, lasting: Storm::every(COMPLAIN_EVERY), changes }
    }
}

impl Room {
    /// Runs until told to stop, until the target is gone, or until the keeper is.
    pub(super) fn run(mut self) {
        let prepared = self.target.prepare();
        self.note(prepared);
        while let Some(entries) = self.next() {
            if !self.hand_over(&entries) {
                return;
            }
        }
    }

    /// Hands over all of it, trying again where that fails; gives whether to go on.
    fn hand_over(&mut self, entries: &[OutboxEntry]) -> bool {
        let mut rest = entries;
        while !rest.is_empty() {
            if self.told.stopping.load(Relaxed) {
                return false;
            }
            self.renew();
            match self.target.deliver(rest) {
                Delivery::Accepted(count) => {
                    self.note(Ok(()));
                    self.failures = 0;
                    let (accepted, left) = rest.split_at(count);
                    if !self.advance(accepted) {
                        return false;
                    }
                    rest = left;
                }
                Delivery::Again { why, after } => {
                    self.failures += 1;
                    self.note(Err(why));
                    if !self.wait(after) {
                        return false;
                    }
                }
                Delivery::Gone(why) => {
                    self.disable(why);
                    return false;
                }
            }
        }
        true
    }

    /// Logs a failure and its end, and shows it in the meter.
    fn note(&mut self, result: Result<(), String>) {
        let name = &self.name;
        match result {
            Ok(()) if self.failing => {
                self.logs.changes.log(|more| log::info!("subscriber {name} accepts again{more}"));
                self.meter().last_error.set(None);
                self.failing = false;
            }
            Ok(()) => {}
            Err(why) => {
                let storm = if self.failing { &self.logs.lasting } else { &self.logs.failures };
                storm.log(|more| {
                    log::warn!("subscriber {name}: {why}; it is tried again until it accepts{more}");
                });
                self.meter().last_error.set(Some(why));
                self.failing = true;
            }
        }
    }

    fn meter(&self) -> &SubscriberMeter {
        &self.metrics.subscribers()[self.number]
    }

    /// What comes next, waiting for it; `None`: nothing will.
    fn next(&mut self) -> Option<Vec<OutboxEntry>> {
        let (reply, answer) = bounded(1);
        let read = OutboxOrder::Read { subscriber: self.number, limit: READ_MAX, reply };
        if !self.line.send(Order::Outbox(read)) {
            return None;
        }
        loop {
            if self.told.stopping.load(Relaxed) {
                return None;
            }
            select! {
                recv(answer) -> entries => return entries.ok(),
                recv(self.nudged) -> nudge => {
                    nudge.ok()?;
                    self.renew();
                }
            }
        }
    }

    fn advance(&self, accepted: &[OutboxEntry]) -> bool {
        let accepted =
            accepted.iter().map(|e| Accepted { position: e.position, event: e.event.id }).collect();
        self.line.send(Order::Outbox(OutboxOrder::Advance { subscriber: self.number, accepted }))
    }

    /// Takes over what a newer configuration says of its target.
    fn renew(&mut self) {
        let fresh = self.told.fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(fresh) = fresh {
            let renewed = self.target.renew(&fresh);
            if renewed.is_err() {
                self.note(renewed);
            }
        }
    }

    /// Waits before the next try; a reload or the end cuts it short. Gives whether to go on.
    fn wait(&self, after: Option<Duration>) -> bool {
        let Backoff { base, max } = self.backoff;
        let wait = backoff::full_jitter(self.failures, base, max, fastrand::f64());
        let wait = wait.max(after.unwrap_or_default().min(RETRY_AFTER_MAX));
        let nudge = self.nudged.recv_deadline(Instant::now() + wait);
        nudge != Err(RecvTimeoutError::Disconnected) && !self.told.stopping.load(Relaxed)
    }

    fn disable(&self, reason: String) {
        let name = &self.name;
        log::error!(
            "subscriber {name} is disabled: its endpoint said it is gone ({reason}); outcomes wait in the store until \
             its URL is changed or it is removed from the configuration"
        );
        self.line.send(Order::Outbox(OutboxOrder::Disable { subscriber: self.number, reason }));
    }
}
