//! `/api/events`: delivered outcomes as they come, to a few listeners (server-sent events, HTML living standard
//! section 9.2).
//!
//! One thread hears the bus and hands out; each listener has a thread that may wait for its client, and a queue. Who
//! is too slow for its queue or its socket is let go: it may come again.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, bounded};

use super::{busy, plain};
use crate::bus::Bus;
use crate::event::{Outcome, Severity};
use crate::http::{Job, Reply, Responder, Stream};
use crate::rooms::{self, Failed};

/// Listeners at most (contract section 8).
const LISTENERS_MAX: usize = 16;
/// Outcomes a listener may be behind.
const QUEUE: usize = 256;
/// How often something is sent to a listener at least, so that one who is gone is noticed and its place free again
/// after two of them; proxies end a silent connection after 30 s or more.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Sent in one piece at most.
const WRITE_MAX_BYTES: usize = 32 * 1024;
/// The beginning: a client that lost its stream waits so many milliseconds before it comes again.
const OPENING: &str = "retry: 2000\n\n";

/// An outcome as it goes over the wire, made once for all listeners.
type Frame = Arc<str>;

/// The listeners.
pub(super) struct Hub {
    bus: Arc<Bus>,
    failed: Failed,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    numbers: u64,
    /// Dropping it ends the thread that hears the bus.
    hearing: Option<Sender<()>>,
    closed: bool,
}

struct Listener {
    number: u64,
    severities: Vec<Severity>,
    frames: Sender<Frame>,
}

/// A listener's place; free again when dropped.
struct Seat {
    hub: Arc<Hub>,
    number: u64,
    frames: Receiver<Frame>,
}

impl Hub {
    pub(super) fn new(bus: Arc<Bus>, failed: Failed) -> Arc<Self> {
        Arc::new(Self { bus, failed, state: Mutex::default() })
    }

    /// Answers a request for outcomes of these severities.
    pub(super) fn listen(
        self: &Arc<Self>,
        severities: Vec<Severity>,
    ) -> Box<dyn FnOnce(Responder) -> Option<Job> + Send> {
        let hub = Arc::clone(self);
        Box::new(move |responder| {
            let Some(seat) = hub.seat(severities) else {
                return Some(Box::new(move || responder.send(plain(busy()))));
            };
            responder.will_stream();
            let failed = Arc::clone(&hub.failed);
            let name = format!("listener-{}", seat.number);
            if let Err(error) = rooms::start(&name, &failed, move || seat.serve(responder)) {
                // The responder went with the thread's work, and has answered 503.
                log::warn!("{error}");
            }
            None
        })
    }

    /// Ends all streams.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.hearing = None;
        state.listeners.clear();
    }

    fn seat(self: &Arc<Self>, severities: Vec<Severity>) -> Option<Seat> {
        let mut state = self.state();
        if state.closed || state.listeners.len() >= LISTENERS_MAX {
            return None;
        }
        if state.hearing.is_none() {
            state.hearing = Some(self.hear()?);
        }
        state.numbers += 1;
        let number = state.numbers;
        let (sender, frames) = bounded(QUEUE);
        state.listeners.push(Listener { number, severities, frames: sender });
        Some(Seat { hub: Arc::clone(self), number, frames })
    }

    /// Starts hearing the bus; once begun it goes on, since the bus forgets a subscriber only at the next outcome.
    fn hear(self: &Arc<Self>) -> Option<Sender<()>> {
        let (hearing, end) = bounded(0);
        let outcomes: Vec<_> = Severity::ALL.into_iter().map(|s| self.bus.subscribe("events", s)).collect();
        let hub = Arc::clone(self);
        let started = rooms::start("events", &self.failed, move || hub.hand_out(&outcomes, &end));
        started.map_err(|error| log::warn!("{error}")).ok()?;
        Some(hearing)
    }

    /// Hands outcomes out until the bus or the admin listener closes.
    fn hand_out(&self, outcomes: &[Receiver<Outcome>], end: &Receiver<()>) {
        let mut select = Select::new();
        for severity in outcomes {
            select.recv(severity);
        }
        let ending = select.recv(end);
        loop {
            let ready = select.ready();
            if ready == ending {
                return;
            }
            match outcomes[ready].try_recv() {
                Ok(outcome) => self.tell(&outcome),
                Err(error) if error.is_disconnected() => return self.close(),
                Err(_) => {}
            }
        }
    }

    fn tell(&self, outcome: &Outcome) {
        let mut state = self.state();
        if state.listeners.is_empty() {
            return;
        }
        let Ok(json) = serde_json::to_string(outcome) else { return };
        let frame = Frame::from(format!("data: {json}\n\n"));
        state.listeners.retain(|listener| {
            let asked = listener.severities.contains(&outcome.severity);
            !asked || listener.frames.try_send(Arc::clone(&frame)).is_ok()
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn serve(self, responder: Responder) {
        let opening = plain(Reply::content(200, "text/event-stream", OPENING));
        if let Some(stream) = responder.stream(&opening) {
            self.pass_on(stream);
        }
    }

    fn pass_on(&self, mut stream: Stream) {
        let mut text = String::new();
        loop {
            text.clear();
            match self.frames.recv_timeout(HEARTBEAT) {
                Ok(frame) => text.push_str(&frame),
                Err(RecvTimeoutError::Timeout) => text.push_str(":\n\n"),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while text.len() < WRITE_MAX_BYTES {
                let Ok(frame) = self.frames.try_recv() else { break };
                // Writing to a string cannot fail.
                let _ = text.write_str(&frame);
            }
            if !stream.send(text.as_bytes()) {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.state().listeners.retain(|listener| listener.number != self.number);
    }
}
