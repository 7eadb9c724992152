//! Every write and every sync of a scripted run fails once: whatever was answered 200 is recovered, as it was sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use dispod::config::StoreConfig;
use dispod::disposition::Mapping;
use dispod::sandbox::{Reply, Sandbox, SandboxOptions};
use dispod::store::{CORRUPT, Filter, History, State, Store};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{TempDir, command, config_for};
use crate::support::http::Client;
use crate::support::{SOON, tools, wait_until};

/// Events posted by the script; every fourth is of the contact before it.
const EVENTS: usize = 12;
/// Runs at once: they mostly wait for the disk.
const AT_ONCE: usize = 4;
/// More calls than this the script cannot need.
const CALLS_MAX: u64 = 5000;

/// How the disk fails.
#[derive(Debug, Clone, Copy)]
struct Fault {
    /// Part of the path of the files meant.
    path: &'static str,
    /// Which call, from 1; 0: none.
    at: u64,
    /// Whether the later ones fail too.
    on: bool,
    errno: Errno,
    /// Whether only writes fail, no syncs.
    writes: bool,
}

impl Fault {
    const NONE: Self = Self { path: "/data/dispod.db", at: 0, on: false, errno: Errno::IO, writes: false };
}

/// The compiled shim, in a directory that lives as long as it.
struct Shim {
    _dir: TempDir,
    library: PathBuf,
}

impl Shim {
    fn compile() -> Option<Self> {
        if !tools::present(&["cc"]) {
            return None;
        }
        let dir = TempDir::new();
        let library = dir.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/shim.c");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("a compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(Self { _dir: dir, library })
    }
}

/// A daemon under the shim; killed on drop.
struct Run {
    dir: TempDir,
    child: Child,
}

impl Run {
    fn start(shim: &Shim, sandbox: &Sandbox, fault: Fault) -> Self {
        let dir = TempDir::new();
        let child = Self::spawn(&dir, shim, sandbox, fault);
        Self { dir, child }
    }

    /// Starts it again on the same store; kills it first if it still runs.
    fn restart(&mut self, shim: &Shim, sandbox: &Sandbox, fault: Fault) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = Self::spawn(&self.dir, shim, sandbox, fault);
    }

    fn spawn(dir: &TempDir, shim: &Shim, sandbox: &Sandbox, fault: Fault) -> Child {
        fs::write(dir.path().join("dispod.toml"), config_for(sandbox)).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        command()
            .args(["serve", "--config", "dispod.toml"])
            .current_dir(dir.path())
            .env("LD_PRELOAD", &shim.library)
            .env("FAULT_PATH", fault.path)
            .env("FAULT_AT", fault.at.to_string())
            .env("FAULT_ON", if fault.on { "1" } else { "0" })
            .env("FAULT_WRITES", if fault.writes { "1" } else { "0" })
            .env("FAULT_ERRNO", fault.errno.raw_os_error().to_string())
            .env("DISPOD_ADMIN_LISTEN", "off")
            .env("DISPOD_DELIVERY_WORKERS", "2")
            .env("DISPOD_DELIVERY_SHUTDOWN_GRACE", "1s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Where it listens, unless it has ended.
    fn address(&mut self) -> Option<std::net::SocketAddr> {
        const READY: &str = "webhook listening on http://";
        let mut found = None;
        let waited = wait_until(SOON, || {
            let ended = self.child.try_wait().unwrap().is_some();
            let log = self.log();
            let rest = log.split_once(READY).and_then(|(_, rest)| rest.split_once('/'));
            found = rest.map(|(address, _)| address.parse().unwrap());
            ended || found.is_some()
        });
        assert!(waited, "neither ready nor ended:\n{}", self.log());
        found
    }

    /// SIGTERM, unless it has ended by itself; its exit status.
    fn end(&mut self) -> i32 {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let mut status = None;
        let ended = wait_until(SOON, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end:\n{}", self.log());
        status.unwrap().code().expect("not by a signal")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Posts the events, the first one twice; what was answered 200, by contact, in order.
fn script(address: std::net::SocketAddr, run: u64) -> BTreeMap<String, Vec<&'static str>> {
    let mut kept: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let Ok(mut client) = Client::connect(address) else { return kept };
    for number in (0..EVENTS).chain([0]) {
        let contact = format!("{run}-{}", number - usize::from(number % 4 == 1));
        let code = ["1001", "2001", "3001"][number % 3];
        let body = format!(
            r#"{{"contactId":"{contact}","dispositionCode":"{code}","timestamp":"2024-05-20T10:00:{number:02}Z"}}"#
        );
        match client.request("POST", "/webhook/call-result", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                let codes = kept.entry(contact).or_default();
                if !codes.contains(&code) {
                    codes.push(code);
                }
            }
            Ok(answer) => {
                assert!(answer.status == 503 && answer.header("Retry-After").is_some(), "{answer:?}");
            }
            Err(_) => break,
        }
    }
    kept
}

/// One run with its fault; whether the fault came to happen.
fn run(shim: &Shim, sandbox: &Sandbox, fault: Fault) -> bool {
    let mut run = Run::start(shim, sandbox, fault);
    let kept = run.address().map(|address| script(address, fault.at)).unwrap_or_default();
    let status = run.end();
    let log = run.log();
    assert!(log.contains("shim: loaded"), "the shim cannot be loaded");
    assert!(!log.contains("panicked"), "{fault:?}:\n{log}");
    let fired = log.contains("shim: ") && log.contains(" fails\n");
    let said = log.contains("can no longer be trusted")
        || log.contains("cannot open the store")
        || log.contains("the store cannot be used");
    assert!(status == 0 || (status == 1 && fired && said), "{fault:?}: exit status {status}:\n{log}");
    if !fired {
        assert_eq!(kept.values().map(Vec::len).sum::<usize>(), EVENTS, "{log}");
    }
    recovered(&run.dir.path().join("data"), sandbox, &kept, &format!("{fault:?}:\n{log}"));
    fired
}

/// Whatever was acknowledged is there as it was sent, and called delivered only if it was.
fn recovered(dir: &Path, sandbox: &Sandbox, kept: &BTreeMap<String, Vec<&'static str>>, what: &str) {
    let store = Store::open(&StoreConfig { dir: dir.to_owned(), ..StoreConfig::default() });
    drop(store.unwrap_or_else(|error| panic!("{error}: {what}")));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mapping = Mapping::default();
    let each = |row: Result<dispod::store::StoredEvent, u64>| {
        let stored = row.unwrap_or_else(|id| panic!("event {id} is {CORRUPT}: {what}"));
        let (contact, code) = (stored.event.call.contact_id(), stored.event.call.disposition_code());
        assert_eq!(stored.event.category, mapping.category(code), "{what}");
        if stored.state == State::Delivered {
            let contact =
                sandbox.contact(contact).unwrap_or_else(|| panic!("{contact} was not updated: {what}"));
            let had = |update: &dispod::sandbox::Update| {
                update.custom.disposition_category == stored.event.category
            };
            assert!(contact.history.iter().any(had), "{what}");
        }
        found.entry(contact.to_owned()).or_default().push(code.to_owned());
        true
    };
    History::open(dir).unwrap().events(&Filter::default(), each).unwrap();
    for (contact, codes) in kept {
        let there = found.get(contact).map_or(&[][..], Vec::as_slice);
        assert!(
            codes.iter().all(|code| there.iter().any(|other| other == code)),
            "{contact} {codes:?} {there:?}: {what}"
        );
    }
}

#[test]
fn a_failing_disk_ends_the_daemon_with_words_and_the_next_start_has_everything() {
    let Some(shim) = Shim::compile() else { return };
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    let mut run = Run::start(&shim, &sandbox, Fault { at: 150, on: true, ..Fault::NONE });
    let mut client = Client::connect(run.address().expect("it starts")).unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        let contact = format!("contact-{}", kept.len());
        let body = format!(r#"{{"contactId":"{contact}","dispositionCode":"1001"}}"#);
        match client.request("POST", "/webhook/call-result", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => kept.push(contact),
            Ok(answer) => break Some(answer),
            Err(_) => break None,
        }
        assert!(kept.len() < 1000, "the disk does not fail");
    };
    // Refused with words, or gone already; never healthy.
    assert!(refused.is_none_or(|answer| answer.status == 503 && answer.header("Retry-After").is_some()));
    let health = client.request("GET", "/healthz", &[], b"");
    assert!(health.is_err() || health.is_ok_and(|answer| answer.status == 503));
    let mut status = None;
    let ended = wait_until(SOON, || {
        status = run.child.try_wait().unwrap();
        status.is_some()
    });
    let log = run.log();
    assert!(ended, "it goes on:\n{log}");
    assert_eq!(status.unwrap().code(), Some(1), "{log}");
    assert!(
        log.contains("the store can no longer be trusted") && log.contains("dispod.db is failing"),
        "{log}"
    );
    assert!(!log.contains("panicked") && log.lines().count() < 100, "{log}");
    assert!(!kept.is_empty());

    run.restart(&shim, &sandbox, Fault::NONE);
    run.address().expect("it starts again");
    let all =
        || kept.iter().all(|contact| sandbox.contact(contact).is_some_and(|contact| contact.updates > 0));
    assert!(wait_until(SOON, all), "{kept:?}\n{}", run.log());
    assert_eq!(run.end(), 0);
}

#[test]
fn a_start_on_a_full_disk_takes_nothing_and_loses_nothing() {
    let Some(shim) = Shim::compile() else { return };
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Status(503)).unwrap();
    let mut run = Run::start(&shim, &sandbox, Fault::NONE);
    let kept = script(run.address().expect("it starts"), 0);
    assert_eq!(kept.values().map(Vec::len).sum::<usize>(), EVENTS);
    // The log cannot grow by a byte.
    let full = Fault { path: "/data/dispod.db-wal", at: 1, on: true, errno: Errno::NOSPC, writes: true };
    run.restart(&shim, &sandbox, full);
    let address = run.address().expect("it starts although the disk is full");
    assert!(script(address, 1).is_empty());
    let health = Client::connect(address).unwrap().request("GET", "/healthz", &[], b"").unwrap();
    assert_eq!(health.status, 503);
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    assert_eq!(run.end(), 0, "{}", run.log());
    let log = run.log();
    assert!(!log.contains("panicked") && log.lines().count() < 100, "{log}");

    run.restart(&shim, &sandbox, Fault::NONE);
    run.address().expect("it starts again");
    let all =
        || kept.keys().all(|contact| sandbox.contact(contact).is_some_and(|contact| contact.updates > 0));
    assert!(wait_until(SOON, all), "{}", run.log());
}

#[test]
fn whichever_write_or_sync_fails_what_was_acknowledged_is_recovered() {
    let Some(shim) = Shim::compile() else { return };
    let sandbox = Sandbox::start(SandboxOptions { threads: 32, ..SandboxOptions::default() }).unwrap();
    let (next, end) = (AtomicU64::new(1), AtomicU64::new(CALLS_MAX));
    let faults = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, SeqCst);
                    if at >= end.load(SeqCst) {
                        return;
                    }
                    // One of the two goes on failing, by turns.
                    let io = Fault { at, on: at % 2 == 0, ..Fault::NONE };
                    let no_space = Fault { at, on: at % 2 == 1, errno: Errno::NOSPC, ..Fault::NONE };
                    for fault in [io, no_space] {
                        if run(&shim, &sandbox, fault) {
                            faults.fetch_add(1, SeqCst);
                        } else {
                            end.fetch_min(at, SeqCst);
                        }
                    }
                }
            });
        }
    });
    let faults = faults.load(SeqCst);
    println!("{faults} writes and syncs failed, one a run");
    assert!(faults > 100 && end.load(SeqCst) < CALLS_MAX, "{faults} faults");
}
