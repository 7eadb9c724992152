//! The stand-in CXone is as strict, as slow, as limited and as unreliable as it was told to be.

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use dispod::sandbox::{
    Behaviour, ExpiresIn, Faults, LimitStyle, RateLimit, Reply, RetryAfter, Sandbox, SandboxOptions,
};

use crate::support::http::{self, Client, Response};
use crate::support::{SOON, wait_until};

mod strict;

const BODY: &str = r#"{"custom":{"disposition_category":"do_not_call","last_audit_log":"[2024-05-20T10:00:00Z] Disposition 1001 mapped to do_not_call"}}"#;
const JSON: &str = "application/json";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const LOGIN: &str = "grant_type=client_credentials&client_id=sandbox&client_secret=sandbox-secret";

fn start(behaviour: Behaviour) -> Sandbox {
    Sandbox::start(SandboxOptions { behaviour, ..SandboxOptions::default() }).expect("a sandbox")
}

fn post(address: SocketAddr, path: &str, body: &str) -> Response {
    http::request(address, "POST", path, &[("Content-Type", JSON)], body.as_bytes()).expect("an answer")
}

fn login(sandbox: &Sandbox, form: &str) -> Response {
    http::request(sandbox.local_addr(), "POST", "/oauth/token", &[FORM], form.as_bytes()).expect("an answer")
}

fn json(response: &Response) -> serde_json::Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("JSON: {response:?}"))
}

/// A client with a token.
struct Caller {
    client: Client,
    bearer: String,
}

impl Caller {
    fn new(sandbox: &Sandbox) -> Self {
        let answer = json(&login(sandbox, LOGIN));
        let bearer = format!("Bearer {}", answer["access_token"].as_str().expect("a token"));
        Self { client: Client::connect(sandbox.local_addr()).expect("a connection"), bearer }
    }

    fn update(&mut self, id: &str) -> io::Result<Response> {
        let headers = [("Authorization", self.bearer.as_str()), ("Content-Type", JSON), ("Accept", JSON)];
        self.client.request("PATCH", &format!("/api/v2/contacts/{id}"), &headers, BODY.as_bytes())
    }

    fn status(&mut self, id: &str) -> u16 {
        self.update(id).expect("an answer").status
    }
}

#[test]
fn an_update_is_answered_as_in_the_tutorial_and_held() {
    let sandbox = start(Behaviour::default());
    let mut caller = Caller::new(&sandbox);
    let answer = caller.update("..%2F%C3%BC%3F").expect("an answer");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some(JSON)));
    let answer = json(&answer);
    assert_eq!(answer["id"], "../ü?");
    assert_eq!(answer["custom"]["disposition_category"], "do_not_call");
    let updated = answer["updatedDate"].as_str().expect("a date");
    assert!(updated.len() == 20 && updated.ends_with('Z'), "{updated}");

    let contact = sandbox.contact("../ü?").expect("held");
    let custom = contact.custom.expect("updated");
    assert_eq!(custom.last_audit_log, "[2024-05-20T10:00:00Z] Disposition 1001 mapped to do_not_call");
    assert_eq!((contact.updates, contact.max_in_flight, contact.history.len()), (1, 1, 1));

    let address = sandbox.local_addr();
    let over_http = json(&http::request(address, "GET", "/_contacts", &[], b"").expect("an answer"));
    assert_eq!(over_http["../ü?"]["custom"]["disposition_category"], "do_not_call");
    let one = json(&http::request(address, "GET", "/_contacts/..%2F%C3%BC%3F", &[], b"").expect("an answer"));
    assert_eq!(one, over_http["../ü?"]);
    let stats = json(&http::request(address, "GET", "/_stats", &[], b"").expect("an answer"));
    assert_eq!((&stats["calls"], &stats["answers"]["200"]), (&1.into(), &1.into()));
    assert_eq!((&stats["connections"], &stats["tokens_issued"]), (&1.into(), &1.into()));
}

/// Each differs from the contract in one thing; the words name that thing.
#[test]
fn the_token_says_its_lifetime_in_three_ways_and_expires() {
    let sandbox = start(Behaviour { token_lifetime: Duration::from_millis(1500), ..Behaviour::default() });
    let mut caller = Caller::new(&sandbox);
    assert_eq!(caller.status("1"), 200);
    for (way, expected) in [
        (ExpiresIn::Number, serde_json::json!(1)),
        (ExpiresIn::Text, serde_json::json!("1")),
        (ExpiresIn::Absent, serde_json::Value::Null),
    ] {
        sandbox.set_behaviour(|behaviour| behaviour.expires_in = way).expect("valid");
        assert_eq!(json(&login(&sandbox, LOGIN))["expires_in"], expected);
    }
    assert!(wait_until(SOON, || caller.status("1") == 401));
    assert!(caller.update("1").expect("an answer").text().contains("expired"));
    assert_eq!(Caller::new(&sandbox).status("1"), 200);
}

#[test]
fn revocation_ends_every_token_issued_so_far_and_no_later_one() {
    let sandbox = start(Behaviour::default());
    let (mut one, mut other) = (Caller::new(&sandbox), Caller::new(&sandbox));
    assert_eq!((one.status("1"), other.status("1")), (200, 200));
    sandbox.revoke();
    assert_eq!((one.status("1"), other.status("1")), (401, 401));
    let mut third = Caller::new(&sandbox);
    assert_eq!(third.status("1"), 200);
    assert_eq!(post(sandbox.local_addr(), "/_revoke", "").status, 200);
    assert_eq!(third.status("1"), 401);
    assert_eq!((sandbox.stats().revocations, sandbox.stats().updates), (2, 3));
}

#[test]
fn the_token_endpoint_fails_apart_from_the_contact_api() {
    let sandbox = start(Behaviour { token_outage: Reply::Status(503), ..Behaviour::default() });
    assert_eq!(login(&sandbox, LOGIN).status, 503);
    let throttled = Reply::RetryLater(429, RetryAfter::Seconds(7));
    sandbox.set_behaviour(|behaviour| behaviour.token_outage = throttled).expect("valid");
    assert_eq!(login(&sandbox, LOGIN).header("Retry-After"), Some("7"));
    sandbox.set_behaviour(|behaviour| behaviour.token_outage = Reply::Normal).expect("valid");
    let mut caller = Caller::new(&sandbox);
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Status(502)).expect("valid");
    assert_eq!((login(&sandbox, LOGIN).status, caller.status("1")), (200, 502));
}

#[test]
fn the_rate_limit_answers_429_as_told_and_sees_who_does_not_wait() {
    let limit = RateLimit { style: LimitStyle::TokenBucket { burst: 5 }, ..RateLimit::per_second(1) };
    let limit = RateLimit { per: Duration::from_secs(3600), ..limit };
    let sandbox = start(Behaviour { rate_limit: Some(limit), ..Behaviour::default() });
    let mut caller = Caller::new(&sandbox);
    let statuses: Vec<u16> = (0..7).map(|_| caller.status("1")).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(sandbox.stats().early_calls, 1, "the second 429 came before the first one's time was up");
    assert_eq!(caller.update("1").expect("an answer").header("Retry-After"), Some("1"));

    for (retry_after, window) in [(RetryAfter::Absent, true), (RetryAfter::Date(5), false)] {
        let style = if window { LimitStyle::FixedWindow } else { LimitStyle::TokenBucket { burst: 1 } };
        let limit = Some(RateLimit { calls: 1, retry_after, style, ..limit });
        sandbox.set_behaviour(|behaviour| behaviour.rate_limit = limit).expect("valid");
        assert_eq!(caller.status("1"), 200, "a new limit counts anew");
        let answer = caller.update("1").expect("an answer");
        assert_eq!(answer.status, 429);
        let date = answer.header("Retry-After").map(|date| httpdate::parse_http_date(date).expect("a date"));
        assert_eq!(date.is_some(), retry_after != RetryAfter::Absent);
        if let Some(date) = date {
            let wait = date.duration_since(std::time::SystemTime::now()).expect("to come");
            assert!((4..=6).contains(&wait.as_secs()), "{wait:?}");
        }
    }
}

#[test]
fn a_script_answers_one_contact_and_only_as_often_as_written() {
    let sandbox = start(Behaviour::default());
    let mut caller = Caller::new(&sandbox);
    let later = Reply::RetryLater(429, RetryAfter::Seconds(2));
    sandbox.script("1", &[later, Reply::Status(401), Reply::Normal]).expect("room");
    let first = caller.update("1").expect("an answer");
    assert_eq!((first.status, first.header("Retry-After")), (429, Some("2")));
    assert_eq!(caller.status("2"), 200, "another contact");
    assert_eq!([caller.status("1"), caller.status("1"), caller.status("1")], [401, 200, 200]);

    let address = sandbox.local_addr();
    let script = r#"{"contact":"1","replies":[{"status":429,"retry_after":3},503,"normal"]}"#;
    assert_eq!(post(address, "/_script", script).status, 200);
    assert_eq!([caller.status("1"), caller.status("1"), caller.status("1")], [429, 503, 200]);
    for wrong in [
        "",
        "{}",
        r#"{"contact":"1","replies":["perhaps"]}"#,
        r#"{"contact":"1","replies":[99]}"#,
        r#"{"contact":"1","replies":[],"x":1}"#,
    ] {
        assert_eq!(post(address, "/_script", wrong).status, 400, "{wrong}");
    }
    assert_eq!(sandbox.contact("1").expect("held").updates, 3);
}

#[test]
fn behaviour_is_changed_over_http() {
    let sandbox = start(Behaviour::default());
    let mut caller = Caller::new(&sandbox);
    let address = sandbox.local_addr();
    let tell = |form: &str| post(address, "/_behaviour", form).status;
    assert_eq!((tell(r#"{"outage":503}"#), caller.status("1")), (200, 503));
    let limit = r#"{"outage":"normal","rate_limit":"2/h","burst":1,"retry_after":9}"#;
    assert_eq!((tell(limit), caller.status("1")), (200, 200));
    assert_eq!(caller.update("1").expect("an answer").header("Retry-After"), Some("9"));
    assert_eq!((tell(r#"{"rate_limit":"off","faults":{"error":1.0}}"#), caller.status("1")), (200, 500));
    let lifetime = r#"{"faults":{},"token_lifetime":"0ms","expires_in":"text"}"#;
    assert_eq!(tell(lifetime), 200);
    assert_eq!(json(&login(&sandbox, LOGIN))["expires_in"], "0");
    for wrong in [
        r#"{"outage":"maybe"}"#,
        r#"{"error_rate":2}"#,
        r#"{"error_rate":0.6,"faults":{"hang":0.6}}"#,
        r#"{"burst":1}"#,
        r#"{"latency":"5"}"#,
        r#"{"latency":"11m"}"#,
        r#"{"rate_limit":"1/s","burst":0}"#,
        r#"{"unknown":1}"#,
    ] {
        assert_eq!(tell(wrong), 400, "{wrong}");
    }
    assert_eq!(caller.status("1"), 200, "what is refused changes nothing");
}

#[test]
fn an_update_is_committed_at_the_end_of_its_latency() {
    let sandbox = start(Behaviour::default());
    let mut caller = Caller::new(&sandbox);
    let latency = Duration::from_millis(400);
    sandbox.set_behaviour(|behaviour| behaviour.latency = latency..=latency).expect("valid");
    thread::scope(|scope| {
        let begun = Instant::now();
        let call = scope.spawn(move || caller.status("1"));
        assert!(sandbox.wait_until(|stats| stats.in_flight == 1, SOON));
        assert_eq!(sandbox.stats().updates, 0, "in flight, not committed");
        assert!(sandbox.wait_until(|stats| stats.updates == 1, SOON));
        assert!(begun.elapsed() >= latency);
        assert_eq!(call.join().expect("no panic"), 200);
    });
}

#[test]
fn as_many_calls_are_worked_on_at_once_as_there_are_threads() {
    const CALLS: usize = 300;
    let options = SandboxOptions { threads: CALLS, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).expect("a sandbox");
    let latency = Duration::from_secs(2);
    let mut callers: Vec<Caller> = (0..CALLS).map(|_| Caller::new(&sandbox)).collect();
    sandbox.set_behaviour(|behaviour| behaviour.latency = latency..=latency).expect("valid");
    let barrier = Barrier::new(CALLS);
    thread::scope(|scope| {
        for (number, caller) in callers.iter_mut().enumerate() {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                // Two callers to a contact.
                assert_eq!(caller.status(&format!("c{}", number / 2)), 200);
            });
        }
    });
    let stats = sandbox.stats();
    assert_eq!((stats.updates, stats.max_in_flight, stats.connections), (300, 300, 300));
    assert_eq!((stats.contacts, stats.max_in_flight_per_contact), (150, 2));
    assert_eq!(sandbox.contact("c0").expect("held").max_in_flight, 2);
}

/// tiny_http leaves some connections of a burst without a thread until another connection ends.
#[test]
fn every_connection_of_a_burst_is_served() {
    const CLIENTS: usize = 60;
    let sandbox = start(Behaviour::default());
    for round in 0..5 {
        let mut clients: Vec<Client> =
            (0..CLIENTS).map(|_| Client::connect(sandbox.local_addr()).expect("a connection")).collect();
        for client in &mut clients {
            client.send(b"GET /_contacts HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
        }
        let begun = Instant::now();
        for client in &mut clients {
            assert_eq!(client.receive("GET").expect("an answer").status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "round {round}: {:?}", begun.elapsed());
    }
}

#[test]
fn faults_come_as_often_as_told_and_a_seed_repeats_them() {
    let faults = Faults { error: 0.2, throttle: 0.2, ..Faults::default() };
    let behaviour = Behaviour { error_rate: 0.2, faults, ..Behaviour::default() };
    let run = || {
        let options =
            SandboxOptions { seed: Some(7), behaviour: behaviour.clone(), ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).expect("a sandbox");
        let mut caller = Caller::new(&sandbox);
        (0..500).map(|_| caller.status("1")).collect::<Vec<_>>()
    };
    let statuses = run();
    for (status, share) in [(200, 200), (503, 100), (500, 100), (429, 100)] {
        let count = statuses.iter().filter(|found| **found == status).count();
        assert!(count.abs_diff(share) < 50, "{status}: {count}");
    }
    assert_eq!(statuses, run());
}

#[test]
fn a_cut_answer_was_committed_and_a_reset_one_was_not() {
    let sandbox = start(Behaviour::default());
    sandbox.script("1", &[Reply::Cut]).expect("room");
    let mut caller = Caller::new(&sandbox);
    let error = caller.update("1").expect_err("half an answer");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(sandbox.contact("1").expect("held").updates, 1);

    sandbox.script("1", &[Reply::Reset]).expect("room");
    let mut caller = Caller::new(&sandbox);
    let error = caller.update("1").expect_err("no answer");
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof), "{error}");
    let stats = sandbox.stats();
    assert_eq!((stats.updates, stats.unanswered, stats.in_flight), (1, 2, 0));
    assert_eq!(Caller::new(&sandbox).status("1"), 200);
}

#[test]
fn a_hung_call_costs_no_thread_and_ends_with_the_sandbox() {
    let options = SandboxOptions { threads: 1, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).expect("a sandbox");
    sandbox.script("hung", &[Reply::Hang]).expect("room");
    let mut hung = Caller::new(&sandbox);
    let mut other = Caller::new(&sandbox);
    thread::scope(|scope| {
        let call = scope.spawn(move || hung.update("hung"));
        assert!(sandbox.wait_until(|stats| stats.unanswered == 1, SOON));
        assert_eq!(other.status("1"), 200);
        assert!(!call.is_finished());
        sandbox.stop();
        assert!(call.join().expect("no panic").is_err());
    });
}

#[test]
fn suspended_it_is_away_and_resumed_it_is_as_before() {
    let mut sandbox = start(Behaviour::default());
    let address = sandbox.local_addr();
    let mut caller = Caller::new(&sandbox);
    assert_eq!(caller.status("1"), 200);
    sandbox.suspend();
    assert!(caller.update("1").is_err(), "its connection has ended");
    let refused = Client::connect(address).err().expect("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    sandbox.resume().expect("the port is free");
    assert_eq!(sandbox.local_addr(), address);
    caller.client = Client::connect(address).expect("a connection");
    assert_eq!(caller.status("1"), 200, "the token is still good");
    assert_eq!(sandbox.contact("1").expect("held").updates, 2);
}
