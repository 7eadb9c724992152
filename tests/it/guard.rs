//! The guard keeps deadlines and limits, frees stranded connections, and has the listener accepted from again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dispod::config::WebhookConfig;

use crate::child::{Footprint, Process};
use crate::door::{self, GOOD_BODY, PATIENCE, eventually, post, read_answer, read_to_end};

mod exhaustion;

/// Slow clients at once. 2,000 work as well, and take the descriptors for it.
const SLOW_CLIENTS: usize = 200;
/// The limits the tests set.
const DEADLINE: Duration = Duration::from_secs(2);
/// How exactly a deadline is kept: the guard looks every half second, but the machine may be busy with other tests.
const LEEWAY: Duration = Duration::from_secs(8);
/// A good client that waited for bad ones would have waited for their deadline.
const P99_MAX: Duration = Duration::from_secs(1);

/// Tests that measure time or take many connections have the machine to themselves, as far as it goes.
fn alone() -> impl Drop {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn limits(max_connections: usize) -> WebhookConfig {
    WebhookConfig {
        read_timeout: DEADLINE,
        write_timeout: DEADLINE,
        idle_timeout: 2 * DEADLINE,
        max_connections,
        ..door::config()
    }
}

fn assert_about(took: Duration, expected: Duration) {
    let least = expected.saturating_sub(Duration::from_millis(200));
    assert!(took >= least && took <= expected + LEEWAY, "{took:?} instead of {expected:?}");
}

/// Sends the start now and then one byte every so often, until the server ends it; gives how long it let us.
fn drip(mut stream: TcpStream, start: &[u8], byte: u8) -> Duration {
    let began = Instant::now();
    stream.write_all(start).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut answer = [0; 1024];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return began.elapsed(),
            Ok(length) => {
                assert!(!answer[..length].starts_with(b"HTTP/1.1 200"), "a 200 for a request never sent");
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return began.elapsed(),
        }
        if stream.write_all(&[byte]).is_err() {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "the server lets us drip");
    }
}

/// The 99th percentile of good requests sent one after the other on one connection.
fn p99_of_good_requests(mut stream: TcpStream) -> Duration {
    const REQUESTS: usize = 300;
    let mut took: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let began = Instant::now();
            stream.write_all(&post(GOOD_BODY, "")).unwrap();
            assert_eq!(read_answer(&mut stream).unwrap().status, 200);
            began.elapsed()
        })
        .collect();
    took.sort();
    took[REQUESTS * 99 / 100]
}

#[test]
fn a_drip_does_not_pass_the_read_deadline() {
    let door = door::open_with(&limits(1024));
    let small = "POST /webhook/call-result HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{";
    let large = "POST /webhook/call-result HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{";
    let refused = "POST /elsewhere HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{";
    std::thread::scope(|scope| {
        for start in ["P", "POST /webhook/call-result HTTP/1.1\r\nX: ", small, large, refused] {
            let door = &door;
            scope.spawn(move || assert_about(drip(door.connect(), start.as_bytes(), b' '), DEADLINE));
        }
    });
    assert!(door.metrics.webhook_connections_shed.get() >= 5);
    assert_eq!(door.kept_count(), 0);
    door.assert_serves();
    door.close();
}

#[test]
fn who_leaves_a_body_unsent_does_not_pass_the_read_deadline_though_something_was_answered() {
    let door = door::open_with(&WebhookConfig { idle_timeout: 2 * PATIENCE, ..limits(1024) });
    let refused = "POST /elsewhere HTTP/1.1\r\nContent-Length: 60000\r\n\r\n";
    let expecting =
        "POST /webhook/call-result HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 60000\r\n\r\n";
    std::thread::scope(|scope| {
        for (start, status) in [(refused, "404"), (expecting, "100")] {
            let mut stream = door.connect();
            scope.spawn(move || {
                stream.write_all(start.as_bytes()).unwrap();
                let (took, answer) = read_to_end(&mut stream);
                assert_about(took, DEADLINE);
                let answer = String::from_utf8_lossy(&answer);
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            });
        }
    });
    door.close();
}

#[test]
fn a_connection_without_a_request_is_ended() {
    let door = door::open_with(&limits(1024));
    std::thread::scope(|scope| {
        // Who never sends a request has the time of one; who has sent one, that of an idle connection.
        scope.spawn(|| assert_about(read_to_end(&mut door.connect()).0, DEADLINE));
        scope.spawn(|| {
            let mut stream = door.connect();
            stream.write_all(&post(GOOD_BODY, "")).unwrap();
            assert_eq!(read_answer(&mut stream).unwrap().status, 200);
            assert_about(read_to_end(&mut stream).0, 2 * DEADLINE);
        });
        // Who asks now and then stays.
        scope.spawn(|| {
            let mut stream = door.connect();
            let until = Instant::now() + 3 * DEADLINE;
            while Instant::now() < until {
                stream.write_all(&post(GOOD_BODY, "")).unwrap();
                assert_eq!(read_answer(&mut stream).expect("it stays").status, 200);
                std::thread::sleep(DEADLINE / 2);
            }
        });
    });
    eventually("all connections are gone", || door.metrics.webhook_connections.get() == 0);
    door.close();
}

#[test]
fn a_client_that_waits_for_us_is_not_timed() {
    let door = door::open_with(&limits(1024));
    door.held.store(true, SeqCst);
    let mut stream = door.connect();
    stream.write_all(&post(GOOD_BODY, "")).unwrap();
    stream.set_read_timeout(Some(2 * DEADLINE)).unwrap();
    let early = stream.read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock, "ended while it was our turn");
    door.held.store(false, SeqCst);
    assert_eq!(read_answer(&mut stream).unwrap().status, 200);
    door.close();
}

#[test]
fn above_the_limit_the_longest_idle_are_ended() {
    const MOST: usize = 20;
    let _alone = alone();
    let door = door::open_with(&limits(MOST));
    let mut connections = Vec::new();
    for _ in 0..MOST + 10 {
        let mut stream = door.connect();
        stream.write_all(&post(GOOD_BODY, "")).unwrap();
        assert_eq!(read_answer(&mut stream).unwrap().status, 200);
        connections.push(stream);
        // Far enough apart for the guard to see who came first.
        std::thread::sleep(Duration::from_millis(110));
    }
    eventually("there are no more than allowed", || {
        door.metrics.webhook_connections.get() == u64::try_from(MOST).unwrap()
    });
    let ended: Vec<bool> = connections
        .iter_mut()
        .map(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            matches!(stream.read(&mut [0]), Ok(0))
        })
        .collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 10, "{ended:?}");
    assert!(!ended[MOST..].contains(&true), "the youngest were ended: {ended:?}");
    door.close();
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    let _alone = alone();
    let door = door::open_with(&limits(1024));
    let mut deaf = door.connect();
    deaf.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let many = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while deaf.write_all(&many).is_ok() && began.elapsed() < DEADLINE {
        let asked = Instant::now();
        door.assert_serves();
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < DEADLINE, "{slowest:?}");
    // It is ended for it; what it had been sent by then can still be read.
    deaf.set_read_timeout(Some(PATIENCE)).unwrap();
    read_to_end(&mut deaf);
    door.close();
}

#[test]
fn keep_alive_clients_at_once_are_all_served() {
    const CLIENTS: usize = 300;
    let _alone = alone();
    let process = Process::start(Duration::from_secs(10), 1024);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| process.connect()).collect();
    for client in &mut clients {
        client.write_all(&post(GOOD_BODY, "")).unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_answer(client).unwrap().status, 200);
    }
    // And again, on the same connections, which all have their thread now.
    for client in &mut clients {
        client.write_all(&post(GOOD_BODY, "")).unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_answer(client).unwrap().status, 200);
    }
    drop(clients);
    process.close();
}

/// Slow clients of one kind: good ones notice nothing, and all slow ones are gone after their time.
fn slow_clients(start: &[u8]) {
    let _alone = alone();
    let mut process = Process::start(Duration::from_secs(3), 2 * SLOW_CLIENTS);
    assert_eq!(process.post().unwrap().status, 200);
    let before = process.footprint();
    let mut slow: Vec<_> = (0..SLOW_CLIENTS).map(|_| process.connect()).collect();
    for stream in &mut slow {
        stream.write_all(start).unwrap();
    }
    let began = Instant::now();
    let p99 = (0..3).map(|_| p99_of_good_requests(process.connect())).min().unwrap();
    assert!(p99 < P99_MAX, "{p99:?}");
    for stream in &mut slow {
        read_to_end(stream);
    }
    assert!(began.elapsed() < Duration::from_secs(3) + LEEWAY, "{:?}", began.elapsed());
    assert_eq!(process.post().unwrap().status, 200);
    drop(slow);
    // tiny_http's idle threads end after five seconds, ours after ten.
    eventually("threads and descriptors are as before", || no_more_than(process.footprint(), before, 0));
    assert_eq!(process.command("failure"), "none");
    process.close();
}

/// Whether no more is held than before and by so many stuck connections. A few threads come and go.
fn no_more_than(now: Footprint, before: Footprint, stuck: usize) -> bool {
    now.descriptors <= before.descriptors + 2 * stuck && now.threads <= before.threads + stuck + 2
}

#[test]
fn slow_heads_are_noticed_by_nobody_else() {
    slow_clients(b"POST /webhook/call-result HTTP/1.1\r\nHost: x\r\nX-Slow: ");
}

#[test]
fn slow_small_bodies_are_noticed_by_nobody_else() {
    slow_clients(b"POST /webhook/call-result HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{");
}

#[test]
fn slow_large_bodies_are_noticed_by_nobody_else() {
    slow_clients(b"POST /webhook/call-result HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n{");
}

#[test]
fn slow_clients_above_the_limit_drive_no_good_one_out() {
    let _alone = alone();
    let process = Process::start(Duration::from_secs(10), SLOW_CLIENTS / 2);
    let mut good = process.connect();
    let mut slow = Vec::new();
    for index in 0..SLOW_CLIENTS {
        let mut stream = process.connect();
        stream.write_all(b"POST /webhook/call-result HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
        slow.push(stream);
        if index % 10 == 0 {
            good.write_all(&post(GOOD_BODY, "")).unwrap();
            assert_eq!(read_answer(&mut good).expect("it stays").status, 200);
        }
    }
    let p99 = p99_of_good_requests(good);
    assert!(p99 < P99_MAX, "{p99:?}");
    assert_eq!(process.post().unwrap().status, 200);
    drop(slow);
    process.close();
}

#[test]
fn an_idle_door_sleeps() {
    let _alone = alone();
    let process = Process::start(Duration::from_secs(60), 1024);
    let mut stream = process.connect();
    stream.write_all(&post(GOOD_BODY, "")).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 200);
    let wakeups_in = |period: Duration| {
        let before = process.wakeups();
        std::thread::sleep(period);
        process.wakeups() - before
    };
    eventually("what the first request started is over", || wakeups_in(Duration::from_secs(1)) <= 6);
    let with_a_connection = wakeups_in(Duration::from_secs(4));
    assert!(with_a_connection <= 4 * 2 + 2, "{with_a_connection} wake-ups in 4 s with one connection");
    drop(stream);
    eventually("what its end started is over", || wakeups_in(Duration::from_secs(1)) <= 2);
    let without = wakeups_in(Duration::from_secs(4));
    assert!(without <= 4 + 2, "{without} wake-ups in 4 s without a connection");
    process.close();
}
