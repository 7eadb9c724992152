//! Live outcomes: streamed by severity, to a few, and nobody holds anybody up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dispod::event::Severity;
use serde_json::Value;

use super::office::{Office, some_outcome};
use crate::door::{PATIENCE, eventually};

/// An open stream of events.
struct Listening(BufReader<TcpStream>);

impl Listening {
    fn start(office: &Office, query: &str) -> Self {
        let mut stream = office.connect();
        let request = format!("GET /api/events{query} HTTP/1.1\r\nHost: {}\r\n\r\n", office.addr);
        stream.write_all(request.as_bytes()).unwrap();
        let mut listening = Self(BufReader::new(stream));
        let head: Vec<_> = std::iter::from_fn(|| listening.line().filter(|line| !line.is_empty())).collect();
        assert_eq!(head[0], "HTTP/1.1 200 OK");
        assert!(head.contains(&"Content-Type: text/event-stream".to_owned()), "{head:?}");
        assert!(!head.iter().any(|line| line.starts_with("Content-Length")), "{head:?}");
        assert_eq!(listening.line().unwrap(), "retry: 2000");
        listening
    }

    /// A line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            // A reset is an end too.
            Err(error) => {
                assert!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error}");
                None
            }
        }
    }

    /// The next outcome's id.
    fn next_id(&mut self) -> Option<String> {
        loop {
            let line = self.line()?;
            if let Some(json) = line.strip_prefix("data: ") {
                let outcome: Value = serde_json::from_str(json).unwrap();
                return Some(outcome["id"].as_str().unwrap().to_owned());
            }
            assert!(line.is_empty() || line == ":", "{line}");
        }
    }

    /// Reads on; heartbeats say that it does not end.
    fn wait_for_the_end(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.line().is_some() {
            assert!(Instant::now() < deadline, "the stream does not end");
        }
    }
}

#[test]
fn outcomes_are_streamed_by_severity() {
    let office = Office::open();
    let mut all = Listening::start(&office, "");
    let mut critical = Listening::start(&office, "?severity=critical");
    let mut others = Listening::start(&office, "?severity=medium,low");
    for (number, severity) in Severity::ALL.into_iter().cycle().take(6).enumerate() {
        office.bus.publish(&some_outcome(number, severity));
    }
    let take = |listening: &mut Listening, n: usize| -> Vec<String> {
        let mut ids: Vec<_> = (0..n).map(|_| listening.next_id().unwrap()).collect();
        ids.sort();
        ids
    };
    assert_eq!(take(&mut critical, 2), ["0", "3"]);
    assert_eq!(take(&mut others, 4), ["1", "2", "4", "5"]);
    assert_eq!(take(&mut all, 6), ["0", "1", "2", "3", "4", "5"]);
    // The whole way: kept, delivered, published, streamed.
    office.keep("55", "1001");
    assert!(critical.next_id().is_some());
    let start = Instant::now();
    while critical.line().unwrap() != ":" {}
    assert!(start.elapsed() < Duration::from_secs(15), "a heartbeat");
}

#[test]
fn listeners_are_few_and_places_are_given_back() {
    let office = Office::open();
    let mut listening: Vec<_> = (0..16).map(|_| Listening::start(&office, "")).collect();
    let refused = office.get("/api/events");
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(office.get("/livez").status, 200);
    listening.truncate(10);
    eventually("a place is free", || {
        let mut stream = office.connect();
        stream
            .write_all(format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", office.addr).as_bytes())
            .unwrap();
        let mut start = [0; 12];
        // So many ask that the guard may end one of them first.
        stream.read_exact(&mut start).is_ok() && start.ends_with(b"200")
    });
    office.bus.publish(&some_outcome(1, Severity::Low));
    for one in &mut listening {
        assert_eq!(one.next_id().as_deref(), Some("1"));
    }
}

#[test]
fn a_stream_ends_with_the_next_request_and_holds_nobody_up() {
    let office = Office::open();
    let mut listening = Listening::start(&office, "");
    let request = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", office.addr);
    listening.0.get_mut().write_all(request.as_bytes()).unwrap();
    let start = Instant::now();
    assert_eq!(office.get("/livez").status, 200);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    listening.wait_for_the_end();
}

#[test]
fn who_reads_nothing_is_let_go_and_the_others_hear_on() {
    // More than the kernel's buffers and the listener's queue hold.
    const ROUNDS: usize = 120;
    const IN_ROUND: usize = 20;
    let office = Office::open();
    let slow = Listening::start(&office, "");
    let mut quick = Listening::start(&office, "");
    let mut big = some_outcome(0, Severity::Low);
    big.category = "x".repeat(8 * 1024);
    for _ in 0..ROUNDS {
        for _ in 0..IN_ROUND {
            office.bus.publish(&big);
        }
        for _ in 0..IN_ROUND {
            assert!(quick.next_id().is_some());
        }
    }
    slow.wait_for_the_end();
    office.bus.publish(&some_outcome(7, Severity::Critical));
    assert_eq!(quick.next_id().as_deref(), Some("7"));
}

#[test]
fn the_end_of_the_daemon_ends_the_streams() {
    let office = Office::open();
    let listening = Listening::start(&office, "");
    // Also proves that the end is quick: see `Office::drop`.
    drop(office);
    listening.wait_for_the_end();
}
