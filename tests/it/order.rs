//! Order: two results of one contact, close together, against an API of uneven speed: the later one stays, and of one
//! contact never two updates are in flight; also across a restart in their midst.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use dispod::sandbox::{Reply, Sandbox};

use crate::support::daemon::Daemon;
use crate::support::scene::{Event, Line, applied, behaving, bury_calls, daemon, wait_settled};
use crate::support::stub::{self, Stub};
use crate::support::{SOON, wait_until};

const PAIRS: usize = 500;
const SENDERS: usize = 10;
/// So many that what they report is gathered.
const WORKERS: (&str, &str) = ("DISPOD_DELIVERY_WORKERS", "128");
/// From the first of a pair to the second.
const APART: Duration = Duration::from_millis(5);

fn first(pair: usize) -> Event {
    Event::new(&format!("contact-{pair}"), 0, &format!("{pair}-first"))
}

fn second(pair: usize) -> Event {
    Event::new(&format!("contact-{pair}"), 1, &format!("{pair}-second"))
}

/// An API that commits an update at the end of the 0 to 50 ms it takes.
fn uneven() -> Sandbox {
    behaving(|behaviour| behaviour.latency = Duration::ZERO..=Duration::from_millis(50))
}

/// Posts a share of the pairs, one pair after the other.
fn post(address: SocketAddr, sender: usize) {
    let mut line = Line::open(address).unwrap();
    for pair in (sender..PAIRS).step_by(SENDERS) {
        assert_eq!(line.post(&first(pair)).unwrap(), 200);
        thread::sleep(APART);
        assert_eq!(line.post(&second(pair)).unwrap(), 200);
    }
}

/// A daemon with all pairs, some of them delivered and some of them out, and most still to go.
fn half_way() -> (Sandbox, Daemon) {
    // A small window: most of the pairs are read from the store.
    let (sandbox, daemon) = after_an_outage("256");
    assert!(sandbox.wait_until(|stats| stats.updates > PAIRS as u64 / 4, SOON));
    (sandbox, daemon)
}

/// A daemon that kept all pairs while the API was away.
fn after_an_outage(queue: &str) -> (Sandbox, Daemon) {
    let sandbox = uneven();
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Status(503)).unwrap();
    let daemon = daemon(&sandbox, &[WORKERS, ("DISPOD_DELIVERY_QUEUE", queue)]);
    post_all(&daemon);
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    (sandbox, daemon)
}

fn post_all(daemon: &Daemon) {
    let address = daemon.webhook_addr();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || post(address, sender));
        }
    });
}

/// That every contact had both updates, in order and one at a time; gives how many were repeated.
fn examine(sandbox: &Sandbox) -> u64 {
    let contacts = sandbox.contacts();
    assert_eq!(contacts.len(), PAIRS);
    for pair in 0..PAIRS {
        let contact = &contacts[&first(pair).contact];
        assert_eq!(applied(contact), [first(pair).line(), second(pair).line()], "{}", first(pair).contact);
        assert_eq!(contact.max_in_flight, 1, "{}", first(pair).contact);
    }
    let stats = sandbox.stats();
    assert!(stats.max_in_flight > 8, "an API that is never busy proves nothing: {stats:?}");
    stats.updates - 2 * PAIRS as u64
}

#[test]
fn of_two_results_of_a_contact_the_later_one_stays() {
    let sandbox = uneven();
    let daemon = daemon(&sandbox, &[WORKERS]);
    post_all(&daemon);
    wait_settled(&daemon);
    assert_eq!(examine(&sandbox), 0);
}

#[test]
fn as_many_calls_are_made_at_once_as_there_are_workers() {
    let workers: usize = WORKERS.1.parse().unwrap();
    // Nobody is answered before all are there: none gets done to take what another was released for.
    let (together, answered) = (Barrier::new(workers), Arc::new(AtomicUsize::new(0)));
    let answers = Arc::clone(&answered);
    let tenant = Stub::start(move |asked| {
        if asked.target == "/oauth/token" {
            return stub::answer(200, r#"{"access_token":"token","expires_in":3600}"#);
        }
        together.wait();
        answers.fetch_add(1, SeqCst);
        stub::answer(200, "{}")
    });
    let (base, token) = (tenant.url("/api/v2"), tenant.url("/oauth/token"));
    let environment = [
        WORKERS,
        ("DISPOD_CXONE_BASE_URL", base.as_str()),
        ("DISPOD_CXONE_TOKEN_URL", token.as_str()),
        // A call that is given up would make room for another.
        ("DISPOD_CXONE_TIMEOUT", "5m"),
    ];
    let daemon = daemon(&behaving(|_| {}), &environment);
    let mut line = Line::open(daemon.webhook_addr()).unwrap();
    for round in 1..=2 {
        for number in 0..workers {
            let event = Event::new(&format!("contact-{number}"), 0, &format!("{number}-{round}"));
            assert_eq!(line.post(&event).unwrap(), 200);
        }
        assert!(wait_until(SOON, || answered.load(SeqCst) == round * workers), "{answered:?}");
    }
}

#[test]
fn more_workers_than_the_queue_has_room_for_hold_up_nothing() {
    let (sandbox, mut daemon) = after_an_outage("16");
    wait_settled(&daemon);
    assert_eq!(examine(&sandbox), 0);
    assert!(daemon.sigterm().success());
}

#[test]
fn the_order_outlives_a_restart() {
    let (sandbox, mut daemon) = half_way();
    assert!(daemon.sigterm().success());
    let left = 2 * PAIRS as u64 - sandbox.stats().updates;
    assert!(left > 0, "nothing was left for the next start");
    daemon.restart();
    wait_settled(&daemon);
    assert_eq!(examine(&sandbox), 0, "what was out at SIGTERM was finished and recorded");
}

#[test]
fn the_order_outlives_a_kill() {
    let (mut sandbox, mut daemon) = half_way();
    daemon.kill9();
    let left = 2 * PAIRS as u64 - sandbox.stats().updates;
    assert!(left > 0, "nothing was left for the next start");
    bury_calls(&mut sandbox);
    daemon.restart();
    wait_settled(&daemon);
    let repeated = examine(&sandbox);
    let workers: u64 = WORKERS.1.parse().unwrap();
    assert!(repeated <= workers, "{repeated} updates repeated by one kill");
}
