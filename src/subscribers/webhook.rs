//! A webhook: one POST per outcome, in order, signed by Standard Webhooks 1.0.0 when there is a secret.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::hmac::{HMAC_SHA256, Key};
use ureq::http::{HeaderMap, Request};

use super::{Delivery, Target};
use crate::backoff;
use crate::config::{Secret, SubscriberTarget};
use crate::event::Outcome;
use crate::flow::OutboxEntry;
use crate::outgoing::Outgoing;
use crate::signature;

/// The whole exchange, as Standard Webhooks advises (15 to 30 s).
const TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read, so that its connection can be used again; beyond it the connection is closed.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// How much of an answer is shown.
const DETAIL_MAX_BYTES: usize = 200;
/// "Gone": the receiver wants no more (Standard Webhooks, "Delivery").
const GONE: u16 = 410;

pub(super) struct WebhookTarget {
    outgoing: Outgoing,
    url: String,
    key: Option<Key>,
    store_id: String,
}

impl WebhookTarget {
    pub(super) fn new(url: &str, secret: Option<&Secret>, store_id: &str) -> Self {
        let outgoing = Outgoing::new(TIMEOUT);
        Self { outgoing, url: url.to_owned(), key: key(secret), store_id: store_id.to_owned() }
    }

    fn post(&self, entry: &OutboxEntry) -> Result<Answer, String> {
        let outcome = Outcome::of(&entry.event, entry.delivered_ms);
        let body = serde_json::to_vec(&outcome).map_err(|error| error.to_string())?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // The same at every try, and another one for an event of any other store.
        let id = format!("msg_{}_{}", self.store_id, outcome.id);
        let timestamp = now_s.to_string();
        let mut request = Request::builder()
            .method("POST")
            .uri(&self.url)
            .header("Content-Type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", &timestamp);
        if let Some(key) = &self.key {
            request = request.header("webhook-signature", signature::sign(key, &id, &timestamp, &body));
        }
        let request = request.body(body.as_slice()).map_err(|error| error.to_string())?;
        let answer = self.outgoing.exchange(request, None, |response| {
            let (status, after) = (response.status().as_u16(), retry_after(response.headers(), now_s));
            let mut raw = Vec::new();
            let mut reader = response.into_body().into_reader().take(ANSWER_MAX_BYTES);
            // The status is the answer; a body that cannot be read costs its connection only.
            let _ = reader.read_to_end(&mut raw);
            Answer { status, after, detail: printable(&raw) }
        });
        answer.map_err(|error| error.to_string())
    }
}

struct Answer {
    status: u16,
    after: Option<Duration>,
    /// The beginning of its body, to be put behind its status.
    detail: String,
}

fn again(entry: &OutboxEntry, why: &str, after: Option<Duration>) -> Delivery {
    Delivery::Again { why: format!("event {}: {why}", entry.event.id), after }
}

impl Target for WebhookTarget {
    fn deliver(&mut self, entries: &[OutboxEntry]) -> Delivery {
        let Some(first) = entries.first() else { return Delivery::Accepted(0) };
        let Answer { status, after, detail } = match self.post(first) {
            Ok(answer) => answer,
            Err(why) => return again(first, &why, None),
        };
        match status {
            200..300 => Delivery::Accepted(1),
            GONE => Delivery::Gone(format!("status {GONE}{detail}")),
            300..400 => again(first, &format!("status {status}, redirects are not followed"), None),
            _ => again(first, &format!("status {status}{detail}"), after),
        }
    }

    fn renew(&mut self, fresh: &SubscriberTarget) -> Result<(), String> {
        if let SubscriberTarget::Webhook { secret, .. } = fresh {
            self.key = key(secret.as_ref());
        }
        Ok(())
    }
}

fn key(secret: Option<&Secret>) -> Option<Key> {
    Some(Key::new(HMAC_SHA256, &secret?.standard_webhooks_key()?))
}

fn printable(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(DETAIL_MAX_BYTES)]);
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

fn retry_after(headers: &HeaderMap, now_s: u64) -> Option<Duration> {
    backoff::retry_after(headers.get("Retry-After")?.to_str().ok()?, now_s)
}
