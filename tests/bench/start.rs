//! From the execution of the program to its first 200.

use std::time::Duration;

use crate::daemon::{Daemon, Dir, Setup, WEBHOOK_PATH, ask};
use crate::load;
use crate::measures::Measures;

/// With an empty store, several times: it is short.
pub fn empty(measures: &mut Measures) {
    for _ in 0..3 {
        let dir = Dir::new();
        let daemon = Setup::new(&dir).exec();
        measures.add("start_empty_ms", first_200_ms(&daemon));
    }
}

/// Posts until an event is kept.
pub fn first_200_ms(daemon: &Daemon) -> f64 {
    let body = load::event(fastrand::u64(0..1 << 40));
    loop {
        if ask(daemon.webhook, "POST", WEBHOOK_PATH, &body).is_some_and(|(status, _)| status == 200) {
            return daemon.began.elapsed().as_secs_f64() * 1e3;
        }
        assert!(daemon.began.elapsed() < Duration::from_secs(60), "the daemon does not start");
        std::thread::sleep(Duration::from_micros(200));
    }
}
