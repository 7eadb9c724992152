//! What the README tells people to do works as it stands there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dispod::sandbox::{Sandbox, SandboxOptions};

use crate::support::daemon::{Daemon, TempDir, config_for};
use crate::support::{SOON, tools, wait_until};

const DO_NOT_CALL: &str = r#"{"contactId":"1234567890","dispositionCode":"1001"}"#;
/// `whsec_` and base64.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The first block of code in this language.
fn block(language: &str) -> String {
    let readme = readme();
    let (_, after) = readme.split_once(&format!("```{language}\n")).expect("a block of it");
    after.split_once("```").expect("its end").0.to_owned()
}

fn sandbox() -> Sandbox {
    Sandbox::start(SandboxOptions::default()).unwrap()
}

struct Receiver(Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_receiver_hears_of_an_outcome_and_believes_it() {
    if !tools::present(&["python3"]) {
        return;
    }
    let dir = TempDir::new();
    let script = dir.path().join("receiver.py");
    fs::write(&script, block("python")).unwrap();
    let port = free_port();
    let mut child = Command::new("python3")
        .arg(&script)
        .env("SECRET", SECRET)
        .env("PORT", port.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let _receiver = Receiver(child);
    assert!(wait_until(SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "it listens");
    let sandbox = sandbox();
    let subscriber = format!(
        "[[subscribers]]\nname = \"crm\"\nwebhook = \"http://127.0.0.1:{port}/outcomes\"\nsecret = \"{SECRET}\"\n"
    );
    let daemon = Daemon::start(&(config_for(&sandbox) + &subscriber));
    assert_eq!(daemon.post(DO_NOT_CALL).0, 200);
    let line = said.lines().next().expect("it hears of it").unwrap();
    let outcome: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&outcome["category"], &outcome["severity"]), (&"do_not_call".into(), &"critical".into()));
}

#[test]
fn every_metric_it_names_is_there() {
    let sandbox = sandbox();
    let subscriber = "[[subscribers]]\nname = \"lines\"\nfile = \"outcomes.jsonl\"\n";
    let daemon = Daemon::start(&(config_for(&sandbox) + subscriber));
    assert_eq!(daemon.post(DO_NOT_CALL).0, 200);
    assert!(sandbox.wait_until(|stats| stats.updates == 1, SOON));
    let metrics = daemon.admin("GET", "/metrics").text();
    let known: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let readme = readme();
    let (_, chapter) = readme.split_once("### Metrics and alerts").unwrap();
    let chapter = chapter.split_once("### Logs").unwrap().0;
    let named: BTreeSet<&str> = chapter
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("dispod_"))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "named, but not in /metrics: {unknown:?}");
    let unnamed: Vec<_> = known.difference(&named).collect();
    assert!(unnamed.is_empty(), "in /metrics, but not named: {unnamed:?}");
}

#[test]
fn a_backup_made_while_running_can_be_restored() {
    let sandbox = sandbox();
    let mut daemon = Daemon::start(&config_for(&sandbox));
    assert_eq!(daemon.post(DO_NOT_CALL).0, 200);
    assert!(sandbox.wait_until(|stats| stats.updates == 1, SOON));
    let data = daemon.dir().join("data");
    let backup = daemon.dir().join("backup.db");
    let live = rusqlite::Connection::open(data.join("dispod.db")).unwrap();
    live.execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    drop(live);
    assert_eq!(daemon.post(r#"{"contactId":"2","dispositionCode":"1001"}"#).0, 200);
    assert!(daemon.sigterm().success());
    fs::rename(&backup, data.join("dispod.db")).unwrap();
    for leftover in ["dispod.db-wal", "dispod.db-shm"] {
        let _ = fs::remove_file(data.join(leftover));
    }
    daemon.restart();
    let story = |contact: &str| daemon.admin("GET", &format!("/api/audit?contact={contact}")).text();
    assert!(story("1234567890").contains("do_not_call"), "{}", story("1234567890"));
    assert!(!story("2").contains("do_not_call"), "kept after the backup");
}

#[test]
fn every_link_to_a_chapter_leads_somewhere() {
    let readme = readme();
    let chapters: BTreeSet<String> = readme
        .lines()
        .filter(|line| line.starts_with("## ") || line.starts_with("### "))
        .map(|line| {
            line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-").replace(['?', '"'], "")
        })
        .collect();
    let links: Vec<&str> =
        readme.split("](#").skip(1).map(|after| after.split_once(')').expect("its end").0).collect();
    assert!(links.len() > 10);
    for link in links {
        assert!(chapters.contains(link), "no chapter #{link}: {chapters:?}");
    }
}
