//! The operator's commands, as a script runs them: the real program against the real daemon, running and stopped.

mod dead;
mod interrupted;
mod send;
mod status;

use std::path::PathBuf;
use std::process::{Command, Output};

use dispod::sandbox::{Reply, Sandbox, SandboxOptions};

use crate::support::daemon::{Daemon, command, config_for};
use crate::support::{SOON, wait_until};

fn sandbox() -> Sandbox {
    Sandbox::start(SandboxOptions { seed: Some(7), ..SandboxOptions::default() }).expect("a sandbox")
}

fn daemon(sandbox: &Sandbox) -> Daemon {
    let daemon = Daemon::start(&config_for(sandbox));
    // A test may end it at once, and ask for the address afterwards.
    daemon.admin_addr();
    daemon
}

/// What a command did.
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it exited by itself"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Done {
    /// Its one line of JSON.
    fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.matches('\n').count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit status {}\n{}\n{}", self.code, self.out, self.err)
    }
}

/// The program with the daemon's configuration, in its directory. The ports are those it had last.
fn on(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = command();
    command
        .args(args)
        .args(["--config", "dispod.toml"])
        .current_dir(daemon.dir())
        .env("DISPOD_ADMIN_LISTEN", daemon.admin_addr().to_string())
        .env("DISPOD_WEBHOOK_LISTEN", daemon.webhook_addr().to_string());
    command
}

fn run(daemon: &Daemon, args: &[&str]) -> Done {
    on(daemon, args).output().expect("it starts").into()
}

/// A file in the daemon's directory.
fn file(daemon: &Daemon, name: &str, text: &str) -> PathBuf {
    let path = daemon.dir().join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

/// A line of JSON Lines.
fn record(contact: &str, code: &str) -> String {
    format!("{{\"contactId\":\"{contact}\",\"dispositionCode\":\"{code}\"}}\n")
}

/// Has these contacts' next events rejected, and posts one for each; gives the ids of the dead letters.
fn kill(sandbox: &Sandbox, daemon: &Daemon, contacts: &[&str]) -> Vec<String> {
    for contact in contacts {
        sandbox.script(contact, &[Reply::Status(422)]).expect("a script");
        let body = format!(r#"{{"contactId":"{contact}","dispositionCode":"1001"}}"#);
        assert_eq!(daemon.post(&body).0, 200);
    }
    let dead = || dead_ids(daemon);
    assert!(wait_until(SOON, || dead().len() == contacts.len()), "{:?}", dead());
    dead()
}

fn dead_ids(daemon: &Daemon) -> Vec<String> {
    let page: serde_json::Value = serde_json::from_slice(&daemon.admin("GET", "/api/dead").body).unwrap();
    page["dead"].as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
}

fn delivered(sandbox: &Sandbox, contact: &str) -> bool {
    sandbox.contact(contact).is_some_and(|contact| contact.updates > 0)
}
