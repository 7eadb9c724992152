//! The load generator: one thread, many connections, one request out on each. It never waits for one of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use socket2::{Domain, Socket, Type};

use crate::daemon::WEBHOOK_PATH;
use crate::process;

/// The codes of the events posted, in turn: one of each severity, and one that is not in the table.
const CODES: [&str; 4] = ["1001", "2001", "4001", "9999"];
/// Answers are looked for this often while requests are sent at a rate.
const PACE: Duration = Duration::from_millis(1);
/// Addresses connected from in turn, so that ports in `TIME_WAIT` do not run out.
const SOURCES: u64 = 32;
const ANSWER_MAX_BYTES: usize = 1024;
/// After the end of sending, answers may take this long.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(2);

/// What to send, and for how long.
#[derive(Clone)]
pub struct Load {
    target: SocketAddr,
    connections: usize,
    keep_alive: bool,
    last: Duration,
    events_max: u64,
    per_s: Option<f64>,
    first_event: u64,
    at_once: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Answers {
    /// Answered 200.
    pub kept: u64,
    /// Answered 503.
    pub refused: u64,
    /// Any other answer, or none.
    pub failed: u64,
    /// Not sent, because every connection was waiting for an answer.
    pub unsent: u64,
    /// Of the requests answered 200, ascending.
    pub latencies_us: Vec<u32>,
    /// From the first request to the last answer.
    pub took: Duration,
    /// What the load generator cost.
    pub cpu: Duration,
}

impl Answers {
    pub fn kept_per_s(&self) -> f64 {
        self.kept as f64 / self.took.as_secs_f64()
    }

    pub fn latency_ms(&self, part: f64) -> f64 {
        crate::measures::percentile(&self.latencies_us, part) / 1000.0
    }

    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.kept + self.refused).max(1) as f64
    }
}

impl Load {
    /// A closed loop: each connection sends its next event when the last one is answered.
    pub fn closed(target: SocketAddr, connections: usize, last: Duration) -> Self {
        Self {
            target,
            connections,
            keep_alive: true,
            last,
            events_max: u64::MAX,
            per_s: None,
            first_event: fastrand::u64(0..1 << 40),
            at_once: false,
        }
    }

    /// The same for another time, with other events.
    pub fn lasting(mut self, last: Duration) -> Self {
        self.last = last;
        self.first_event = fastrand::u64(0..1 << 40);
        self
    }

    /// So many events in all.
    pub fn events(mut self, events: u64) -> Self {
        self.events_max = events;
        self
    }

    /// Each request on a connection of its own.
    pub fn one_request_each(mut self) -> Self {
        self.keep_alive = false;
        self
    }

    /// An open loop: so many events a second, whatever the answers.
    pub fn per_second(mut self, per_s: f64) -> Self {
        self.per_s = Some(per_s);
        self
    }

    /// All connections send at the same time, and again when all are answered.
    pub fn all_at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    pub fn run(self) -> Answers {
        let cpu_before = process::own_thread_cpu();
        let mut run = Run::new(self);
        let began = Instant::now();
        run.drive(began);
        let mut answers = run.answers;
        answers.took = run.last_answer - began;
        answers.cpu = process::own_thread_cpu().saturating_sub(cpu_before);
        answers.latencies_us.sort_unstable();
        answers
    }
}

/// The body of one event, of now, to the second; every number is another contact.
pub fn event(number: u64) -> String {
    let code = CODES[(number % 4) as usize];
    let time = dispod::clock::rfc3339(dispod::clock::now_ms());
    format!(
        r#"{{"contactId":"{number:016}","dispositionCode":"{code}","callResult":"ANSWERED","timestamp":"{time}"}}"#
    )
}

/// Posts so many events and says how fast that was.
pub fn alone(arguments: &[String]) {
    let [target, connections, events] = arguments else { panic!("address, connections, events") };
    let connections = connections.parse().expect("a number of connections");
    let load = Load::closed(target.parse().expect("an address"), connections, Duration::from_secs(600));
    let answers = load.events(events.parse().expect("a number of events")).run();
    println!(
        "{} kept in {:?}, {} refused, {} failed",
        answers.kept, answers.took, answers.refused, answers.failed
    );
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    sent: Option<Instant>,
}

struct Run {
    load: Load,
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    /// Connections with no request out.
    free: Vec<usize>,
    sent: u64,
    answers: Answers,
    last_answer: Instant,
}

impl Run {
    fn new(load: Load) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
        let connect = |number| Connection {
            stream: connect(load.target, number),
            read: Vec::with_capacity(ANSWER_MAX_BYTES),
            sent: None,
        };
        let connections: Vec<_> = (0..load.connections as u64).map(connect).collect();
        let free = (0..connections.len()).collect();
        let mut run = Self {
            load,
            epoll,
            connections,
            free,
            sent: 0,
            answers: Answers::default(),
            last_answer: Instant::now(),
        };
        for place in 0..run.connections.len() {
            run.watch(place);
        }
        run
    }

    fn watch(&mut self, place: usize) {
        let stream = &self.connections[place].stream;
        epoll::add(&self.epoll, stream, EventData::new_u64(place as u64), EventFlags::IN).expect("epoll");
    }

    fn drive(&mut self, began: Instant) {
        let mut events = Vec::with_capacity(256);
        let wait = if self.load.per_s.is_some() { PACE } else { LAST_ANSWER_MAX };
        let wait = Timespec::try_from(wait).expect("short");
        loop {
            let passed = began.elapsed();
            if passed < self.load.last && self.sent < self.load.events_max {
                self.send_due(passed);
            } else if self.free.len() == self.connections.len() || passed > self.load.last + LAST_ANSWER_MAX {
                break;
            }
            events.clear();
            let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait));
            if waited.is_ok() && events.is_empty() && self.load.per_s.is_none() {
                break;
            }
            for event in &events {
                self.receive(event.data.u64() as usize);
            }
        }
        self.answers.failed += (self.connections.len() - self.free.len()) as u64;
    }

    /// Sends what is due on the connections that are free.
    fn send_due(&mut self, passed: Duration) {
        if self.load.at_once && self.free.len() < self.connections.len() {
            return;
        }
        let wanted = self.load.per_s.map_or(u64::MAX, |per_s| (passed.as_secs_f64() * per_s) as u64);
        let wanted = wanted.min(self.load.events_max);
        while self.sent + self.answers.unsent < wanted {
            match self.free.pop() {
                Some(place) => self.send(place),
                None if self.load.per_s.is_none() => return,
                None => {
                    self.answers.unsent = wanted - self.sent;
                    return;
                }
            }
        }
    }

    fn send(&mut self, place: usize) {
        let body = event(self.load.first_event + self.sent);
        let connection = if self.load.keep_alive { "keep-alive" } else { "close" };
        let request = format!(
            "POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             Connection: {connection}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.sent += 1;
        let connection = &mut self.connections[place];
        connection.sent = Some(Instant::now());
        if connection.stream.write_all(request.as_bytes()).is_err() {
            self.answers.failed += 1;
            self.renew(place);
        }
    }

    fn receive(&mut self, place: usize) {
        let mut buffer = [0; ANSWER_MAX_BYTES];
        let connection = &mut self.connections[place];
        match connection.stream.read(&mut buffer) {
            Ok(length) if length > 0 => connection.read.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // The server's end of a connection, with or without a request out.
            _ => {
                self.answers.failed += u64::from(connection.sent.is_some());
                let waiting = connection.sent.is_some();
                return if waiting { self.renew(place) } else { self.reconnect(place) };
            }
        }
        let Some(head) = find(&connection.read, b"\r\n\r\n") else { return };
        if connection.read.len() < head + 4 + content_length(&connection.read[..head + 4]) {
            return;
        }
        let Some(sent) = connection.sent.take() else { return };
        self.last_answer = Instant::now();
        match connection.read.get(9..12) {
            Some(b"200") => {
                self.answers.kept += 1;
                self.answers.latencies_us.push((self.last_answer - sent).as_micros() as u32);
            }
            Some(b"503") => self.answers.refused += 1,
            _ => self.answers.failed += 1,
        }
        connection.read.clear();
        if self.load.keep_alive {
            self.free.push(place);
        } else {
            self.renew(place);
        }
    }

    /// Another connection in this place, free for the next request.
    fn renew(&mut self, place: usize) {
        self.reconnect(place);
        self.free.push(place);
    }

    fn reconnect(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        connection.stream = connect(self.load.target, self.sent + place as u64);
        connection.read.clear();
        connection.sent = None;
        self.watch(place);
    }
}

/// A connection that does not block, from the source address whose turn it is by `number`.
pub fn connect(target: SocketAddr, number: u64) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8);
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("a free port");
    socket.connect(&target.into()).expect("somebody listens");
    socket.set_nonblocking(true).expect("a socket option");
    socket.set_tcp_nodelay(true).expect("a socket option");
    socket.into()
}

/// Where `what` is first in `bytes`.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The value of `Content-Length`; 0 without one.
pub fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| std::str::from_utf8(value).ok()?.trim().parse().ok())?
    });
    value.unwrap_or(0)
}
