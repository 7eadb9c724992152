//! The catalogue of bad requests, bare: the door answers as it should, forgets nothing it need not keep, and
//! serves the next good request.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::catalogue::{self, Answers, Case, Ending};
use crate::child::Process;
use crate::door::{GOOD_BODY, eventually, finish, post, read_answer, read_to_end};

/// Short, so that what nobody answers ends soon.
const DEADLINE: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 1024;
/// The product's own limit on stuck connections, which no test here may come near.
const STUCK_MAX: usize = dispod::http::STUCK_MAX;
const PEAK_MAX_KIB: usize = 64 * 1024;

/// The statuses of all answers in what came back.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.match_indices("HTTP/1.").map(|(at, _)| &text[at..]);
    lines.filter_map(|line| line.get(9..12)?.parse().ok()).collect()
}

/// Sends a case; gives what is wrong with what comes back.
fn run(case: &Case, process: &Process) -> Option<String> {
    let mut stream = process.connect();
    // The server may have heard enough before we have said it all.
    let sent = stream.write_all(&case.bytes);
    match case.end {
        Ending::Finish => finish(&stream),
        Ending::Leave => return None,
        Ending::Reset => {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            return None;
        }
    }
    let (took, answer) = read_to_end(&mut stream);
    let statuses = statuses(&answer);
    let acknowledged = statuses.iter().filter(|status| **status == 200).count();
    let as_expected = match case.answer {
        Answers::Status(status) => statuses.first() == Some(&status) && acknowledged == case.keeps,
        Answers::Nothing => statuses.is_empty(),
        Answers::NoMatter => true,
    };
    (!as_expected).then(|| format!("{}: {statuses:?} after {took:?}, sent: {sent:?}", case.name))
}

#[test]
fn the_catalogue() {
    let cases = catalogue::all();
    let named = cases.iter().filter(|case| !case.name.starts_with("cut after")).count();
    assert!(named >= 80, "only {named} cases");
    let mut process = Process::start(DEADLINE, CONNECTIONS);
    assert_eq!(process.post().unwrap().status, 200);
    let before = process.footprint();
    let mut kept = 1;
    let mut wrong = Vec::new();
    for case in &cases {
        wrong.extend(run(case, &process));
        assert!(process.is_alive(), "{} ended the process", case.name);
        assert_eq!(process.post().map(|answer| answer.status), Some(200), "after {}", case.name);
        kept += 1 + case.keeps;
        let kept_now = process.kept();
        if kept_now != kept {
            wrong.push(format!("{}: kept {kept_now} instead of {kept}", case.name));
            kept = kept_now;
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let sticking = cases.iter().filter(|case| case.sticks).count();
    assert!(sticking < STUCK_MAX, "{sticking} cases stick");
    let after = || process.footprint();
    eventually("only what sticks is left", || {
        after().descriptors <= before.descriptors + 2 * sticking
            && after().threads <= before.threads + sticking + 2
    });
    println!("{} cases, {sticking} stick, peak {} KiB", cases.len(), process.peak_kib());
    assert!(process.peak_kib() < PEAK_MAX_KIB, "peak {} KiB", process.peak_kib());
    assert_eq!(process.command("failure"), "none");
    process.close();
}

#[test]
fn a_request_behind_one_that_is_refused_is_never_taken() {
    // It was, now and then: tiny_http goes on as soon as the refused body has been read to its end.
    const ROUNDS: usize = 300;
    let mut process = Process::start(DEADLINE, CONNECTIONS);
    let all = catalogue::all();
    let hidden: Vec<_> =
        all.iter().filter(|case| case.name.starts_with("request ") && !case.sticks).collect();
    assert!(hidden.len() > 4, "only {} cases", hidden.len());
    for _ in 0..ROUNDS {
        for case in hidden.iter().filter(|case| matches!(case.answer, Answers::Status(_))) {
            assert_eq!(run(case, &process), None);
        }
    }
    assert_eq!(process.kept(), 0);
    process.close();
}

#[test]
fn the_address_of_a_stuck_connection_serves_its_next_one() {
    let mut process = Process::start(DEADLINE, CONNECTIONS);
    // A loopback address no other test uses: whatever they connect with the same port keeps it for a minute.
    let free = SocketAddr::from(([127, 0, 0, 77], 0));
    let mut stuck = connect_from(free, process.addr).unwrap();
    let address = stuck.local_addr().unwrap();
    stuck.write_all(b"POST /webhook/call-result HTTP/1.1\r\nContent-Length: 30000000000\r\n\r\n").unwrap();
    read_to_end(&mut stuck);
    drop(stuck);
    eventually("it is counted", || process.command("stuck") == "1");
    // Once the guard has seen that nobody is there any more, the address is like any other.
    eventually("its address is served", || {
        // As long as it is used the guard takes it for what it was; nothing tells when it has forgotten.
        std::thread::sleep(2 * DEADLINE);
        let mut stream = connect_from(address, process.addr).unwrap();
        // What is not answered is reset, so that the address can be taken again at once.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let good = post(GOOD_BODY, "");
        stream.write_all(&good).is_ok() && read_answer(&mut stream).is_some_and(|answer| answer.status == 200)
    });
    process.close();
}

#[test]
fn the_address_of_an_ended_connection_serves_its_next_one_at_once() {
    const ROUNDS: usize = 20;
    let process = Process::start(DEADLINE, CONNECTIONS);
    let free = SocketAddr::from(([127, 0, 0, 78], 0));
    for _ in 0..ROUNDS {
        let mut ended = connect_from(free, process.addr).unwrap();
        let address = ended.local_addr().unwrap();
        ended.write_all(b"POST /webhook/call-result HTTP/1.1\r\nContent-Length: 2x\r\n\r\n{}").unwrap();
        read_to_end(&mut ended);
        drop(ended);
        for good in [post(GOOD_BODY, ""), post(&format!("{}{GOOD_BODY}", " ".repeat(8192)), "")] {
            let mut next = connect_from(address, process.addr).unwrap();
            SockRef::from(&next).set_linger(Some(Duration::ZERO)).unwrap();
            next.write_all(&good).unwrap();
            assert_eq!(read_answer(&mut next).map(|answer| answer.status), Some(200));
        }
    }
    process.close();
}

/// A connection from a chosen address.
fn connect_from(address: SocketAddr, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}
