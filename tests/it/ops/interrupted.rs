//! Work that is ended early says how to go on, and going on so leaves nothing out and does nothing twice.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::support::stub::{Act, Asked, Stub, answer};

const RECORDS: usize = 12;
/// The sandbox of the stub's daemon has taken these when it begins to refuse.
const TAKEN: usize = 5;

/// Keeps the first [`TAKEN`] records, then asks for a long wait until told to go on.
struct Full {
    stub: Stub,
    kept: Arc<Mutex<Vec<String>>>,
    room: Arc<AtomicBool>,
}

impl Full {
    fn start() -> Self {
        let (kept, room) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (note, has_room) = (Arc::clone(&kept), Arc::clone(&room));
        let stub = Stub::start(move |asked: &Asked| {
            let mut kept = note.lock().unwrap();
            if kept.len() >= TAKEN && !has_room.load(SeqCst) {
                let text = "HTTP/1.1 503 x\r\nRetry-After: 300\r\nContent-Length: 0\r\n\r\n";
                return Act(text.as_bytes().to_vec());
            }
            kept.push(asked.body.clone());
            answer(200, "Received")
        });
        Self { stub, kept, room }
    }
}

fn records() -> String {
    (1..=RECORDS).map(|n| n.to_string()).map(|contact| record(&contact, "1001")).collect()
}

fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads standard error up to a line that holds `text`; what was read.
fn wait_for(child: &mut Child, text: &str) -> (String, BufReader<std::process::ChildStderr>) {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(text) {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended without `{text}`: {said}");
    }
    (said, stderr)
}

/// The arguments of the command that was said to go on with.
fn go_on(err: &str) -> Vec<String> {
    let (_, command) = err.split_once("go on with: dispod ").unwrap_or_else(|| panic!("{err}"));
    command.trim_end().split(' ').map(str::to_owned).collect()
}

#[test]
fn ctrl_c_during_a_send() {
    let full = Full::start();
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    file(&daemon, "calls.jsonl", &records());
    let url = full.stub.url("/hook");
    let mut child = piped(on(&daemon, &["send", "calls.jsonl", "--connections", "1", "--url", &url]));
    let (_, mut stderr) = wait_for(&mut child, "waiting as long as it asks to");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut err = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut err).unwrap();
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!((done.code, done.out.as_str()), (1, "5 kept, 0 refused, 7 not sent\n"), "{err}");
    let config = "--config dispod.toml";
    let command = format!("dispod send --from-line 6 {config} --url {url} calls.jsonl\n");
    assert_eq!(err, format!("dispod: interrupted; go on with: {command}"));
    full.room.store(true, SeqCst);
    let done: Done = crate::support::daemon::command()
        .args(go_on(&err))
        .current_dir(daemon.dir())
        .output()
        .unwrap()
        .into();
    assert_eq!((done.code, done.out.as_str()), (0, "7 kept, 0 refused, 0 not sent\n"), "{done:?}");
    let mut kept = full.kept.lock().unwrap().clone();
    let mut all: Vec<_> = records().lines().map(str::to_owned).collect();
    kept.sort();
    all.sort();
    assert_eq!(kept, all, "nothing left out, nothing twice");
}

#[test]
fn ctrl_c_while_standard_input_says_nothing() {
    let full = Full::start();
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let url = full.stub.url("/hook");
    let mut child = piped(on(&daemon, &["send", "--json", "-", "--url", &url]));
    let mut input = child.stdin.take().unwrap();
    let first = records().lines().next().unwrap().to_owned() + "\n";
    std::io::Write::write_all(&mut input, first.as_bytes()).unwrap();
    assert!(wait_until(SOON, || full.kept.lock().unwrap().len() == 1));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    // Not `wait_with_output`, which would end the input.
    let mut status = None;
    assert!(wait_until(SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    }));
    drop(input);
    let done: Done = child.wait_with_output().unwrap().into();
    let counts = serde_json::json!({"kept": 1, "refused": 0, "notSent": null, "nextLine": 2});
    assert_eq!((done.code, done.json()), (1, counts), "{done:?}");
    assert!(done.err.contains("dispod send --from-line 2"), "{done:?}");
}

#[test]
fn a_daemon_that_stays_away_is_given_up() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    file(&daemon, "calls.jsonl", &records());
    // Bound and dropped: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done: Done = on(&daemon, &["send", "calls.jsonl", "--give-up-after", "50ms", "--batch", "b"])
        .env("DISPOD_WEBHOOK_LISTEN", closed.to_string())
        .output()
        .unwrap()
        .into();
    assert_eq!((done.code, done.out.as_str()), (1, "0 kept, 0 refused, 12 not sent\n"), "{done:?}");
    let words = format!(
        "dispod: no daemon answers at http://{closed} (webhook.listen): connection refused; is it running?; go on \
         with: dispod send --from-line 1 --config dispod.toml --batch b calls.jsonl\n"
    );
    assert_eq!(done.err, words);
}

/// Stands for a busy admin listener: of the first change it says too busy, the next one waits for [`Slow::go`], all
/// others are answered at once.
struct Slow {
    stub: Stub,
    asked: Arc<Mutex<Vec<String>>>,
    go: crossbeam_channel::Sender<()>,
}

impl Slow {
    fn start() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (go, went) = crossbeam_channel::bounded(1);
        let note = Arc::clone(&asked);
        let stub = Stub::start(move |request: &Asked| {
            if request.method == "GET" {
                return answer(200, r#"{"dead":600}"#);
            }
            assert_eq!(request.header("X-Dispod"), Some("1"));
            let mut asked = note.lock().unwrap();
            asked.push(format!("{} {}", request.method, request.target));
            let count = asked.len();
            drop(asked);
            match count {
                1 => Act(b"HTTP/1.1 503 x\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_vec()),
                2 => {
                    let _ = went.recv_timeout(SOON);
                    answer(200, r#"{"done":256,"notDone":0,"continueAfter":"300"}"#)
                }
                _ => answer(200, r#"{"done":1,"notDone":1,"continueAfter":null}"#),
            }
        });
        Self { stub, asked, go }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs a command, interrupts it in its second request, and gives what it did.
    fn interrupt(&self, daemon: &Daemon, args: &[&str]) -> Done {
        let mut command = on(daemon, args);
        command.env("DISPOD_ADMIN_LISTEN", self.stub.address().to_string());
        let child = piped(command);
        assert!(wait_until(SOON, || self.asked().len() == 2));
        // It comes before the answer, so it is noticed before what comes next.
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        self.go.send(()).unwrap();
        child.wait_with_output().unwrap().into()
    }
}

#[test]
fn ctrl_c_while_all_dead_letters_are_retried() {
    let (sandbox, slow) = (sandbox(), Slow::start());
    let daemon = daemon(&sandbox);
    let done = slow.interrupt(&daemon, &["dead", "retry", "--all"]);
    assert_eq!((done.code, done.out.as_str()), (1, "256 pending again\n"), "{done:?}");
    let command = "dispod dead retry --config dispod.toml --all --after 300";
    assert_eq!(done.err, format!("dispod: interrupted; go on with: {command}\n"));
    let mut command = crate::support::daemon::command();
    command.args(go_on(&done.err)).current_dir(daemon.dir());
    command.env("DISPOD_ADMIN_LISTEN", slow.stub.address().to_string());
    let done: Done = command.output().unwrap().into();
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (1, "1 pending again\n", "dispod: 1 not retried\n")
    );
    let (first, then) = ("POST /api/dead/retry?after=0", "POST /api/dead/retry?after=300");
    assert_eq!(slow.asked(), [first, first, then]);
}

#[test]
fn ctrl_c_while_some_are_dropped() {
    let (sandbox, slow) = (sandbox(), Slow::start());
    let daemon = daemon(&sandbox);
    let done = slow.interrupt(&daemon, &["dead", "drop", "7", "5", "6"]);
    assert_eq!((done.code, done.out.as_str()), (1, "1 given up\n"), "{done:?}");
    let command = "dispod dead drop --config dispod.toml 5 6";
    assert_eq!(done.err, format!("dispod: interrupted; go on with: {command}\n"));
    assert_eq!(slow.asked(), ["DELETE /api/dead/7", "DELETE /api/dead/7"]);
}
