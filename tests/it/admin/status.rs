//! Health and the status at a glance.

use serde_json::Value;

use super::office::{Office, with_dead};
use crate::door::eventually;

#[test]
fn health_says_whether_and_why_not() {
    let office = Office::open();
    assert_eq!((office.get("/livez").status, office.get("/livez").body.as_str()), (200, "ok"));
    assert_eq!((office.get("/readyz").status, office.get("/readyz").body.as_str()), (200, "ready"));
    let head = office.ask_with("HEAD /readyz", "");
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("5")));
    office.health.set_denied(Some("401 Unauthorized".to_owned()));
    office.health.set_backlog_full(true);
    let answer = office.get("/readyz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "backlog full\ndenied: 401 Unauthorized"));
    let status = office.json("/api/status");
    assert_eq!(status["ready"], false);
    assert_eq!(status["reasons"][1], "denied: 401 Unauthorized");
    assert_eq!(office.get("/livez").status, 200);
    office.health.set_denied(None);
    office.health.set_backlog_full(false);
    assert_eq!(office.get("/readyz").status, 200);
}

#[test]
fn status_has_every_member() {
    let office = with_dead(&["1", "2"]);
    office.keep("77", "1001");
    office.metrics.webhook_requests.inc(200);
    office.metrics.api_requests.inc(0);
    eventually("delivered", || office.json("/api/status")["latencySeconds"].is_object());
    let status = office.json("/api/status");
    let members: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "version",
        "ready",
        "reasons",
        "started",
        "uptimeSeconds",
        "kept",
        "duplicate",
        "delivered",
        "pending",
        "dead",
        "oldestPendingSeconds",
        "deliveries",
        "api",
        "token",
        "storeBytes",
        "webhook",
        "latencySeconds",
        "subscribers",
        "dropped",
        "lastHour",
    ];
    expected.sort_unstable();
    assert_eq!(members, expected);
    assert_eq!((&status["kept"], &status["delivered"], &status["dead"]), (&1.into(), &1.into(), &2.into()));
    assert_eq!(status["deliveries"]["delivered"], 1);
    assert_eq!(status["deliveries"]["expired"], 0);
    assert_eq!((&status["api"]["200"], &status["api"]["none"]), (&1.into(), &1.into()));
    assert_eq!(status["webhook"]["requests"]["200"], 1);
    assert_eq!(status["token"]["refreshAt"], Value::Null);
    assert!(status["storeBytes"].as_u64().unwrap() > 0);
    assert_eq!(status["subscribers"][0]["name"], "crm");
    assert_eq!(status["subscribers"][0]["disabled"], Value::Null);
    let hour = status["lastHour"].as_array().unwrap();
    let kept: u64 = hour.iter().map(|minute| minute["kept"].as_u64().unwrap()).sum();
    assert_eq!(kept, 1);
    assert!(hour.iter().any(|minute| minute["p99Seconds"].is_f64()), "{hour:?}");
}
