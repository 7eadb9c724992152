//! The stand-in for the Contact API: one thread, canned bytes, an answer after a fixed time. Cheap, so that it is not
//! what is measured; what it costs is in the table.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

const UPDATED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const TOKEN_BODY: &str =
    r#"{"access_token":"bench-token-0123456789abcdef","token_type":"Bearer","expires_in":3600}"#;
/// Events looked at between two looks at the clock.
const EVENTS_MAX: usize = 256;
const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

/// The stand-in as a process of its own, ended on drop.
pub struct Api {
    child: Child,
    pub address: SocketAddr,
}

/// What it has seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Updates answered.
    pub updates: u64,
    /// The most connections it had at a time.
    pub connections_max: u64,
}

impl Api {
    pub fn start(latency: Duration) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("our own path"))
            .args([crate::CHILD_API, &latency.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the stand-in starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("its address");
        Self { child, address: line.trim().parse().expect("an address") }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn seen(&self) -> Seen {
        let (_, body) = crate::daemon::ask(self.address, "GET", "/seen", "").expect("what it has seen");
        let (updates, connections) = body.split_once(' ').expect("two numbers");
        let number = |text: &str| text.trim().parse().expect("a number");
        Seen { updates: number(updates), connections_max: number(connections) }
    }

    /// Waits until it has answered so many updates; false if `patience` passes before.
    pub fn wait_for_updates(&self, updates: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.seen().updates < updates {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    /// Told apart from a later connection in the same place.
    number: u64,
    /// Whether it has asked for what only dispod asks for.
    counted: bool,
}

struct Server {
    epoll: std::os::fd::OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    latency: Duration,
    /// Answers to come: when, for which place and connection number.
    due: VecDeque<(Instant, usize, u64)>,
    next_number: u64,
    updates: u64,
    counted: u64,
    counted_max: u64,
}

/// Serves until standard input ends.
pub fn serve(latency_ms: u64) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    println!("{}", listener.local_addr().expect("bound"));
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN).expect("epoll");
    epoll::add(&epoll, std::io::stdin(), EventData::new_u64(STDIN), EventFlags::IN).expect("epoll");
    Server {
        epoll,
        listener,
        connections: Vec::new(),
        free: Vec::new(),
        latency: Duration::from_millis(latency_ms),
        due: VecDeque::new(),
        next_number: 0,
        updates: 0,
        counted: 0,
        counted_max: 0,
    }
    .run();
}

impl Server {
    fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let wait = self.due.front().map(|(at, ..)| at.saturating_duration_since(Instant::now()));
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            events.clear();
            let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref());
            if waited.is_err() {
                continue;
            }
            for event in &events {
                match event.data.u64() {
                    STDIN => return,
                    LISTENER => self.accept(),
                    place => self.serve(place as usize),
                }
            }
            let now = Instant::now();
            while let Some((_, place, number)) = self.due.front().copied().filter(|(at, ..)| *at <= now) {
                self.due.pop_front();
                self.answer_update(place, number);
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            stream.set_nonblocking(true).expect("a socket option");
            stream.set_nodelay(true).expect("a socket option");
            epoll::add(&self.epoll, &stream, EventData::new_u64(place as u64), EventFlags::IN)
                .expect("epoll");
            self.next_number += 1;
            let number = self.next_number;
            self.connections[place] = Some(Connection { stream, read: Vec::new(), number, counted: false });
        }
    }

    fn serve(&mut self, place: usize) {
        let mut buffer = [0; 4096];
        let Some(connection) = self.connections[place].as_mut() else { return };
        match connection.stream.read(&mut buffer) {
            Ok(0) => return self.close(place),
            Ok(length) => connection.read.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => return self.close(place),
        }
        while let Some(connection) = self.connections[place].as_mut() {
            let Some(length) = request_length(&connection.read) else { return };
            let asked = Asked::of(&connection.read);
            connection.read.drain(..length);
            self.answer(place, asked);
        }
    }

    fn answer(&mut self, place: usize, asked: Asked) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        if asked == Asked::Seen {
            let body = format!("{} {}", self.updates, self.counted_max);
            let _ = connection.stream.write_all(&ok(&body));
            return self.close(place);
        }
        if !connection.counted {
            connection.counted = true;
            self.counted += 1;
            self.counted_max = self.counted_max.max(self.counted);
        }
        let number = connection.number;
        if asked == Asked::Token {
            let _ = connection.stream.write_all(&ok(TOKEN_BODY));
        } else if self.latency.is_zero() {
            self.answer_update(place, number);
        } else {
            self.due.push_back((Instant::now() + self.latency, place, number));
        }
    }

    fn answer_update(&mut self, place: usize, number: u64) {
        let connection = self.connections[place].as_mut().filter(|connection| connection.number == number);
        let Some(connection) = connection else { return };
        let _ = connection.stream.write_all(UPDATED);
        self.updates += 1;
    }

    fn close(&mut self, place: usize) {
        if let Some(connection) = self.connections[place].take() {
            self.counted -= u64::from(connection.counted);
            self.free.push(place);
        }
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The bench wants to know what was seen.
    Seen,
    Token,
    Update,
}

impl Asked {
    fn of(request: &[u8]) -> Self {
        match request {
            [b'G', ..] => Self::Seen,
            [b'P', b'O', ..] => Self::Token,
            _ => Self::Update,
        }
    }
}

fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

/// The length of the first request, once it is there whole.
fn request_length(read: &[u8]) -> Option<usize> {
    let head = crate::load::find(read, b"\r\n\r\n")? + 4;
    let length = head + crate::load::content_length(&read[..head]);
    (read.len() >= length).then_some(length)
}
