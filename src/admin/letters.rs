//! Dead letters and one contact's story, as JSON.

use serde::Serialize;

use crate::audit::{self, Mappings};
use crate::clock;
use crate::event::Severity;
use crate::flow::Operated;
use crate::store::{CORRUPT, ContactPage, State, Steps, StoreError, StoredEvent};

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
    pub(super) fn new(
        contact: String,
        page: ContactPage,
        steps: impl IntoIterator<Item = Steps>,
        mappings: &mut Mappings<'_>,
    ) -> Result<Self, StoreError> {
        let ContactPage { events, continue_below, searched_back_to_ms } = page;
        let stories = events.into_iter().zip(steps).map(|(row, steps)| Story::new(row, steps, mappings));
        Ok(Self {
            contact,
            events: stories.collect::<Result<_, _>>()?,
            next: continue_below.map(|id| id.to_string()),
            searched_back_to: searched_back_to_ms.map(clock::rfc3339_ms),
        })
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

/// A step of an event's story, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// When, RFC 3339.
    pub at: String,
    /// What happened, as [`crate::audit::What`] names it.
    pub what: &'static str,
    /// Of which attempt it tells.
    pub attempt: Option<u32>,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// How long the call took.
    pub latency_ms: Option<u32>,
    /// More about it, in words.
    pub note: Option<String>,
}

impl From<audit::Told> for Told {
    fn from(told: audit::Told) -> Self {
        let audit::Told { at_ms, what, attempt, status, latency_ms, note, .. } = told;
        Self { at: clock::rfc3339_ms(at_ms), what: what.as_str(), attempt, status, latency_ms, note }
    }
}

impl Story {
    fn new(
        row: Result<StoredEvent, u64>,
        steps: Steps,
        mappings: &mut Mappings<'_>,
    ) -> Result<Self, StoreError> {
        let more_steps = steps.more;
        let told = audit::Story::new(&row, mappings)?.tell(steps.steps, true);
        let steps = told.into_iter().map(Told::from).collect();
        Ok(match row {
            Ok(StoredEvent { event, state, .. }) => Self {
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
            },
            Err(id) => Self {
                id: id.to_string(),
                state: audit::DAMAGED,
                disposition_code: None,
                call_result: None,
                timestamp: None,
                category: None,
                severity: None,
                attempts: None,
                received_at: None,
                due_at: None,
                more_steps,
                steps,
            },
        })
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
