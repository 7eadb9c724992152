//! The intake alone, with a keeper of the test's own behind it, and raw-socket clients for it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use dispod::config::{Listen, WebhookConfig};
use dispod::health::Health;
use dispod::intake::Intake;
use dispod::keep::{DedupeKey, Receipt, Submission};
use dispod::listener::Bound;
use dispod::metrics::Metrics;

/// Longer than anything in a test takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A body the intake takes.
pub const GOOD_BODY: &str = r#"{"contactId":"1234567890","dispositionCode":"1001","callResult":"ANSWERED","timestamp":"2024-05-20T10:00:00Z"}"#;

/// What the keeper got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub contact_id: String,
    pub disposition_code: String,
    pub key: Option<DedupeKey>,
}

/// A running intake.
pub struct Door {
    pub intake: Intake,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub failures: Receiver<String>,
    pub kept: Arc<Mutex<Vec<Kept>>>,
    /// While set, the keeper keeps nothing.
    pub held: Arc<AtomicBool>,
    /// What the keeper answers with instead of `Kept`.
    pub answer: Arc<Mutex<Option<Receipt>>>,
    keeper: JoinHandle<()>,
    ended: Sender<()>,
}

/// Room in front of the keeper.
const KEEPER_QUEUE: usize = 1024;

pub fn config() -> WebhookConfig {
    WebhookConfig { listen: Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), ..WebhookConfig::default() }
}

pub fn open() -> Door {
    open_with(&config())
}

pub fn open_with(config: &WebhookConfig) -> Door {
    let listener = Bound::bind(&config.listen, config.socket_mode).unwrap();
    open_on(listener, config, KEEPER_QUEUE)
}

pub fn open_on(listener: Bound, config: &WebhookConfig, queue: usize) -> Door {
    let (sender, submissions) = bounded::<Submission>(queue);
    let (ended, end) = bounded::<()>(0);
    let (fail, failures) = unbounded();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::new(AtomicBool::new(false));
    let answer = Arc::new(Mutex::new(None));
    let keeper = {
        let (kept, held, answer) = (Arc::clone(&kept), Arc::clone(&held), Arc::clone(&answer));
        std::thread::spawn(move || keep_all(&submissions, &end, &kept, &held, &answer))
    };
    let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Health::default()));
    let keep = move |submission| sender.try_send(submission).map_err(TrySendError::into_inner);
    let failed = move |why| fail.send(why).unwrap();
    let (for_metrics, for_health) = (Arc::clone(&metrics), Arc::clone(&health));
    let intake =
        Intake::start(listener, config, Arc::new(keep), for_health, for_metrics, Arc::new(failed)).unwrap();
    Door { intake, metrics, health, failures, kept, held, answer, keeper, ended }
}

fn keep_all(
    submissions: &Receiver<Submission>,
    end: &Receiver<()>,
    kept: &Mutex<Vec<Kept>>,
    held: &AtomicBool,
    answer: &Mutex<Option<Receipt>>,
) {
    let ids = AtomicU64::new(1);
    loop {
        let submission = crossbeam_channel::select! {
            recv(submissions) -> submission => match submission { Ok(submission) => submission, Err(_) => return },
            recv(end) -> _ => return,
        };
        while held.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let receipt = answer.lock().unwrap().unwrap_or(Receipt::Kept(ids.fetch_add(1, SeqCst)));
        if matches!(receipt, Receipt::Kept(_)) {
            kept.lock().unwrap().push(Kept {
                contact_id: submission.call.contact_id().to_owned(),
                disposition_code: submission.call.disposition_code().to_owned(),
                key: submission.key,
            });
        }
        (submission.reply)(receipt);
    }
}

impl Door {
    pub fn addr(&self) -> SocketAddr {
        self.intake.local_addr().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends all of it on a connection of its own and reads one answer.
    pub fn ask(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        read_answer(&mut stream).expect("an answer")
    }

    /// Posts a body to the webhook.
    pub fn post(&self, body: &str) -> Answer {
        self.ask(&post(body, ""))
    }

    /// That a good request is answered 200 on a new connection.
    pub fn assert_serves(&self) {
        assert_eq!(self.post(GOOD_BODY).status, 200);
    }

    pub fn kept_count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// Ends it all; it must not take long.
    pub fn close(self) {
        let start = Instant::now();
        self.held.store(false, SeqCst);
        self.intake.stop();
        drop(self.ended);
        self.keeper.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(6), "stopping took {:?}", start.elapsed());
    }
}

/// A good request with other header lines (each ended by CR LF).
pub fn post(body: &str, headers: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /webhook/call-result HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn closes(&self) -> bool {
        let connection = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("connection"));
        connection.flat_map(|(_, value)| value.split(',')).any(|v| v.trim().eq_ignore_ascii_case("close"))
    }
}

/// Reads one answer; `None` when the connection ends instead.
pub fn read_answer(stream: &mut impl Read) -> Option<Answer> {
    read_answer_to(stream, false)
}

/// As [`read_answer`]; the answer to a HEAD request has no body.
pub fn read_answer_to(stream: &mut impl Read, head_request: bool) -> Option<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => {
                assert!(head.is_empty(), "cut in the head: {:?}", String::from_utf8_lossy(&head));
                return None;
            }
            Err(error) if is_timeout(&error) => panic!("no answer in time"),
            Err(_) => return None,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}")))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: String::new() };
    if !head_request && status >= 200 {
        let length: usize = answer.header("Content-Length").expect("a Content-Length").parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
    }
    Some(answer)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Waits until the server has ended the connection; gives how long that took and what came before.
pub fn read_to_end(stream: &mut TcpStream) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if is_timeout(&error) => panic!("the connection does not end"),
        // A reset is an end too.
        _ => (start.elapsed(), rest),
    }
}

/// Ends our side of a connection.
pub fn finish(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
}

/// Waits for something to become true.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "never came to be: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
