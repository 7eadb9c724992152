//! An admin listener with a real store and keeper behind it, and clients for it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use dispod::admin::{Admin, Sources};
use dispod::bus::Bus;
use dispod::config::{Config, CxoneConfig, Listen, Secret, StoreConfig};
use dispod::cxone::Cxone;
use dispod::disposition::Mapping;
use dispod::event::{CallResult, KeptEvent, Outcome, Severity};
use dispod::flow::{Notice, Order, Settlement};
use dispod::health::Health;
use dispod::keep::Submission;
use dispod::keeper::{self, Keeper};
use dispod::listener::Bound;
use dispod::metrics::Metrics;
use dispod::rooms::Failed;
use dispod::store::{Batch, Kept, NewEvent, Settled, State, Step, StepKind, Store, StoredEvent, Sync};
use dispod::verdict::Verdict;
use serde_json::Value;

use crate::door::{Answer, PATIENCE, read_answer_to};

pub const SECRET: &str = "s3cr3t-that-nobody-may-see";

/// An admin listener with a real store and keeper behind it, and a dispatch that delivers everything at once.
pub struct Office {
    admin: Option<Admin>,
    pub addr: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub bus: Arc<Bus>,
    submissions: Sender<Submission>,
    keeper: Option<JoinHandle<()>>,
    ending: Option<Sender<()>>,
    pub failures: Receiver<String>,
    dir: PathBuf,
}

fn new_dir() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, SeqCst);
    std::env::temp_dir().join(format!("dispod-admin-{}-{number}", std::process::id()))
}

impl Office {
    /// With an empty store.
    pub fn open() -> Self {
        Self::open_with(|_| {})
    }

    /// With what `prepare` puts into the store.
    pub fn open_with(prepare: impl FnOnce(&mut Store)) -> Self {
        let dir = new_dir();
        let store = StoreConfig { dir: dir.clone(), ..StoreConfig::default() };
        let config = Config { store, ..Config::default() };
        let mut store = Store::open(&config.store).unwrap();
        prepare(&mut store);
        let (metrics, health, bus) =
            (Arc::<Metrics>::default(), Arc::<Health>::default(), Arc::<Bus>::default());
        metrics.set_subscribers([("crm".to_owned(), "webhook")].into_iter());
        metrics.subscribers()[0].pending.set(3);
        let (fail, failures) = unbounded();
        let failed: Failed = Arc::new(move |why| fail.send(why).unwrap());
        let (submit, submissions) = bounded(1024);
        let (order, orders) = bounded(1024);
        let (notify, notices) = bounded(20_000);
        let channels = keeper::Channels { submissions, orders, notices: notify, notices_kept_max: 19_000 };
        let keeper =
            Keeper::new(store, &config, channels, Arc::clone(&health), Arc::clone(&metrics), &failed)
                .unwrap();
        let keeper = std::thread::spawn(move || keeper.run().unwrap());
        let (ending, end) = bounded(0);
        {
            let (order, metrics, bus) = (order.clone(), Arc::clone(&metrics), Arc::clone(&bus));
            std::thread::spawn(move || deliver_all(&notices, &end, &order, &metrics, &bus));
        }
        let cxone = CxoneConfig::new("example.invalid", Secret::new("id"), Secret::new(SECRET));
        let sources = Sources {
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            bus: Arc::clone(&bus),
            cxone: Arc::new(Cxone::new(cxone, Arc::clone(&metrics))),
            orders: order,
            store_dir: dir.clone(),
            webhook_address: "http://127.0.0.1:8080/webhook/call-result".to_owned(),
            started_ms: dispod::clock::now_ms(),
        };
        let listener = Bound::bind(&Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), 0o600).unwrap();
        let admin = Admin::start(listener, sources, failed).unwrap();
        let addr = admin.local_addr().unwrap();
        Self {
            admin: Some(admin),
            addr,
            metrics,
            health,
            bus,
            submissions: submit,
            keeper: Some(keeper),
            ending: Some(ending),
            failures,
            dir,
        }
    }

    /// Keeps an event as if it had come in.
    pub fn keep(&self, contact_id: &str, code: &str) {
        let call = CallResult::new(contact_id, code, Some("ANSWERED"), None).unwrap();
        let (kept, receipts) = bounded(1);
        let reply = Box::new(move |receipt| kept.send(receipt).unwrap());
        let received_ms = dispod::clock::now_ms();
        self.submissions.send(Submission { call, key: None, received_ms, reply }).unwrap();
        receipts.recv_timeout(PATIENCE).unwrap();
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.addr)
    }

    /// Sends a request line and header lines of its own (each ended by CR LF); gives the answer.
    pub fn ask_with(&self, line: &str, headers: &str) -> Answer {
        ask(self.addr, line, headers)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask_with(&format!("GET {path}"), "")
    }

    pub fn change(&self, line: &str) -> Answer {
        self.ask_with(line, "X-Dispod: 1\r\n")
    }

    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (200, Some("application/json")),
            "{answer:?}"
        );
        serde_json::from_str(&answer.body).unwrap()
    }

    pub fn dead_ids(&self) -> Vec<String> {
        ids(&self.json("/api/dead"))
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        let start = Instant::now();
        if let Some(admin) = self.admin.take() {
            admin.stop();
        }
        self.ending = None;
        let ended = self.keeper.take().unwrap().join();
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert!(ended.is_ok(), "the keeper ends well");
            assert!(start.elapsed() < Duration::from_secs(6), "stopping took {:?}", start.elapsed());
            assert_eq!(self.failures.try_recv().ok(), None);
        }
    }
}

pub fn ids(page: &Value) -> Vec<String> {
    page["dead"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(addr: SocketAddr, line: &str, headers: &str) -> Answer {
    let host = if headers.contains("Host: ") { String::new() } else { format!("Host: {addr}\r\n") };
    let mut stream = connect(addr);
    stream.write_all(format!("{line} HTTP/1.1\r\n{host}{headers}\r\n").as_bytes()).unwrap();
    read_answer_to(&mut stream, line.starts_with("HEAD ")).expect("an answer")
}

/// Dispatch and workers of the test: what is told as kept is delivered.
fn deliver_all(
    notices: &Receiver<Notice>,
    end: &Receiver<()>,
    orders: &Sender<Order>,
    metrics: &Metrics,
    bus: &Bus,
) {
    loop {
        let notice = select! {
            recv(notices) -> notice => match notice { Ok(notice) => notice, Err(_) => return },
            recv(end) -> _ => return,
        };
        let Notice::Kept(mut event) = notice else { continue };
        event.attempts += 1;
        metrics.delivery(Verdict::Delivered).inc();
        metrics.api_requests.inc(200);
        metrics.api_request.observe(Duration::from_millis(12));
        bus.publish(&outcome(&event));
        metrics.published(event.severity).inc();
        let settled = Settled {
            at_ms: Some(dispod::clock::now_ms()),
            status: Some(200),
            latency_ms: Some(12),
            ..Settled::default()
        };
        let stored = StoredEvent { event, state: State::Delivered, settled };
        let settlement = Settlement { stored, steps: Vec::new(), verdict: Verdict::Delivered };
        if orders.send(Order::Settle(vec![settlement])).is_err() {
            return;
        }
    }
}

pub fn outcome(event: &KeptEvent) -> Outcome {
    Outcome {
        id: event.id.to_string(),
        contact_id: event.call.contact_id().to_owned(),
        category: event.category.clone(),
        severity: event.severity,
        disposition_code: event.call.disposition_code().to_owned(),
        timestamp: dispod::clock::rfc3339(dispod::clock::now_ms()),
    }
}

/// An outcome of no event.
pub fn some_outcome(number: usize, severity: Severity) -> Outcome {
    let (category, disposition_code) = match severity {
        Severity::Critical => ("do_not_call", "1001"),
        Severity::Medium => ("callback_later", "2001"),
        Severity::Low => ("wrong_number", "4001"),
    };
    Outcome {
        id: number.to_string(),
        contact_id: format!("contact-{number}"),
        category: category.to_owned(),
        severity,
        disposition_code: disposition_code.to_owned(),
        timestamp: "2024-05-20T10:00:00Z".to_owned(),
    }
}

pub const MINUTE_MS: i64 = 60_000;

fn keep_in(batch: &mut Batch<'_>, contact_id: &str, code: &str, received_ms: i64) -> KeptEvent {
    let call = CallResult::new(contact_id, code, Some("ANSWERED"), Some("2024-05-20T10:00:00Z")).unwrap();
    let mapping = Mapping::default();
    let category = mapping.category(code);
    let severity = mapping.severity(category);
    let new = NewEvent { call: &call, key: None, received_ms, category, severity, mapping: 1 };
    match batch.keep(&new, 0).unwrap() {
        Kept::New(event) => event,
        Kept::Before(id) => panic!("kept before as {id}"),
    }
}

/// An event that was settled after three attempts.
pub fn settle_in(batch: &mut Batch<'_>, contact_id: &str, code: &str, state: State) -> u64 {
    let received_ms = dispod::clock::now_ms() - 10 * MINUTE_MS;
    let mut event = keep_in(batch, contact_id, code, received_ms);
    let id = event.id;
    event.attempts = 3;
    let dead = state == State::Dead;
    let settled = Settled {
        at_ms: Some(received_ms + MINUTE_MS),
        status: Some(if dead { 422 } else { 200 }),
        latency_ms: Some(34),
        reason: dead.then(|| "rejected".to_owned()),
        answer: dead.then(|| r#"{"error":"contact is archived"}"#.to_owned()),
    };
    batch.update(&StoredEvent { event, state, settled }).unwrap();
    id
}

pub fn attempt(event: u64, at_ms: i64) -> Step {
    Step {
        event,
        at_ms,
        kind: StepKind::Attempt,
        attempt: Some(1),
        status: Some(503),
        latency_ms: Some(40),
        note: Some("maintenance".to_owned()),
    }
}

/// A store with these dead letters.
pub fn with_dead(contacts: &[&str]) -> Office {
    Office::open_with(|store| {
        store
            .transact(Sync::Now, |batch| {
                for contact in contacts {
                    settle_in(batch, contact, "1001", State::Dead);
                }
                Ok(())
            })
            .unwrap();
    })
}

/// Puts settled events of `contact-N` and dead letters of `dead-N` into the store.
pub fn fill(store: &mut Store, events: usize, dead: usize) {
    store
        .transact(Sync::Later, |batch| {
            for n in 0..events {
                let id = settle_in(batch, &format!("contact-{}", n % 5000), "1001", State::Delivered);
                batch.step(&attempt(id, dispod::clock::now_ms()))?;
            }
            for n in 0..dead {
                settle_in(batch, &format!("dead-{n}"), "4001", State::Dead);
            }
            Ok(())
        })
        .unwrap();
}
