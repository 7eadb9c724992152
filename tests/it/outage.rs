//! Outages of every kind: call results go on being answered 200, the API is probed and not hammered, and afterwards
//! every contact has its updates, once and in order.

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use dispod::sandbox::{Faults, Reply, Sandbox};

use crate::support::SOON;
use crate::support::daemon::{Daemon, config_for};
use crate::support::scene::{
    CODES, Event, Line, applied, behaving, calls, count, daemon, sandbox, seed, wait_settled,
};

/// Two for each contact.
const EVENTS: usize = 200;
/// How long an outage lasts at least after it was noticed.
const OUTAGE: Duration = Duration::from_millis(1200);
/// What the daemon logs when it has found the API to be away.
const AWAY: &str = "the Contact API is away";
const WORKERS: u32 = 4;
const ENVIRONMENT: [(&str, &str); 2] =
    [("DISPOD_DELIVERY_WORKERS", "4"), ("DISPOD_DELIVERY_BACKOFF_BASE", "100ms")];
/// Where the API hangs: short, but longer than a busy machine needs for an answer.
const TIMEOUTS: [(&str, &str); 2] = [("DISPOD_CXONE_TIMEOUT", "1s"), ("DISPOD_CXONE_TOKEN_TIMEOUT", "1s")];

fn event(number: usize) -> Event {
    Event::new(&format!("contact-{}", number / 2), number % CODES.len(), &format!("event-{number}"))
}

/// Posts events `from` to `to`, each answered 200.
fn post(daemon: &Daemon, from: usize, to: usize) {
    let mut line = Line::open(daemon.webhook_addr()).unwrap();
    for number in from..to {
        assert_eq!(line.post(&event(number)).unwrap(), 200, "event {number}");
    }
}

/// The most calls a start into an outage may make in this time, by src/dispatch/breaker.rs and [`ENVIRONMENT`].
///
/// Until calls for 8 contacts have failed, every worker may be out, and a contact that failed may come again by its
/// own backoff: half as many again. From then on there is one call at a time, after a wait that doubles from 100 ms
/// to 500 ms and is at least half of that by its jitter: four while it doubles, then at most one in 250 ms. The last
/// is the one under way.
fn calls_max(outage: Duration) -> u64 {
    u64::from(8 + 4 + WORKERS) + 4 + u64::try_from(outage.as_millis() / 250).unwrap() + 1
}

/// Posts everything into an outage that the daemon is in, starts it again, and sees what it does with a backlog.
fn sit_out(daemon: &mut Daemon, name: &str) {
    post(daemon, 0, EVENTS);
    daemon.wait_for_log(AWAY);
    daemon.sigterm();
    let began = Instant::now();
    daemon.restart();
    daemon.wait_for_log(AWAY);
    thread::sleep(OUTAGE);
    let (called, lasted) = (calls(daemon), began.elapsed());
    println!("{name}: {called} calls in {lasted:?}, {} allowed", calls_max(lasted));
    assert!(called > 2, "{name}: {called} calls are no probes");
    assert!(called <= calls_max(lasted), "{name}: {called} calls in {lasted:?}");
    assert_eq!(count(daemon, "pending"), EVENTS as u64, "{name}");
}

/// That every contact has its updates in order; gives how many were repeated.
fn examine(sandbox: &Sandbox, name: &str) -> u64 {
    let contacts = sandbox.contacts();
    assert_eq!(contacts.len(), EVENTS / 2, "{name}");
    for number in (0..EVENTS).step_by(2) {
        let (first, second) = (event(number), event(number + 1));
        let contact = &contacts[&first.contact];
        assert_eq!(applied(contact), [first.line(), second.line()], "{name}: {}", first.contact);
        assert_eq!(contact.max_in_flight, 1, "{name}: {}", first.contact);
    }
    let stats = sandbox.stats();
    assert_eq!(stats.violations, 0, "{name}: {stats:?}");
    stats.updates - EVENTS as u64
}

/// An outage that begins before the first event and ends by itself: nothing is lost and nothing done twice.
fn outage(name: &str, begin: impl FnOnce(&mut Sandbox), end: impl FnOnce(&mut Sandbox)) {
    let mut sandbox = sandbox(|_| {});
    begin(&mut sandbox);
    let mut daemon = daemon(&sandbox, &[ENVIRONMENT, TIMEOUTS].concat());
    sit_out(&mut daemon, name);
    assert_eq!(sandbox.stats().updates, 0, "{name} is no outage");
    end(&mut sandbox);
    wait_settled(&daemon);
    assert_eq!(examine(&sandbox, name), 0, "{name}: updates repeated");
}

fn api_answers(name: &str, reply: Reply) {
    let set = |reply| {
        move |sandbox: &mut Sandbox| sandbox.set_behaviour(|behaviour| behaviour.outage = reply).unwrap()
    };
    outage(name, set(reply), set(Reply::Normal));
}

fn token_endpoint_answers(name: &str, reply: Reply) {
    let set = |reply| {
        move |sandbox: &mut Sandbox| {
            sandbox.set_behaviour(|behaviour| behaviour.token_outage = reply).unwrap();
        }
    };
    outage(name, set(reply), set(Reply::Normal));
}

#[test]
fn the_api_hangs() {
    api_answers("hang", Reply::Hang);
}

#[test]
fn the_api_answers_503() {
    api_answers("503", Reply::Status(503));
}

#[test]
fn the_api_resets_connections() {
    api_answers("reset", Reply::Reset);
}

#[test]
fn the_api_denies_everything() {
    api_answers("403", Reply::Status(403));
}

#[test]
fn connections_are_refused() {
    outage("refused", Sandbox::suspend, |sandbox| sandbox.resume().unwrap());
}

#[test]
fn the_token_endpoint_answers_503() {
    token_endpoint_answers("token 503", Reply::Status(503));
}

#[test]
fn the_token_endpoint_hangs() {
    token_endpoint_answers("token hang", Reply::Hang);
}

#[test]
fn the_token_endpoint_refuses() {
    token_endpoint_answers("token 401", Reply::Status(401));
}

/// An outage by configuration: what was kept meanwhile is delivered after a restart with a right one.
fn wrong_base_url(name: &str, base_url: &str) {
    let sandbox = sandbox(|_| {});
    let right = config_for(&sandbox);
    let wrong = right.replace(&sandbox.base_url(), base_url);
    assert_ne!(wrong, right);
    let mut daemon = Daemon::start_with(&wrong, &ENVIRONMENT);
    sit_out(&mut daemon, name);
    std::fs::write(daemon.dir().join("dispod.toml"), right).unwrap();
    daemon.restart();
    wait_settled(&daemon);
    assert_eq!(examine(&sandbox, name), 0, "{name}: updates repeated");
}

#[test]
fn what_listens_there_does_not_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    wrong_base_url("TLS", &format!("https://{address}/api/v2"));
}

#[test]
fn the_name_is_not_known() {
    wrong_base_url("DNS", "https://nowhere.invalid/api/v2");
}

#[test]
fn tokens_are_revoked_in_mid_run() {
    const REVOCATIONS: u64 = 3;
    let slow = Duration::from_millis(10);
    let sandbox = behaving(|behaviour| behaviour.latency = slow..=slow);
    let daemon = daemon(&sandbox, &ENVIRONMENT);
    thread::scope(|scope| {
        scope.spawn(|| post(&daemon, 0, EVENTS));
        for revocation in 1..=REVOCATIONS {
            let then = revocation * EVENTS as u64 / (REVOCATIONS + 1);
            assert!(sandbox.wait_until(|stats| stats.updates >= then, SOON));
            sandbox.revoke();
        }
    });
    wait_settled(&daemon);
    assert_eq!(examine(&sandbox, "revoked"), 0);
    let stats = sandbox.stats();
    assert_eq!((stats.tokens_issued, stats.token_requests), (REVOCATIONS + 1, REVOCATIONS + 1), "{stats:?}");
    let refused = stats.answers.get(&401).copied().unwrap_or(0);
    assert!(refused >= REVOCATIONS, "{refused} calls met a revoked token");
    assert!(refused <= REVOCATIONS * u64::from(WORKERS), "{refused} calls went on with a revoked token");
}

#[test]
fn one_call_in_fifty_fails_in_each_way() {
    let faults = Faults { hang: 0.02, cut: 0.02, reset: 0.02, error: 0.02, throttle: 0.02 };
    let sandbox = sandbox(|options| {
        options.seed = Some(seed("outage"));
        options.behaviour.error_rate = 0.02;
        options.behaviour.faults = faults;
    });
    let daemon = daemon(&sandbox, &[ENVIRONMENT, TIMEOUTS].concat());
    post(&daemon, 0, EVENTS);
    wait_settled(&daemon);
    let repeated = examine(&sandbox, "random");
    let stats = sandbox.stats();
    println!("{stats:?}");
    assert!(stats.calls > EVENTS as u64, "nothing failed");
    // Only an update whose answer was cut is done twice, and every failed call is made again once.
    assert!(repeated <= stats.unanswered, "{stats:?}");
    let failed: u64 =
        stats.answers.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    assert!(stats.calls <= EVENTS as u64 + failed + stats.unanswered, "{stats:?}");
}
