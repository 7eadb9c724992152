//! A file of outcomes: rotated by SIGHUP, whole after a crash, patient when the disk is full.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::{MEDIUM, ids_in, lines_to, post, sandbox, wait_for_lines};
use crate::support::daemon::{Daemon, config_for};
use crate::support::{SOON, wait_until};

#[test]
fn sighup_opens_the_file_again() {
    let sandbox = sandbox();
    let daemon = Daemon::start(&(config_for(&sandbox) + &lines_to("log", "log.jsonl")));
    let path = daemon.dir().join("log.jsonl");
    assert!(wait_until(SOON, || path.exists()), "the file is there before the first outcome");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    post(&daemon, 0, 5, MEDIUM);
    let before = wait_for_lines(&daemon, "log.jsonl", 5);
    fs::rename(&path, daemon.dir().join("log.jsonl.1")).unwrap();
    daemon.sighup();
    assert!(wait_until(SOON, || path.exists()), "no new file after SIGHUP");
    post(&daemon, 5, 5, MEDIUM);
    let after = wait_for_lines(&daemon, "log.jsonl", 5);
    assert_eq!(ids_in(&daemon, "log.jsonl.1"), before);
    assert!(after.iter().all(|id| !before.contains(id)));
}

#[test]
fn a_file_that_was_deleted_is_made_again() {
    let sandbox = sandbox();
    let daemon = Daemon::start(&(config_for(&sandbox) + &lines_to("log", "log.jsonl")));
    post(&daemon, 0, 1, MEDIUM);
    wait_for_lines(&daemon, "log.jsonl", 1);
    fs::remove_file(daemon.dir().join("log.jsonl")).unwrap();
    post(&daemon, 1, 1, MEDIUM);
    assert_eq!(wait_for_lines(&daemon, "log.jsonl", 1).len(), 1);
}

#[test]
fn a_torn_line_is_mended_after_a_crash() {
    let sandbox = sandbox();
    let mut daemon = Daemon::start(&(config_for(&sandbox) + &lines_to("log", "log.jsonl")));
    post(&daemon, 0, 3, MEDIUM);
    let before = wait_for_lines(&daemon, "log.jsonl", 3);
    daemon.kill9();
    let path = daemon.dir().join("log.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{{\"id\":\"4\",\"contactI")).unwrap();
    daemon.restart();
    post(&daemon, 3, 1, MEDIUM);
    let after = wait_for_lines(&daemon, "log.jsonl", 4);
    assert_eq!(after[..3], before);
}

#[test]
fn a_full_disk_is_waited_for() {
    let sandbox = sandbox();
    let config = config_for(&sandbox) + &lines_to("log", "log.jsonl") + &lines_to("other", "other.jsonl");
    let mut daemon = Daemon::start(&config);
    daemon.kill9();
    let path = daemon.dir().join("log.jsonl");
    fs::remove_file(&path).unwrap();
    symlink("/dev/full", &path).unwrap();
    daemon.restart();
    post(&daemon, 0, 10, MEDIUM);
    daemon.wait_for_log("subscriber log: log.jsonl: No space left on device");
    let other = wait_for_lines(&daemon, "other.jsonl", 10);
    fs::remove_file(&path).unwrap();
    assert_eq!(wait_for_lines(&daemon, "log.jsonl", 10), other);
    daemon.wait_for_log("subscriber log accepts again");
}
