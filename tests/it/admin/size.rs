//! Ten thousand dead letters and a hundred thousand events: every answer within a second.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::office::{Office, fill, ids};

const EVENTS: usize = 100_000;
const DEAD: usize = 10_000;
const ANSWER_MAX: Duration = Duration::from_secs(1);

fn timed(office: &Office, path: &str) -> Value {
    let start = Instant::now();
    let value = office.json(path);
    let took = start.elapsed();
    println!("{path}: {took:?}");
    assert!(took < ANSWER_MAX, "{path} took {took:?}");
    value
}

#[test]
fn a_large_store_is_no_slower() {
    let office = Office::open_with(|store| fill(store, EVENTS, DEAD));
    assert_eq!(timed(&office, "/api/status")["dead"], DEAD);
    let (mut after, mut seen) = ("0".to_owned(), 0);
    loop {
        let page = timed(&office, &format!("/api/dead?limit=1000&after={after}"));
        seen += ids(&page).len();
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(seen, DEAD);
    // The first ones kept: everything is looked through.
    let (mut path, mut found) = ("/api/audit?contact=contact-7&limit=100".to_owned(), 0);
    loop {
        let page = timed(&office, &path);
        found += page["events"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => path = format!("/api/audit?contact=contact-7&limit=100&below={next}"),
            None => break,
        }
    }
    assert_eq!(found, EVENTS / 5000);
    let start = Instant::now();
    assert_eq!(office.change("POST /api/dead/retry").status, 200);
    assert!(start.elapsed() < ANSWER_MAX, "retrying a part took {:?}", start.elapsed());
}
