//! A webhook's receiver: keeps connections alive, records what comes, answers as told, can go away and come back.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{SOON, wait_until};

/// One POST as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub at: Instant,
    pub head: Vec<String>,
    pub body: String,
    /// What it was answered with.
    pub status: u16,
}

impl Message {
    pub fn header(&self, name: &str) -> &str {
        let value = self.head.iter().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        value.unwrap_or_else(|| panic!("no {name} in {:?}", self.head))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The event's id.
    pub fn id(&self) -> u64 {
        self.json()["id"].as_str().unwrap().parse().unwrap()
    }
}

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<Message>>,
    /// Status and further header lines of the next answers; then 204.
    script: Mutex<VecDeque<(u16, String)>>,
    delay: Mutex<Duration>,
    open: Mutex<Vec<TcpStream>>,
    away: AtomicBool,
}

pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Receiver {
    pub fn start() -> Self {
        let mut receiver =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), shared: Arc::default(), acceptor: None };
        receiver.resume();
        receiver
    }

    /// Comes (back).
    pub fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        self.shared.away.store(false, SeqCst);
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(thread::spawn(move || accept(&listener, &shared)));
    }

    /// Goes away: connections end, further ones are refused.
    pub fn suspend(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.away.store(true, SeqCst);
        drop(TcpStream::connect(self.address));
        acceptor.join().unwrap();
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/outcomes", self.address)
    }

    /// What the next messages are answered, with further header lines, each ended by CR LF.
    pub fn script(&self, answers: &[(u16, &str)]) {
        let answers = answers.iter().map(|(status, headers)| (*status, (*headers).to_owned()));
        self.shared.script.lock().unwrap().extend(answers);
    }

    /// How long an answer takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    pub fn messages(&self) -> Vec<Message> {
        self.shared.messages.lock().unwrap().clone()
    }

    /// Waits for so many messages and gives all.
    pub fn wait_for(&self, count: usize) -> Vec<Message> {
        let came = wait_until(SOON, || self.shared.messages.lock().unwrap().len() >= count);
        assert!(came, "{} of {count} messages", self.messages().len());
        self.messages()
    }

    /// The events' ids in the order in which each was first accepted.
    pub fn accepted(&self) -> Vec<u64> {
        first_of_each(self.messages().iter().filter(|m| m.status / 100 == 2).map(Message::id))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.suspend();
    }
}

/// Every id once, in the order of its first coming.
pub fn first_of_each(ids: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    ids.filter(|id| seen.insert(*id)).collect()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.away.load(SeqCst) {
            return;
        }
        let stream = stream.unwrap();
        shared.open.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || while serve(&stream, &shared).is_some() {});
    }
}

/// One message and its answer; `None` at the end of the connection.
fn serve(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut message = Message { at: Instant::now(), head, body: String::new(), status: 0 };
    let mut body = vec![0; message.header("content-length").parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    message.body = String::from_utf8(body).unwrap();
    let (status, headers) = shared.script.lock().unwrap().pop_front().unwrap_or_else(|| (204, String::new()));
    message.status = status;
    let delay = *shared.delay.lock().unwrap();
    shared.messages.lock().unwrap().push(message);
    let deadline = Instant::now() + delay;
    while Instant::now() < deadline && !shared.away.load(SeqCst) {
        thread::sleep(Duration::from_millis(5));
    }
    let length = if status == 204 { "" } else { "Content-Length: 0\r\n" };
    write!(&mut &*stream, "HTTP/1.1 {status} x\r\n{length}{headers}\r\n").ok()
}
