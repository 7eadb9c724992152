//! From what a call came to, to what is written about its event. Pure: the time and the jitter are given.

use std::time::Duration;

use crate::backoff;
use crate::clock;
use crate::config::DeliveryConfig;
use crate::event::KeptEvent;
use crate::flow::{Report, Settlement};
use crate::store::{self, Settled, State, Step, StepKind, StoredEvent};
use crate::verdict::{Answer, Call, Verdict};

/// A denied event waits as if it had failed this many times more: slowly, since only the operator can mend it.
const DENIED_HEAD_START: u32 = 3;
/// Longest wait a server can ask for by `Retry-After`; a wrong header must not park an event for good.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What to write about the event of `report`.
///
/// `now_ms` is the Unix time in ms, `draw` a number in 0..=1 for the jitter.
#[must_use]
pub fn settlement(report: &Report, config: &DeliveryConfig, now_ms: i64, draw: f64) -> Settlement {
    let call = &report.call;
    let mut event = report.event.clone();
    event.attempts += 1;
    let mut steps: Vec<Step> = Vec::new();
    if let Some(refused) = &report.refused {
        steps.push(attempt_step(&event, refused, now_ms - clock::millis(call.took)));
    }
    let mut verdict = Verdict::of(call.answer);
    // A throttled event has not failed: it was only too early.
    let failed = matches!(verdict, Verdict::Transient | Verdict::Denied);
    if failed && now_ms - event.since_ms() >= clock::millis(config.max_age) {
        verdict = Verdict::Expired;
    }
    let mut settled = Settled {
        at_ms: Some(now_ms),
        status: status(call),
        latency_ms: Some(latency_ms(call)),
        reason: None,
        answer: None,
    };
    let state = match verdict {
        Verdict::Delivered => State::Delivered,
        Verdict::Rejected | Verdict::Expired => {
            settled.reason = Some(match verdict {
                Verdict::Expired => store::EXPIRED.to_owned(),
                _ => verdict.as_str().to_owned(),
            });
            settled.answer = Some(call.detail.clone());
            State::Dead
        }
        Verdict::Transient | Verdict::Throttled | Verdict::Denied => {
            steps.push(attempt_step(&event, call, now_ms));
            settled = Settled::default();
            State::Pending
        }
    };
    event.due_ms = match verdict {
        Verdict::Transient | Verdict::Denied => {
            let due_ms = now_ms + clock::millis(wait(verdict, event.attempts, call, config, draw));
            steps.push(Step {
                event: event.id,
                at_ms: now_ms,
                kind: StepKind::RetryAt,
                attempt: Some(event.attempts),
                status: None,
                latency_ms: None,
                note: Some(clock::rfc3339_ms(due_ms)),
            });
            Some(due_ms)
        }
        // A throttled event is not to blame: it waits with everybody else, at the head of its lane.
        _ => None,
    };
    Settlement { stored: StoredEvent { event, state, settled }, steps, verdict }
}

fn wait(verdict: Verdict, attempts: u32, call: &Call, config: &DeliveryConfig, draw: f64) -> Duration {
    let tries = if verdict == Verdict::Denied { attempts + DENIED_HEAD_START } else { attempts };
    let wait = backoff::full_jitter(tries, config.backoff_base, config.backoff_max, draw);
    wait.max(call.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
}

fn status(call: &Call) -> Option<u16> {
    match call.answer {
        Answer::Status(status) => Some(status),
        Answer::None | Answer::TokenRefused | Answer::TokenThrottled => None,
    }
}

fn latency_ms(call: &Call) -> u32 {
    u32::try_from(call.took.as_millis()).unwrap_or(u32::MAX)
}

fn attempt_step(event: &KeptEvent, call: &Call, at_ms: i64) -> Step {
    Step {
        event: event.id,
        at_ms,
        kind: StepKind::Attempt,
        attempt: Some(event.attempts),
        status: status(call),
        latency_ms: Some(latency_ms(call)),
        note: Some(call.detail.clone()).filter(|detail| !detail.is_empty()),
    }
}
