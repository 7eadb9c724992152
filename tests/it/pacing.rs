//! Pacing: a limit that nobody announced is found and kept, and nobody calls before a 429 said he may.

use std::time::{Duration, Instant};

use dispod::sandbox::{LimitStyle, RateLimit, Reply, RetryAfter, Sandbox, Stats};

use crate::support::SOON;
use crate::support::scene::{CODES, Event, Line, applied, behaving, count, daemon, wait_settled};

/// What every 429 asks for.
const RETRY_AFTER_S: u32 = 1;

/// An API that takes so many updates a second, and half as many at once after a pause.
fn limited(per_s: u32, retry_after: RetryAfter) -> Sandbox {
    let style = LimitStyle::TokenBucket { burst: per_s / 2 };
    let limit = RateLimit { retry_after, style, ..RateLimit::per_second(per_s) };
    behaving(|behaviour| behaviour.rate_limit = Some(limit))
}

/// Delivers events, each for another contact, that are all waiting when the daemon starts; what the API saw of it.
fn burst(mut sandbox: Sandbox, events: usize, workers: &str) -> Stats {
    sandbox.suspend();
    let mut daemon = daemon(&sandbox, &[("DISPOD_DELIVERY_WORKERS", workers)]);
    let event = |number: usize| {
        Event::new(&format!("contact-{number}"), number % CODES.len(), &format!("event-{number}"))
    };
    let mut line = Line::open(daemon.webhook_addr()).unwrap();
    for number in 0..events {
        assert_eq!(line.post(&event(number)).unwrap(), 200);
    }
    assert!(daemon.sigterm().success());
    sandbox.resume().unwrap();
    daemon.restart();
    wait_settled(&daemon);
    let contacts = sandbox.contacts();
    for number in 0..events {
        assert_eq!(applied(&contacts[&format!("contact-{number}")]), [event(number).line()]);
    }
    let stats = sandbox.stats();
    assert_eq!(stats.updates, events as u64, "{stats:?}");
    assert_eq!(count(&daemon, "dead"), 0);
    stats
}

fn refused(stats: &Stats) -> u64 {
    stats.answers.get(&429).copied().unwrap_or(0)
}

#[test]
fn a_burst_is_delivered_with_few_refusals_by_a_limit_that_is_not_announced() {
    const EVENTS: usize = 600;
    const WORKERS: u64 = 16;
    let sandbox = limited(100, RetryAfter::Seconds(RETRY_AFTER_S));
    let stats = burst(sandbox, EVENTS, &WORKERS.to_string());
    println!("{stats:?}");
    let refused = refused(&stats);
    assert!(refused > 0, "the limit was never met");
    // The first refusal is met by all that was out when it came; this small burst does not make up for that.
    let at_most = stats.calls * 3 / 100 + WORKERS;
    assert!(refused <= at_most, "{refused} of {} calls refused, {at_most} allowed", stats.calls);
    // What was on its way when the API began to refuse is there soon, if not at once on a busy machine.
    let on_their_way = Duration::from_secs(RETRY_AFTER_S.into()).as_millis() / 2;
    assert!(u128::from(stats.early_after_ms_max) < on_their_way, "{stats:?}");
    assert!(stats.early_calls <= WORKERS * refused, "{stats:?}");
}

/// One worker has nothing else on its way when its call is refused, so not one call may come early.
#[test]
fn no_call_comes_before_its_time() {
    const EVENTS: usize = 60;
    // Fewer than one worker delivers even on a busy machine.
    const LIMIT_PER_S: u32 = 20;
    for retry_after in [RetryAfter::Seconds(RETRY_AFTER_S), RetryAfter::Date(RETRY_AFTER_S)] {
        let stats = burst(limited(LIMIT_PER_S, retry_after), EVENTS, "1");
        println!("{retry_after:?}: {stats:?}");
        assert!(refused(&stats) > 0, "the limit was never met");
        assert_eq!(stats.early_calls, 0, "{stats:?}");
    }
}

/// Without a word from the API the daemon keeps away by itself, and longer each time; when the API takes updates
/// again, it is not met as slowly as it was asked.
#[test]
fn an_api_that_refuses_everything_is_probed_and_then_served_at_once() {
    const EVENTS: u32 = 200;
    let sandbox = behaving(|behaviour| behaviour.outage = Reply::Status(429));
    let daemon = daemon(&sandbox, &[("DISPOD_DELIVERY_WORKERS", "1")]);
    let began = Instant::now();
    let mut line = Line::open(daemon.webhook_addr()).unwrap();
    for number in 0..EVENTS {
        let name = format!("event-{number}");
        assert_eq!(line.post(&Event::new(&name, 0, &name)).unwrap(), 200);
    }
    assert!(sandbox.wait_until(|stats| stats.calls >= 15, SOON));
    // Five waits while they double from 20 ms, then half a second or by jitter half of that.
    let at_most = 1 + 5 + began.elapsed().as_millis() / 250 + 1;
    assert!(at_most >= 15, "15 calls where {at_most} are allowed");
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    wait_settled(&daemon);
    assert_eq!(sandbox.stats().updates, u64::from(EVENTS));
}
