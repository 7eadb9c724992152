//! The slow lane: requests whose body is still on the socket, each read by a thread that may wait for it.
//!
//! A connection has at most one of them (the next request is not parsed before this one is let go), so their
//! number is bounded by the number of connections. Threads come and go with the need.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tiny_http::Request;

use super::head::Head;
use super::jobs::spawn;
use super::ledger::Ticket;
use super::lot;
use super::reply::Reply;
use super::responder::Responder;
use super::{Served, Shared};

/// Threads at most: so many clients may be slow with their bodies before others with large bodies wait, and
/// then for `webhook.read_timeout` at most.
const THREADS_MAX: usize = 256;
/// A thread without work ends after this long; one always stays.
const THREAD_IDLE: Duration = Duration::from_secs(10);
/// What is made room for before anything of a body has arrived: an announced length is only a promise.
const BODY_FIRST_BYTES: usize = 4 * 1024;

/// A request with its body still to come.
pub(super) struct Slow {
    pub request: Request,
    pub ticket: Ticket,
    pub todo: Todo,
}

/// What is to become of it.
pub(super) enum Todo {
    /// Read that many bytes and serve it.
    Serve(usize),
    /// Answer, and be done with the connection.
    Refuse(Reply),
}

#[derive(Default)]
pub(super) struct Lane {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Slow>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl Lane {
    /// Takes a request over.
    pub(super) fn take(&self, slow: Slow, shared: &Arc<Shared>) {
        let mut state = self.state();
        state.queue.push_back(slow);
        if state.idle >= state.queue.len() {
            self.arrived.notify_one();
        } else if state.threads < THREADS_MAX {
            drop(state);
            // Without a thread to spare one of the others will get to it.
            if let Err(error) = self.start_thread(shared) {
                log::warn!("{error}");
            }
            self.arrived.notify_one();
        }
    }

    /// Starts one more thread.
    pub(super) fn start_thread(&self, shared: &Arc<Shared>) -> Result<(), crate::error::Error> {
        self.state().threads += 1;
        let room = Arc::clone(shared);
        let started = spawn("slow lane", Arc::clone(shared), move || {
            while let Some(slow) = room.lane.next() {
                drive(slow, &room);
            }
        });
        if started.is_err() {
            self.state().threads -= 1;
        }
        started.map(drop)
    }

    /// The next request; `None` when the thread is to end.
    fn next(&self) -> Option<Slow> {
        let mut state = self.state();
        loop {
            if let Some(slow) = state.queue.pop_front() {
                return Some(slow);
            }
            if state.ended {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let waited = self.arrived.wait_timeout(state, THREAD_IDLE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() && state.threads > 1 {
                state.threads -= 1;
                return None;
            }
        }
    }

    /// Ends the threads once the queue is empty.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.arrived.notify_all();
    }

    /// Whether all threads have ended.
    pub(super) fn is_over(&self) -> bool {
        self.state().threads == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees one request through.
fn drive(slow: Slow, shared: &Arc<Shared>) {
    let Slow { mut request, mut ticket, todo } = slow;
    let length = match todo {
        Todo::Serve(length) => length,
        Todo::Refuse(reply) => return lot::refuse_unread(request, &reply, ticket, shared),
    };
    let Some(body) = read_body(&mut request, length) else {
        let cut = Reply::new(400, "Invalid JSON payload").close();
        return lot::refuse_unread(request, &cut, ticket, shared);
    };
    ticket.client_waits();
    match shared.handler.serve(Head::new(&request), &body) {
        Served::Reply(reply) => Responder::holding(request, ticket, shared).write(&reply),
        Served::Later(task) => {
            if let Some(job) = task(Responder::holding(request, ticket, shared)) {
                job();
            }
        }
    }
}

/// The whole body; `None` when the connection ended before (tiny_http calls that success).
fn read_body(request: &mut Request, length: usize) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(length.min(BODY_FIRST_BYTES));
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    // The first read sends "100 Continue" to a client that asked for it.
    request.as_reader().take(limit).read_to_end(&mut body).ok()?;
    (body.len() == length).then_some(body)
}
