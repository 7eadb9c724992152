//! The process: how it ends, what it leaves for the next start, who else may use its store, its exit statuses.

use std::time::{Duration, Instant};

use dispod::sandbox::Reply;
use rustix::process::Signal;

use super::*;
use crate::support::daemon::{TempDir, command};

#[test]
fn sigterm_ends_it_within_the_grace_and_the_next_start_delivers_the_rest() {
    const EVENTS: u64 = 40;
    let slow = Duration::from_millis(200);
    let sandbox = behaving(|behaviour| behaviour.latency = slow..=slow);
    let mut daemon = daemon(&sandbox, &[("DISPOD_DELIVERY_WORKERS", "2")]);
    for number in 0..EVENTS {
        keep(&daemon, &format!("contact-{number}"), "1001");
    }
    assert!(sandbox.wait_until(|stats| stats.in_flight > 0, SOON));
    let asked = Instant::now();
    assert_eq!(daemon.sigterm().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?} with 0.2 s of work out", asked.elapsed());
    let updates = sandbox.stats().updates;
    assert!((1..EVENTS).contains(&updates), "{updates} updates before the end");
    daemon.restart();
    wait_updates(&sandbox, EVENTS);
    for (id, contact) in sandbox.contacts() {
        assert_eq!(contact.updates, 1, "{id}: what was out was finished and recorded");
    }
}

#[test]
fn an_update_that_never_ends_is_not_waited_for_beyond_the_grace() {
    let sandbox = behaving(|behaviour| behaviour.outage = Reply::Hang);
    let mut daemon = daemon(&sandbox, &[("DISPOD_DELIVERY_SHUTDOWN_GRACE", "1s")]);
    keep(&daemon, "1", "1001");
    assert!(sandbox.wait_until(|stats| stats.calls == 1, SOON));
    let asked = Instant::now();
    assert_eq!(daemon.sigterm().code(), Some(0));
    let took = asked.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{took:?}");
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    daemon.restart();
    wait_updates(&sandbox, 1);
}

#[test]
fn while_it_finishes_what_is_out_senders_are_told_to_come_again() {
    let sandbox = behaving(|behaviour| behaviour.latency = Duration::from_secs(2)..=Duration::from_secs(2));
    let mut daemon = daemon(&sandbox, &[]);
    keep(&daemon, "1", "1001");
    assert!(sandbox.wait_until(|stats| stats.calls == 1, SOON));
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping");
    let refused = daemon.try_post(&event("2", "1001")).unwrap();
    assert_eq!((refused.status, refused.text().as_str()), (503, "Try again later"));
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(daemon.wait_exit(SOON).unwrap().code(), Some(0));
    assert_eq!(sandbox.stats().updates, 1);
    assert!(daemon.log_contains("stopped, 0 events are pending"));
}

#[test]
fn a_store_of_a_newer_dispod_is_left_alone_with_words_about_that() {
    let sandbox = sandbox(|_| {});
    let mut daemon = daemon(&sandbox, &[]);
    assert!(daemon.sigterm().success());
    let path = daemon.dir().join("data/dispod.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let output = crate::support::daemon::command()
        .args(["serve", "--config", "dispod.toml"])
        .current_dir(daemon.dir())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("newer dispod (schema version 99") && !said.contains("damaged"), "{said}");
}

#[test]
fn a_second_process_on_the_same_store_is_told_who_holds_it() {
    let sandbox = sandbox(|_| {});
    let daemon = daemon(&sandbox, &[]);
    let second =
        command().args(["serve", "--config", "dispod.toml"]).current_dir(daemon.dir()).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    let holder = format!("in use by process {}", daemon.pid());
    assert!(said.contains(&holder), "`{holder}` is not in: {said}");
    // And the first one does not mind.
    keep(&daemon, "1", "1001");
    wait_updates(&sandbox, 1);
}

/// Arguments, environment, exit status, and what standard error names.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);

#[test]
fn the_exit_status_says_whose_mistake_it_was() {
    let dir = TempDir::new();
    let sandbox = sandbox(|_| {});
    std::fs::write(dir.path().join("good.toml"), config_for(&sandbox)).unwrap();
    std::fs::write(dir.path().join("bad.toml"), "[webhook]\nport = 8080\n").unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let cases: [Case<'_>; 12] = [
        (&["serve", "--config", "bad.toml"], &[], 78, "webhook.port"),
        (&["check", "--config", "bad.toml"], &[], 78, "webhook.port"),
        (&["serve", "--config", "none.toml"], &[], 78, "none.toml"),
        (&["serve"], &[("DISPOD_CONFIG", "bad.toml")], 78, "webhook.port"),
        (
            &["serve", "--config", "good.toml"],
            &[("DISPOD_DELIVERY_WORKERS", "0")],
            78,
            "DISPOD_DELIVERY_WORKERS",
        ),
        (&["serve", "--config", "good.toml"], &[("DISPOD_STORE_DIR", "file/data")], 1, "file/data"),
        (&["check", "--config", "good.toml"], &[("DISPOD_CXONE_CLIENT_SECRET", "wrong")], 1, "401"),
        (&["check", "--config", "good.toml"], &[], 0, "token was obtained"),
        (&["serve", "--nonsense"], &[], 2, "--nonsense"),
        (&["nonsense"], &[], 2, "nonsense"),
        (&[], &[], 2, "Usage"),
        (&["sandbox", "--error-rate", "2"], &[], 2, "error_rate"),
    ];
    for (arguments, environment, status, said) in cases {
        let mut command = command();
        let output = command
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(dir.path())
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?} {environment:?}: {log}");
        assert!(log.contains(said), "{arguments:?} {environment:?}: `{said}` is not in: {log}");
    }
    for arguments in ["help", "--help", "--version"] {
        let output = command().arg(arguments).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments}");
        assert!(output.stdout.starts_with(b"dispod") || output.stdout.len() > 100, "{arguments}");
    }
}
