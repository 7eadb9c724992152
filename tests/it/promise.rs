//! The promise of contract section 1, held by the real binary against the sandbox: what a 200 means, whom the API
//! sees and how often, what signals do, how it exits.

mod answers;
mod blame;
mod kept;
mod process;
mod reload;
mod secrets;
mod tenant;

use dispod::sandbox::Sandbox;

use crate::support::daemon::{Daemon, config_for};
use crate::support::scene::{behaving, daemon, sandbox};
use crate::support::{SOON, wait_until};

fn event(contact: &str, code: &str) -> String {
    serde_json::json!({ "contactId": contact, "dispositionCode": code }).to_string()
}

/// Posts an event that must be kept.
fn keep(daemon: &Daemon, contact: &str, code: &str) {
    assert_eq!(daemon.post(&event(contact, code)), (200, "Received".to_owned()), "{contact}");
}

fn category(sandbox: &Sandbox, contact: &str) -> Option<String> {
    Some(sandbox.contact(contact)?.custom?.disposition_category)
}

/// Waits until the sandbox has committed so many updates.
fn wait_updates(sandbox: &Sandbox, updates: u64) {
    let came = sandbox.wait_until(|stats| stats.updates >= updates, SOON);
    assert!(came, "{updates} updates wanted: {:?}", sandbox.stats());
}
