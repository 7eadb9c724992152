//! A subscriber that never comes back: its backlog is bounded and visible, and stops neither new events nor others.

use std::net::TcpListener;
use std::time::Duration;

use dispod::Daemon;
use dispod::config::{Config, CxoneConfig, Listen, Secret, SubscriberConfig, SubscriberTarget};
use dispod::event::Severity;
use dispod::metrics::SubscriberStatus;

use super::sandbox;
use crate::support::daemon::TempDir;
use crate::support::http::Client;
use crate::support::{SOON, wait_until};

/// More than a store of the smallest size holds.
const EVENTS: u64 = 8000;

fn subscriber(name: &str, target: SubscriberTarget) -> SubscriberConfig {
    SubscriberConfig { name: name.to_owned(), severities: Severity::ALL.to_vec(), target }
}

fn status(daemon: &Daemon, name: &str) -> SubscriberStatus {
    daemon.subscribers().into_iter().find(|status| status.name == name).unwrap()
}

#[test]
fn a_dead_subscriber_fills_the_store_and_gives_way() {
    let (sandbox, dir) = (sandbox(), TempDir::new());
    let mut cxone =
        CxoneConfig::new("sandbox.invalid", Secret::new("sandbox"), Secret::new("sandbox-secret"));
    cxone.base_url = sandbox.base_url();
    cxone.token_url = sandbox.token_url();
    let mut config = Config { cxone, ..Config::default() };
    config.webhook.listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
    config.admin.listen = None;
    config.store.dir = dir.path().join("data");
    config.store.max_size_bytes = 1024 * 1024;
    config.delivery.backoff_max = Duration::from_millis(50);
    config.delivery.backoff_base = Duration::from_millis(10);
    // Bound and dropped: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    config.subscribers = vec![
        subscriber("dead", SubscriberTarget::Webhook { url, secret: None }),
        subscriber("alive", SubscriberTarget::File(dir.path().join("log.jsonl"))),
    ];
    let daemon = Daemon::start(&config).unwrap();
    let mut client = Client::connect(daemon.local_addr().unwrap()).unwrap();
    for number in 0..EVENTS {
        let body = format!(
            r#"{{"contactId":"contact-{number:06}","dispositionCode":"1001","callResult":"ANSWERED"}}"#
        );
        let answer = client.request("POST", "/webhook/call-result", &[], body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "event {number}: {:?}", daemon.subscribers());
    }
    let done = wait_until(SOON, || status(&daemon, "alive").delivered == EVENTS);
    let (dead, alive) = (status(&daemon, "dead"), status(&daemon, "alive"));
    println!("{dead:?} {alive:?}");
    assert!(done, "{alive:?}");
    assert_eq!((alive.pending, alive.dropped, alive.disabled), (0, 0, None));
    assert_eq!(std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap().lines().count() as u64, EVENTS);
    assert_eq!(dead.pending + dead.dropped, EVENTS);
    assert!(dead.dropped > 0 && dead.pending > EVENTS / 10, "{dead:?}");
    assert!(dead.last_error.unwrap().contains("efused"));
    assert_eq!((dead.kind, alive.kind), ("webhook", "file"));
    daemon.shutdown();
    // What is left of its backlog is counted again at the next start.
    let daemon = Daemon::start(&config).unwrap();
    assert_eq!(status(&daemon, "dead").pending, dead.pending);
    assert_eq!(status(&daemon, "alive").pending, 0);
    daemon.shutdown();
    assert_eq!(sandbox.stats().updates, EVENTS);
}
