//! Descriptors and threads that run out, or cannot be had back.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::{alone, no_more_than};
use crate::child::Process;
use crate::door::{GOOD_BODY, PATIENCE, eventually, post, read_answer, read_to_end};

/// Waits for a good answer; connections may fail meanwhile.
fn wait_served(process: &Process) {
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
            return;
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
        wait_served(&process);
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
    let too_large = b"POST /webhook/call-result HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n";
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
