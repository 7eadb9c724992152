//! What the other modules share: a raw HTTP client, waiting with a deadline, the daemon as a process.

pub mod daemon;
pub mod http;
pub mod scene;
pub mod shelf;
pub mod stub;
pub mod tools;

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Generous: it is only spent by a test that fails.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; gives whether it came to hold within `timeout`.
#[must_use]
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
