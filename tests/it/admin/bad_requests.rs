//! The catalogue of bad requests, at the admin listener: nothing changes, and the next good one is answered.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use socket2::SockRef;

use super::office::{Office, with_dead};
use crate::catalogue::{self, Case, Ending};
use crate::door::finish;

/// Clients at once.
const CLIENTS: usize = 16;
/// What the catalogue asks for, and what is asked for here instead: a change.
const WEBHOOK: &[u8] = b"/webhook/call-result";

/// The bytes with every mention of the webhook's path replaced.
fn aimed_at(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut aimed = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(WEBHOOK.len()).position(|window| window == WEBHOOK) {
        aimed.extend_from_slice(&rest[..at]);
        aimed.extend_from_slice(path.as_bytes());
        rest = &rest[at + WEBHOOK.len()..];
    }
    aimed.extend_from_slice(rest);
    aimed
}

/// Sends a case aimed at `path`; whether anything in what came back says 200.
fn is_accepted(office: &Office, case: &Case, path: &str) -> bool {
    let mut stream = office.connect();
    // The server may have heard enough before we have said it all.
    let _ = stream.write_all(&aimed_at(path, &case.bytes));
    match case.end {
        Ending::Finish => finish(&stream),
        Ending::Leave => return false,
        Ending::Reset => {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            return false;
        }
    }
    if case.sticks {
        // Ended only when it has been idle for too long, which is a minute here.
        return false;
    }
    let mut answer = Vec::new();
    // A reset is an end too.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(error.kind() != ErrorKind::WouldBlock, "{}: the connection does not end", case.name);
    }
    String::from_utf8_lossy(&answer).contains("HTTP/1.1 200")
}

#[test]
fn nothing_in_the_catalogue_changes_anything() {
    let office = with_dead(&["1", "2"]);
    let dead = office.dead_ids();
    assert_eq!(dead.len(), 2);
    let retry = format!("/api/dead/{}/retry", dead[0]);
    let cases = catalogue::all();
    let sticking = cases.iter().filter(|case| case.sticks).count();
    assert!(sticking < dispod::http::STUCK_MAX, "more stick than the listener bears");
    let wrong = Mutex::new(Vec::new());
    catalogue::each(&cases, CLIENTS, |case| {
        if is_accepted(&office, case, &retry) {
            wrong.lock().unwrap().push(case.name.clone());
        }
        assert_eq!(office.get("/livez").status, 200, "after {}", case.name);
    });
    let mut wrong = wrong.into_inner().unwrap();
    // Whole requests that ask for health, fifty times over in one case, are good ones.
    wrong.retain(|name| name != "pipelined 5,000 questions");
    assert!(wrong.is_empty(), "accepted: {wrong:?}");
    assert_eq!(office.dead_ids(), dead);
}
