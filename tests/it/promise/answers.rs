//! What each answer of the Contact API means: the table of contract section 7, status by status, as a table and
//! through the real daemon.

use std::collections::BTreeMap;

use dispod::sandbox::Reply;
use dispod::store::{Filter, History, State};
use dispod::verdict::{Answer, Verdict};

use super::*;

/// The table, written down once more.
fn expected(status: u16) -> Verdict {
    match status {
        200 | 201 | 202 | 204 => Verdict::Delivered,
        429 => Verdict::Throttled,
        401 | 403 => Verdict::Denied,
        408 | 425 => Verdict::Transient,
        300..=499 => Verdict::Rejected,
        _ => Verdict::Transient,
    }
}

#[test]
fn every_status_has_its_verdict() {
    for status in 100..=599 {
        assert_eq!(Verdict::of(Answer::Status(status)), expected(status), "{status}");
    }
    assert_eq!(Verdict::of(Answer::None), Verdict::Transient);
    assert_eq!(Verdict::of(Answer::TokenRefused), Verdict::Denied);
    assert_eq!(Verdict::of(Answer::TokenThrottled), Verdict::Throttled);
}

#[test]
fn every_status_leads_where_its_verdict_says() {
    // One of every kind, and each that the contract names.
    let statuses = [
        200, 201, 202, 204, 203, 205, 226, 301, 302, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408,
        409, 410, 411, 412, 413, 414, 415, 418, 422, 423, 425, 428, 429, 431, 451, 499, 500, 501, 502, 503,
        504, 507, 511, 599,
    ];
    let sandbox = sandbox(|_| {});
    let daemon = daemon(&sandbox, &[("DISPOD_CXONE_TIMEOUT", "1s")]);
    for status in statuses {
        sandbox.script(&status.to_string(), &[Reply::Status(status)]).unwrap();
    }
    for reply in [Reply::Hang, Reply::Cut, Reply::Reset] {
        sandbox.script(&format!("{reply:?}"), &[reply]).unwrap();
    }
    let contacts: Vec<String> =
        statuses.iter().map(u16::to_string).chain(["Hang", "Cut", "Reset"].map(str::to_owned)).collect();
    for contact in &contacts {
        keep(&daemon, contact, "1001");
    }
    let is_over = || {
        let status: serde_json::Value =
            serde_json::from_slice(&daemon.admin("GET", "/api/status").body).unwrap();
        status["pending"] == 0
    };
    assert!(wait_until(SOON, is_over), "something is still pending");
    let mut ends = BTreeMap::new();
    let history = History::open(&daemon.dir().join("data")).unwrap();
    let each = |stored: Result<dispod::store::StoredEvent, u64>| {
        let stored = stored.unwrap();
        let contact = stored.event.call.contact_id().to_owned();
        ends.insert(contact, (stored.state, stored.settled.status, stored.event.attempts));
        true
    };
    history.events(&Filter::default(), each).unwrap();
    for contact in contacts {
        let (state, last, attempts) = ends[&contact];
        match contact.parse().map_or(Verdict::Transient, expected) {
            Verdict::Delivered => assert_eq!((state, attempts), (State::Delivered, 1), "{contact}"),
            Verdict::Rejected => {
                assert_eq!((state, last, attempts), (State::Dead, contact.parse().ok(), 1), "{contact}");
            }
            // The first 401 costs a token, not an attempt.
            _ if contact == "401" => assert_eq!((state, attempts), (State::Delivered, 1)),
            _ => assert_eq!((state, attempts), (State::Delivered, 2), "{contact}"),
        }
    }
}
