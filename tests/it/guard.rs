//! The guard keeps deadlines and limits, frees stranded connections, and has the listener accepted from again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dispod::config::WebhookConfig;

use crate::child::{Footprint, Process};
use crate::door::{self, GOOD_BODY, PATIENCE, eventually, post, read_answer, read_to_end};

/// Slow clients at once. 2,000 work as well, and take the descriptors for it.
const SLOW_CLIENTS: usize = 200;
/// The limits the tests set.
const DEADLINE: Duration = Duration::from_secs(2);
/// How exactly a deadline is kept: the guard looks every half second, and the machine is shared.
const LEEWAY: Duration = Duration::from_millis(1500);
/// What good clients may notice of bad ones.
const P99_MAX: Duration = Duration::from_millis(20);

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
    stream.set_read_timeout(Some(DEADLINE + LEEWAY)).unwrap();
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
        std::thread::sleep(Duration::from_millis(30));
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
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    // It is ended for it; what it had been sent by then can still be read.
    deaf.set_read_timeout(Some(PATIENCE)).unwrap();
    read_to_end(&mut deaf);
    door.close();
}

#[test]
fn keep_alive_clients_at_once_are_all_served_within_a_second() {
    const CLIENTS: usize = 300;
    let _alone = alone();
    let process = Process::start(Duration::from_secs(10), 1024);
    let began = Instant::now();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| process.connect()).collect();
    for client in &mut clients {
        client.write_all(&post(GOOD_BODY, "")).unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_answer(client).unwrap().status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // And again, on the same connections, which all have their thread now.
    let began = Instant::now();
    for client in &mut clients {
        client.write_all(&post(GOOD_BODY, "")).unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_answer(client).unwrap().status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
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

/// Waits for a good answer and gives how long that took; connections may fail meanwhile.
fn served_again(process: &Process) -> Duration {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "it is never served again");
        let mut stream = process.connect();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut start = [0; 12];
        if stream.write_all(&post(GOOD_BODY, "Connection: close\r\n")).is_ok()
            && stream.read_exact(&mut start).is_ok()
            && &start == b"HTTP/1.1 200"
        {
            return began.elapsed();
        }
    }
}

/// With so many descriptors left. A waiting `accept` has reserved one: with none left tiny_http panics over the
/// second it needs, with one left it serves one more client and then fails to accept the next.
fn exhausted(left: usize) {
    let _alone = alone();
    let mut process = Process::start(Duration::from_secs(10), 256);
    let mut old = process.connect();
    old.write_all(&post(GOOD_BODY, "")).unwrap();
    assert_eq!(read_answer(&mut old).unwrap().status, 200);
    for _ in 0..2 {
        // What connections that have just ended still held is hoarded too.
        eventually("nothing is left to hoard", || {
            let before = process.command("hoard");
            std::thread::sleep(Duration::from_millis(300));
            process.command("hoard") == before
        });
        for _ in 0..left {
            process.command("spare one");
        }
        let mut last: Vec<_> = (0..left).map(|_| process.connect()).collect();
        for stream in &mut last {
            stream.write_all(&post(GOOD_BODY, "")).unwrap();
            assert_eq!(read_answer(stream).unwrap().status, 200);
        }
        let mut refused = process.connect();
        refused.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        refused.write_all(&post(GOOD_BODY, "")).unwrap();
        assert!(!matches!(refused.read(&mut [0]), Ok(1)), "there were descriptors left");
        // Who was there before is still served.
        old.write_all(&post(GOOD_BODY, "")).unwrap();
        assert_eq!(read_answer(&mut old).unwrap().status, 200);
        process.command("release");
        let took = served_again(&process);
        assert!(took < Duration::from_secs(2), "{took:?}");
        old.write_all(&post(GOOD_BODY, "")).unwrap();
        assert_eq!(read_answer(&mut old).unwrap().status, 200);
    }
    assert_eq!(process.command("failure"), "none");
    process.close();
}

#[test]
fn accepting_resumes_after_a_panic_for_want_of_a_descriptor() {
    exhausted(0);
}

#[test]
fn accepting_resumes_after_an_error_for_want_of_a_descriptor() {
    exhausted(1);
}

/// Connections whose threads are lost are counted, and too many of them end the process in order.
fn stuck(request: &[u8]) {
    let _alone = alone();
    let most = dispod::http::STUCK_MAX;
    let mut process = Process::start(Duration::from_millis(500), 1024);
    for count in [most, 1] {
        let mut streams: Vec<_> = (0..count).map(|_| process.connect()).collect();
        for stream in &mut streams {
            stream.write_all(request).unwrap();
        }
        for stream in &mut streams {
            read_to_end(stream);
        }
        if count == most {
            eventually("all are counted", || process.command("stuck") == most.to_string());
            assert_eq!(process.command("failure"), "none");
        }
    }
    eventually("the end is asked for", || process.command("failure").contains("stuck for good"));
    // It does not fall over meanwhile, and ends in order.
    assert_eq!(process.post().unwrap().status, 200);
    process.close();
}

#[test]
fn parked_requests_are_counted_up_to_a_cap() {
    stuck(b"POST /webhook/call-result HTTP/1.1\r\nContent-Length: 30000000000\r\n\r\n");
}

#[test]
fn leaked_threads_are_counted_up_to_a_cap() {
    stuck(b"GET /healthz HTTP/2.0\r\n\r\n");
}

#[test]
fn parked_requests_of_a_sane_length_are_let_go_again() {
    let _alone = alone();
    let mut process = Process::start(Duration::from_millis(500), 1024);
    assert_eq!(process.post().unwrap().status, 200);
    let before = process.footprint();
    let too_large = b"POST /webhook/call-result HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n";
    for _ in 0..2 {
        let mut streams: Vec<_> = (0..50).map(|_| process.connect()).collect();
        for stream in &mut streams {
            stream.write_all(too_large).unwrap();
            stream.write_all(&b" ".repeat(50_000)).unwrap();
        }
        for stream in &mut streams {
            assert_eq!(read_answer(stream).unwrap().status, 413);
            read_to_end(stream);
        }
        drop(streams);
        eventually("they are let go", || process.command("stuck") == "0");
    }
    assert_eq!(process.command("failure"), "none");
    eventually("threads and descriptors are as before", || no_more_than(process.footprint(), before, 0));
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
    assert!(with_a_connection <= 4 * 5, "{with_a_connection} wake-ups in 4 s with one connection");
    drop(stream);
    eventually("the connection is gone", || wakeups_in(Duration::from_secs(2)) <= 4);
    process.close();
}
