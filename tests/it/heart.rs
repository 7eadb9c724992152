//! The engine alone, in this process, against the sandbox: keeping, order, priority, pacing, retries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispod::config::{Config, CxoneConfig, Secret};
use dispod::engine::Engine;
use dispod::event::CallResult;
use dispod::health::Health;
use dispod::keep::{DedupeKey, Receipt, Submission};
use dispod::metrics::Metrics;
use dispod::sandbox::{Behaviour, LimitStyle, RateLimit, Reply, RetryAfter, Sandbox, SandboxOptions};

use crate::support::daemon::TempDir;
use crate::support::{SOON, wait_until};

/// The engine on a store and a sandbox of its own.
struct Heart {
    engine: Engine,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    config: Config,
}

impl Heart {
    fn start(sandbox: &Sandbox, dir: &TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut cxone =
            CxoneConfig::new("sandbox.invalid", Secret::new("sandbox"), Secret::new("sandbox-secret"));
        cxone.base_url = sandbox.base_url();
        cxone.token_url = sandbox.token_url();
        let mut config = Config { cxone, ..Config::default() };
        config.store.dir = dir.path().to_owned();
        config.delivery.backoff_base = Duration::from_millis(20);
        config.delivery.backoff_max = Duration::from_millis(500);
        change(&mut config);
        Self::resume(config)
    }

    fn resume(config: Config) -> Self {
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
        let store = dispod::store::Store::open(&config.store).unwrap();
        let failed: dispod::rooms::Failed = Arc::new(|why: String| eprintln!("the engine ended: {why}"));
        let engine = Engine::start(&config, store, &health, &metrics, &failed).unwrap();
        Self { engine, metrics, health, config }
    }

    /// Submits an event; gives where its receipt will come.
    fn submit(
        &self,
        contact: &str,
        code: &str,
        timestamp: Option<&str>,
    ) -> crossbeam_channel::Receiver<Receipt> {
        let call = CallResult::new(contact, code, None, timestamp).unwrap();
        let (send, receive) = crossbeam_channel::bounded(1);
        let submission = Submission {
            key: DedupeKey::from_content(&call),
            call,
            received_ms: dispod::clock::now_ms(),
            reply: Box::new(move |receipt| send.send(receipt).unwrap()),
        };
        self.engine.submissions().send(submission).unwrap();
        receive
    }

    fn keep(&self, contact: &str, code: &str) -> u64 {
        match self.submit(contact, code, None).recv_timeout(SOON) {
            Ok(Receipt::Kept(id)) => id,
            other => panic!("not kept: {other:?}"),
        }
    }

    fn wait_settled(&self, timeout: Duration) {
        let settled = wait_until(timeout, || self.metrics.events_pending.get() == 0);
        assert!(settled, "{} events still pending", self.metrics.events_pending.get());
    }

    fn stop(self) -> Config {
        self.engine.wind_down();
        self.engine.stop();
        self.config
    }
}

fn category(contact: &dispod::sandbox::Contact) -> &str {
    contact.custom.as_ref().map_or("", |custom| &custom.disposition_category)
}

fn sandbox(change: impl FnOnce(&mut Behaviour)) -> Sandbox {
    let mut behaviour = Behaviour::default();
    change(&mut behaviour);
    Sandbox::start(SandboxOptions { behaviour, threads: 128, ..SandboxOptions::default() }).unwrap()
}

#[test]
fn a_thousand_events_are_delivered_once_each_over_at_most_one_connection_per_worker() {
    let (sandbox, dir) = (sandbox(|_| {}), TempDir::new());
    let heart = Heart::start(&sandbox, &dir, |_| {});
    for number in 0..1000 {
        heart.keep(&format!("contact-{number}"), "1001");
    }
    heart.wait_settled(SOON);
    let stats = sandbox.stats();
    assert_eq!((stats.updates, stats.violations), (1000, 0), "{stats:?}");
    assert!(stats.connections <= 16, "{stats:?}");
    assert_eq!(stats.tokens_issued, 1);
    heart.stop();
}

#[test]
fn of_one_contact_updates_are_applied_in_order_and_one_at_a_time() {
    const PAIRS: u32 = 500;
    let slow = Duration::ZERO..=Duration::from_millis(50);
    let (sandbox, dir) = (sandbox(|behaviour| behaviour.latency = slow), TempDir::new());
    let heart = Heart::start(&sandbox, &dir, |config| config.delivery.workers = 64);
    let mut receipts = Vec::new();
    for pair in 0..PAIRS {
        let contact = format!("contact-{pair}");
        receipts.push(heart.submit(&contact, "1001", None));
        receipts.push(heart.submit(&contact, "2001", None));
    }
    for receipt in receipts {
        assert!(matches!(receipt.recv_timeout(SOON), Ok(Receipt::Kept(_))));
    }
    heart.wait_settled(SOON);
    for (id, contact) in sandbox.contacts() {
        assert_eq!(category(&contact), "callback_later", "{id} is stale");
        assert_eq!((contact.updates, contact.max_in_flight), (2, 1), "{id}");
    }
    heart.stop();
}

#[test]
fn an_unannounced_rate_limit_is_found_and_kept() {
    const EVENTS: u32 = 1000;
    let limit = RateLimit {
        retry_after: RetryAfter::Seconds(1),
        style: LimitStyle::TokenBucket { burst: 200 },
        ..RateLimit::per_second(200)
    };
    let (sandbox, dir) = (sandbox(|behaviour| behaviour.rate_limit = Some(limit)), TempDir::new());
    let heart = Heart::start(&sandbox, &dir, |_| {});
    let started = Instant::now();
    for number in 0..EVENTS {
        heart.keep(&format!("contact-{number}"), "2001");
    }
    heart.wait_settled(SOON);
    let stats = sandbox.stats();
    println!("{:?} {stats:?}", started.elapsed());
    assert_eq!(stats.updates, u64::from(EVENTS));
    // Each pause can be met by what was out when it began, and by nothing else.
    let refused = stats.answers.get(&429).copied().unwrap_or(0);
    assert!(refused <= u64::from(EVENTS) * 6 / 100, "{refused} of {EVENTS} refused");
    heart.stop();
}

#[test]
fn critical_events_of_other_contacts_go_first_also_from_the_disk() {
    let (sandbox, dir) = (sandbox(|behaviour| behaviour.outage = Reply::Status(503)), TempDir::new());
    // A window of four: nearly everything is on the disk only.
    let heart = Heart::start(&sandbox, &dir, |config| {
        config.delivery.queue = 4;
        config.delivery.workers = 1;
    });
    for number in 0..200 {
        heart.keep(&format!("rest-{number}"), "2001");
    }
    // The critical event of rest-150 waits behind another of the same contact, which it takes along.
    heart.keep("rest-150", "1001");
    for number in 0..20 {
        heart.keep(&format!("critical-{number}"), "1001");
    }
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    heart.wait_settled(SOON);
    let mut order: HashMap<u64, String> = HashMap::new();
    for (id, contact) in sandbox.contacts() {
        order.extend(contact.history.iter().map(|update| (update.number, id.clone())));
    }
    let mut numbers: Vec<_> = order.keys().copied().collect();
    numbers.sort_unstable();
    let place = |wanted: &str| numbers.iter().position(|number| order[number] == wanted).unwrap();
    let last_critical = (0..20).map(|number| place(&format!("critical-{number}"))).max().unwrap();
    // One may have been out already when the critical ones came.
    assert!(last_critical <= 24, "the last critical event was delivered as number {last_critical}");
    assert!(place("rest-150") <= 24, "{}", place("rest-150"));
    let contact = sandbox.contact("rest-150").unwrap();
    assert_eq!(category(&contact), "do_not_call");
    assert_eq!(contact.updates, 2);
    heart.stop();
}

#[test]
fn an_outage_is_probed_and_nothing_is_lost() {
    let (sandbox, dir) = (sandbox(|behaviour| behaviour.outage = Reply::Status(503)), TempDir::new());
    let heart = Heart::start(&sandbox, &dir, |config| config.delivery.backoff_max = Duration::from_secs(2));
    for number in 0..500 {
        heart.keep(&format!("contact-{number}"), "1001");
    }
    std::thread::sleep(Duration::from_secs(3));
    let calls = sandbox.stats().calls;
    assert!(calls < 60, "{calls} calls in an outage of 3 s");
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    heart.wait_settled(SOON);
    assert_eq!(sandbox.stats().contacts, 500);
    heart.stop();
}

#[test]
fn what_is_pending_at_the_end_is_delivered_after_the_next_start() {
    let (sandbox, dir) = (sandbox(|behaviour| behaviour.outage = Reply::Status(500)), TempDir::new());
    let heart = Heart::start(&sandbox, &dir, |_| {});
    for number in 0..50 {
        heart.keep(&format!("contact-{number}"), "1001");
    }
    let config = heart.stop();
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    let heart = Heart::resume(config);
    heart.wait_settled(SOON);
    assert_eq!(sandbox.stats().contacts, 50);
    assert!(heart.health.can_keep());
    heart.stop();
}

#[test]
fn a_duplicate_is_answered_and_not_delivered_again_also_after_a_restart() {
    let (sandbox, dir) = (sandbox(|_| {}), TempDir::new());
    let heart = Heart::start(&sandbox, &dir, |_| {});
    let at = Some("2024-05-20T10:00:00Z");
    let first = heart.submit("7", "1001", at).recv_timeout(SOON).unwrap();
    let Receipt::Kept(id) = first else { panic!("{first:?}") };
    assert_eq!(heart.submit("7", "1001", at).recv_timeout(SOON).unwrap(), Receipt::Duplicate(id));
    heart.wait_settled(SOON);
    let heart = Heart::resume(heart.stop());
    assert_eq!(heart.submit("7", "1001", at).recv_timeout(SOON).unwrap(), Receipt::Duplicate(id));
    assert!(matches!(heart.submit("7", "1002", at).recv_timeout(SOON), Ok(Receipt::Kept(_))));
    heart.wait_settled(SOON);
    assert_eq!(sandbox.contact("7").unwrap().updates, 2);
    heart.stop();
}

#[test]
fn one_bad_contact_holds_back_nobody_else() {
    let (sandbox, dir) = (sandbox(|_| {}), TempDir::new());
    sandbox.script("bad", &vec![Reply::Status(500); 8]).unwrap();
    sandbox.script("gone", &[Reply::Status(404)]).unwrap();
    let heart = Heart::start(&sandbox, &dir, |_| {});
    heart.keep("bad", "1001");
    heart.keep("bad", "2001");
    heart.keep("gone", "1001");
    for number in 0..100 {
        heart.keep(&format!("contact-{number}"), "2001");
    }
    assert!(wait_until(SOON, || sandbox.stats().contacts >= 100));
    assert!(sandbox.contact("bad").is_none_or(|contact| contact.updates == 0));
    assert!(wait_until(SOON, || heart.metrics.events_dead.get() == 1));
    heart.wait_settled(SOON);
    assert_eq!(category(&sandbox.contact("bad").unwrap()), "callback_later");
    heart.stop();
}
