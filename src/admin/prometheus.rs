//! `/metrics`: the Prometheus text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::Desk;
use crate::clock;
use crate::event::Severity;
use crate::http::Reply;
use crate::metrics::{
    AuthFailure, BUCKET_BOUNDS_S, Histogram, Metrics, StatusCounters, SubscriberMeter, SubscriberStatus,
};
use crate::verdict::Verdict;

/// The type the format asks for.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn reply(desk: &Desk) -> Reply {
    let mut text = Text::default();
    let metrics = &desk.metrics;
    about_the_process(&mut text, desk);
    about_the_webhook(&mut text, metrics);
    about_events(&mut text, metrics);
    about_the_api(&mut text, metrics);
    about_subscribers(&mut text, metrics, &desk.bus.dropped());
    about_the_store(&mut text, metrics);
    Reply::content(200, CONTENT_TYPE, text.0)
}

/// How many outcomes each subscriber of the bus was too slow for, by name.
pub(super) fn dropped_by_name(dropped: &[(String, u64)]) -> BTreeMap<&str, u64> {
    let mut by_name = BTreeMap::new();
    for (name, count) in dropped {
        *by_name.entry(name.as_str()).or_default() += count;
    }
    by_name
}

/// How old the oldest pending event is.
pub(super) fn oldest_pending(metrics: &Metrics) -> std::time::Duration {
    let since_ms = metrics.oldest_pending_ms.get();
    if since_ms == 0 || metrics.events_pending.get() == 0 {
        return std::time::Duration::ZERO;
    }
    std::time::Duration::from_millis(clock::now_ms().cast_unsigned().saturating_sub(since_ms))
}

fn about_the_process(text: &mut Text, desk: &Desk) {
    text.family("dispod_build_info", "gauge", "Which dispod this is; always 1.");
    text.sample("dispod_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family("dispod_ready", "gauge", "1 when /readyz says ready, else 0.");
    text.sample("dispod_ready", &[], u8::from(desk.health.reasons().is_empty()));
    let started_s = std::time::Duration::from_millis(desk.started_ms.max(0).cast_unsigned()).as_secs_f64();
    text.family("dispod_start_time_seconds", "gauge", "When the daemon was started, Unix time.");
    text.sample("dispod_start_time_seconds", &[], started_s);
}

fn about_the_webhook(text: &mut Text, metrics: &Metrics) {
    let name = "dispod_webhook_requests_total";
    text.family(name, "counter", "Webhook requests answered, by HTTP status.");
    text.statuses(name, "code", &metrics.webhook_requests);
    text.gauge("dispod_webhook_connections", "Open webhook connections.", metrics.webhook_connections.get());
    let name = "dispod_webhook_auth_failures_total";
    text.family(name, "counter", "Webhook requests that were not authenticated, by what was wrong.");
    for kind in AuthFailure::ALL {
        text.sample(name, &[("kind", kind.as_str())], metrics.auth_failure(kind).get());
    }
    text.counter(
        "dispod_webhook_connections_shed_total",
        "Webhook connections ended because they were too slow, idle or too many.",
        metrics.webhook_connections_shed.get(),
    );
    text.gauge(
        "dispod_webhook_connections_parked",
        "Webhook connections whose thread cannot be had back.",
        metrics.webhook_connections_parked.get(),
    );
}

fn about_events(text: &mut Text, metrics: &Metrics) {
    text.counter("dispod_events_kept_total", "Events kept on stable storage.", metrics.events_kept.get());
    text.counter(
        "dispod_events_duplicate_total",
        "Events answered 200 because they were kept before.",
        metrics.events_duplicate.get(),
    );
    text.gauge("dispod_events_pending", "Events still to be delivered.", metrics.events_pending.get());
    text.gauge("dispod_events_dead", "Dead letters waiting for an operator.", metrics.events_dead.get());
    text.family(
        "dispod_oldest_pending_age_seconds",
        "gauge",
        "Age of the oldest pending event; 0 when none is.",
    );
    text.sample("dispod_oldest_pending_age_seconds", &[], oldest_pending(metrics).as_secs_f64());
    let name = "dispod_deliveries_total";
    text.family(name, "counter", "Attempts to deliver an event, by verdict.");
    for verdict in Verdict::ALL {
        text.sample(name, &[("verdict", verdict.as_str())], metrics.delivery(verdict).get());
    }
    text.histogram(
        "dispod_delivery_latency_seconds",
        "From keeping an event to its delivery.",
        &metrics.delivery_latency,
    );
}

fn about_the_api(text: &mut Text, metrics: &Metrics) {
    let name = "dispod_api_requests_total";
    text.family(name, "counter", "Calls to the Contact API, by HTTP status; none: no usable answer.");
    text.statuses(name, "status", &metrics.api_requests);
    text.histogram(
        "dispod_api_request_seconds",
        "How long a call to the Contact API took.",
        &metrics.api_request,
    );
    let name = "dispod_token_requests_total";
    text.family(name, "counter", "Requests for a token, by result.");
    for (result, counter) in [
        ("ok", &metrics.token_requests_ok),
        ("refused", &metrics.token_requests_refused),
        ("failed", &metrics.token_requests_failed),
    ] {
        text.sample(name, &[("result", result)], counter.get());
    }
}

fn about_subscribers(text: &mut Text, metrics: &Metrics, dropped: &[(String, u64)]) {
    let durable: Vec<SubscriberStatus> = metrics.subscribers().iter().map(SubscriberMeter::status).collect();
    let name = "dispod_published_total";
    text.family(name, "counter", "Outcomes published after delivery, by severity.");
    for severity in Severity::ALL {
        text.sample(name, &[("severity", severity.as_str())], metrics.published(severity).get());
    }
    let name = "dispod_subscriber_dropped_total";
    text.family(name, "counter", "Outcomes a subscriber was too slow for, or a durable one gave up.");
    let mut by_name = dropped_by_name(dropped);
    for one in &durable {
        *by_name.entry(one.name.as_str()).or_default() += one.dropped;
    }
    for (subscriber, count) in by_name {
        text.sample(name, &[("subscriber", subscriber)], count);
    }
    if durable.is_empty() {
        return;
    }
    let name = "dispod_subscriber_pending";
    text.family(name, "gauge", "Outcomes a durable subscriber still has to hear of.");
    for one in &durable {
        text.sample(name, &[("subscriber", &one.name)], one.pending);
    }
    let name = "dispod_subscriber_delivered_total";
    text.family(name, "counter", "Outcomes a durable subscriber has accepted.");
    for one in &durable {
        text.sample(name, &[("subscriber", &one.name)], one.delivered);
    }
    let name = "dispod_subscriber_disabled";
    text.family(name, "gauge", "1 when a durable subscriber is disabled and hears of nothing, else 0.");
    for one in &durable {
        text.sample(name, &[("subscriber", &one.name)], u8::from(one.disabled.is_some()));
    }
}

fn about_the_store(text: &mut Text, metrics: &Metrics) {
    text.gauge("dispod_store_bytes", "Size of the store on the disk.", metrics.store_bytes.get());
    text.histogram(
        "dispod_store_commit_seconds",
        "How long a commit to the store took.",
        &metrics.store_commit,
    );
}

/// The text as it grows. Writing to a string cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn statuses(&mut self, name: &str, label: &str, counters: &StatusCounters) {
        for (status, count) in counters.seen() {
            self.sample(name, &[(label, &status_name(status))], count);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        // The sum is read first: it may miss an observation the counts have, but never the other way round.
        let sum_s = histogram.sum().as_secs_f64();
        let mut bounds = BUCKET_BOUNDS_S.iter().map(f64::to_string);
        let mut total = 0;
        for count in histogram.counts() {
            total += count;
            let bound = bounds.next().unwrap_or_else(|| "+Inf".to_owned());
            self.sample(&bucket, &[("le", &bound)], total);
        }
        self.sample(&format!("{name}_sum"), &[], sum_s);
        self.sample(&format!("{name}_count"), &[], total);
    }
}

/// A status as a label; 0 stands for no usable answer.
pub(super) fn status_name(status: u16) -> String {
    if status == 0 { "none".to_owned() } else { status.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.sample("a", &[("b", "x\"\\\n"), ("c", "y")], 1.5);
        assert_eq!(text.0, "a{b=\"x\\\"\\\\\\n\",c=\"y\"} 1.5\n");
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let histogram = Histogram::default();
        histogram.observe(std::time::Duration::from_millis(1));
        histogram.observe(std::time::Duration::from_secs(200_000));
        let mut text = Text::default();
        text.histogram("h", "x", &histogram);
        assert!(
            text.0.starts_with("# HELP h x\n# TYPE h histogram\nh_bucket{le=\"0.0005\"} 0\n"),
            "{}",
            text.0
        );
        for line in [
            "h_bucket{le=\"0.001\"} 1",
            "h_bucket{le=\"86400\"} 1",
            "h_bucket{le=\"+Inf\"} 2",
            "h_sum 200000.001",
            "h_count 2",
        ] {
            assert!(text.0.contains(&format!("{line}\n")), "{line}\n{}", text.0);
        }
    }
}
