//! SIGHUP: the mapping changes at once or not at all, and never for what is kept already.

use std::fs;

use dispod::sandbox::Reply;

use super::*;

const OTHER_MAPPING: &str = "
[dispositions]
1001 = \"vip\"

[severities]
vip = \"critical\"
";

/// Replaces the configuration by the first one and more, and has it read.
fn reload(daemon: &Daemon, sandbox: &Sandbox, more: &str) {
    fs::write(daemon.dir().join("dispod.toml"), config_for(sandbox) + more).unwrap();
    daemon.sighup();
}

#[test]
fn a_valid_file_is_in_force_at_once_and_kept_events_keep_their_mapping() {
    let sandbox = behaving(|behaviour| behaviour.outage = Reply::Status(503));
    let mut daemon = daemon(&sandbox, &[]);
    keep(&daemon, "before", "1001");
    reload(&daemon, &sandbox, OTHER_MAPPING);
    daemon.wait_for_log("configuration reloaded");
    keep(&daemon, "after", "1001");
    keep(&daemon, "other", "2001");
    // Not only in memory.
    daemon.restart();
    sandbox.set_behaviour(|behaviour| behaviour.outage = Reply::Normal).unwrap();
    wait_updates(&sandbox, 3);
    let found = ["before", "after", "other"].map(|contact| category(&sandbox, contact));
    let promised = ["do_not_call", "vip", "unclassified"].map(|category| Some(category.to_owned()));
    assert_eq!(found, promised);
    daemon.wait_for_log("CRITICAL WORKFLOW TRIGGERED: Contact after categorized as vip at ");
}

#[test]
fn an_invalid_file_changes_nothing_and_is_logged_as_an_error() {
    let sandbox = sandbox(|_| {});
    let daemon = daemon(&sandbox, &[]);
    let mistakes = [
        // The mapping in it is sound: not at all means not in part.
        (format!("{OTHER_MAPPING}\n[nonsense]\nkey = 1\n"), "nonsense"),
        (format!("{OTHER_MAPPING}low = \"lowest\"\n"), "severities.low"),
        ("[dispositions\n".to_owned(), "dispod.toml"),
    ];
    for (number, (more, named)) in (1..).zip(&mistakes) {
        reload(&daemon, &sandbox, more);
        let wanted = "not reloaded, the old configuration stays in force: dispod.toml";
        assert!(wait_until(SOON, || daemon.log_count(wanted) == number), "{more}");
        let line = daemon.wait_for_log(named);
        assert!(line.contains("ERROR") || !line.contains("not reloaded"), "{line}");
        let contact = format!("contact-{number}");
        keep(&daemon, &contact, "1001");
        wait_updates(&sandbox, number as u64);
        assert_eq!(category(&sandbox, &contact).as_deref(), Some("do_not_call"), "{more}");
    }
    reload(&daemon, &sandbox, OTHER_MAPPING);
    daemon.wait_for_log("configuration reloaded");
    keep(&daemon, "mended", "1001");
    wait_updates(&sandbox, mistakes.len() as u64 + 1);
    assert_eq!(category(&sandbox, "mended").as_deref(), Some("vip"));
}

#[test]
fn another_kind_of_proof_takes_a_restart_and_changes_nothing() {
    let sandbox = sandbox(|_| {});
    let daemon = daemon(&sandbox, &[]);
    let auth = OTHER_MAPPING.to_owned() + "[webhook]\nauth = \"bearer\"\nsecret = \"s3cr3t\"\n";
    let config = config_for(&sandbox).replace("[webhook]\nlisten = \"127.0.0.1:0\"\n", "") + &auth;
    fs::write(daemon.dir().join("dispod.toml"), config).unwrap();
    daemon.sighup();
    daemon.wait_for_log("not reloaded, the old configuration stays in force: webhook.auth has changed");
    keep(&daemon, "1", "1001");
    wait_updates(&sandbox, 1);
    assert_eq!(category(&sandbox, "1").as_deref(), Some("do_not_call"));
}
