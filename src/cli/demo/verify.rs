//! The demo's claims about itself: what was observed against what was promised. Pure.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::acts::{self, Becomes, Expected};
use crate::clock;
use crate::event::Outcome;
use crate::sandbox::{Contact, Custom, Stats};
use crate::store::{State, Step, StepKind, StoredEvent};

/// Tokens the stand-in CXone must have issued: one at the start, one after they were revoked.
const TOKENS: u64 = 2;

/// What the sender was answered.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

/// An event in the store, with its story.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) stored: StoredEvent,
    pub(super) steps: Vec<Step>,
}

impl Kept {
    /// Calls to the API: those that did not settle it, and the one that did.
    pub(super) fn calls(&self) -> usize {
        let settled = self.stored.state != State::Pending;
        self.count(StepKind::Attempt) + usize::from(settled)
    }

    /// From receipt to settlement, in ms; `None` while it is pending.
    pub(super) fn took_ms(&self) -> Option<i64> {
        Some(self.stored.settled.at_ms? - self.stored.event.received_ms)
    }

    fn count(&self, kind: StepKind) -> usize {
        self.steps.iter().filter(|step| step.kind == kind).count()
    }
}

/// What came of one post.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) reply: Reply,
    /// The event kept for it, for a post that must become one.
    pub(super) kept: Option<Kept>,
}

/// Everything there is to see at the end, one [`Seen`] for each of [`acts::posts`].
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) seen: Vec<Seen>,
    /// Events in the store.
    pub(super) events: usize,
    /// Published on the bus.
    pub(super) outcomes: Vec<Outcome>,
    /// What the stand-in CXone holds.
    pub(super) contacts: BTreeMap<String, Contact>,
    /// What it has seen.
    pub(super) stats: Stats,
}

/// The claims that were checked.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) checked: usize,
    /// Those that do not hold, in words.
    pub(super) wrong: Vec<String>,
}

impl Claims {
    fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: &T, promised: &T) {
        self.holds(found == promised, || format!("{what}: {found:?} found, {promised:?} promised"));
    }

    fn holds(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.wrong.push(otherwise());
        }
    }
}

/// Checks every claim.
pub(super) fn verify(observed: &Observed) -> Claims {
    let mut claims = Claims::default();
    claims.equal("answers", &observed.seen.len(), &acts::posts().count());
    let mut events: Vec<(&Expected, &Kept)> = Vec::new();
    for ((number, post), seen) in (1..).zip(acts::posts()).zip(&observed.seen) {
        let reply = (seen.reply.status, seen.reply.body.as_str());
        claims.equal(&format!("post {number}: reply"), &reply, &post.reply);
        let Becomes::Event(expected) = &post.becomes else { continue };
        claims.holds(seen.kept.is_some(), || format!("post {number}: answered 200 and not in the store"));
        let Some(kept) = &seen.kept else { continue };
        let repeats =
            acts::posts().filter(|post| matches!(post.becomes, Becomes::Duplicate(of) if of == number));
        event(&mut claims, number, expected, kept);
        claims.equal(
            &format!("post {number}: repeats recorded"),
            &kept.count(StepKind::Duplicate),
            &repeats.count(),
        );
        events.push((expected, kept));
    }
    claims.equal("events in the store", &observed.events, &events.len());
    updates(&mut claims, &events, observed);
    published(&mut claims, &events, &observed.outcomes);
    api(&mut claims, &events, &observed.stats);
    claims
}

fn event(claims: &mut Claims, number: usize, expected: &Expected, kept: &Kept) {
    let StoredEvent { event, state, settled } = &kept.stored;
    let what = |what: &str| format!("post {number}: {what}");
    claims.equal(&what("contact"), &event.call.contact_id(), &expected.contact);
    claims.equal(&what("code"), &event.call.disposition_code(), &expected.code);
    claims.equal(&what("timestamp"), &event.call.timestamp(), &expected.timestamp);
    claims.equal(&what("category"), &event.category.as_str(), &expected.category);
    claims.equal(&what("severity"), &event.severity, &expected.severity);
    let ends = if expected.delivered() { State::Delivered } else { State::Dead };
    claims.equal(&what("state"), state, &ends);
    claims.equal(&what("last status"), &settled.status, &Some(expected.status));
    let reason = (!expected.delivered()).then_some("rejected");
    claims.equal(&what("reason"), &settled.reason.as_deref(), &reason);
    claims.equal(&what("calls to the API"), &kept.calls(), &expected.calls);
    let took_ms = kept.took_ms().unwrap_or(-1);
    claims.holds(took_ms >= expected.at_least_ms, || {
        format!("post {number}: settled after {took_ms} ms, not before {} ms promised", expected.at_least_ms)
    });
}

/// The PATCH body an event must have led to, byte for byte (contract section 7).
fn body(expected: &Expected, kept: &Kept) -> String {
    let Expected { category, code, .. } = expected;
    let received = clock::rfc3339(kept.stored.event.received_ms);
    let time = expected.timestamp.unwrap_or(&received);
    format!(
        r#"{{"custom":{{"disposition_category":"{category}","last_audit_log":"[{time}] Disposition {code} mapped to {category}"}}}}"#
    )
}

/// Every contact holds exactly the updates promised, in the order of its posts.
fn updates(claims: &mut Claims, events: &[(&Expected, &Kept)], observed: &Observed) {
    let mut promised: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (expected, kept) in events {
        let bodies = promised.entry(expected.contact).or_default();
        if expected.delivered() {
            bodies.push(body(expected, kept));
        }
    }
    let contacts: Vec<&str> = observed.contacts.keys().map(String::as_str).collect();
    let promised_contacts: Vec<&str> = promised.keys().copied().collect();
    claims.equal("contacts called for", &contacts, &promised_contacts);
    let found_body = |custom: &Custom| serde_json::json!({ "custom": custom }).to_string();
    for (id, contact) in &observed.contacts {
        let found: Vec<String> = contact.history.iter().map(|update| found_body(&update.custom)).collect();
        let bodies = promised.remove(id.as_str()).unwrap_or_default();
        claims.equal(&format!("contact {id}: updates"), &contact.updates, &(bodies.len() as u64));
        claims.equal(&format!("contact {id}: bodies, in order"), &found, &bodies);
    }
}

/// Every delivered event was published once, nothing else was.
fn published(claims: &mut Claims, events: &[(&Expected, &Kept)], outcomes: &[Outcome]) {
    let mut promised: Vec<[String; 5]> = events
        .iter()
        .filter(|(expected, _)| expected.delivered())
        .map(|(expected, kept)| {
            let Expected { contact, category, severity, code, .. } = expected;
            let id = kept.stored.event.id.to_string();
            [&id, *contact, *category, severity.as_str(), *code].map(str::to_owned)
        })
        .collect();
    let mut found: Vec<[String; 5]> = outcomes
        .iter()
        .map(|outcome| {
            let Outcome { id, contact_id, category, severity, disposition_code, .. } = outcome;
            [id, contact_id, category, severity.as_str(), disposition_code].map(str::to_owned)
        })
        .collect();
    promised.sort();
    found.sort();
    claims.equal("outcomes published", &found, &promised);
}

/// How the API was treated.
fn api(claims: &mut Claims, events: &[(&Expected, &Kept)], stats: &Stats) {
    let calls: usize = events.iter().map(|(expected, _)| expected.calls).sum();
    claims.equal("calls to the API", &stats.calls, &(calls as u64));
    claims.equal("calls that differ from the contract", &stats.violations, &0);
    claims.equal("updates of one contact at once", &stats.max_in_flight_per_contact, &1);
    claims.equal("calls earlier than Retry-After said", &stats.early_calls, &0);
    claims.equal("tokens fetched", &stats.tokens_issued, &TOKENS);
}
