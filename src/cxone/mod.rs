//! The door to CXone: a token, and updates of contacts with it. No thread of its own; workers call it.

mod contact;
mod http;
mod token;

use std::sync::Arc;
use std::time::Instant;

use crate::config::CxoneConfig;
use crate::event::KeptEvent;
use crate::metrics::Metrics;
use crate::verdict::{Answer, Call};

use http::Http;
use token::{TokenError, Tokens};

/// The Contact API of one tenant.
pub struct Cxone {
    http: Http,
    tokens: Tokens,
    config: CxoneConfig,
    metrics: Arc<Metrics>,
}

impl Cxone {
    /// A door that keeps as many connections as it has callers at a time.
    #[must_use]
    pub fn new(config: CxoneConfig, metrics: Arc<Metrics>) -> Self {
        let http = Http::new(config.timeout);
        let tokens = Tokens::new(&config, Arc::clone(&metrics));
        Self { http, tokens, config, metrics }
    }

    /// Uses these credentials from the next token on; the token in hand is given up.
    pub fn replace_credentials(&self, config: &CxoneConfig) {
        self.tokens.replace_credentials(config);
    }

    /// When the token in hand will be refreshed, Unix ms, if there is one; does not wait for one being fetched.
    #[must_use]
    pub fn token_refresh_ms(&self) -> Option<i64> {
        self.tokens.refresh_ms()
    }

    /// Obtains a token, or says in words why not (`dispod check`).
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check(&self) -> Result<(), String> {
        self.tokens.get(&self.http).map(|_| ()).map_err(|error| error.detail().to_owned())
    }

    /// Updates the event's contact. A 401 is met with a fresh token once: the refused call comes first in the
    /// answer then.
    pub fn update(&self, event: &KeptEvent) -> (Option<Call>, Call) {
        let first = match self.tokens.get(&self.http) {
            Ok(token) => {
                let call = self.call(event, &token);
                if call.answer != Answer::Status(401) {
                    return (None, call);
                }
                self.tokens.discard(&token);
                call
            }
            Err(error) => return (None, not_made(error)),
        };
        match self.tokens.get(&self.http) {
            Ok(token) => (Some(first), self.call(event, &token)),
            Err(error) => (Some(first), not_made(error)),
        }
    }

    fn call(&self, event: &KeptEvent, token: &str) -> Call {
        let url = contact::url(&self.config, event.call.contact_id());
        let body = contact::body(event);
        let started = Instant::now();
        let exchange = self.http.update(&self.config.update_method, &url, token, &body);
        let took = started.elapsed();
        self.metrics.api_request.observe(took);
        let call = match exchange {
            Ok(reply) => Call {
                answer: Answer::Status(reply.status),
                retry_after: reply.retry_after,
                detail: if (200..300).contains(&reply.status) { String::new() } else { reply.body },
                took,
            },
            Err(fault) => Call { answer: Answer::None, retry_after: None, detail: fault, took },
        };
        self.metrics.api_requests.inc(match call.answer {
            Answer::Status(status) => status,
            _ => 0,
        });
        call
    }
}

/// A call that could not be made for want of a token.
fn not_made(error: TokenError) -> Call {
    let (answer, retry_after, detail) = match error {
        TokenError::Refused(detail) => (Answer::TokenRefused, None, detail),
        TokenError::Throttled(retry_after, detail) => (Answer::TokenThrottled, retry_after, detail),
        TokenError::Failed(detail) => (Answer::None, None, detail),
    };
    Call { answer, retry_after, detail, took: std::time::Duration::ZERO }
}
