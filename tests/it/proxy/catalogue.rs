//! The catalogue of bad requests, through nginx: none of it reaches the daemon as an event, or stays with it.

use std::sync::Mutex;

use super::{Site, tls};
use crate::catalogue::{self, Case, Ending};
use crate::child::memory_kib;
use crate::support::{SOON, wait_until};

/// Clients at once: a case that nginx waits for takes its whole timeout.
const CLIENTS: usize = 32;
const PEAK_MAX_KIB: usize = 64 * 1024;

/// How many requests of the site the daemon has acknowledged.
fn acknowledged(site: &Site) -> usize {
    let metrics = site.daemon.admin("GET", "/metrics").text();
    let line =
        metrics.lines().find_map(|line| line.strip_prefix(r#"dispod_webhook_requests_total{code="200"} "#));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Sends all cases; the names of those answered 200, once for each answer.
fn send(site: &Site, cases: &[Case]) -> Vec<String> {
    let good = Mutex::new(Vec::new());
    catalogue::each(cases, CLIENTS, |case| {
        let count = answers(site, case);
        good.lock().unwrap().extend(std::iter::repeat_n(case.name.clone(), count));
    });
    good.into_inner().unwrap()
}

/// How often a case is answered 200.
fn answers(site: &Site, case: &Case) -> usize {
    if case.end == Ending::Finish {
        let answer = tls::exchange(site.nginx.address, &case.bytes);
        return String::from_utf8_lossy(&answer).matches("HTTP/1.1 200 ").count();
    }
    // Ended without a word when dropped.
    let _ = std::io::Write::write_all(tls::Client::connect(site.nginx.address).input(), &case.bytes);
    0
}

#[test]
fn nothing_of_it_is_an_event_and_nothing_stays() {
    let Some(site) = Site::start(&[("DISPOD_WEBHOOK_IDLE_TIMEOUT", "1s")]) else { return };
    assert_eq!(site.post("before").status, 200);
    let before = site.footprint();
    let (mendable, bad): (Vec<_>, Vec<_>) =
        catalogue::all().into_iter().partition(|case| case.proxy_may_mend);
    assert!(bad.len() > 80, "only {} cases", bad.len());
    let good = send(&site, &bad);
    assert!(good.is_empty(), "answered 200: {good:?}");
    assert_eq!(acknowledged(&site), 1, "something of it arrived");
    // What nginx makes good requests of is acknowledged as often as the client hears of it.
    let good = send(&site, &mendable);
    let health = good.iter().filter(|name| name.contains("questions")).count();
    assert!(good.len() > health + 20, "{good:?}");
    assert_eq!(acknowledged(&site), 1 + good.len(), "{good:?}");
    assert_eq!(site.post("after").status, 200);
    let back = || site.footprint().0 <= before.0 + 2 && site.footprint().1 <= before.1 + 2;
    assert!(wait_until(SOON, back), "{:?}, {before:?} before", site.footprint());
    let peak_kib = memory_kib(site.daemon.pid(), "VmHWM");
    assert!(peak_kib < PEAK_MAX_KIB, "{peak_kib} KiB");
    let metrics = site.daemon.admin("GET", "/metrics").text();
    assert!(metrics.contains("\ndispod_webhook_connections_parked 0\n"), "{metrics}");
}
