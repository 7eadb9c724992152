//! Memory: a backlog costs disk. With hundreds of thousands of pending events the daemon needs no more than with a
//! thousand, and takes call results at once.

use std::time::Instant;

use crate::child::memory_kib;
use crate::support::daemon::{Daemon, config_for};
use crate::support::scene::{Event, calls, count, sandbox};
use crate::support::{SOON, shelf, wait_until};

const FEW: usize = 1_000;
const MANY: usize = 200_000;
/// What the issue allows for a million pending events.
const RESIDENT_MAX_KIB: usize = 32 * 1024;
/// What the number of them may matter.
const DIFFERENCE_MAX_KIB: usize = 8 * 1024;
/// Each of these many contacts has its share of the backlog, so that there are more lanes than the window holds.
const CONTACTS: usize = 50_000;

fn event(number: usize) -> Event {
    let contact = format!("contact-{}-of-a-usual-length", number % CONTACTS);
    Event::new(&contact, number % 5, &format!("2024-05-20T10:00:00.{number:09}Z"))
}

/// The most resident memory that a daemon with so many pending events and no API has needed, in KiB.
fn resident_max_kib(backlog: usize) -> usize {
    let mut sandbox = sandbox(|_| {});
    sandbox.suspend();
    let mut daemon = Daemon::start(&config_for(&sandbox));
    daemon.kill9();
    let began = Instant::now();
    shelf::fill(&daemon.dir().join("data"), 0, (0..backlog).map(event));
    println!("{backlog} events kept in {:?}", began.elapsed());
    let began = Instant::now();
    daemon.restart();
    println!("ready after {:?}", began.elapsed());
    assert_eq!(daemon.post(&event(backlog).json()).0, 200);
    println!("answered 200 after {:?}", began.elapsed());
    // The window is full, and the API has been tried, and tried again.
    daemon.wait_for_log("the Contact API is away");
    let called = calls(&daemon);
    assert!(wait_until(SOON, || calls(&daemon) >= called + 4));
    assert!(wait_until(SOON, || count(&daemon, "pending") == backlog as u64 + 1));
    memory_kib(daemon.pid(), "VmHWM")
}

#[test]
fn what_only_the_start_needed_does_not_stay_resident() {
    let sandbox = sandbox(|_| {});
    let daemon = Daemon::start(&config_for(&sandbox));
    let kib = |name| memory_kib(daemon.pid(), name);
    assert!(
        wait_until(SOON, || kib("VmRSS") < kib("VmHWM") * 3 / 4),
        "{} KiB of {}",
        kib("VmRSS"),
        kib("VmHWM")
    );
    assert_eq!(daemon.post(&event(0).json()).0, 200);
    assert!(wait_until(SOON, || count(&daemon, "delivered") == 1));
}

#[test]
fn a_backlog_costs_disk_and_no_memory() {
    let (few_kib, many_kib) = (resident_max_kib(FEW), resident_max_kib(MANY));
    println!("{few_kib} KiB with {FEW} pending events, {many_kib} KiB with {MANY}");
    assert!(many_kib <= RESIDENT_MAX_KIB, "{many_kib} KiB");
    assert!(many_kib <= few_kib + DIFFERENCE_MAX_KIB, "{few_kib} KiB with {FEW}, {many_kib} KiB with {MANY}");
}
