//! What systemd is told: ready, stopping, alive (`sd_notify(3)`). All of it is silent outside systemd.

use std::time::Duration;

use sd_notify::NotifyState;

/// Start-up is over; `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon is on its way out.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// The daemon works; to be sent only after a probe through intake and store succeeded.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// How often [`alive`] has to be sent: half of what systemd waits for; `None` when it does not watch us.
#[must_use]
pub fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 2)
}

fn send(states: &[NotifyState<'_>]) {
    // Without systemd there is no socket to write to, and nobody to tell.
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("systemd was not told: {error}");
    }
}
