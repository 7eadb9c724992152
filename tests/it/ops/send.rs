//! `dispod send`: every record kept once, a bad one named by its line, the order of a contact's records held.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Mutex;

use super::*;
use crate::support::daemon::TempDir;
use crate::support::stub::{Act, Stub, answer};

fn kept(daemon: &Daemon) -> (u64, u64) {
    let status: serde_json::Value = serde_json::from_slice(&daemon.admin("GET", "/api/status").body).unwrap();
    (status["kept"].as_u64().unwrap(), status["duplicate"].as_u64().unwrap())
}

#[test]
fn json_lines_with_bad_ones_between() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let text =
        [&record("1", "1001"), "[]\n", "\n", &record("2", ""), &record("2", "1001"), "{\"contactId\":"];
    file(&daemon, "calls.jsonl", &text.concat());
    let done = run(&daemon, &["send", "calls.jsonl"]);
    assert_eq!((done.code, done.out.as_str()), (1, "2 kept, 3 refused, 0 not sent\n"), "{done:?}");
    let err: Vec<&str> = done.err.lines().collect();
    assert_eq!(
        err,
        [
            "dispod: line 2: Invalid JSON payload",
            "dispod: line 4: Missing contactId or dispositionCode",
            "dispod: line 6: Invalid JSON payload",
            "dispod: 3 refused"
        ]
    );
    assert!(wait_until(SOON, || delivered(&sandbox, "1") && delivered(&sandbox, "2")));
    let done = run(&daemon, &["send", "--json", "calls.jsonl"]);
    let counts = serde_json::json!({"kept": 2, "refused": 3, "notSent": 0, "nextLine": null});
    assert_eq!((done.code, done.json()), (1, counts), "{done:?}");
    assert_eq!(kept(&daemon), (2, 2), "what is sent again is kept once");
    let done = run(&daemon, &["send", "--batch", "of the next day", "calls.jsonl"]);
    assert_eq!((done.code, kept(&daemon)), (1, (4, 2)), "another batch holds other records: {done:?}");
}

#[test]
fn a_record_too_large_for_the_daemon_costs_itself_only() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let note = |bytes: usize| {
        format!("{{\"contactId\":\"2\",\"dispositionCode\":\"1001\",\"note\":\"{}\"}}\n", "x".repeat(bytes))
    };
    let text = record("1", "1001") + &note(100 * 1024) + &note(300 * 1024) + &record("3", "1001");
    file(&daemon, "calls.jsonl", &text);
    let done = run(&daemon, &["send", "calls.jsonl"]);
    assert_eq!((done.code, done.out.as_str()), (1, "2 kept, 2 refused, 0 not sent\n"), "{done:?}");
    for line in ["line 2: 413: Payload too large", "line 3: longer than 262144 bytes"] {
        assert!(done.err.contains(line), "{line} is not in {done:?}");
    }
}

#[test]
fn csv_with_any_columns_and_quotes() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let text = "agent,timestamp,dispositionCode,contactId,callResult\r\n\
        \"Smith, J\",2024-05-20T10:00:00Z,1001,\"7 \"\"b\"\"\",ANSWERED\r\n\
        ,,2001,,\r\n\
        \"two\nlines\",2024-05-20T10:00:01Z,2001,8,\r\n\
        \"not closed,2024-05-20T10:00:01Z,2001,9,\r\n\
        x,2024-05-20T10:00:02Z,3001,10,\r\n";
    file(&daemon, "calls.csv", text);
    let done = run(&daemon, &["send", "calls.csv"]);
    assert_eq!((done.code, done.out.as_str()), (1, "3 kept, 2 refused, 0 not sent\n"), "{done:?}");
    for line in ["line 3: Missing contactId or dispositionCode", "line 6: a quote is opened and not closed"] {
        assert!(done.err.contains(line), "{line} is not in {done:?}");
    }
    assert!(sandbox.wait_until(|stats| stats.updates == 3, SOON), "{:?}", sandbox.stats());
    let contacts = sandbox.contacts();
    assert_eq!(contacts.keys().collect::<Vec<_>>(), ["10", "7 \"b\"", "8"]);
    let custom = contacts["7 \"b\""].custom.as_ref().unwrap();
    assert_eq!(custom.last_audit_log, "[2024-05-20T10:00:00Z] Disposition 1001 mapped to do_not_call");
    assert_eq!(run(&daemon, &["send", "calls.csv"]).code, 1);
    assert_eq!(kept(&daemon), (3, 3));
    file(&daemon, "other.csv", "contact,code\n7,1001\n");
    let done = run(&daemon, &["send", "other.csv"]);
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    let words = "dispod: other.csv: line 1: the header has no column contactId, it has: contact, code\n";
    assert_eq!(done.err, words);
}

#[test]
fn a_contacts_records_are_kept_in_their_order() {
    const CONTACTS: usize = 5;
    const EACH: usize = 40;
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let record = |number: usize| format!("contact-{},1001,{number:04}", number % CONTACTS);
    let records: Vec<String> = (0..CONTACTS * EACH).map(record).collect();
    let text = format!("contactId,dispositionCode,timestamp\n{}\n", records.join("\n"));
    file(&daemon, "calls.csv", &text);
    let done = run(&daemon, &["send", "calls.csv", "--connections", "16"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    let all = u64::try_from(CONTACTS * EACH).unwrap();
    assert!(sandbox.wait_until(|stats| stats.updates == all, SOON), "{:?}", sandbox.stats());
    for (id, contact) in sandbox.contacts() {
        let stamps: Vec<_> =
            contact.history.iter().map(|update| update.custom.last_audit_log.clone()).collect();
        assert_eq!(stamps.len(), EACH);
        assert!(stamps.is_sorted(), "{id}: {stamps:?}");
    }
}

#[test]
fn standard_input_is_a_file_too() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let mut command = on(&daemon, &["send", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(record("1", "1001").as_bytes()).unwrap();
    assert!(wait_until(SOON, || delivered(&sandbox, "1")), "sent before the input ends");
    input.write_all(record("2", "1001").as_bytes()).unwrap();
    drop(input);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!((done.code, done.out.as_str()), (0, "2 kept, 0 refused, 0 not sent\n"), "{done:?}");
}

#[test]
fn an_empty_input_is_done_at_once() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    for (name, text) in [("empty", ""), ("blank", "\n \n"), ("header.csv", "contactId,dispositionCode\n")] {
        file(&daemon, name, text);
        let done = run(&daemon, &["send", name]);
        assert_eq!(
            (done.code, done.out.as_str()),
            (0, "0 kept, 0 refused, 0 not sent\n"),
            "{name}: {done:?}"
        );
    }
    let done = run(&daemon, &["send", "missing"]);
    assert!(done.code == 1 && done.err.starts_with("dispod: cannot read missing: "), "{done:?}");
}

#[test]
fn it_proves_itself_in_each_of_the_ways() {
    let sandbox = sandbox();
    for (auth, secret) in [
        ("bearer", "s3cret"),
        ("hmac-sha256", "It's a Secret to Everybody"),
        ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ] {
        let environment = [("DISPOD_WEBHOOK_AUTH", auth), ("DISPOD_WEBHOOK_SECRET", secret)];
        let daemon = Daemon::start_with(&config_for(&sandbox), &environment);
        file(&daemon, "calls.jsonl", &(record("1", "1001") + &record("2", "1001")));
        let proving = |environment: &[(&str, &str)]| -> Done {
            let mut command = on(&daemon, &["send", "calls.jsonl"]);
            command.envs(environment.iter().copied()).output().unwrap().into()
        };
        for kept_before in [0, 2] {
            let done = proving(&environment);
            assert_eq!(
                (done.code, done.out.as_str()),
                (0, "2 kept, 0 refused, 0 not sent\n"),
                "{auth}: {done:?}"
            );
            assert_eq!(kept(&daemon), (2, kept_before), "{auth}");
        }
        let wrong = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let done = proving(&[("DISPOD_WEBHOOK_AUTH", auth), ("DISPOD_WEBHOOK_SECRET", wrong)]);
        assert_eq!(
            (done.code, done.out.as_str()),
            (1, "0 kept, 0 refused, 2 not sent\n"),
            "{auth}: {done:?}"
        );
        assert!(done.err.contains("answers 401: Unauthorized; see webhook.auth"), "{auth}: {done:?}");
        let done = proving(&[("DISPOD_WEBHOOK_AUTH", auth)]);
        assert!(done.code == 78 && done.err.contains("no secret for it can be read"), "{auth}: {done:?}");
    }
}

#[test]
fn a_webhook_on_a_unix_socket_and_a_daemon_that_dies_meanwhile() {
    const HALF: u64 = 50;
    let (sandbox, dir) = (sandbox(), TempDir::new());
    let listen = format!("unix:{}", dir.path().join("webhook").display());
    let mut daemon = Daemon::start_with(&config_for(&sandbox), &[("DISPOD_WEBHOOK_LISTEN", &listen)]);
    let records = |numbers: std::ops::Range<u64>| -> String {
        numbers.map(|number| record(&format!("contact-{number}"), "1001")).collect()
    };
    let mut command = command();
    command.args(["send", "-", "--config", "dispod.toml"]).current_dir(daemon.dir());
    command.env("DISPOD_WEBHOOK_LISTEN", &listen);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(records(0..HALF).as_bytes()).unwrap();
    assert!(sandbox.wait_until(|stats| stats.updates == HALF, SOON), "{:?}", sandbox.stats());
    daemon.kill9();
    input.write_all(records(HALF..2 * HALF).as_bytes()).unwrap();
    drop(input);
    daemon.restart();
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!((done.code, done.out.as_str()), (0, "100 kept, 0 refused, 0 not sent\n"), "{done:?}");
    assert!(sandbox.wait_until(|stats| stats.contacts as u64 == 2 * HALF, SOON), "{:?}", sandbox.stats());
}

#[test]
fn what_the_daemon_refuses_is_named_and_passed_over() {
    let stub = Stub::start(|asked| match &asked.body {
        body if body.contains("\"2\"") => answer(400, "Invalid contactId: not one of ours"),
        _ => answer(200, "Received"),
    });
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    file(&daemon, "calls.jsonl", &["1", "2", "3"].map(|contact| record(contact, "1001")).concat());
    let done = run(&daemon, &["send", "calls.jsonl", "--url", &stub.url("/hook")]);
    assert_eq!((done.code, done.out.as_str()), (1, "2 kept, 1 refused, 0 not sent\n"), "{done:?}");
    assert!(done.err.contains("line 2: 400: Invalid contactId: not one of ours"), "{done:?}");
    let gone = Stub::start(|_| answer(404, "Not found"));
    let done = run(&daemon, &["send", "calls.jsonl", "--url", &gone.url("/hook")]);
    assert_eq!((done.code, done.out.as_str()), (1, "0 kept, 0 refused, 3 not sent\n"), "{done:?}");
    assert!(done.err.contains("answers 404: Not found; is that the webhook"), "{done:?}");
}

#[test]
fn a_503_is_waited_out_and_the_same_record_sent_again() {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let note = std::sync::Arc::clone(&seen);
    let stub = Stub::start(move |asked| {
        let mut seen = note.lock().unwrap();
        seen.push((asked.header("Idempotency-Key").unwrap_or_default().to_owned(), asked.body.clone()));
        match seen.len() {
            1..=3 => {
                Act(b"HTTP/1.1 503 x\r\nRetry-After: 0\r\nContent-Length: 15\r\n\r\nTry again later".to_vec())
            }
            _ => answer(200, "Received"),
        }
    });
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    file(&daemon, "calls.jsonl", &(record("1", "1001") + &record("1", "1001")));
    // Being asked to wait is no absence, however short that may be.
    let args = ["send", "calls.jsonl", "--give-up-after", "0s", "--url", &stub.url("/hook")];
    let done = run(&daemon, &args);
    assert_eq!((done.code, done.out.as_str()), (0, "2 kept, 0 refused, 0 not sent\n"), "{done:?}");
    assert_eq!(done.err.matches("answers 503: Try again later; waiting").count(), 1, "{done:?}");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 5);
    assert!(seen[..4].iter().all(|each| *each == seen[0]), "{seen:?}");
    assert_eq!(seen[4].1, seen[0].1, "an equal record...");
    assert_ne!(seen[4].0, seen[0].0, "...on another line is another one");
}
