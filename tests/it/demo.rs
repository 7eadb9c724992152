//! `dispod demo`: one command shows the whole job and holds itself to its claims. That a claim that does not hold is
//! reported is tested beside the claims themselves, in `src/cli/demo/tests.rs`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{TempDir, command};
use crate::support::{SOON, http, wait_until};

/// The demo with its store below a directory of the test's own.
fn demo(dir: &Path) -> Command {
    let mut command = command();
    command.arg("demo").env("TMPDIR", dir).env_remove("NO_COLOR").current_dir(dir).stdin(Stdio::null());
    command
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn once_shows_every_category_and_every_trouble_and_leaves_nothing_behind() {
    let dir = TempDir::new();
    let output = demo(dir.path()).arg("--once").output().unwrap();
    let (out, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{out}\n{log}");
    assert_eq!(log, "", "nothing disturbs the table");
    for said in [
        "do_not_call     critical  delivered",
        "callback_later  medium    delivered",
        "qualified_lead  medium    delivered",
        "wrong_number    low       delivered",
        "unclassified    low       delivered",
        "200  kept before, as 1: not delivered again",
        "400  Invalid JSON payload",
        "400  Missing contactId or dispositionCode",
        "503 Service Unavailable",
        "order is kept",
        "401: the token was revoked",
        "qualified_lead  medium    rejected",
        "429 with Retry-After",
        "all hold",
    ] {
        assert!(out.contains(said), "`{said}` is not in the output:\n{out}");
    }
    assert!(!out.contains('\x1b'), "colours in a pipe:\n{out}");
    for line in out.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    assert!(is_empty(dir.path()), "the store is still there");
}

#[test]
fn without_once_it_shows_what_is_posted_until_it_is_ended() {
    let dir = TempDir::new();
    let mut child =
        demo(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut url = String::new();
    for line in lines.by_ref().take_while(|line| !line.starts_with("Serving")) {
        if let Some((_, after)) =
            line.split_once("http://").filter(|(_, after)| after.ends_with("call-result"))
        {
            after.clone_into(&mut url);
        }
    }
    let (address, path) = url.split_once('/').expect("where to post");
    let (address, path) = (address.parse().unwrap(), format!("/{path}"));
    let post = |body: &str| {
        let answer = http::request(address, "POST", &path, &[("Connection", "close")], body.as_bytes());
        answer.unwrap().status
    };
    let event = r#"{"contactId":"42","dispositionCode":"2002","timestamp":"2024-05-20T10:00:00Z"}"#;
    assert_eq!(post(event), 200);
    let line = lines.next().unwrap();
    assert!(line.contains("14  42          2002    200  callback_later  medium    delivered"), "{line}");
    assert_eq!(post(event), 200);
    let line = lines.next().unwrap();
    assert!(line.starts_with("15  ") && line.contains("200  kept before"), "{line}");
    assert_eq!(post("{"), 400);
    let line = lines.next().unwrap();
    assert!(line.starts_with("16  ") && line.contains("400  not kept"), "{line}");
    assert!(!is_empty(dir.path()));

    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(lines.next(), None);
    let mut status = None;
    assert!(wait_until(SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    }));
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!((status.unwrap().code(), log.as_str()), (Some(0), ""));
    assert!(is_empty(dir.path()), "the store is still there");
}

#[test]
fn an_interrupted_play_leaves_nothing_behind_either() {
    let dir = TempDir::new();
    let mut child =
        demo(dir.path()).arg("--once").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with(" 1 ")), "the first event");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(is_empty(dir.path()), "the store is still there");
}
