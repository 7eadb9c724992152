//! Dead letters and one contact's story, as JSON.

use serde::Serialize;

use crate::clock;
use crate::event::Severity;
use crate::flow::Operated;
use crate::store::{CORRUPT, ContactPage, State, Step, StepKind, Steps, StoredEvent};

/// What is shown of a row that cannot be trusted as its state in the audit.
const DAMAGED: &str = "damaged";

/// A page of dead letters.
#[derive(Serialize)]
pub(super) struct Letters {
    dead: Vec<Letter>,
    next: Option<String>,
}

impl Letters {
    /// `full`: there may be more behind these.
    pub(super) fn new(rows: Vec<Result<StoredEvent, u64>>, full: bool) -> Self {
        let dead: Vec<_> = rows.into_iter().map(Letter::new).collect();
        let next = dead.last().filter(|_| full).map(|letter| letter.id.clone());
        Self { dead, next }
    }
}

/// A dead letter. Of a damaged one only the id is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    id: String,
    contact_id: Option<String>,
    disposition_code: Option<String>,
    call_result: Option<String>,
    timestamp: Option<String>,
    category: Option<String>,
    severity: Option<Severity>,
    reason: Option<String>,
    status: Option<u16>,
    answer: Option<String>,
    attempts: Option<u32>,
    received_at: Option<String>,
    died_at: Option<String>,
}

impl Letter {
    /// From its row, or the id of a damaged one.
    #[must_use]
    pub fn new(row: Result<StoredEvent, u64>) -> Self {
        match row {
            Ok(StoredEvent { event, settled, .. }) => Self {
                id: event.id.to_string(),
                contact_id: Some(event.call.contact_id().to_owned()),
                disposition_code: Some(event.call.disposition_code().to_owned()),
                call_result: event.call.call_result().map(str::to_owned),
                timestamp: event.call.timestamp().map(str::to_owned),
                category: Some(event.category),
                severity: Some(event.severity),
                reason: settled.reason,
                status: settled.status,
                answer: settled.answer,
                attempts: Some(event.attempts),
                received_at: Some(clock::rfc3339_ms(event.received_ms)),
                died_at: settled.at_ms.map(clock::rfc3339_ms),
            },
            Err(id) => Self {
                id: id.to_string(),
                contact_id: None,
                disposition_code: None,
                call_result: None,
                timestamp: None,
                category: None,
                severity: None,
                reason: Some(CORRUPT.to_owned()),
                status: None,
                answer: None,
                attempts: None,
                received_at: None,
                died_at: None,
            },
        }
    }
}

/// Part of a contact's story.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Audit {
    contact: String,
    events: Vec<Story>,
    next: Option<String>,
    searched_back_to: Option<String>,
}

impl Audit {
    pub(super) fn new(contact: String, page: ContactPage, steps: impl IntoIterator<Item = Steps>) -> Self {
        let ContactPage { events, continue_below, searched_back_to_ms } = page;
        Self {
            contact,
            events: events.into_iter().zip(steps).map(|(row, steps)| Story::new(row, steps)).collect(),
            next: continue_below.map(|id| id.to_string()),
            searched_back_to: searched_back_to_ms.map(clock::rfc3339_ms),
        }
    }
}

/// An event's story.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Story {
    id: String,
    state: &'static str,
    disposition_code: Option<String>,
    call_result: Option<String>,
    timestamp: Option<String>,
    category: Option<String>,
    severity: Option<Severity>,
    attempts: Option<u32>,
    received_at: Option<String>,
    due_at: Option<String>,
    /// Whether there are earlier steps than those shown.
    more_steps: bool,
    steps: Vec<Told>,
}

/// A step of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    at: String,
    what: &'static str,
    attempt: Option<u32>,
    status: Option<u16>,
    latency_ms: Option<u32>,
    note: Option<String>,
    #[serde(skip)]
    at_ms: i64,
}

impl Told {
    fn new(what: &'static str, at_ms: i64, note: Option<String>) -> Self {
        Self {
            at: clock::rfc3339_ms(at_ms),
            what,
            attempt: None,
            status: None,
            latency_ms: None,
            note,
            at_ms,
        }
    }
}

impl From<Step> for Told {
    fn from(step: Step) -> Self {
        let Step { at_ms, kind, attempt, status, latency_ms, note, .. } = step;
        Self { attempt, status, latency_ms, ..Self::new(kind.as_str(), at_ms, note) }
    }
}

impl Story {
    fn new(row: Result<StoredEvent, u64>, steps: Steps) -> Self {
        let recorded: Vec<Told> = steps.steps.into_iter().map(Told::from).collect();
        let more_steps = steps.more;
        match row {
            Ok(stored) => Self::of(stored, recorded, more_steps),
            Err(id) => Self {
                id: id.to_string(),
                state: DAMAGED,
                disposition_code: None,
                call_result: None,
                timestamp: None,
                category: None,
                severity: None,
                attempts: None,
                received_at: None,
                due_at: None,
                more_steps,
                steps: recorded,
            },
        }
    }

    /// The row tells how the story began and how it ended, the recorded steps what was in between.
    fn of(stored: StoredEvent, recorded: Vec<Told>, more_steps: bool) -> Self {
        let StoredEvent { event, state, settled } = stored;
        let mapped = format!("mapped to {} ({})", event.category, event.severity);
        let mut steps = vec![Told::new("received", event.received_ms, Some(mapped))];
        steps.extend(recorded);
        if let Some(at_ms) = settled.at_ms {
            let what = if state == State::Delivered { State::Delivered } else { State::Dead }.as_str();
            let note = match (settled.reason, settled.answer.filter(|answer| !answer.is_empty())) {
                (Some(reason), Some(answer)) => Some(format!("{reason}: {answer}")),
                (reason, answer) => reason.or(answer),
            };
            let told = Told::new(what, at_ms, note);
            let (status, latency_ms) = (settled.status, settled.latency_ms);
            steps.push(Told { attempt: Some(event.attempts), status, latency_ms, ..told });
        }
        // What is dropped was dead before; a duplicate may come at any time.
        steps.sort_by_key(|step| (step.at_ms, step.what == StepKind::Dropped.as_str()));
        Self {
            id: event.id.to_string(),
            state: state.as_str(),
            disposition_code: Some(event.call.disposition_code().to_owned()),
            call_result: event.call.call_result().map(str::to_owned),
            timestamp: event.call.timestamp().map(str::to_owned),
            category: Some(event.category),
            severity: Some(event.severity),
            attempts: Some(event.attempts),
            received_at: Some(clock::rfc3339_ms(event.received_ms)),
            due_at: event.due_ms.filter(|_| state == State::Pending).map(clock::rfc3339_ms),
            more_steps,
            steps,
        }
    }
}

/// What an operation did.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Effect {
    done: usize,
    not_done: usize,
    continue_after: Option<String>,
}

impl From<&Operated> for Effect {
    fn from(operated: &Operated) -> Self {
        Self {
            done: operated.done.len(),
            not_done: operated.not_done.len(),
            continue_after: operated.continue_after.map(|id| id.to_string()),
        }
    }
}
