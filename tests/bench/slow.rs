//! Clients that never finish a request, and what a good one notices of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dispod::listener::raise_descriptor_limit;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::daemon::{Daemon, Dir, Setup, WEBHOOK_PATH, ask};
use crate::load::{self, Load};
use crate::measures::Measures;

/// Slow clients of each kind.
const OF_EACH: usize = 2000;
/// The daemon's `webhook.read_timeout`...
const READ_TIMEOUT: Duration = Duration::from_secs(4);
/// ...and how long the good client is watched meanwhile.
const WATCH: Duration = Duration::from_secs(3);
const DRIP_EVERY: Duration = Duration::from_millis(500);
/// Clients that all send at the same time.
const AT_ONCE: usize = 300;
/// Descriptors left to the daemon, for it to run out of them, and clients who see to that.
const DESCRIPTORS: u64 = 150;
const GREEDY: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// 2,000 clients that drip a head, 2,000 that drip a body, and one good one among them. Not measured where the daemon
/// may not have two descriptors for each.
pub fn clients(measures: &mut Measures) {
    let limit = raise_descriptor_limit();
    if limit <= 4 * OF_EACH as u64 {
        return eprintln!("the hard limit of {limit} open files is too low for slow clients: not measured");
    }
    let dir = Dir::new();
    let daemon = Setup::new(&dir)
        .set("DISPOD_WEBHOOK_MAX_CONNECTIONS", "8192")
        .set("DISPOD_WEBHOOK_READ_TIMEOUT", "4s")
        .start();
    measures.add("slow_none_p99_ms", good_p99_ms(&daemon, Duration::from_secs(2)));
    let head = format!("POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: bench\r\nX-Slow: ");
    let body = format!("POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: bench\r\nContent-Length: 60000\r\n\r\n{{");
    let mut slow: Vec<Slow> = [head, body]
        .iter()
        .flat_map(|start| {
            (0..OF_EACH as u64)
                .map(|number| Slow::new(load::connect(daemon.webhook, number), start.as_bytes()))
        })
        .collect();
    let deadline = Instant::now() + WATCH + READ_TIMEOUT;
    let p99_ms = std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < deadline && slow.iter().any(|client| client.lasted.is_none()) {
                slow.iter_mut().for_each(Slow::drip);
                std::thread::sleep(DRIP_EVERY);
            }
        });
        good_p99_ms(&daemon, WATCH)
    });
    measures.add("slow_p99_ms", p99_ms);
    let lasted = slow.iter().filter_map(|client| client.lasted).max().unwrap_or_default();
    measures.add("slow_left", slow.iter().filter(|client| client.lasted.is_none()).count() as f64);
    measures.add("slow_lasted_ms", lasted.as_secs_f64() * 1e3);
    let began = Instant::now();
    let answers = Load::closed(daemon.webhook, AT_ONCE, PATIENCE).events(AT_ONCE as u64).run();
    let (refused, failed) = (answers.refused, answers.failed);
    assert_eq!(answers.kept, AT_ONCE as u64, "not all were served: {refused} refused, {failed} failed");
    measures.add("at_once_ms", began.elapsed().as_secs_f64() * 1e3);
    measures.add("descriptors_back_ms", after_exhaustion_ms(&daemon));
}

/// A client that goes on sending, a byte at a time.
struct Slow {
    stream: TcpStream,
    began: Instant,
    lasted: Option<Duration>,
}

impl Slow {
    fn new(mut stream: TcpStream, start: &[u8]) -> Self {
        stream.write_all(start).expect("room for it");
        Self { stream, began: Instant::now(), lasted: None }
    }

    fn drip(&mut self) {
        if self.lasted.is_some() {
            return;
        }
        let ended = match self.stream.read(&mut [0; 512]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        if ended || self.stream.write_all(b"a").is_err() {
            self.lasted = Some(self.began.elapsed());
        }
    }
}

/// A good client's 99th percentile at 200 requests a second.
fn good_p99_ms(daemon: &Daemon, last: Duration) -> f64 {
    let answers = Load::closed(daemon.webhook, 4, last).per_second(200.0).run();
    assert_eq!(answers.failed, 0, "a good request failed");
    answers.latency_ms(0.99)
}

/// Takes all descriptors, lets them go, and waits for the next good answer.
fn after_exhaustion_ms(daemon: &Daemon) -> f64 {
    let few = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    let pid = Pid::from_raw(daemon.pid().cast_signed());
    prlimit(pid, Resource::Nofile, few).expect("a limit for our child");
    let greedy: Vec<_> = (0..GREEDY).filter_map(|_| TcpStream::connect(daemon.webhook).ok()).collect();
    std::thread::sleep(Duration::from_secs(1));
    drop(greedy);
    let began = Instant::now();
    while ask(daemon.webhook, "GET", "/healthz", "").is_none_or(|(status, _)| status != 200) {
        assert!(began.elapsed() < PATIENCE, "it does not come back");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed().as_secs_f64() * 1e3
}
