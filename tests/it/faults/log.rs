//! A log that is damaged in the middle loses what was written behind: then the daemon says so.

use std::fs;

use dispod::sandbox::{Behaviour, Reply, Sandbox, SandboxOptions};

use crate::support::daemon::{Daemon, command, config_for};
use crate::support::{SOON, wait_until};

const SAID: &str = "the log of the store data/dispod.db is damaged";
const EVENTS: usize = 20;

/// A daemon with events in its log that cannot be delivered, killed.
fn killed(sandbox: &Sandbox) -> Daemon {
    let mut daemon = Daemon::start(&config_for(sandbox));
    for number in 0..EVENTS {
        let body = format!(r#"{{"contactId":"contact-{number}","dispositionCode":"1001"}}"#);
        assert_eq!(daemon.post(&body).0, 200);
    }
    daemon.kill9();
    daemon
}

fn sandbox() -> Sandbox {
    let behaviour = Behaviour { outage: Reply::Status(503), ..Behaviour::default() };
    Sandbox::start(SandboxOptions { behaviour, ..SandboxOptions::default() }).unwrap()
}

fn delivered(sandbox: &Sandbox) -> usize {
    sandbox.contacts().values().filter(|contact| contact.updates > 0).count()
}

/// Changes one byte of the log; `at` says which, by its length.
fn damage(daemon: &Daemon, at: impl FnOnce(usize) -> usize) {
    let path = daemon.dir().join("data/dispod.db-wal");
    let mut bytes = fs::read(&path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 4;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn events_lost_with_a_damaged_log_are_not_lost_in_silence() {
    let sandbox = sandbox();
    let mut daemon = killed(&sandbox);
    damage(&daemon, |length| length * 2 / 3);
    daemon.restart();
    assert!(daemon.log_contains(SAID));
    // And what is in front of the damage is there.
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    assert!(wait_until(SOON, || delivered(&sandbox) > EVENTS / 4), "{:?}", sandbox.stats());
}

#[test]
fn a_store_whose_log_is_lost_from_its_beginning_is_no_new_store() {
    let daemon = killed(&sandbox());
    damage(&daemon, |_| 17);
    let refused =
        command().args(["serve", "--config", "dispod.toml"]).current_dir(daemon.dir()).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("Keep a copy"), "{said}");
}

#[test]
fn a_torn_tail_of_the_log_is_no_damage() {
    let sandbox = sandbox();
    let mut daemon = killed(&sandbox);
    let path = daemon.dir().join("data/dispod.db-wal");
    let mut bytes = fs::read(&path).unwrap();
    // A frame that was begun, and never acknowledged.
    let begun = bytes[32..32 + 300].to_vec();
    bytes.extend(begun);
    fs::write(&path, bytes).unwrap();
    daemon.restart();
    assert!(!daemon.log_contains(SAID));
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    assert!(wait_until(SOON, || delivered(&sandbox) == EVENTS), "{:?}", sandbox.stats());
}
