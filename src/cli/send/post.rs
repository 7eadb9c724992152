//! Posting records: one sender a connection, and a contact's records always by the same one, so that their order in the
//! file is the order in which they are kept.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use ring::digest;
use ring::hmac::{HMAC_SHA256, Key};

use super::super::client::{Answer, Client};
use super::ledger::{Ledger, Stop};
use crate::backoff;
use crate::config::{WebhookAuth, WebhookConfig};
use crate::error::Error;
use crate::signature;

/// Between two tries without an answer.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longer than this we do not stay away, whatever we are asked.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A record on its way.
pub(super) struct Parcel {
    pub(super) line: u64,
    pub(super) next_line: u64,
    pub(super) end: u64,
    pub(super) body: Vec<u8>,
    pub(super) key: String,
}

/// The idempotency key of a record: the same at every run over the same input, another one for an equal record on
/// another line or in another batch.
pub(super) fn key(batch: &str, line: u64, body: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [batch.as_bytes(), &line.to_le_bytes(), body] {
        // The length in front keeps the parts apart.
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref()[..16].iter().fold("send-".to_owned(), |key, byte| key + &format!("{byte:02x}"))
}

/// How we prove ourselves (contract section 5).
pub(super) enum Proof {
    None,
    Bearer(String),
    HubSignature(Key),
    StandardWebhooks(Key),
}

impl Proof {
    /// By the first secret of the configuration.
    ///
    /// # Errors
    /// There is none to be read.
    pub(super) fn of(webhook: &WebhookConfig) -> Result<Self, Error> {
        if webhook.auth == WebhookAuth::None {
            return Ok(Self::None);
        }
        let secret = webhook.secrets.iter().find(|secret| !secret.is_empty()).ok_or_else(|| {
            Error::config(
                "the webhook asks for a proof (webhook.auth), and no secret for it can be read: \
                 webhook.secret or webhook.secret_file",
            )
        })?;
        let key = |bytes: &[u8]| Key::new(HMAC_SHA256, bytes);
        Ok(match webhook.auth {
            WebhookAuth::None => Self::None,
            WebhookAuth::Bearer => Self::Bearer(format!("Bearer {}", secret.expose())),
            WebhookAuth::HmacSha256 => Self::HubSignature(key(secret.expose().as_bytes())),
            WebhookAuth::StandardWebhooks => {
                let bytes = secret.standard_webhooks_key();
                let bytes = bytes.ok_or_else(|| Error::config("webhook.secret is not whsec_ and base64"))?;
                Self::StandardWebhooks(key(&bytes))
            }
        })
    }

    /// The header lines of one try.
    fn headers(&self, parcel: &Parcel) -> Vec<(&'static str, String)> {
        let Parcel { body, key, .. } = parcel;
        match self {
            Self::None => vec![("Idempotency-Key", key.clone())],
            Self::Bearer(bearer) => {
                vec![("Idempotency-Key", key.clone()), ("Authorization", bearer.clone())]
            }
            Self::HubSignature(secret) => vec![
                ("Idempotency-Key", key.clone()),
                ("X-Hub-Signature-256", signature::hub_signature(secret, body)),
            ],
            // There the id of the message is the key.
            Self::StandardWebhooks(secret) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let timestamp = now.as_secs().to_string();
                let signature = signature::sign(secret, key, &timestamp, body);
                vec![
                    ("webhook-id", key.clone()),
                    ("webhook-timestamp", timestamp),
                    ("webhook-signature", signature),
                ]
            }
        }
    }
}

/// What all senders share.
pub(super) struct Post {
    pub(super) client: Client,
    /// Behind the client's base.
    pub(super) path: String,
    pub(super) proof: Proof,
    pub(super) ledger: Arc<Ledger>,
    pub(super) stop: Arc<Stop>,
    /// How long the daemon may be away.
    pub(super) give_up_after: Duration,
}

enum Fate {
    Kept,
    Refused(String),
}

impl Post {
    /// Posts what comes until there is no more, or the run is stopped.
    pub(super) fn run(&self, parcels: &Receiver<Parcel>) {
        while let Some(parcel) = self.stop.unless(parcels) {
            let Parcel { line, next_line, end, .. } = parcel;
            match self.deliver(&parcel) {
                Some(Fate::Kept) => self.ledger.keep(line, end),
                Some(Fate::Refused(why)) => self.ledger.refuse(line, next_line, end, &why),
                None => return,
            }
        }
    }

    /// Tries until there is an answer that settles it; `None`: the run is stopped.
    fn deliver(&self, parcel: &Parcel) -> Option<Fate> {
        let mut away_since: Option<Instant> = None;
        let mut tries = 0;
        loop {
            tries += 1;
            let jittered = backoff::full_jitter(tries, BACKOFF_BASE, BACKOFF_MAX, fastrand::f64());
            let (trouble, pause) = match self.try_once(parcel) {
                Ok(answer) => match answer.status {
                    200..300 => return Some(Fate::Kept),
                    400 | 413 | 422 | 431 => return Some(Fate::Refused(answer.in_words())),
                    // It is there and asks us to wait: no reason to give up.
                    429 | 503 => {
                        self.ledger.note_wait(self.client.place(), &answer.in_words());
                        away_since = None;
                        (None, answer.retry_after.unwrap_or(jittered).min(PAUSE_MAX))
                    }
                    408 | 425 | 500 | 502 | 504 => {
                        (Some(format!("{} answers {}", self.client.place(), answer.in_words())), jittered)
                    }
                    status => {
                        self.stop.now(self.fatal(status, &answer));
                        return None;
                    }
                },
                Err(fault) => (Some(fault.to_string()), jittered),
            };
            if let Some(why) = trouble
                && away_since.get_or_insert_with(Instant::now).elapsed() >= self.give_up_after
            {
                self.stop.now(why);
                return None;
            }
            if self.stop.wait(pause) {
                return None;
            }
        }
    }

    fn try_once(&self, parcel: &Parcel) -> Result<Answer, super::super::client::Fault> {
        let headers = self.proof.headers(parcel);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.client.post(&self.path, &headers, &parcel.body)
    }

    /// An answer that every record would get.
    fn fatal(&self, status: u16, answer: &Answer) -> String {
        let hint = match status {
            401 | 403 => "; see webhook.auth and webhook.secret",
            404 | 405 => "; is that the webhook (webhook.listen, webhook.path, --url)?",
            _ => "",
        };
        format!("{} answers {}{hint}", self.client.place(), answer.in_words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_line_batch_and_content_apart() {
        let one = key("", 7, b"{}");
        assert_eq!(one, key("", 7, b"{}"));
        assert_eq!(one.len(), "send-".len() + 32);
        for other in [key("", 8, b"{}"), key("x", 7, b"{}"), key("", 7, b"{ }"), key("", 7, b"")] {
            assert_ne!(one, other);
        }
    }
}
