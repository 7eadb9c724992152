//! Dead letters and a contact's story: read in pages, changed one by one and all at once.

use dispod::store::{State, Sync};
use dispod::verdict::Verdict;
use serde_json::Value;

use super::office::{MINUTE_MS, Office, attempt, fill, ids, settle_in, with_dead};
use crate::door::eventually;

#[test]
fn dead_letters_are_listed_in_pages() {
    let contacts: Vec<_> = (0..250).map(|n| format!("contact-{n}")).collect();
    let office = with_dead(&contacts.iter().map(String::as_str).collect::<Vec<_>>());
    let first = office.json("/api/dead");
    assert_eq!(ids(&first).len(), 100);
    let (mut seen, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let page = office.json(&format!("/api/dead?limit=60&after={after}"));
        seen.extend(ids(&page));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(seen.len(), 250);
    assert!(seen.is_sorted_by_key(|id| id.parse::<u64>().unwrap()));
    let letter = office.json(&format!("/api/dead/{}", seen[7]));
    assert_eq!(letter, office.json("/api/dead")["dead"][7]);
    let members: Vec<_> = letter.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "answer",
            "attempts",
            "callResult",
            "category",
            "contactId",
            "diedAt",
            "dispositionCode",
            "id",
            "reason",
            "receivedAt",
            "severity",
            "status",
            "timestamp"
        ]
    );
    assert_eq!((&letter["contactId"], &letter["reason"]), (&"contact-7".into(), &"rejected".into()));
    assert_eq!((&letter["status"], &letter["attempts"]), (&422.into(), &3.into()));
    assert_eq!(letter["severity"], "critical");
    let died = letter["diedAt"].as_str().unwrap();
    assert!(died.len() == 24 && died.ends_with('Z'), "{died}");
    for missing in ["/api/dead/999999", "/api/dead/0"] {
        assert_eq!(office.get(missing).status, 404, "{missing}");
    }
}

#[test]
fn dead_letters_are_retried_and_dropped() {
    let office = with_dead(&["1", "2", "3", "4"]);
    let all = office.dead_ids();
    let answer = office.change(&format!("POST /api/dead/{}/retry", all[1]));
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"done":1,"notDone":0,"continueAfter":null}"#)
    );
    eventually("delivered", || office.metrics.delivery(Verdict::Delivered).get() == 1);
    assert_eq!(office.change(&format!("DELETE /api/dead/{}", all[2])).status, 200);
    assert_eq!(office.dead_ids(), [all[0].clone(), all[3].clone()]);
    for again in [format!("POST /api/dead/{}/retry", all[1]), format!("DELETE /api/dead/{}", all[2])] {
        assert_eq!(office.change(&again).status, 404, "{again}");
    }
    assert_eq!(office.get(&format!("/api/dead/{}", all[1])).status, 404);
    let answer = office.change(&format!("POST /api/dead/drop?after={}", all[0]));
    assert_eq!(answer.body, r#"{"done":1,"notDone":0,"continueAfter":null}"#);
    assert_eq!(office.dead_ids(), [all[0].clone()]);
    eventually("counted", || {
        office.metrics.events_dead.get() == 1 && office.metrics.events_pending.get() == 0
    });
}

#[test]
fn all_dead_letters_are_retried_part_by_part() {
    let office = Office::open_with(|store| fill(store, 0, 1000));
    let (mut done, mut after, mut parts) = (0, "0".to_owned(), 0);
    loop {
        let answer = office.change(&format!("POST /api/dead/retry?after={after}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let part: Value = serde_json::from_str(&answer.body).unwrap();
        done += part["done"].as_u64().unwrap();
        parts += 1;
        match part["continueAfter"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(done, 1000);
    assert!(parts > 1, "one transaction is short");
    eventually("delivered", || office.metrics.delivery(Verdict::Delivered).get() == 1000);
    assert!(office.dead_ids().is_empty());
}

#[test]
fn a_contacts_story_is_told_newest_first() {
    let office = Office::open_with(|store| {
        store
            .transact(Sync::Now, |batch| {
                let at_ms = dispod::clock::now_ms() - 10 * MINUTE_MS;
                let first = settle_in(batch, "+49 171/1", "1001", State::Dead);
                for n in 0..300 {
                    batch.step(&attempt(first, at_ms + n))?;
                }
                settle_in(batch, "another", "1001", State::Delivered);
                let second = settle_in(batch, "+49 171/1", "2001", State::Delivered);
                batch.step(&attempt(second, at_ms + 5))
            })
            .unwrap();
    });
    let audit = office.json("/api/audit?contact=+49%20171%2F1");
    assert_eq!((&audit["contact"], &audit["next"]), (&"+49 171/1".into(), &Value::Null));
    let [second, first] = &audit["events"].as_array().unwrap()[..] else { panic!("{audit}") };
    let told = |story: &Value| -> Vec<String> {
        story["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["what"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(told(second), ["received", "mapped", "attempt", "delivered"]);
    let mapped = second["steps"][1]["note"].as_str().unwrap();
    assert!(mapped.starts_with("callback_later (medium), by mapping 1, in force since 20"), "{mapped}");
    assert_eq!(
        (&second["steps"][2]["status"], &second["steps"][2]["note"]),
        (&503.into(), &"maintenance".into())
    );
    assert_eq!((&second["state"], &second["moreSteps"]), (&"delivered".into(), &false.into()));
    assert_eq!((&first["state"], &first["moreSteps"]), (&"dead".into(), &true.into()));
    assert_eq!(told(first).len(), 203);
    let last = &first["steps"].as_array().unwrap()[202];
    assert_eq!(last["note"], r#"rejected: {"error":"contact is archived"}"#);
    assert_eq!(
        office.json("/api/audit?contact=%2B49%20171%2F1&limit=1")["events"].as_array().unwrap().len(),
        1
    );
    assert!(office.json("/api/audit?contact=nobody")["events"].as_array().unwrap().is_empty());
    let id = office.dead_ids()[0].clone();
    assert_eq!(office.change(&format!("DELETE /api/dead/{id}")).status, 200);
    let first = &office.json("/api/audit?contact=+49%20171%2F1")["events"][1];
    assert_eq!(told(first)[201..], ["dead", "dropped"]);
}
