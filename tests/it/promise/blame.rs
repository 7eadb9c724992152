//! Who is to blame for a failure waits, and nobody else: contacts that fail for reasons of their own, a token that
//! cannot be renewed, a sender that repeats itself, a limit met late.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::support::stub::{self, Stub};

/// More than make the API count as away.
const BAD: usize = 12;
const GOOD: usize = 20;

/// A tenant that gives tokens, and answers an update by `act`.
fn tenant(act: impl Fn(&str) -> stub::Act + Send + Sync + 'static) -> Stub {
    Stub::start(move |asked| match asked.target.strip_prefix("/api/v2/contacts/") {
        Some(contact) => act(contact),
        None => stub::answer(200, r#"{"access_token":"t","expires_in":3600}"#),
    })
}

fn daemon_of(tenant: &Stub, more: &[(&str, &str)]) -> Daemon {
    let (base, token) = (tenant.url("/api/v2"), tenant.url("/oauth/token"));
    let mut environment = vec![("DISPOD_CXONE_BASE_URL", base.as_str()), ("DISPOD_CXONE_TOKEN_URL", &token)];
    environment.extend(more);
    daemon(&sandbox(|_| {}), &environment)
}

#[test]
fn contacts_that_are_always_refused_keep_nobody_else_waiting() {
    for status in [403, 500] {
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let tenant = tenant(move |contact| {
            if contact.starts_with("bad") {
                return stub::answer(status, "{}");
            }
            count.fetch_add(1, SeqCst);
            stub::answer(200, "{}")
        });
        // Waits short enough that a bad one is always due again.
        let short = [("DISPOD_DELIVERY_BACKOFF_BASE", "100ms"), ("DISPOD_DELIVERY_BACKOFF_MAX", "400ms")];
        let daemon = daemon_of(&tenant, &short);
        for number in 0..BAD {
            keep(&daemon, &format!("bad-{number}"), "1001");
        }
        daemon.wait_for_log("the Contact API is away");
        for number in 0..GOOD {
            keep(&daemon, &format!("good-{number}"), "4001");
        }
        assert!(wait_until(SOON, || done.load(SeqCst) == GOOD), "{} of {GOOD}, {status}", done.load(SeqCst));
    }
}

#[test]
fn a_token_that_cannot_be_renewed_is_used_while_it_is_good() {
    let tokens = Arc::new(AtomicUsize::new(0));
    let asked_again = Arc::clone(&tokens);
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    // Renewed after half of its 6 s, and from the second time on the endpoint is away.
    let tenant = Stub::start(move |asked| {
        if asked.target == "/oauth/token" {
            return match asked_again.fetch_add(1, SeqCst) {
                0 => stub::answer(200, r#"{"access_token":"t","expires_in":6}"#),
                _ => stub::answer(503, "{}"),
            };
        }
        count.fetch_add(1, SeqCst);
        stub::answer(200, "{}")
    });
    let daemon = daemon_of(&tenant, &[]);
    let started = Instant::now();
    let mut number = 0;
    while tokens.load(SeqCst) < 2 {
        assert!(started.elapsed() < SOON, "never renewed");
        keep(&daemon, &number.to_string(), "1001");
        number += 1;
        assert!(wait_until(SOON, || done.load(SeqCst) == number));
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.wait_for_log("the old one is used meanwhile");
    assert_eq!(done.load(SeqCst), number, "what met the failed renewal was delivered with the old token");
}

#[test]
fn who_repeats_an_event_without_end_does_not_fill_the_store() {
    let sandbox = sandbox(|_| {});
    let daemon = daemon(&sandbox, &[]);
    for _ in 0..300 {
        let headers = [("Idempotency-Key", "one"), ("Connection", "close")];
        let path = "/webhook/call-result";
        let body = event("1", "1001");
        let address = daemon.webhook_addr();
        let answer = crate::support::http::request(address, "POST", path, &headers, body.as_bytes());
        assert_eq!(answer.unwrap().status, 200);
    }
    wait_updates(&sandbox, 1);
    let store = rusqlite::Connection::open(daemon.dir().join("data/dispod.db")).unwrap();
    let steps: i64 = store.query_row("SELECT count(*) FROM step", [], |row| row.get(0)).unwrap();
    assert!((50..=110).contains(&steps), "{steps} steps");
    assert_eq!(sandbox.stats().updates, 1);
}

#[test]
fn a_limit_met_after_max_age_kills_nothing() {
    let refused = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let tenant = tenant(move |contact| {
        // Each once, and late enough for the event to be too old by then.
        if refused.lock().unwrap().insert(contact.to_owned()) {
            std::thread::sleep(Duration::from_millis(300));
            return stub::answer(429, "{}");
        }
        stub::answer(200, "{}")
    });
    let daemon = daemon_of(&tenant, &[("DISPOD_DELIVERY_MAX_AGE", "200ms")]);
    keep(&daemon, "1", "1001");
    let status =
        || -> serde_json::Value { serde_json::from_slice(&daemon.admin("GET", "/api/status").body).unwrap() };
    assert!(wait_until(SOON, || status()["pending"] == 0));
    assert_eq!((&status()["delivered"], &status()["dead"]), (&1.into(), &0.into()));
}
