//! The HTTP server: tiny_http, contained.
//!
//! tiny_http 0.12 has no timeouts, no limits, stops accepting for good at the first error, and aborts the
//! process on a request that announces a large body. This module is the program that knows it:
//!
//! - `head`: what a request says before its body; framing that is not plain is refused.
//! - `acceptor`: takes requests in order and decides; never waits for a client.
//! - `lane`: reads the bodies tiny_http has not read, on threads that may wait.
//! - `lot`: parks what must not be dropped.
//! - `responder`, `ledger`, `jobs`: answers, in order, without letting one client hold up the others.
//! - `guard`: deadlines, limits and the repair of the accept thread, from outside, by the sockets themselves.
//!
//! No request is processed that came after one whose end is doubtful, and no answer is sent after one that was
//! lost: the one could forge an event, the other acknowledge one that was not kept.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::Error;
use crate::listener::{Bound, SendLimits};

mod acceptor;
mod guard;
mod head;
mod jobs;
mod lane;
mod ledger;
mod limbo;
mod lot;
mod probe;
mod reply;
mod responder;
mod stream;

pub use head::Head;
pub use jobs::Job;
pub use reply::Reply;
pub use responder::Responder;
pub use stream::Stream;

use jobs::Jobs;
use lane::Lane;
use ledger::{Ledger, Ticket};
use limbo::Limbo;
use lot::Lot;

/// Connections whose thread cannot be had back, before the process has to be started anew.
pub const STUCK_MAX: usize = 64;
/// Head of a request, request line and all headers, at most.
pub const HEAD_MAX_BYTES: usize = 32 * 1024;
/// How long the writing of one answer may wait for a client that does not read. A send buffer holds thousands of
/// answers: only who asks that often without reading meets this limit.
const SEND_WAIT: Duration = Duration::from_millis(10);
/// How long the threads may take to end.
const END_WAIT: Duration = Duration::from_secs(2);

/// Called (at most once) with words when the process has to end in order.
pub type FailedFn = Arc<dyn Fn(String) + Send + Sync>;

/// Who decides what is answered.
pub trait Handler: Send + Sync + 'static {
    /// Decides on a request by its head alone.
    ///
    /// # Errors
    /// The answer, if it needs no body.
    fn admit(&self, head: Head<'_>) -> Result<Admit, Reply>;

    /// Serves an admitted request with its whole body. Must not wait.
    fn serve(&self, head: Head<'_>, body: &[u8]) -> Served;

    /// An answer with this status is on its way.
    fn replied(&self, _status: u16) {}

    /// So many connections are open, and so many threads are lost to connections that cannot be had back.
    fn connections(&self, _open: usize, _stuck: usize) {}

    /// The guard ended a connection.
    fn shed(&self) {}
}

/// What an admitted request may bring.
#[derive(Debug, Clone, Copy)]
pub struct Admit {
    /// Longest body; a longer one is answered 413.
    pub max_body_bytes: usize,
    /// Without `Content-Length` it is answered 411.
    pub needs_length: bool,
}

/// What becomes of a request.
pub enum Served {
    /// It is answered now.
    Reply(Reply),
    /// It is answered later, by who gets the right to. What the task returns answers at once instead.
    Later(Box<dyn FnOnce(Responder) -> Option<Job> + Send>),
}

/// The limits of a server. Each is a configuration key of `[webhook]`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections; the longest idle ones above it are ended.
    pub max_connections: usize,
    /// From a request's first byte to its last, and from a connection's start to its first request.
    pub read_timeout: Duration,
    /// How long a client may take to read its answers.
    pub write_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// The longest body any request may have.
    pub max_body_bytes: usize,
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    guard: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
}

/// What the threads of a server share.
struct Shared {
    bound: Bound,
    limits: Limits,
    handler: Arc<dyn Handler>,
    ledger: Ledger,
    lane: Lane,
    lot: Lot,
    limbo: Limbo,
    park_above_bytes: usize,
    refusals: Jobs,
    acks: Jobs,
    guard_bell: OwnedFd,
    /// The guard knows of no connection, and wants to.
    guard_rests: AtomicBool,
    closing: AtomicBool,
    ending: AtomicBool,
    failed: Mutex<Option<FailedFn>>,
}

impl Server {
    /// Serves on a bound listener. `failed` is told when the process has to end in order.
    ///
    /// # Errors
    /// When the kernel refuses a thread, a descriptor or a socket option.
    pub fn start(
        bound: Bound,
        limits: Limits,
        handler: Arc<dyn Handler>,
        failed: FailedFn,
    ) -> Result<Self, Error> {
        let io = |error: std::io::Error| Error::failed(format!("cannot serve on {bound}: {error}"));
        bound
            .set_inherited(SendLimits { write: SEND_WAIT, unacknowledged: limits.write_timeout })
            .map_err(io)?;
        let guard_bell =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| io(e.into()))?;
        let named = bound.local_addr().is_some();
        let (refusals, refusal_queue) = jobs::queue();
        let (acks, ack_queue) = jobs::queue();
        let shared = Arc::new(Shared {
            bound,
            limits,
            handler,
            ledger: Ledger::default(),
            lane: Lane::default(),
            lot: Lot::default(),
            limbo: Limbo::default(),
            park_above_bytes: lot::PARK_ABOVE_BYTES.max(limits.max_body_bytes),
            refusals,
            acks,
            guard_bell,
            guard_rests: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            failed: Mutex::new(Some(failed)),
        });
        let mut workers = vec![refusal_queue.start("refusals", Arc::clone(&shared))?];
        if !named {
            workers.push(ack_queue.start("acks", Arc::clone(&shared))?);
        }
        shared.lane.start_thread(&shared)?;
        let guard = guard::start(&shared)?;
        Ok(Self { shared, guard, workers })
    }

    /// The address of a TCP listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.bound.local_addr()
    }

    /// Whether the listening socket outlives us, since systemd holds it too.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.shared.bound.handed_over()
    }

    /// Stops listening; what still comes is answered as the handler says, with `Connection: close`. A socket
    /// that systemd handed over goes on listening: it is our successor's.
    pub fn stop_listening(&self) {
        self.shared.closing.store(true, Relaxed);
        if !self.shared.bound.handed_over() {
            self.shared.bound.shut();
        }
    }

    /// Ends every connection and the threads; takes a few seconds at most, whatever the clients do.
    pub fn stop(self) {
        self.stop_listening();
        self.shared.ending.store(true, Relaxed);
        self.shared.wake_guard();
        let deadline = Instant::now() + guard::END_CONNECTIONS_WAIT + END_WAIT;
        wait_until(deadline, || self.guard.is_finished());
        self.shared.lane.end();
        self.shared.refusals.end();
        self.shared.acks.end();
        let workers = || self.workers.iter().all(JoinHandle::is_finished) && self.shared.lane.is_over();
        if !wait_until(deadline, workers) {
            log::warn!("a thread of the server on {} did not end in time", self.shared.bound);
        }
        self.shared.bound.remove_file();
    }

    /// Asks `path` of this server, through its socket; gives the status of the answer.
    ///
    /// # Errors
    /// When there was no answer within `timeout`, in words.
    pub fn probe(&self, path: &str, timeout: Duration) -> Result<u16, Error> {
        probe::ask(&self.shared.bound, path, timeout)
    }
}

impl Shared {
    /// Nothing more is taken from the connection of that ticket; the guard ends it at once.
    fn condemn(&self, ticket: &Ticket) {
        if !ticket.is_nameless() {
            ticket.condemn();
            self.wake_guard();
        }
    }

    /// Has an answer written that must not hold up who made it.
    fn acknowledge(&self, job: Job) {
        self.acks.hand_over(job);
    }

    /// Whether answers are the last on their connections.
    fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Ends the process in order; only the first call counts.
    fn fail(&self, why: String) {
        log::error!("{why}");
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(failed) = failed {
            failed(why);
        }
    }

    fn wake_guard(&self) {
        // It fails only when the bell is ringing already.
        let _ = rustix::io::write(&self.guard_bell, &1u64.to_ne_bytes());
    }
}

/// Waits for something that has no event to wait for; gives whether it came to be in time.
fn wait_until(deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}
