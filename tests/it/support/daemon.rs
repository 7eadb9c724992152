//! The real daemon as a child process, in a directory of its own.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use dispod::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};

use super::http::{self, Response};
use super::{SOON, wait_until};

/// What the daemon logs once it takes call results; `http://ADDRESS/PATH` follows.
const WEBHOOK_READY: &str = "webhook listening on http://";
/// What it logs once its admin listener is there; `http://ADDRESS` follows.
const ADMIN_READY: &str = "admin listening on http://";
/// Where call results are posted unless a test configures another path.
const WEBHOOK_PATH: &str = "/webhook/call-result";
/// Most log lines kept of one daemon; later ones are dropped.
const LOG_LINES_MAX: usize = 200_000;
/// Log lines shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// A configuration for this sandbox: free ports, quick retries, the store below the daemon's own directory.
/// A test sets further keys by the environment, see [`Daemon::start_with`].
pub fn config_for(sandbox: &Sandbox) -> String {
    format!(
        r#"
[webhook]
listen = "127.0.0.1:0"

[cxone]
environment = "sandbox.invalid"
base_url = "{}"
token_url = "{}"
client_id = "sandbox"
client_secret = "sandbox-secret"

[delivery]
backoff_base = "20ms"
backoff_max = "500ms"

[store]
dir = "data"

[admin]
listen = "127.0.0.1:0"
"#,
        sandbox.base_url(),
        sandbox.token_url()
    )
}

/// The program, with nothing of the test's own environment that would configure it.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispod"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("DISPOD_") || matches!(&*text, "RUST_LOG" | "STATE_DIRECTORY" | "NOTIFY_SOCKET") {
            command.env_remove(&name);
        }
    }
    command
}

/// A directory that is removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!("dispod-test-{}-{}", std::process::id(), SERIAL.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a fresh directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running `dispod serve`, killed on drop.
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
    environment: Vec<(String, String)>,
    dir: TempDir,
}

impl Daemon {
    /// Starts the daemon and waits until it takes call results.
    pub fn start(config_toml: &str) -> Self {
        Self::start_with(config_toml, &[])
    }

    /// The same with further environment variables, which win over the file.
    pub fn start_with(config_toml: &str, environment: &[(&str, &str)]) -> Self {
        let dir = TempDir::new();
        fs::write(dir.path().join("dispod.toml"), config_toml).expect("the configuration");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (child, log) = spawn(&dir, &environment);
        let daemon = Self { child, log, environment, dir };
        daemon.wait_ready();
        daemon
    }

    /// Starts it again, with the same configuration and store, on new ports; kills it first if it still runs.
    /// The log begins anew.
    pub fn restart(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// The same without waiting for anything.
    pub fn spawn(&mut self) {
        self.kill9();
        (self.child, self.log) = spawn(&self.dir, &self.environment);
    }

    /// Where call results go.
    pub fn webhook_addr(&self) -> SocketAddr {
        self.address(WEBHOOK_READY)
    }

    /// Where the operator looks.
    pub fn admin_addr(&self) -> SocketAddr {
        self.address(ADMIN_READY)
    }

    /// Its directory, with `dispod.toml` and `data`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Posts a call result; the status and body of the answer.
    pub fn post(&self, json: &str) -> (u16, String) {
        let answer = self.try_post(json).expect("an answer");
        (answer.status, answer.text())
    }

    /// The same for a daemon that may be gone.
    pub fn try_post(&self, json: &str) -> io::Result<Response> {
        let headers = [("Content-Type", "application/json"), ("Connection", "close")];
        http::request(self.webhook_addr(), "POST", WEBHOOK_PATH, &headers, json.as_bytes())
    }

    /// Asks the admin listener, with the header that state-changing calls need.
    pub fn admin(&self, method: &str, target: &str) -> Response {
        let headers = [("X-Dispod", "1"), ("Connection", "close")];
        http::request(self.admin_addr(), method, target, &headers, b"").expect("an answer")
    }

    /// SIGKILL, and waits until it is dead.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; how it exited.
    pub fn sigterm(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(SOON).expect("it exits after SIGTERM")
    }

    /// SIGHUP: reload.
    pub fn sighup(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends a signal to this one process.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// How it exited, if it does within `timeout`.
    pub fn wait_exit(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let mut status = None;
        let _ = wait_until(timeout, || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        status
    }

    /// Whether a line logged since the latest start holds `text`.
    pub fn log_contains(&self, text: &str) -> bool {
        self.log.lines().lines.iter().any(|line| line.contains(text))
    }

    /// How many lines logged since the latest start hold `text`.
    pub fn log_count(&self, text: &str) -> usize {
        self.log.lines().lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line that holds `text`; gives that line.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.log.wait_for(text).unwrap_or_else(|| panic!("no `{text}` in the log:\n{}", self.log.tail()))
    }

    fn wait_ready(&self) {
        self.wait_for_log("webhook listening on ");
    }

    fn address(&self, before: &str) -> SocketAddr {
        let line = self.wait_for_log(before);
        let after = line.split_once(before).map_or("", |(_, after)| after);
        let end = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
        after[..end].parse().unwrap_or_else(|_| panic!("an address in `{line}`"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            eprintln!("the daemon's log ends:\n{}", self.log.tail());
        }
    }
}

fn spawn(dir: &TempDir, environment: &[(String, String)]) -> (Child, Arc<Log>) {
    let mut child = command()
        .args(["serve", "--config", "dispod.toml"])
        .current_dir(dir.path())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let log = Arc::new(Log::default());
    let stderr = child.stderr.take().expect("a pipe");
    let reader = Arc::clone(&log);
    thread::spawn(move || reader.read(stderr));
    (child, log)
}

/// What one process said on standard error.
#[derive(Default)]
struct Log {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no panic while it is held")
    }

    fn read(&self, stderr: ChildStderr) {
        // Not `lines()`: a line that is not UTF-8 must not end the reading, and with it the daemon's writing.
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let mut said = self.lines();
            if said.lines.len() < LOG_LINES_MAX {
                said.lines.push(String::from_utf8_lossy(&line).into_owned());
                self.more.notify_all();
            }
        }
        self.lines().ended = true;
        self.more.notify_all();
    }

    /// The first line that holds `text`; `None` if the process ends or [`SOON`] passes without one.
    fn wait_for(&self, text: &str) -> Option<String> {
        let mut seen = 0;
        let mut found = None;
        let waited = self.more.wait_timeout_while(self.lines(), SOON, |said| {
            found = said.lines[seen..].iter().find(|line| line.contains(text)).cloned();
            seen = said.lines.len();
            found.is_none() && !said.ended
        });
        drop(waited);
        found
    }

    fn tail(&self) -> String {
        let said = self.lines();
        said.lines[said.lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}
