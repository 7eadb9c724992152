//! What the tenant sees: ids as one path segment, credentials of any characters, as few tokens as there can be.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use dispod::config::Secret;
use dispod::sandbox::ExpiresIn;

use super::*;
use crate::support::stub::{self, Stub};

#[test]
fn an_id_reaches_exactly_its_own_path_segment_whatever_is_in_it() {
    let ids = [
        "../../oauth/token?x=",
        "12?x=1",
        "x#f",
        "a b",
        "ü/é",
        ".",
        "..",
        "%2F",
        "%2e%2e",
        "a+b",
        "a&b=c",
        "//",
        "\\",
        "http://x/",
        "a%",
        "~user",
        "ä;jsessionid=1",
        "日本",
        "\"quoted\"",
        "{contactId}",
        "@",
        ":",
        "*",
    ];
    let sandbox = sandbox(|_| {});
    let daemon = daemon(&sandbox, &[]);
    for id in ids {
        keep(&daemon, id, "1001");
    }
    wait_updates(&sandbox, ids.len() as u64);
    let mut promised = ids.map(str::to_owned).to_vec();
    promised.sort();
    let found: Vec<String> = sandbox.contacts().into_keys().collect();
    assert_eq!(found, promised);
    let stats = sandbox.stats();
    assert_eq!((stats.calls, stats.updates), (ids.len() as u64, ids.len() as u64), "{stats:?}");
    assert_eq!((stats.violations, stats.token_requests), (0, 1), "{stats:?}");
}

#[test]
fn credentials_of_any_characters_authenticate_in_the_form_and_in_the_header() {
    const CLIENT: (&str, &str) = ("disp/od:1 é", "p&q+r:s%41=");
    const USER: (&str, &str) = ("agent+1@example.com", "AKIA/x+y&z====");
    for client_auth in ["body", "basic"] {
        for grant in ["client_credentials", "password"] {
            let sandbox = sandbox(|options| {
                CLIENT.0.clone_into(&mut options.client_id);
                options.client_secret = Secret::new(CLIENT.1);
                options.user = Some((USER.0.to_owned(), Secret::new(USER.1)));
            });
            let mut environment = vec![
                ("DISPOD_CXONE_CLIENT_ID", CLIENT.0),
                ("DISPOD_CXONE_CLIENT_SECRET", CLIENT.1),
                ("DISPOD_CXONE_CLIENT_AUTH", client_auth),
                ("DISPOD_CXONE_GRANT", grant),
            ];
            if grant == "password" {
                environment.extend([("DISPOD_CXONE_USERNAME", USER.0), ("DISPOD_CXONE_PASSWORD", USER.1)]);
            }
            let daemon = daemon(&sandbox, &environment);
            keep(&daemon, "1", "1001");
            wait_updates(&sandbox, 1);
            let stats = sandbox.stats();
            assert_eq!((stats.token_requests, stats.violations), (1, 0), "{client_auth} {grant}: {stats:?}");
        }
    }
}

#[test]
fn a_token_of_a_minute_is_not_fetched_for_every_call() {
    for expires_in in [ExpiresIn::Number, ExpiresIn::Text, ExpiresIn::Absent] {
        let sandbox = behaving(|behaviour| {
            behaviour.token_lifetime = Duration::from_secs(60);
            behaviour.expires_in = expires_in;
        });
        let daemon = daemon(&sandbox, &[]);
        for number in 1..=20 {
            keep(&daemon, &format!("contact-{number}"), "1001");
            wait_updates(&sandbox, number);
        }
        let stats = sandbox.stats();
        assert_eq!((stats.token_requests, stats.calls), (1, 20), "{expires_in:?}: {stats:?}");
    }
}

#[test]
fn a_short_token_is_used_for_half_its_life_and_then_replaced_before_it_is_refused() {
    const LIFETIME: Duration = Duration::from_secs(4);
    let sandbox = behaving(|behaviour| behaviour.token_lifetime = LIFETIME);
    let daemon = daemon(&sandbox, &[]);
    keep(&daemon, "1", "1001");
    wait_updates(&sandbox, 1);
    let first = Instant::now();
    let mut number = 1;
    while sandbox.stats().tokens_issued == 1 {
        number += 1;
        keep(&daemon, &number.to_string(), "1001");
        wait_updates(&sandbox, number);
        assert!(first.elapsed() < LIFETIME, "never replaced");
        std::thread::sleep(Duration::from_millis(20));
    }
    // From the answer that brought the token to the first delivery some time passes: the tolerance.
    assert!(first.elapsed() + Duration::from_millis(500) > LIFETIME / 2, "{:?}", first.elapsed());
    let stats = sandbox.stats();
    assert_eq!((stats.tokens_issued, stats.answers.get(&401)), (2, None), "{stats:?}");
}

#[test]
fn a_refused_token_is_fetched_anew_once_however_many_workers_meet_it() {
    const WORKERS: usize = 16;
    let together = Barrier::new(WORKERS);
    let tokens = Arc::new(AtomicUsize::new(0));
    let (issued, updated) = (Arc::clone(&tokens), Arc::new(AtomicUsize::new(0)));
    let done = Arc::clone(&updated);
    let tenant = Stub::start(move |asked| {
        if asked.target == "/oauth/token" {
            let number = issued.fetch_add(1, SeqCst) + 1;
            return stub::answer(200, &format!(r#"{{"access_token":"token-{number}","expires_in":3600}}"#));
        }
        match asked.header("Authorization") {
            // Every worker is refused at the same time.
            Some("Bearer token-1") => {
                together.wait();
                stub::answer(401, "{}")
            }
            Some("Bearer token-2") => {
                done.fetch_add(1, SeqCst);
                stub::answer(200, "{}")
            }
            other => panic!("{other:?}"),
        }
    });
    let (base, token) = (tenant.url("/api/v2"), tenant.url("/oauth/token"));
    let environment = [("DISPOD_CXONE_BASE_URL", base.as_str()), ("DISPOD_CXONE_TOKEN_URL", &token)];
    let daemon = daemon(&sandbox(|_| {}), &environment);
    for number in 0..WORKERS {
        keep(&daemon, &format!("contact-{number}"), "1001");
    }
    assert!(wait_until(SOON, || updated.load(SeqCst) == WORKERS));
    assert_eq!(tokens.load(SeqCst), 2);
}
