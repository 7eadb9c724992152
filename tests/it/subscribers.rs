//! Durable subscribers hear of every delivered outcome of their severities, in order, at least once, and none
//! delays another or the deliveries.

mod file;
mod full;
mod receiver;

use std::time::{Duration, Instant};

use dispod::config::Secret;
use dispod::sandbox::{Sandbox, SandboxOptions};
use dispod::store::{History, StepKind};
use ring::hmac;

use crate::support::daemon::{Daemon, config_for};
use crate::support::{SOON, wait_until};
use receiver::{Receiver, first_of_each};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Of the default mapping: critical and medium.
const CRITICAL: &str = "1001";
const MEDIUM: &str = "2001";

fn sandbox() -> Sandbox {
    Sandbox::start(SandboxOptions::default()).unwrap()
}

fn webhook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("\n[[subscribers]]\nname = \"{name}\"\nwebhook = \"{}\"\n{more}\n", receiver.url())
}

fn lines_to(name: &str, path: &str) -> String {
    format!("\n[[subscribers]]\nname = \"{name}\"\nfile = \"{path}\"\n")
}

/// Posts events of contacts of their own, numbered from `first`.
fn post(daemon: &Daemon, first: usize, count: usize, code: &str) {
    for number in first..first + count {
        let body = format!(r#"{{"contactId":"contact-{number}","dispositionCode":"{code}"}}"#);
        assert_eq!(daemon.post(&body).0, 200);
    }
}

/// The events' ids in a file of outcomes, every line of which must be whole.
fn ids_in(daemon: &Daemon, path: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(daemon.dir().join(path)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line: {text}");
    let id = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().parse();
    text.lines().map(|line| id(line).unwrap()).collect()
}

fn wait_for_lines(daemon: &Daemon, path: &str, count: usize) -> Vec<u64> {
    let _ = wait_until(SOON, || ids_in(daemon, path).len() >= count);
    let ids = ids_in(daemon, path);
    assert!(ids.len() >= count, "{} of {count} lines in {path}", ids.len());
    ids
}

#[test]
fn a_webhook_gets_every_outcome_once_in_order_and_signed() {
    let (sandbox, receiver) = (sandbox(), Receiver::start());
    let secret = format!("secret = \"{SECRET}\"");
    let config = config_for(&sandbox) + &webhook("crm", &receiver, &secret) + &lines_to("log", "log.jsonl");
    let daemon = Daemon::start(&config);
    post(&daemon, 0, 50, CRITICAL);
    let messages = receiver.wait_for(50);
    let ids: Vec<u64> = messages.iter().map(receiver::Message::id).collect();
    assert_eq!(ids, wait_for_lines(&daemon, "log.jsonl", 50), "both hear in the order of delivery");
    assert_eq!(first_of_each(ids.iter().copied()).len(), 50);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Secret::new(SECRET).standard_webhooks_key().unwrap());
    for message in &messages {
        assert_eq!(message.head[0], "POST /outcomes HTTP/1.1");
        assert_eq!(message.header("content-type"), "application/json");
        let (id, timestamp) = (message.header("webhook-id"), message.header("webhook-timestamp"));
        let at_ms = timestamp.parse::<i64>().unwrap() * 1000;
        assert!((dispod::clock::now_ms() - at_ms).abs() < 60_000, "{timestamp}");
        assert!(id.starts_with("msg_") && id.ends_with(&format!("_{}", message.id())), "{id}");
        let signature = dispod::signature::sign(&key, id, timestamp, message.body.as_bytes());
        assert_eq!(message.header("webhook-signature"), signature);
        let outcome = message.json();
        let delivered: jiff::Timestamp = outcome["timestamp"].as_str().unwrap().parse().unwrap();
        assert!((dispod::clock::now_ms() - delivered.as_millisecond()).abs() < 60_000);
        let names: Vec<_> = outcome.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(outcome["contactId"].as_str().unwrap().starts_with("contact-"));
        assert_eq!(
            (&outcome["category"], &outcome["severity"], &outcome["dispositionCode"]),
            (&"do_not_call".into(), &"critical".into(), &CRITICAL.into())
        );
    }
    // The audit tells of it.
    let history = History::open(&daemon.dir().join("data")).unwrap();
    let told = |steps: Vec<dispod::store::Step>| {
        let published = steps.into_iter().filter(|step| step.kind == StepKind::Published);
        let mut names: Vec<_> = published.filter_map(|step| step.note).collect();
        names.sort();
        names
    };
    assert!(wait_until(SOON, || told(history.steps(ids[0]).unwrap()) == ["crm", "log"]));
}

#[test]
fn kill_9_repeats_some_and_loses_none() {
    let (sandbox, receiver) = (sandbox(), Receiver::start());
    let config = config_for(&sandbox) + &webhook("crm", &receiver, "") + &lines_to("log", "log.jsonl");
    let mut daemon = Daemon::start(&config);
    receiver.set_delay(Duration::from_millis(10));
    for round in 0..5 {
        post(&daemon, round * 40, 40, MEDIUM);
        let before = receiver.messages().len();
        receiver.wait_for(before + 1);
        daemon.restart();
    }
    let all = wait_until(SOON, || receiver.accepted().len() == 200);
    assert!(all, "{} of 200 accepted", receiver.accepted().len());
    assert!(wait_until(SOON, || first_of_each(ids_in(&daemon, "log.jsonl").into_iter()).len() == 200));
    assert_eq!(receiver.accepted(), first_of_each(ids_in(&daemon, "log.jsonl").into_iter()));
    // What came again came under the same id, so the receiver can tell.
    let messages = receiver.messages();
    let ids: std::collections::HashSet<_> =
        messages.iter().map(|m| m.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 200);
}

#[test]
fn a_restart_in_order_repeats_nothing() {
    let (sandbox, receiver) = (sandbox(), Receiver::start());
    let mut daemon = Daemon::start(&(config_for(&sandbox) + &webhook("crm", &receiver, "")));
    post(&daemon, 0, 20, MEDIUM);
    receiver.wait_for(20);
    assert!(daemon.sigterm().success());
    daemon.restart();
    post(&daemon, 20, 1, MEDIUM);
    let messages = receiver.wait_for(21);
    assert_eq!(messages.len(), 21);
    assert_eq!(receiver.accepted().len(), 21);
}

#[test]
fn a_receiver_that_was_away_or_refused_hears_of_everything_in_order() {
    let (sandbox, mut receiver) = (sandbox(), Receiver::start());
    receiver.script(&[(500, ""), (400, ""), (301, "Location: /elsewhere\r\n"), (503, "Retry-After: 2\r\n")]);
    let daemon = Daemon::start(&(config_for(&sandbox) + &webhook("crm", &receiver, "")));
    post(&daemon, 0, 1, MEDIUM);
    let messages = receiver.wait_for(5);
    let statuses: Vec<u16> = messages.iter().map(|m| m.status).collect();
    assert_eq!(statuses, [500, 400, 301, 503, 204]);
    assert!(messages.iter().all(|m| m.head[0] == "POST /outcomes HTTP/1.1"), "a redirect was followed");
    assert!(messages.iter().all(|m| m.header("webhook-id") == messages[0].header("webhook-id")));
    let waited = messages[4].at - messages[3].at;
    assert!(waited >= Duration::from_secs(2), "Retry-After: 2, and back after {waited:?}");
    daemon.wait_for_log("subscriber crm accepts again");
    receiver.suspend();
    post(&daemon, 1, 30, MEDIUM);
    assert!(
        sandbox.wait_until(|stats| stats.updates == 31, SOON),
        "an absent receiver stopped the deliveries"
    );
    assert!(wait_until(SOON, || daemon.log_contains("Connection refused")));
    receiver.resume();
    assert!(wait_until(SOON, || receiver.accepted().len() == 31));
    let accepted = receiver.accepted();
    assert_eq!(receiver.messages().iter().filter(|m| m.status == 204).count(), 31, "no more than once each");
    assert_eq!(accepted.len(), 31);
}

#[test]
fn a_slow_receiver_delays_nobody_else_and_not_the_end() {
    let (sandbox, slow, quick) = (sandbox(), Receiver::start(), Receiver::start());
    let config = config_for(&sandbox)
        + &webhook("slow", &slow, "")
        + &webhook("quick", &quick, "")
        + &lines_to("log", "log.jsonl");
    slow.set_delay(Duration::from_secs(600));
    let mut daemon = Daemon::start_with(&config, &[("DISPOD_DELIVERY_SHUTDOWN_GRACE", "1s")]);
    post(&daemon, 0, 200, MEDIUM);
    quick.wait_for(200);
    wait_for_lines(&daemon, "log.jsonl", 200);
    assert_eq!(sandbox.stats().updates, 200);
    assert_eq!(slow.messages().len(), 1);
    let start = Instant::now();
    assert!(daemon.sigterm().success());
    assert!(start.elapsed() < Duration::from_secs(5), "stopping took {:?}", start.elapsed());
    slow.set_delay(Duration::ZERO);
    daemon.restart();
    assert!(wait_until(SOON, || slow.accepted().len() == 200));
    assert_eq!(slow.accepted(), quick.accepted());
    assert_eq!(quick.messages().len(), 200, "who had accepted heard again");
}

#[test]
fn gone_disables_until_the_url_changes_and_nothing_is_lost() {
    let (sandbox, receiver) = (sandbox(), Receiver::start());
    let config = config_for(&sandbox) + &webhook("crm", &receiver, "") + &lines_to("log", "log.jsonl");
    receiver.script(&[(204, ""), (410, "")]);
    let mut daemon = Daemon::start(&config);
    post(&daemon, 0, 3, MEDIUM);
    daemon.wait_for_log("subscriber crm is disabled: its endpoint said it is gone");
    wait_for_lines(&daemon, "log.jsonl", 3);
    assert!(daemon.sigterm().success());
    daemon.restart();
    daemon.wait_for_log("subscriber crm is disabled since its endpoint said it is gone");
    post(&daemon, 3, 1, MEDIUM);
    wait_for_lines(&daemon, "log.jsonl", 4);
    assert_eq!(receiver.messages().len(), 2);
    let changed = config.replace("/outcomes", "/outcomes?again");
    std::fs::write(daemon.dir().join("dispod.toml"), changed).unwrap();
    daemon.restart();
    assert!(wait_until(SOON, || receiver.accepted().len() == 4));
    assert_eq!(receiver.accepted(), first_of_each(ids_in(&daemon, "log.jsonl").into_iter()));
    assert!(!daemon.log_contains("is disabled"));
}

#[test]
fn severities_are_filtered_and_what_is_new_begins_now() {
    let (sandbox, critical, late) = (sandbox(), Receiver::start(), Receiver::start());
    let config = config_for(&sandbox) + &webhook("critical", &critical, "severities = [\"critical\"]");
    let mut daemon = Daemon::start(&config);
    post(&daemon, 0, 10, MEDIUM);
    post(&daemon, 10, 2, CRITICAL);
    critical.wait_for(2);
    assert!(sandbox.wait_until(|stats| stats.updates == 12, SOON));
    std::fs::write(daemon.dir().join("dispod.toml"), config + &webhook("late", &late, "")).unwrap();
    assert!(daemon.sigterm().success());
    daemon.restart();
    post(&daemon, 12, 3, MEDIUM);
    post(&daemon, 15, 1, CRITICAL);
    late.wait_for(4);
    critical.wait_for(3);
    assert_eq!(late.messages().len(), 4, "a new subscriber was told of the past");
    let severities: Vec<_> = critical.messages().iter().map(|m| m.json()["severity"].clone()).collect();
    assert_eq!(severities, ["critical", "critical", "critical"]);
}

#[test]
fn sighup_changes_the_secret() {
    let (sandbox, receiver) = (sandbox(), Receiver::start());
    let config = config_for(&sandbox) + &webhook("crm", &receiver, &format!("secret = \"{SECRET}\""));
    let daemon = Daemon::start(&config);
    post(&daemon, 0, 1, MEDIUM);
    receiver.wait_for(1);
    std::fs::write(daemon.dir().join("dispod.toml"), config.replace(SECRET, OTHER_SECRET)).unwrap();
    daemon.sighup();
    daemon.wait_for_log("configuration reloaded");
    assert!(!daemon.log_contains("that takes a restart"));
    post(&daemon, 1, 1, MEDIUM);
    for (message, secret) in receiver.wait_for(2).iter().zip([SECRET, OTHER_SECRET]) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &Secret::new(secret).standard_webhooks_key().unwrap());
        let (id, timestamp) = (message.header("webhook-id"), message.header("webhook-timestamp"));
        let signature = dispod::signature::sign(&key, id, timestamp, message.body.as_bytes());
        assert_eq!(message.header("webhook-signature"), signature);
    }
    assert!(!daemon.log_contains("whsec"), "a secret in the log");
}
