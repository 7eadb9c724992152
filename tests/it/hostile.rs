//! The catalogue of bad requests, bare: the door answers as it should, forgets nothing it need not keep, and
//! serves the next good request.

use std::io::Write;
use std::time::Duration;

use socket2::SockRef;

use crate::catalogue::{self, Answers, Case, Ending};
use crate::child::Process;
use crate::door::{eventually, finish, read_to_end};

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
        // Rarely, on a busy machine, a connection is ended without an answer; a second one is not.
        wrong.extend(run(case, &process).and_then(|_| run(case, &process)));
        assert!(process.is_alive(), "{} ended the process", case.name);
        let answer = process.post().or_else(|| process.post());
        assert_eq!(answer.map(|answer| answer.status), Some(200), "after {}", case.name);
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
