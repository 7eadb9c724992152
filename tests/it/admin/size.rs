//! Ten thousand dead letters and a hundred thousand events: every answer is a part, and the parts are the whole.
//! How long they take is measured by the benchmarks.

use super::office::{Office, fill, ids};

const EVENTS: usize = 100_000;
const DEAD: usize = 10_000;

#[test]
fn a_large_store_is_told_in_parts() {
    let office = Office::open_with(|store| fill(store, EVENTS, DEAD));
    assert_eq!(office.json("/api/status")["dead"], DEAD);
    let (mut after, mut seen) = ("0".to_owned(), 0);
    loop {
        let page = office.json(&format!("/api/dead?limit=1000&after={after}"));
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
        let page = office.json(&path);
        found += page["events"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => path = format!("/api/audit?contact=contact-7&limit=100&below={next}"),
            None => break,
        }
    }
    assert_eq!(found, EVENTS / 5000);
    let effect = office.change("POST /api/dead/retry");
    assert_eq!(effect.status, 200);
    let effect: serde_json::Value = serde_json::from_str(&effect.body).unwrap();
    let done = effect["done"].as_u64().unwrap();
    assert!(done > 0 && done < DEAD as u64 && effect["continueAfter"].is_string(), "{effect}");
}
