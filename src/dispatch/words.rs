//! What dispatch says: one line per event of importance; storms are summarised. Deliveries are logged by the bus.

use std::time::Duration;

use crate::flow::Report;
use crate::storm::Storm;
use crate::verdict::{Answer, Call, Verdict};

/// How often a lasting trouble is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// How often retries and deaths are logged; the audit has every one.
const LOG_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Words {
    denied: Storm,
    away: Storm,
    retry: Storm,
    dead: Storm,
}

impl Default for Words {
    fn default() -> Self {
        let (lasting, of_events) = (|| Storm::every(COMPLAIN_EVERY), || Storm::every(LOG_EVERY));
        Self { denied: lasting(), away: lasting(), retry: of_events(), dead: of_events() }
    }
}

impl Words {
    /// The API begins to count as away, by this call.
    pub(super) fn is_away(&self, call: &Call) {
        self.away.log(|more| {
            let detail = &call.detail;
            log::warn!("the Contact API is away ({detail}): events are kept, a few probes go on{more}");
        });
    }

    /// It is there again.
    pub(super) fn is_back() {
        log::info!("the Contact API answers again: deliveries resume");
    }

    /// What came of an event.
    pub(super) fn report(&self, report: &Report, verdict: Verdict) {
        let event = &report.event;
        let id = event.id;
        let contact = crate::logging::contact(event.call.contact_id());
        let (category, detail) = (&event.category, &report.call.detail);
        let (attempt, took_ms) = (event.attempts + 1, report.call.took.as_millis());
        match verdict {
            Verdict::Delivered => {
                log::debug!("event {id}: contact {contact} {category} delivered, attempt {attempt}, {took_ms} ms");
            }
            Verdict::Denied => self.denied.log(|more| {
                log::error!("denied: {}; events are kept and retried{more}", denial(&report.call));
            }),
            Verdict::Transient | Verdict::Throttled => self.retry.log(|more| {
                log::info!(
                    "event {id}: contact {contact} {category} {verdict}, attempt {attempt}, {took_ms} ms: {detail}{more}"
                );
            }),
            Verdict::Rejected | Verdict::Expired => self.dead.log(|more| {
                log::warn!(
                    "event {id}: contact {contact} {category} is dead: {verdict}, attempt {attempt}: {detail}{more}"
                );
            }),
        }
    }
}

/// Who denies us, and how.
pub(super) fn denial(call: &Call) -> String {
    match call.answer {
        Answer::Status(status) => format!("the Contact API answers {status}: {}", call.detail),
        _ => call.detail.clone(),
    }
}
