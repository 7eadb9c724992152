//! A 200 is sent only after the commit: it survives kill -9, and where nothing can be committed there is none.

use std::time::Duration;

use dispod::sandbox::Reply;

use super::*;
use crate::support::http;

#[test]
fn an_event_answered_200_is_delivered_after_a_kill_right_behind_the_answer() {
    const ROUNDS: usize = 5;
    let mut sandbox = sandbox(|_| {});
    let mut daemon = daemon(&sandbox, &[]);
    for round in 0..ROUNDS {
        sandbox.suspend();
        let contact = format!("contact-{round}");
        keep(&daemon, &contact, "1001");
        daemon.kill9();
        sandbox.resume().unwrap();
        daemon.restart();
        let delivered = || category(&sandbox, &contact).is_some();
        assert!(wait_until(SOON, delivered), "{contact}: {:?}", sandbox.stats());
    }
    let contacts = sandbox.contacts();
    assert_eq!(contacts.len(), ROUNDS);
    for (id, contact) in contacts {
        // The kill of the next round may have come before the delivery was recorded: that one is repeated.
        assert!((1..=2).contains(&contact.updates), "{id}: {} updates", contact.updates);
        assert!(contact.history.iter().all(|update| update.custom == contact.history[0].custom), "{id}");
        assert_eq!(contact.custom.unwrap().disposition_category, "do_not_call", "{id}");
    }
}

#[test]
fn an_unanswered_event_is_not_counted_on_and_an_answered_one_always_there_while_killed_under_load() {
    const SENDERS: usize = 4;
    let mut sandbox = sandbox(|_| {});
    let mut daemon = daemon(&sandbox, &[("DISPOD_DELIVERY_WORKERS", "4")]);
    let mut answered: Vec<String> = Vec::new();
    for round in 0..3 {
        sandbox.suspend();
        let address = daemon.webhook_addr();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                std::thread::spawn(move || {
                    let mut answered = Vec::new();
                    for number in 0.. {
                        let id = format!("{round}-{sender}-{number}");
                        let body = event(&id, "2001");
                        let headers = [("Connection", "close")];
                        let path = "/webhook/call-result";
                        match http::request(address, "POST", path, &headers, body.as_bytes()) {
                            Ok(answer) if answer.status == 200 => answered.push(id),
                            // Whatever was cut by the kill is the sender's still.
                            _ => break,
                        }
                    }
                    answered
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(150));
        daemon.kill9();
        for sender in senders {
            answered.extend(sender.join().unwrap());
        }
        sandbox.resume().unwrap();
        daemon.restart();
    }
    assert!(answered.len() > 3 * SENDERS, "{answered:?}");
    let all = || answered.iter().all(|id| category(&sandbox, id).is_some());
    assert!(wait_until(SOON, all), "{} answered, {:?}", answered.len(), sandbox.stats());
    assert_eq!(sandbox.stats().violations, 0);
}

#[test]
fn a_full_store_answers_503_and_serves_again_by_itself_when_there_is_room() {
    let sandbox = behaving(|behaviour| behaviour.outage = Reply::Status(503));
    let daemon = daemon(&sandbox, &[("DISPOD_STORE_MAX_SIZE", "1MiB")]);
    let healthz = || http::request(daemon.webhook_addr(), "GET", "/healthz", &[("Connection", "close")], b"");
    let filler = "x".repeat(200);
    let mut kept = Vec::new();
    let refused = loop {
        let id = format!("{}-{filler}", kept.len());
        let body = serde_json::json!({
            "contactId": id, "dispositionCode": "1001", "callResult": filler, "timestamp": filler,
        });
        let answer = daemon.try_post(&body.to_string()).unwrap();
        if answer.status != 200 {
            break answer;
        }
        kept.push(id);
        assert!(kept.len() < 10_000, "1 MiB is never full");
    };
    assert!(kept.len() > 100, "only {} events in 1 MiB", kept.len());
    assert_eq!((refused.status, refused.text().as_str()), (503, "Try again later"));
    let seconds: u32 = refused.header("Retry-After").expect("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(healthz().unwrap().status, 503);
    let size = std::fs::metadata(daemon.dir().join("data/dispod.db")).unwrap().len();
    assert!(size <= 1024 * 1024, "{size}");

    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    assert!(wait_until(SOON, || healthz().unwrap().status == 200), "service does not return");
    keep(&daemon, "afterwards", "1001");
    wait_updates(&sandbox, kept.len() as u64 + 1);
    let contacts = sandbox.contacts();
    for id in &kept {
        assert_eq!(contacts.get(id).map(|contact| contact.updates), Some(1), "{id}");
    }
}
