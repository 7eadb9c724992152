//! The metrics: every name of the contract, in a form Prometheus takes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use dispod::event::Severity;
use dispod::verdict::Verdict;

use super::office::Office;
use crate::door::eventually;
use crate::support::tools;

#[test]
fn metrics_follow_the_format() {
    let office = Office::open();
    let _dropped = office.bus.subscribe("odd \"name\\\n", Severity::Low);
    let _same = office.bus.subscribe("odd \"name\\\n", Severity::Critical);
    office.keep("1", "1001");
    office.metrics.webhook_requests.inc(200);
    office.metrics.webhook_requests.inc(503);
    office.metrics.api_requests.inc(0);
    office.metrics.delivery_latency.observe(Duration::from_millis(3));
    eventually("delivered", || office.metrics.delivery(Verdict::Delivered).get() == 1);
    let answer = office.get("/metrics");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let kinds = check_format(&answer.body);
    for (name, kind) in [
        ("dispod_webhook_requests_total", "counter"),
        ("dispod_events_kept_total", "counter"),
        ("dispod_events_duplicate_total", "counter"),
        ("dispod_events_pending", "gauge"),
        ("dispod_events_dead", "gauge"),
        ("dispod_oldest_pending_age_seconds", "gauge"),
        ("dispod_deliveries_total", "counter"),
        ("dispod_delivery_latency_seconds", "histogram"),
        ("dispod_api_requests_total", "counter"),
        ("dispod_api_request_seconds", "histogram"),
        ("dispod_token_requests_total", "counter"),
        ("dispod_published_total", "counter"),
        ("dispod_subscriber_dropped_total", "counter"),
        ("dispod_store_bytes", "gauge"),
        ("dispod_store_commit_seconds", "histogram"),
        ("dispod_webhook_connections", "gauge"),
        ("dispod_build_info", "gauge"),
    ] {
        assert!(kinds.contains(&(name.to_owned(), kind.to_owned())), "{name} {kind}: {kinds:?}");
    }
    for line in [
        "dispod_events_kept_total 1",
        "dispod_webhook_requests_total{code=\"503\"} 1",
        "dispod_api_requests_total{status=\"none\"} 1",
        "dispod_deliveries_total{verdict=\"delivered\"} 1",
        "dispod_token_requests_total{result=\"refused\"} 0",
        "dispod_subscriber_dropped_total{subscriber=\"odd \\\"name\\\\\\n\"} 0",
        "dispod_subscriber_pending{subscriber=\"crm\"} 3",
        "dispod_ready 1",
    ] {
        assert!(answer.body.lines().any(|l| l == line), "{line}\n{}", answer.body);
    }
    check_with_promtool(&answer.body);
}

/// Checks the exposition format; gives each family with its type.
fn check_format(text: &str) -> Vec<(String, String)> {
    assert!(text.ends_with('\n'));
    let (mut kinds, mut samples): (Vec<(String, String)>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut last_bucket = (String::new(), 0.0);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(!kinds.iter().any(|(n, _)| n == name), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            kinds.push((name.to_owned(), kind.to_owned()));
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            assert!(!samples.contains(&sample), "{sample} twice");
            samples.push(sample);
            let name = sample.split('{').next().unwrap();
            let (family, kind) = kinds.last().unwrap();
            let suffix =
                name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{name} under {family}"));
            assert!(suffix.is_empty() != (kind == "histogram"), "{name} of a {kind}");
            if suffix == "_bucket" {
                let more = last_bucket.0 != name || value >= last_bucket.1;
                assert!(more, "{sample} is less than the bucket before");
                last_bucket = (name.to_owned(), value);
            }
            if suffix == "_count" {
                assert!((value - last_bucket.1).abs() < f64::EPSILON, "{sample} is not the last bucket");
            }
        }
    }
    kinds
}

fn check_with_promtool(text: &str) {
    if !tools::present(&["promtool"]) {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
