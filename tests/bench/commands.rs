//! How long the commands take that an operator waits for, and how much memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Dir, PROGRAM};
use crate::measures::Measures;
use crate::process;

const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Runs a command beside a daemon and notes its time in ms, and the most memory any of them needed.
pub fn measure(measures: &mut Measures, daemon: &Daemon, dir: &Dir, name: &'static str, arguments: &[&str]) {
    let began = Instant::now();
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("DISPOD_CONFIG", "/dev/null")
        .env("DISPOD_STORE_DIR", dir.path())
        .env("DISPOD_ADMIN_LISTEN", daemon.admin.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut peak_mb: f64 = 0.0;
    let status = loop {
        peak_mb = peak_mb.max(process::resident(child.id()).peak);
        match child.try_wait().expect("it can be waited for") {
            Some(status) => break status,
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    assert!(status.success(), "dispod {arguments:?}: {status}");
    measures.add(name, began.elapsed().as_secs_f64() * 1e3);
    measures.add("commands_mb", peak_mb);
}
