//! What systemd is told: ready only when call results are taken, alive only while they can be, stopping.

use std::os::unix::net::UnixDatagram;

use dispod::sandbox::{Sandbox, SandboxOptions};

use crate::support::SOON;
use crate::support::daemon::{Daemon, TempDir, config_for};

/// The next message that holds `what`.
fn wait_for(socket: &UnixDatagram, what: &str) -> String {
    let mut buffer = [0; 1024];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {what}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|line| line == what) {
            return message;
        }
    }
}

#[test]
fn systemd_hears_when_it_is_ready_that_it_lives_and_that_it_stops() {
    let dir = TempDir::new();
    let path = dir.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut daemon = Daemon::start_with(&config_for(&sandbox), &environment);
    let ready = wait_for(&socket, "READY=1");
    assert!(ready.contains("STATUS="), "{ready}");
    // Fed again and again, each time after a probe through the listener and the keeper.
    for _ in 0..3 {
        wait_for(&socket, "WATCHDOG=1");
    }
    assert!(daemon.sigterm().success());
    wait_for(&socket, "STOPPING=1");
}
