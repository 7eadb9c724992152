//! The door: HTTP in, submissions out (contract sections 4 to 6).
//!
//! What is decided without the body is decided before it is read: path, method, the daemon's own state, what
//! authentication needs no body, framing and size. A request that passes becomes a [`Submission`] with the right
//! to answer its sender; from then on the intake waits for nobody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::clock;
use crate::config::{Secret, WebhookAuth, WebhookConfig};
use crate::error::Error;
use crate::event::CallResult;
use crate::health::Health;
use crate::http::{Admit, Handler, Head, Job, Limits, Reply, Responder, Served, Server};
use crate::keep::{DedupeKey, KEY_HEADERS, Receipt, Submission};
use crate::listener::{Bound, raise_descriptor_limit};
use crate::metrics::{AuthFailure, Metrics};
use crate::storm::Storm;

mod auth;

pub use crate::http::FailedFn;

use auth::Auth;

/// Where the daemon's state is asked for on this listener.
const HEALTH_PATH: &str = "/healthz";
/// `Retry-After` when the keeper has no room or the daemon is stopping.
const RETRY_AFTER_S: u32 = 5;
/// The least time between two log lines of a kind that can come in storms.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Descriptors left to everything but connections: the store, the API, the admin listener, the log.
const OTHER_DESCRIPTORS: u64 = 128;

/// Hands a submission to the keeper without blocking, or gives it back when there is no room.
///
/// Replies must be called in the order of the submissions: the answers of one connection go out in the order of
/// its requests, and writing one waits for the ones before it.
pub type KeepFn = Arc<dyn Fn(Submission) -> Result<(), Submission> + Send + Sync>;

/// The running intake.
pub struct Intake {
    server: Server,
    webhook: Arc<Webhook>,
}

impl Intake {
    /// Starts taking call results on a bound listener.
    ///
    /// `failed` is called at most once, with words, when the process has to end in order: a thread panicked, or
    /// more connections than tolerable are stuck for good.
    ///
    /// # Errors
    /// When the secrets do not fit `webhook.auth` (a configuration error), or the kernel refuses a thread, a
    /// descriptor or a socket option.
    pub fn start(
        listener: Bound,
        config: &WebhookConfig,
        keep: KeepFn,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        failed: FailedFn,
    ) -> Result<Self, Error> {
        if config.auth == WebhookAuth::None && !listener.is_local() {
            log::warn!(
                "webhook.auth is none and {listener} can be reached by others: anybody can send events"
            );
        }
        let webhook = Arc::new(Webhook {
            path: config.path.clone(),
            max_body_bytes: config.max_body_bytes,
            auth_kind: config.auth,
            auth: RwLock::new(Arc::new(Auth::new(config.auth, &config.secrets)?)),
            stopping: AtomicBool::new(false),
            keep,
            health,
            metrics,
            auth_log: Storm::every(LOG_EVERY),
            shed_log: Storm::every(LOG_EVERY),
        });
        let limits = Limits {
            max_connections: affordable(config.max_connections),
            read_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
            idle_timeout: config.idle_timeout,
            max_body_bytes: config.max_body_bytes,
        };
        let handler = Arc::clone(&webhook) as Arc<dyn Handler>;
        let server = Server::start(listener, limits, handler, failed)?;
        Ok(Self { server, webhook })
    }

    /// The address of a TCP listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.local_addr()
    }

    /// Takes new secrets into use, whole; ones that cannot be used leave the old ones in force.
    #[expect(clippy::needless_pass_by_value, reason = "the caller has no use for them afterwards")]
    pub fn replace_secrets(&self, secrets: Vec<Secret>) {
        match Auth::new(self.webhook.auth_kind, &secrets) {
            Ok(auth) => {
                *self.webhook.auth.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(auth);
            }
            Err(error) => log::error!("the old webhook secrets stay in force: {error}"),
        }
    }

    /// Asks `/healthz` through the listener, as a client would; gives the status of the answer.
    ///
    /// # Errors
    /// When there was no answer within `timeout`.
    pub fn probe(&self, timeout: Duration) -> Result<u16, Error> {
        self.server.probe(HEALTH_PATH, timeout)
    }

    /// Whether systemd holds the listening socket too.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.server.is_handed_over()
    }

    /// From now on new events are answered 503 and the listener is shut; what the keeper has is still answered.
    pub fn stop_taking(&self) {
        self.webhook.stopping.store(true, Relaxed);
        self.server.stop_listening();
    }

    /// Ends every connection and the intake's threads; takes a few seconds at most, whatever the clients do.
    pub fn stop(self) {
        self.stop_taking();
        self.server.stop();
    }
}

/// The number of connections the limit on descriptors allows, at most `wanted`.
fn affordable(wanted: usize) -> usize {
    let limit = raise_descriptor_limit();
    // tiny_http holds two descriptors for each connection.
    let allowed = usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS) / 2).unwrap_or(usize::MAX).max(1);
    if allowed < wanted {
        log::warn!(
            "the limit of {limit} open files (LimitNOFILE) allows {allowed} connections, \
             not the {wanted} of webhook.max_connections"
        );
    }
    wanted.min(allowed)
}

/// The webhook's rules.
struct Webhook {
    path: String,
    max_body_bytes: usize,
    auth_kind: WebhookAuth,
    auth: RwLock<Arc<Auth>>,
    stopping: AtomicBool,
    keep: KeepFn,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    auth_log: Storm,
    shed_log: Storm,
}

impl Handler for Webhook {
    fn admit(&self, head: Head<'_>) -> Result<Admit, Reply> {
        if head.path() == HEALTH_PATH {
            return match head.method() {
                "GET" | "HEAD" => Ok(Admit { max_body_bytes: 0, needs_length: false }),
                _ => Err(Reply::new(405, "Method not allowed").allow("GET, HEAD")),
            };
        }
        if head.path() != self.path {
            return Err(Reply::new(404, "Not found"));
        }
        if head.method() != "POST" {
            return Err(Reply::new(405, "Method not allowed").allow("POST"));
        }
        if self.is_stopping() {
            return Err(try_again_later(RETRY_AFTER_S));
        }
        self.auth().check_head(head, now_s()).map_err(|kind| self.unauthorized(kind))?;
        Ok(Admit { max_body_bytes: self.max_body_bytes, needs_length: true })
    }

    fn serve(&self, head: Head<'_>, body: &[u8]) -> Served {
        if head.path() == HEALTH_PATH {
            return Served::Reply(self.health());
        }
        if let Err(kind) = self.auth().check_body(head, body, now_s()) {
            return Served::Reply(self.unauthorized(kind));
        }
        let call = match CallResult::parse(body) {
            Ok(call) => call,
            Err(error) => return Served::Reply(Reply::with_text(400, error.to_string())),
        };
        let key = key_of(head, &call);
        let keep = Arc::clone(&self.keep);
        Served::Later(Box::new(move |responder| submit(call, key, &keep, responder)))
    }

    fn replied(&self, status: u16) {
        self.metrics.webhook_requests.inc(status);
    }

    fn connections(&self, open: usize, stuck: usize) {
        self.metrics.webhook_connections.set(u64::try_from(open).unwrap_or(u64::MAX));
        self.metrics.webhook_connections_parked.set(u64::try_from(stuck).unwrap_or(u64::MAX));
    }

    fn shed(&self) {
        self.metrics.webhook_connections_shed.inc();
        self.shed_log
            .log(|more| log::info!("a webhook connection was ended: too slow, idle or one too many{more}"));
    }
}

impl Webhook {
    fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed) || self.health.stopping()
    }

    fn unauthorized(&self, kind: AuthFailure) -> Reply {
        self.metrics.auth_failure(kind).inc();
        self.auth_log
            .log(|more| log::warn!("a webhook request is not authenticated: {}{more}", kind.as_str()));
        Reply::new(401, "Unauthorized")
    }

    fn health(&self) -> Reply {
        if !self.is_stopping() && self.health.can_keep() {
            Reply::new(200, "ok")
        } else {
            try_again_later(RETRY_AFTER_S)
        }
    }
}

/// Hands an event to the keeper. The job given back answers that there was no room.
fn submit(call: CallResult, key: Option<DedupeKey>, keep: &KeepFn, responder: Responder) -> Option<Job> {
    let reply = Box::new(move |receipt| {
        responder.send(match receipt {
            Receipt::Kept(_) | Receipt::Duplicate(_) => Reply::new(200, "Received"),
            Receipt::NotKept { retry_after_s } => try_again_later(retry_after_s),
        });
    });
    let refused = keep(Submission { call, key, received_ms: clock::now_ms(), reply }).err()?;
    Some(Box::new(move || (refused.reply)(Receipt::NotKept { retry_after_s: RETRY_AFTER_S })))
}

/// The idempotency key (contract section 6).
fn key_of(head: Head<'_>, call: &CallResult) -> Option<DedupeKey> {
    let given = KEY_HEADERS.into_iter().filter_map(|name| head.first(name)).find(|value| !value.is_empty());
    given.map(DedupeKey::from_header).or_else(|| DedupeKey::from_content(call))
}

fn try_again_later(retry_after_s: u32) -> Reply {
    Reply::new(503, "Try again later").retry_after(retry_after_s)
}

fn now_s() -> u64 {
    clock::now_ms().max(0).cast_unsigned() / 1000
}
