//! What the proofs of the promise share: a sandbox and a daemon for it, events that can be told apart in what the
//! API saw, and the daemon's own account.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use dispod::sandbox::{Behaviour, Contact, Sandbox, SandboxOptions};
use serde_json::Value;

use super::daemon::{Daemon, config_for};
use super::http::Client;
use super::{SOON, wait_until};

/// Codes and what the default mapping makes of them, one of each severity and one that is in no table.
pub const CODES: [(&str, &str); 5] = [
    ("1001", "do_not_call"),
    ("2001", "callback_later"),
    ("3001", "qualified_lead"),
    ("4001", "wrong_number"),
    ("9999", "unclassified"),
];

pub fn sandbox(change: impl FnOnce(&mut SandboxOptions)) -> Sandbox {
    let mut options = SandboxOptions { threads: 128, ..SandboxOptions::default() };
    change(&mut options);
    Sandbox::start(options).unwrap()
}

pub fn behaving(change: impl FnOnce(&mut Behaviour)) -> Sandbox {
    sandbox(|options| change(&mut options.behaviour))
}

pub fn daemon(sandbox: &Sandbox, environment: &[(&str, &str)]) -> Daemon {
    Daemon::start_with(&config_for(sandbox), environment)
}

/// The seed of a random test: that of the environment, to repeat a failure, or a new one; said aloud.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("DISPOD_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: DISPOD_TEST_SEED={seed} repeats this");
    seed
}

/// A call result whose timestamp names it, so that it is found again in the API's audit lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub contact: String,
    pub code: &'static str,
    pub category: String,
    pub name: String,
}

impl Event {
    /// `code` is a place in [`CODES`].
    pub fn new(contact: &str, code: usize, name: &str) -> Self {
        let (code, category) = CODES[code];
        Self { contact: contact.to_owned(), code, category: category.to_owned(), name: name.to_owned() }
    }

    pub fn json(&self) -> String {
        serde_json::json!({
            "contactId": self.contact, "dispositionCode": self.code, "timestamp": self.name,
        })
        .to_string()
    }

    /// What its update writes as `last_audit_log`.
    pub fn line(&self) -> String {
        format!("[{}] Disposition {} mapped to {}", self.name, self.code, self.category)
    }
}

/// One sender's connection.
pub struct Line(Client);

impl Line {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Client::connect(address).map(Self)
    }

    /// Posts an event; the status of the answer.
    pub fn post(&mut self, event: &Event) -> io::Result<u16> {
        let headers = [("Content-Type", "application/json")];
        let answer = self.0.request("POST", "/webhook/call-result", &headers, event.json().as_bytes())?;
        Ok(answer.status)
    }
}

/// After a kill: what the dead process had asked of the API is done, and what the API has not read yet is gone with its
/// connection, so that nothing of it comes later than what the next process asks, which no one could put in order.
pub fn bury_calls(sandbox: &mut Sandbox) {
    assert!(sandbox.wait_until(|stats| stats.in_flight == 0, SOON));
    sandbox.suspend();
    sandbox.resume().unwrap();
}

/// The audit lines of a contact's updates as they were applied. A repeat of an update right behind it is left out:
/// it changes nothing. Any other repeat stays, and is wrong.
pub fn applied(contact: &Contact) -> Vec<String> {
    let mut lines: Vec<String> =
        contact.history.iter().map(|update| update.custom.last_audit_log.clone()).collect();
    lines.dedup();
    lines
}

/// The audit lines of all updates of all contacts in the order they were applied.
pub fn all_applied(sandbox: &Sandbox) -> Vec<String> {
    let updates = sandbox.contacts().into_values().flat_map(|contact| contact.history);
    let in_order: BTreeMap<u64, String> =
        updates.map(|update| (update.number, update.custom.last_audit_log)).collect();
    in_order.into_values().collect()
}

/// `/api/status`.
pub fn status(daemon: &Daemon) -> Value {
    serde_json::from_slice(&daemon.admin("GET", "/api/status").body).unwrap()
}

/// One of the counts of `/api/status`.
pub fn count(daemon: &Daemon, what: &str) -> u64 {
    status(daemon)[what].as_u64().unwrap()
}

/// Calls of the Contact API and its token endpoint since the daemon's start, whatever came of them.
pub fn calls(daemon: &Daemon) -> u64 {
    let status = status(daemon);
    let sum =
        |counts: &Value| -> u64 { counts.as_object().unwrap().values().filter_map(Value::as_u64).sum() };
    sum(&status["api"]) + sum(&status["token"])
}

/// Waits until nothing is pending.
pub fn wait_settled(daemon: &Daemon) {
    // An event is counted as pending right after its answer was sent: a question to the keeper, about a dead letter
    // that there is not, is answered when that is done.
    assert_eq!(daemon.admin("POST", "/api/dead/4000000000/retry").status, 404);
    let settled = wait_until(SOON, || count(daemon, "pending") == 0);
    assert!(settled, "still pending: {}", status(daemon));
}

/// The dead letters, all of them.
pub fn dead(daemon: &Daemon) -> Vec<Value> {
    let mut letters = Vec::new();
    let mut after = "0".to_owned();
    loop {
        let answer = daemon.admin("GET", &format!("/api/dead?after={after}"));
        let page: Value = serde_json::from_slice(&answer.body).unwrap();
        letters.extend(page["dead"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return letters,
        }
    }
}
