//! A worker: one update at a time, by blocking HTTP, reported to dispatch and published on the bus.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::bus::Bus;
use crate::clock;
use crate::cxone::Cxone;
use crate::event::Outcome;
use crate::flow::{Job, Report};
use crate::handover::Taker;
use crate::metrics::Metrics;
use crate::verdict::Verdict;

/// What every worker needs.
#[derive(Clone)]
pub struct Worker {
    /// From dispatch.
    pub jobs: Taker<Job>,
    /// To dispatch.
    pub reports: Sender<Report>,
    /// The Contact API.
    pub cxone: Arc<Cxone>,
    /// Who hears of it.
    pub bus: Arc<Bus>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Worker {
    /// Works until dispatch ends.
    pub fn run(self) {
        while let Some(Job { event }) = self.jobs.take() {
            let started = Instant::now();
            let (refused, call) = self.cxone.update(&event);
            let delivered = Verdict::of(call.answer) == Verdict::Delivered;
            let severity = event.severity;
            let outcome =
                (delivered && self.bus.is_heard(severity)).then(|| Outcome::of(&event, clock::now_ms()));
            if self.reports.send(Report { event, started, refused, call }).is_err() {
                return;
            }
            if delivered {
                self.metrics.published(severity).inc();
            }
            if let Some(outcome) = outcome {
                self.bus.publish(&outcome);
            }
        }
    }
}
