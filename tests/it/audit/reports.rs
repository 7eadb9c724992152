//! What the mapping does not do, and what another would have done.

use super::*;

/// A mapping of its own: 1001 is another category, 2001 is gone, 9999 is there, wrong numbers matter more.
const OTHER: &str = r#"
[dispositions]
1001 = "complaint"
4001 = "wrong_number"
9999 = "do_not_call"

[severities]
wrong_number = "critical"
do_not_call = "critical"
"#;

/// A stopped daemon that was given a few events under the default mapping.
fn stopped() -> (Sandbox, Daemon) {
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    let mut daemon = Daemon::start(&config_for(&sandbox));
    for (number, code) in
        ["1001", "1001", "2001", "3001", "4001", "9999", "9999", "9999", "8,8"].iter().enumerate()
    {
        let call = json!({ "contactId": format!("contact-{number}"), "dispositionCode": code });
        assert_eq!(daemon.post(&call.to_string()).0, 200);
    }
    assert!(daemon.sigterm().success());
    (sandbox, daemon)
}

fn reconfigure(daemon: &Daemon, more: &str) {
    fs::write(daemon.dir().join("dispod.toml"), format!("[store]\ndir = \"data\"\n{more}")).unwrap();
}

/// Records without their times, as text.
fn brief(mut records: Vec<Value>) -> Vec<String> {
    for record in &mut records {
        let last_seen = record.as_object_mut().unwrap().remove("lastSeen").unwrap();
        assert!(last_seen.as_str().is_some_and(|text| text.starts_with("20") && text.ends_with('Z')));
    }
    let mut text: Vec<String> = records.iter().map(Value::to_string).collect();
    text.sort();
    text
}

fn sorted(expected: &[Value]) -> Vec<String> {
    let mut text: Vec<String> = expected.iter().map(Value::to_string).collect();
    text.sort();
    text
}

#[test]
fn codes_that_are_not_mapped_are_counted() {
    let (_sandbox, daemon) = stopped();
    let dir = daemon.dir();
    let unmapped = |code: &str, events: u32, now: Option<(&str, &str)>| {
        json!({
            "dispositionCode": code, "events": events, "category": "unclassified", "severity": "low",
            "mappedThen": false, "categoryNow": now.map(|now| now.0), "severityNow": now.map(|now| now.1),
        })
    };
    let told = records(dir, &["audit", "--unmapped"]);
    assert_eq!(told[0]["dispositionCode"], "9999", "the most frequent first");
    assert_eq!(brief(told), sorted(&[unmapped("9999", 3, None), unmapped("8,8", 1, None)]));
    let table = printed(dir, &["audit", "--unmapped"]);
    let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((words[0], words[1], words.len()), ("9999", "3", 8), "{table}");
    assert!(table.starts_with("code  events  last seen"), "{table}");
    let csv = parse_csv(&printed(dir, &["audit", "--unmapped", "--format", "csv"]));
    assert_eq!(csv[0][..3], ["dispositionCode", "events", "lastSeen"]);
    assert_eq!((csv[2][0].as_str(), csv[2][1].as_str(), csv.len()), ("8,8", "1", 3));
    assert!(records(dir, &["audit", "--unmapped", "--until", "1h"]).is_empty());
    assert_eq!(records(dir, &["audit", "--unmapped", "--contact", "contact-8"]).len(), 1);

    // Under another configuration: what was not mapped then, and what is not mapped now.
    reconfigure(&daemon, OTHER);
    let no_longer = |code: &str, category: &str| {
        json!({
            "dispositionCode": code, "events": 1, "category": category, "severity": "medium",
            "mappedThen": true, "categoryNow": null, "severityNow": null,
        })
    };
    assert_eq!(
        brief(records(dir, &["audit", "--unmapped"])),
        sorted(&[
            unmapped("9999", 3, Some(("do_not_call", "critical"))),
            unmapped("8,8", 1, None),
            no_longer("2001", "callback_later"),
            no_longer("3001", "qualified_lead"),
        ])
    );
    assert_eq!(
        printed(dir, &["audit", "--unmapped", "--contact", "contact-0"]),
        "every code that came in was mapped and still is\n"
    );
}

#[test]
fn a_changed_mapping_is_held_against_what_was_recorded() {
    let (_sandbox, daemon) = stopped();
    let dir = daemon.dir();
    let against = &["check", "--against-history"];
    // Neither credentials nor a sandbox are needed, and what is the same is said in words.
    reconfigure(&daemon, "");
    let same = "no differences: the 9 recorded events would be mapped as they were\n";
    assert_eq!(printed(dir, against), same);
    assert_eq!(records(dir, against), Vec::<Value>::new());

    reconfigure(&daemon, OTHER);
    let change = |code: &str, events: u32, then: (&str, &str), now: (&str, &str)| {
        json!({
            "dispositionCode": code, "events": events, "category": then.0, "severity": then.1,
            "categoryNow": now.0, "severityNow": now.1,
        })
    };
    assert_eq!(
        brief(records(dir, against)),
        sorted(&[
            change("1001", 2, ("do_not_call", "critical"), ("complaint", "medium")),
            change("2001", 1, ("callback_later", "medium"), ("unclassified", "low")),
            change("3001", 1, ("qualified_lead", "medium"), ("unclassified", "low")),
            change("4001", 1, ("wrong_number", "low"), ("wrong_number", "critical")),
            change("9999", 3, ("unclassified", "low"), ("do_not_call", "critical")),
        ])
    );
    let table = printed(dir, against);
    assert!(
        table.starts_with("differences: 8 of the 9 recorded events would be mapped otherwise\n"),
        "{table}"
    );
    let rows: Vec<Vec<&str>> = table.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[0][0], rows[0][1]), (5, "9999", "3"), "{table}");

    let output = run(dir, &["check", "--format", "csv"]);
    assert_eq!(output.status.code(), Some(2), "a format is for the comparison only: {output:?}");
    reconfigure(&daemon, "[severities]\ndo_not_call = \"grave\"\n");
    assert_eq!(run(dir, against).status.code(), Some(78));
}
