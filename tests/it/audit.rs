//! `dispod audit` tells what became of every event, step by step, in every format, with the daemon running, stopped
//! and killed; the reports tell what the mapping did not or would not do.

mod large;
mod reports;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dispod::sandbox::{Reply, Sandbox, SandboxOptions};
use serde_json::{Value, json};

use crate::support::daemon::{self, Daemon, config_for};
use crate::support::{SOON, wait_until};

const NAMES: [&str; 16] = [
    "event",
    "contactId",
    "dispositionCode",
    "callResult",
    "timestamp",
    "category",
    "severity",
    "state",
    "at",
    "step",
    "attempt",
    "status",
    "latencyMs",
    "mapping",
    "mappingSince",
    "note",
];

/// A contact id that needs quoting wherever it goes.
const AWKWARD: &str = "+49 \"a\", ü=東";

/// The program in a directory with a `dispod.toml`, without a tenant in reach.
fn dispod(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = daemon::command();
    command.args(arguments).args(["--config", "dispod.toml"]).current_dir(dir);
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    dispod(dir, arguments).output().unwrap()
}

/// What it prints when all is well.
fn printed(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn records(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let text = printed(dir, &[arguments, &["--format", "jsonl"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// CSV as RFC 4180 has it.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'), "a line ends in CR LF");
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => {
                assert!(quoted || c != '\n', "a line ends in CR LF");
                field.push(c);
            }
        }
    }
    assert!(!quoted && row.is_empty() && field.is_empty(), "cut off");
    rows
}

/// The steps of a contact's events.
fn steps<'a>(records: &'a [Value], contact: &str) -> Vec<&'a str> {
    let of_contact = records.iter().filter(|record| record["contactId"] == contact);
    of_contact.map(|record| record["step"].as_str().unwrap()).collect()
}

fn find<'a>(records: &'a [Value], contact: &str, step: &str) -> &'a Value {
    let is_it = |record: &&Value| record["contactId"] == contact && record["step"] == step;
    records.iter().find(is_it).unwrap_or_else(|| panic!("no {step} of {contact}: {records:#?}"))
}

/// A daemon to which everything happened that can happen to an event, and the sandbox behind it.
fn eventful() -> (Sandbox, Daemon) {
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    sandbox.script("retried", &[Reply::Status(503), Reply::Cut]).unwrap();
    sandbox.script("revived", &[Reply::Status(404)]).unwrap();
    sandbox.script("dropped", &[Reply::Status(422)]).unwrap();
    let subscriber = "\n[[subscribers]]\nname = \"crm\"\nfile = \"crm.jsonl\"\n";
    let daemon = Daemon::start(&(config_for(&sandbox) + subscriber));
    let keep = |contact: &str, code: &str| {
        let call = json!({
            "contactId": contact, "dispositionCode": code, "callResult": "ANSWERED",
            "timestamp": "2024-05-20T10:00:00Z",
        });
        assert_eq!(daemon.post(&call.to_string()).0, 200);
    };
    keep("retried", "1001");
    keep("revived", "2001");
    keep("dropped", "2001");
    keep(AWKWARD, "9999");
    keep(AWKWARD, "9999");
    let dead = || -> Vec<Value> {
        let answer = daemon.admin("GET", "/api/dead");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice::<Value>(&answer.body).unwrap()["dead"].as_array().unwrap().clone()
    };
    assert!(wait_until(SOON, || dead().len() == 2), "{:?}", dead());
    for letter in dead() {
        let id = letter["id"].as_str().unwrap();
        let answer = match letter["contactId"].as_str().unwrap() {
            "revived" => daemon.admin("POST", &format!("/api/dead/{id}/retry")),
            _ => daemon.admin("DELETE", &format!("/api/dead/{id}")),
        };
        assert_eq!(answer.status, 200);
    }
    let over = || {
        let told = records(daemon.dir(), &["audit"]);
        ["retried", "revived", AWKWARD].iter().all(|contact| steps(&told, contact).contains(&"published"))
    };
    assert!(wait_until(SOON, over), "{:#?}", records(daemon.dir(), &["audit"]));
    (sandbox, daemon)
}

#[test]
fn every_step_is_told_while_the_daemon_runs_and_when_it_does_not() {
    let (_sandbox, mut daemon) = eventful();
    let told = records(daemon.dir(), &["audit"]);
    assert_eq!(
        steps(&told, "retried"),
        ["received", "mapped", "attempt", "retry-at", "attempt", "retry-at", "delivered", "published"]
    );
    assert_eq!(steps(&told, "revived"), ["received", "mapped", "dead", "revived", "delivered", "published"]);
    assert_eq!(steps(&told, "dropped"), ["received", "mapped", "dead", "dropped"]);
    let mut awkward = steps(&told, AWKWARD);
    assert_eq!(awkward[..2], ["received", "mapped"]);
    awkward.sort_unstable();
    assert_eq!(awkward, ["delivered", "duplicate", "mapped", "published", "received"]);
    let ids: Vec<u64> =
        told.iter().map(|record| record["event"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.is_sorted());

    assert!(daemon.sigterm().success());
    assert_eq!(records(daemon.dir(), &["audit"]), told, "after a stop");
    daemon.restart();
    daemon.kill9();
    assert_eq!(records(daemon.dir(), &["audit"]), told, "after a kill");
}

#[test]
fn a_step_tells_what_there_is_to_know_of_it() {
    let (_sandbox, daemon) = eventful();
    let told = records(daemon.dir(), &["audit"]);
    let received = find(&told, "retried", "received");
    let expected = json!({
        "contactId": "retried", "dispositionCode": "1001", "callResult": "ANSWERED",
        "timestamp": "2024-05-20T10:00:00Z", "category": "do_not_call", "severity": "critical",
        "state": "delivered", "attempt": null, "status": null, "latencyMs": null, "mapping": null, "note": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&received[name], value, "{name}");
    }
    let is_time = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.len() == "2024-05-20T10:00:00.000Z".len() && text.ends_with('Z'))
    };
    assert!(told.iter().all(|record| is_time(&record["at"])), "{told:#?}");

    let mapped = find(&told, "retried", "mapped");
    assert_eq!(mapped["mapping"], 1);
    assert!(is_time(&mapped["mappingSince"]) && mapped["mappingSince"].as_str() <= mapped["at"].as_str());
    let since = mapped["mappingSince"].as_str().unwrap();
    assert_eq!(mapped["note"], format!("do_not_call (critical), by mapping 1, in force since {since}"));
    let by_default = find(&told, AWKWARD, "mapped")["note"].as_str().unwrap();
    let words = "unclassified (low), the default for a code mapping 1 lacks, in force since ";
    assert!(by_default.starts_with(words), "{by_default}");

    let tries: Vec<&Value> = told
        .iter()
        .filter(|record| record["contactId"] == "retried" && record["latencyMs"].is_number())
        .collect();
    let told_of =
        |record: &Value| (record["step"].clone(), record["attempt"].clone(), record["status"].clone());
    assert_eq!(
        tries.iter().map(|record| told_of(record)).collect::<Vec<_>>(),
        [
            ("attempt".into(), 1.into(), 503.into()),
            ("attempt".into(), 2.into(), Value::Null),
            ("delivered".into(), 3.into(), 200.into())
        ]
    );
    assert!(tries[1]["note"].is_string(), "the fault in words: {}", tries[1]);
    assert!(is_time(&find(&told, "retried", "retry-at")["note"]));

    let dead = find(&told, "revived", "dead");
    assert_eq!(told_of(dead), ("dead".into(), 1.into(), 404.into()));
    assert!(dead["note"].as_str().unwrap().starts_with("rejected: {"), "{dead}");
    assert_eq!(find(&told, "revived", "revived")["note"], "rejected");
    assert_eq!(find(&told, "revived", "published")["note"], "crm");
    assert_eq!(find(&told, "dropped", "dropped")["state"], "dropped");
}

#[test]
fn all_formats_tell_the_same() {
    let (_sandbox, mut daemon) = eventful();
    assert!(daemon.sigterm().success());
    let text = printed(daemon.dir(), &["audit", "--format", "jsonl"]);
    for line in text.lines() {
        let places: Vec<_> = NAMES.iter().map(|name| line.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{line}");
    }
    let told = records(daemon.dir(), &["audit"]);
    assert!(told.iter().all(|record| record.as_object().unwrap().len() == NAMES.len()));

    let csv = parse_csv(&printed(daemon.dir(), &["audit", "--format", "csv"]));
    assert_eq!(csv[0], NAMES);
    assert_eq!(csv.len(), told.len() + 1);
    for (row, record) in csv[1..].iter().zip(&told) {
        for (name, field) in NAMES.iter().zip(row) {
            let value = match &record[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(*field, value, "{name} in {row:?}");
        }
    }

    let table = printed(daemon.dir(), &["audit"]);
    let stories: Vec<&str> = table.split("\n\n").collect();
    assert_eq!(stories.len(), 4, "{table}");
    assert_eq!(table.lines().filter(|line| line.starts_with("  ")).count(), told.len(), "{table}");
    assert!(stories[0].contains(
        "contact retried, code 1001 (ANSWERED, 2024-05-20T10:00:00Z), do_not_call (critical): delivered\n"
    ));
    for words in
        ["  attempt    attempt 1, HTTP 503, ", "  retry-at   not before 20", "  published  to subscriber crm"]
    {
        assert!(stories[0].contains(words), "{words:?} is not in\n{}", stories[0]);
    }
    assert!(stories[3].contains(AWKWARD) && stories[3].contains("  duplicate  the same event came in again"));
    assert!(!table.contains('\x1b'), "no colours where there is no terminal");
}

#[test]
fn events_are_selected_by_contact_and_time() {
    let (_sandbox, mut daemon) = eventful();
    assert!(daemon.sigterm().success());
    let dir = daemon.dir();
    let all = records(dir, &["audit"]);
    let one = records(dir, &["audit", "--contact", AWKWARD]);
    assert_eq!(one, all.iter().filter(|record| record["contactId"] == AWKWARD).cloned().collect::<Vec<_>>());
    let at = find(&all, "dropped", "received")["at"].as_str().unwrap();
    let received = |record: &Value| record["step"] == "received";
    let earlier = |record: &Value| received(record) && record["at"].as_str().unwrap() < at;
    let count = |arguments: &[&str]| records(dir, arguments).iter().filter(|record| received(record)).count();
    let before = all.iter().filter(|record| earlier(record)).count();
    assert_eq!(count(&["audit", "--until", at]), before);
    assert_eq!(count(&["audit", "--since", at]), 4 - before);
    assert_eq!(count(&["audit", "--since", "1h"]), 4);
    assert_eq!(count(&["audit", "--until", "1h"]), 0);
    assert_eq!(count(&["audit", "--since", "2024-05-20", "--until", "2024-05-21"]), 0);
    assert_eq!(count(&["audit", "--since", at, "--contact", "dropped"]), 1);
    assert_eq!(printed(dir, &["audit", "--contact", "nobody"]), "no such events\n");
    assert_eq!(printed(dir, &["audit", "--contact", "nobody", "--format", "jsonl"]), "");
    assert_eq!(parse_csv(&printed(dir, &["audit", "--contact", "nobody", "--format", "csv"])), [NAMES]);
}

#[test]
fn what_cannot_be_told_is_said() {
    let dir = daemon::TempDir::new();
    fs::write(dir.path().join("dispod.toml"), "[store]\ndir = \"data\"\n").unwrap();
    let said = |arguments: &[&str], status: i32| {
        let output = run(dir.path(), arguments);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(status), true), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["audit"], 1).contains("there is no store in data (store.dir)"));
    for argument in ["--since", "--until"] {
        let words = said(&["audit", argument, "yesterday"], 2);
        assert!(words.contains(argument) && words.contains("yesterday") && words.contains("7d"), "{words}");
    }
    let words = said(&["audit", "--format", "xml"], 2);
    assert!(words.contains("--format") && words.contains("jsonl"), "{words}");
    fs::write(dir.path().join("dispod.toml"), "[store]\ndirectory = \"data\"\n").unwrap();
    assert!(said(&["audit"], 78).contains("store.directory"));
}
