//! The operator's listener (contract section 8): health, metrics, the status page and what it is made of.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the status page |
//! | `GET /livez` | 200 `ok` while the process answers |
//! | `GET /readyz` | 200 `ready`, or 503 with one reason a line |
//! | `GET /metrics` | Prometheus text, format 0.0.4 |
//! | `GET /api/status` | everything at a glance, as one JSON object |
//! | `GET /api/events?severity=` | delivered outcomes as they come, as server-sent events |
//! | `GET /api/dead?after=ID&limit=N` | dead letters, a page at a time |
//! | `GET /api/dead/{id}` | one of them |
//! | `GET /api/audit?contact=ID&below=ID&limit=N` | one contact's events with their steps, newest first |
//! | `POST /api/dead/{id}/retry` | makes it pending again |
//! | `DELETE /api/dead/{id}` | gives it up |
//! | `POST /api/dead/retry?after=ID` | as many behind that id as fit one transaction; says where to go on |
//! | `POST /api/dead/drop?after=ID` | the same, giving them up |
//!
//! What needs no disk is answered at once. Everything else is an `errands::Errand` for one thread, which reads the
//! store in short transactions beside the keeper and asks the keeper for changes. Nothing here is on the way of an
//! event.

mod errands;
mod events;
mod gate;
mod letters;
mod page;
mod prometheus;
mod query;
mod routes;
mod status;
mod trend;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::bus::Bus;
use crate::clock;
use crate::cxone::Cxone;
use crate::error::Error;
use crate::flow::Order;
use crate::health::Health;
use crate::http::{Admit, Handler, Head, Limits, Reply, Responder, Served, Server};
use crate::listener::Bound;
use crate::metrics::Metrics;
use crate::rooms::{self, Failed};

pub use letters::{Letter, Told};

use errands::{Clerk, Errand};
use events::Hub;
use gate::Gate;
use routes::Route;
use trend::Trend;

/// Connections at most. A browser opens six to one host.
const CONNECTIONS_MAX: usize = 64;
/// Longest body. None is needed; a little is read so that the answer to it can say so.
const BODY_MAX_BYTES: usize = 1024;
/// From a request's first byte to its last.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Errands that may wait: one for each connection.
const ERRANDS_MAX: usize = CONNECTIONS_MAX;
/// For `Retry-After` when something is not possible now.
const RETRY_AFTER_S: u32 = 5;

/// Header lines of every answer but the page's: nothing is stored, guessed at or shown to other origins.
const PLAIN_FIELDS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
     Cross-Origin-Resource-Policy: same-origin\r\n";

/// Where the admin listener gets what it shows, and whom it asks for changes.
pub struct Sources {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the daemon can do its work.
    pub health: Arc<Health>,
    /// Delivered outcomes.
    pub bus: Arc<Bus>,
    /// For the state of the token.
    pub cxone: Arc<Cxone>,
    /// To the keeper, which changes dead letters.
    pub orders: Sender<Order>,
    /// Where the store is.
    pub store_dir: PathBuf,
    /// What the webhook listens on, in words.
    pub webhook_address: String,
    /// When the daemon was started, Unix ms.
    pub started_ms: i64,
}

/// The running admin listener.
pub struct Admin {
    server: Server,
    desk: Arc<Desk>,
    clerk: JoinHandle<()>,
    /// Dropping it ends the clerk.
    ending: Sender<()>,
}

impl Admin {
    /// Serves on a bound listener. `failed` is told when the process has to end in order.
    ///
    /// # Errors
    /// When the kernel refuses a thread, a descriptor or a socket option.
    pub fn start(listener: Bound, sources: Sources, failed: Failed) -> Result<Self, Error> {
        let address = listener.to_string();
        if !listener.is_local() {
            log::warn!(
                "admin.listen {address} can be reached by others: anybody can read contact ids and retry or drop \
                 dead letters"
            );
        }
        let Sources { metrics, health, bus, cxone, orders, store_dir, webhook_address, started_ms } = sources;
        let (errands, queue) = bounded(ERRANDS_MAX);
        let (ending, end) = bounded(0);
        let trend = Arc::new(Mutex::new(Trend::new(trend::Totals::of(&metrics), clock::now_ms())));
        let clerk =
            Clerk { queue, end, orders, store_dir, metrics: Arc::clone(&metrics), trend: Arc::clone(&trend) };
        let desk = Arc::new(Desk {
            gate: Gate::for_listener(&listener),
            hub: Hub::new(Arc::clone(&bus), Arc::clone(&failed)),
            metrics,
            health,
            bus,
            cxone,
            webhook_address,
            started_ms,
            trend,
            errands,
        });
        let limits = Limits {
            max_connections: CONNECTIONS_MAX,
            read_timeout: READ_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            max_body_bytes: BODY_MAX_BYTES,
        };
        let clerk = rooms::start("admin", &failed, move || clerk.run())?;
        let server = Server::start(listener, limits, Arc::clone(&desk) as Arc<dyn Handler>, failed)?;
        log::info!("admin listening on {address}/");
        Ok(Self { server, desk, clerk, ending })
    }

    /// The address of a TCP listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.local_addr()
    }

    /// Ends every connection and the threads; takes a few seconds at most, whatever the clients do. The keeper's
    /// channel is let go.
    pub fn stop(self) {
        let Self { server, desk, clerk, ending } = self;
        server.stop_listening();
        drop(ending);
        desk.hub.close();
        // Its panic was reported when it happened.
        let _ = clerk.join();
        server.stop();
    }
}

/// Answers requests, or has them answered.
struct Desk {
    gate: Gate,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    bus: Arc<Bus>,
    cxone: Arc<Cxone>,
    webhook_address: String,
    started_ms: i64,
    trend: Arc<Mutex<Trend>>,
    errands: Sender<Errand>,
}

impl Handler for Desk {
    fn admit(&self, head: Head<'_>) -> Result<Admit, Reply> {
        let admitted = self.gate.check_host(head).and_then(|()| {
            let route = Route::of(head)?;
            gate::check_site(head, &route)
        });
        admitted.map_err(plain)?;
        Ok(Admit { max_body_bytes: BODY_MAX_BYTES, needs_length: false })
    }

    fn serve(&self, head: Head<'_>, body: &[u8]) -> Served {
        if !body.is_empty() {
            return Served::Reply(plain(Reply::new(
                400,
                "No body is expected: parameters go into the query",
            )));
        }
        match Route::of(head) {
            Err(reply) => Served::Reply(plain(reply)),
            Ok(Route::Page) => Served::Reply(page::reply()),
            Ok(Route::Livez) => Served::Reply(plain(Reply::new(200, "ok"))),
            Ok(Route::Readyz) => Served::Reply(plain(self.readiness())),
            Ok(Route::Metrics) => Served::Reply(plain(prometheus::reply(self))),
            Ok(Route::Status) => Served::Reply(plain(status::reply(self))),
            Ok(Route::Events(severities)) => Served::Later(self.hub.listen(severities)),
            Ok(Route::Errand(what)) => {
                let errands = self.errands.clone();
                Served::Later(Box::new(move |responder: Responder| {
                    let refused = errands.try_send(Errand { what, responder }).err()?.into_inner();
                    Some(Box::new(move || refused.responder.send(plain(busy()))))
                }))
            }
        }
    }
}

impl Desk {
    fn readiness(&self) -> Reply {
        let reasons = self.health.reasons();
        if reasons.is_empty() { Reply::new(200, "ready") } else { Reply::with_text(503, reasons.join("\n")) }
    }

    fn trend(&self) -> std::sync::MutexGuard<'_, Trend> {
        self.trend.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With the header lines every answer has.
fn plain(reply: Reply) -> Reply {
    reply.fields(PLAIN_FIELDS)
}

fn busy() -> Reply {
    Reply::new(503, "Try again later").retry_after(RETRY_AFTER_S)
}

/// A JSON answer.
fn json(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => Reply::content(200, "application/json", text),
        Err(error) => Reply::with_text(500, format!("cannot be put into JSON: {error}")),
    }
}
