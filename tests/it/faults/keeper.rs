//! The keeper alone on a store: without room, without a lock, at its end. Nobody waits for an answer in vain, and
//! what came of an event is always written.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use dispod::config::{Config, StoreConfig};
use dispod::event::{CallResult, KeptEvent};
use dispod::flow::{Notice, Order, Settlement};
use dispod::health::Health;
use dispod::keep::{Receipt, Submission};
use dispod::keeper::{Channels, Keeper};
use dispod::metrics::Metrics;
use dispod::store::{Class, FILE_NAME, Settled, State, Step, StepKind, Store, StoredEvent};
use dispod::verdict::Verdict;

use crate::support::daemon::TempDir;
use crate::support::{SOON, wait_until};

/// The smallest `store.max_size` there is.
const MAX_SIZE_BYTES: u64 = 1024 * 1024;
/// As long as the first KiB of an answer.
const DETAIL_BYTES: usize = 1024;

struct Alone {
    submit: Sender<Submission>,
    orders: Sender<Order>,
    notices: Receiver<Notice>,
    health: Arc<Health>,
    keeper: JoinHandle<Result<(), String>>,
}

impl Alone {
    fn start(config: &StoreConfig) -> Self {
        let (submit, submissions) = bounded(16);
        let (order, orders) = bounded(1024);
        let (notify, notices) = bounded(20_000);
        let health = Arc::new(Health::default());
        let channels = Channels { submissions, orders, notices: notify, notices_kept_max: 10_000 };
        let store = Store::open(config).unwrap();
        let config = Config { store: config.clone(), ..Config::default() };
        let failed: dispod::rooms::Failed = Arc::new(|why| panic!("{why}"));
        let metrics = Arc::new(Metrics::default());
        let keeper = Keeper::new(store, &config, channels, Arc::clone(&health), metrics, &failed).unwrap();
        let keeper = std::thread::spawn(move || keeper.run());
        Self { submit, orders: order, notices, health, keeper }
    }

    fn submit(&self, contact: &str) -> Receiver<Receipt> {
        let (send, receive) = bounded(1);
        let call = CallResult::new(contact, "1001", None, None).unwrap();
        let reply = Box::new(move |receipt| send.send(receipt).unwrap());
        let submission = Submission { call, key: None, received_ms: dispod::clock::now_ms(), reply };
        self.submit.send(submission).unwrap();
        receive
    }

    /// Keeps an event; `None`: there is no room.
    fn keep(&self, contact: &str) -> Option<KeptEvent> {
        match self.submit(contact).recv_timeout(SOON).expect("an answer") {
            Receipt::Kept(id) => match self.notices.recv_timeout(SOON).expect("a notice") {
                Notice::Kept(event) => {
                    assert_eq!(event.id, id);
                    Some(event)
                }
                _ => panic!("not told of event {id}"),
            },
            Receipt::NotKept { retry_after_s } => {
                assert!(retry_after_s > 0);
                None
            }
            Receipt::Duplicate(id) => panic!("event {id} is no duplicate"),
        }
    }

    fn fill(&self) -> Vec<KeptEvent> {
        let events: Vec<_> =
            (0..20_000).map_while(|number| self.keep(&format!("contact-{number:0>200}"))).collect();
        assert!((100..20_000).contains(&events.len()), "{} events in 1 MiB", events.len());
        assert!(!self.health.can_keep());
        events
    }

    fn order(&self, settlement: Settlement) {
        self.orders.send(Order::Settle(vec![settlement])).unwrap();
    }

    fn wait_settled(&self, id: u64) {
        let notice = self.notices.recv_timeout(SOON).expect("settled: the keeper is not stuck");
        assert!(matches!(notice, Notice::Settled(settled) if settled == [id]), "another notice, not of {id}");
    }

    fn stop(self) -> Result<(), String> {
        drop((self.orders, self.submit));
        self.keeper.join().expect("no panic")
    }
}

fn config(dir: &TempDir) -> StoreConfig {
    StoreConfig { dir: dir.path().to_owned(), max_size_bytes: MAX_SIZE_BYTES, ..StoreConfig::default() }
}

fn settlement(event: &KeptEvent, state: State, verdict: Verdict) -> Settlement {
    let mut event = event.clone();
    event.attempts += 1;
    let detail = "x".repeat(DETAIL_BYTES);
    let step = |kind| Step {
        event: event.id,
        at_ms: 1,
        kind,
        attempt: Some(event.attempts),
        status: Some(500),
        latency_ms: Some(1),
        note: Some(detail.clone()),
    };
    let steps = vec![step(StepKind::Attempt), step(StepKind::RetryAt)];
    let settled = match state {
        State::Pending => Settled::default(),
        _ => Settled {
            at_ms: Some(1),
            status: Some(200),
            latency_ms: Some(1),
            reason: (state == State::Dead).then(|| "rejected".to_owned()),
            answer: (state == State::Dead).then(|| detail.clone()),
        },
    };
    Settlement { stored: StoredEvent { event, state, settled }, steps, verdict }
}

#[test]
fn in_a_full_store_every_settlement_is_written_and_service_returns() {
    let dir = TempDir::new();
    let alone = Alone::start(&config(&dir));
    let events = alone.fill();
    // Retries whose audit alone would need many times the room there is.
    for _ in 0..2 {
        for event in &events {
            alone.order(settlement(event, State::Pending, Verdict::Transient));
            alone.wait_settled(event.id);
        }
    }
    assert!(alone.keep("one more").is_none());
    let (dead, delivered) = events.split_at(events.len() / 4);
    for event in dead {
        alone.order(settlement(event, State::Dead, Verdict::Rejected));
        alone.wait_settled(event.id);
    }
    for event in delivered {
        alone.order(settlement(event, State::Delivered, Verdict::Delivered));
        alone.wait_settled(event.id);
    }
    // Beyond the limit by what settlements cannot do without, and by no more.
    let size = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
    assert!(size < 3 * MAX_SIZE_BYTES, "{size}");
    assert!(wait_until(SOON, || alone.health.can_keep()), "service does not return");
    assert!(alone.keep("afterwards").is_some());
    alone.stop().unwrap();

    let store = Store::open(&config(&dir)).unwrap();
    let (pending, buried) = store.count().unwrap();
    assert_eq!((pending, buried), (1, dead.len() as u64));
    for event in delivered {
        let stored = store.outbox_event(event.id).unwrap();
        assert!(stored.is_none_or(|stored| stored.state == State::Delivered), "event {}", event.id);
    }
}

#[test]
fn at_the_end_whoever_still_waits_is_refused() {
    let dir = TempDir::new();
    let alone = Alone::start(&config(&dir));
    let lock = lock(&dir);
    let first = alone.submit("1");
    // The first one waits for the lock; these wait for the keeper, and then it ends.
    assert!(wait_until(SOON, || alone.submit.is_empty()));
    let waiting: Vec<_> = (2..10).map(|number| alone.submit(&number.to_string())).collect();
    alone.stop().unwrap();
    drop(lock);
    for receipt in std::iter::once(first).chain(waiting) {
        let receipt = receipt.recv_timeout(SOON).expect("not left without an answer");
        assert!(matches!(receipt, Receipt::NotKept { .. }), "{receipt:?}");
    }
    let store = Store::open(&config(&dir)).unwrap();
    assert_eq!(store.count().unwrap(), (0, 0));
}

#[test]
fn what_was_held_back_by_a_lock_is_written_at_the_end() {
    let dir = TempDir::new();
    let alone = Alone::start(&config(&dir));
    let event = alone.keep("1").expect("kept");
    let lock = lock(&dir);
    alone.order(settlement(&event, State::Delivered, Verdict::Delivered));
    // Refused with the settlement, or after it: then the settlement is held.
    let refused = alone.submit("2").recv_timeout(SOON).unwrap();
    assert!(matches!(refused, Receipt::NotKept { .. }), "{refused:?}");
    assert!(alone.notices.is_empty(), "settled in spite of the lock");
    drop((alone.orders, alone.submit));
    drop(lock);
    alone.keeper.join().expect("no panic").unwrap();
    let store = Store::open(&config(&dir)).unwrap();
    assert_eq!(store.outbox_event(event.id).unwrap().expect("there").state, State::Delivered);
    assert!(store.pending(Class::Critical, 0, 10).unwrap().is_empty());
}

#[test]
fn a_damaged_index_does_not_keep_an_event_from_being_settled() {
    let dir = TempDir::new();
    let whole = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let alone = Alone::start(&whole);
    let event = alone.keep("contact-in-an-index").expect("kept");
    // Too much to be looked through at the next start.
    for number in 0..50 {
        let other = alone.keep(&format!("bulk-{number}")).expect("kept");
        let mut dead = settlement(&other, State::Dead, Verdict::Rejected);
        dead.stored.settled.answer = Some("x".repeat(200_000));
        alone.order(dead);
        alone.wait_settled(other.id);
    }
    alone.stop().unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    let (id, code) = (b"contact-in-an-index".as_slice(), b"1001".as_slice());
    let is_index = |at: &usize| bytes[*at..].starts_with(id) && !bytes[*at + id.len()..].starts_with(code);
    let place = (0..bytes.len() - 100).find(is_index).expect("an entry of the index by contact");
    bytes[place] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    let alone = Alone::start(&whole);
    alone.order(settlement(&event, State::Delivered, Verdict::Delivered));
    alone.wait_settled(event.id);
    alone.stop().unwrap();
    let store = Store::open(&whole).unwrap();
    assert_eq!(store.outbox_event(event.id).unwrap().expect("there").state, State::Delivered);
    assert_eq!(store.count().unwrap(), (0, 50));
}

#[test]
fn a_part_of_the_backlog_that_is_all_damaged_is_not_its_end() {
    let dir = TempDir::new();
    let alone = Alone::start(&config(&dir));
    let bad = ["one", "two"].map(|contact| alone.keep(contact).expect("kept"));
    let good = alone.keep("two").expect("kept");
    let other = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    for event in &bad {
        other.execute("UPDATE event SET code = '2001' WHERE id = ?1", [event.id.cast_signed()]).unwrap();
    }
    alone.orders.send(Order::LoadClass { class: Class::Critical, after_place: 0, limit: 1 }).unwrap();
    match alone.notices.recv_timeout(SOON).expect("an answer") {
        Notice::Backlog { events, continue_after, .. } => {
            assert_eq!((events, continue_after), (vec![good.clone()], Some(good.place)));
        }
        _ => panic!("another notice"),
    }
    alone.orders.send(Order::LoadLane { contact_id: "two".into(), limit: 1 }).unwrap();
    match alone.notices.recv_timeout(SOON).expect("an answer") {
        Notice::Lane { events, .. } => assert_eq!(events, vec![good]),
        _ => panic!("another notice"),
    }
    alone.stop().unwrap();
}

/// Another program's lock on the database, until it is dropped.
fn lock(dir: &TempDir) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}
