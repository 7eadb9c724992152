//! The acceptor: takes requests from tiny_http in order and decides what happens to each; never waits itself.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::bounded;
use tiny_http::Request;

use super::head::{Framing, Head};
use super::jobs::{spawn, words};
use super::lane::{Slow, Todo};
use super::ledger::Ticket;
use super::lot;
use super::reply::Reply;
use super::responder::Responder;
use super::{Served, Shared};
use crate::error::Error;

/// How long tiny_http may take to start its threads.
const START_WAIT: Duration = Duration::from_secs(5);

/// A tiny_http server on the shared listening socket, and the thread that takes its requests.
pub(super) struct Acceptor {
    server: Arc<tiny_http::Server>,
    retired: Arc<AtomicBool>,
}

impl Acceptor {
    /// Starts both.
    ///
    /// # Errors
    /// When there is no descriptor or thread left for it.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let retired = Arc::new(AtomicBool::new(false));
        let (started, server) = bounded(1);
        let room = (Arc::clone(shared), Arc::clone(&retired));
        // tiny_http panics when it can start no thread: in this thread, where it does no harm.
        spawn("acceptor", Arc::clone(shared), move || {
            let (shared, retired) = room;
            let server = catch_unwind(AssertUnwindSafe(|| serve_on(&shared)))
                .unwrap_or_else(|panic| Err(Error::failed(words(&*panic))))
                .map(Arc::new);
            let sent = started.send(server.as_ref().map(Arc::clone).map_err(ToString::to_string));
            if let (Ok(server), Ok(())) = (server, sent) {
                take_requests(&server, &retired, &shared);
            }
        })?;
        let server =
            server.recv_timeout(START_WAIT).map_err(|_| Error::failed("no thread to accept with"))?;
        let server = server.map_err(Error::failed)?;
        // Dropping the server would leave its queue to be dropped by the last of its threads, and a request in
        // it could abort the process; it would also remove the file of a Unix socket.
        std::mem::forget(Arc::clone(&server));
        Ok(Self { server, retired })
    }

    /// Ends the thread once the queue is empty; to be called when none of the server's connections is left.
    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
        self.server.unblock();
    }
}

fn serve_on(shared: &Shared) -> Result<tiny_http::Server, Error> {
    let listener = shared.bound.for_server().map_err(|error| Error::failed(error.to_string()))?;
    tiny_http::Server::from_listener(listener, None).map_err(|error| Error::failed(error.to_string()))
}

fn take_requests(server: &tiny_http::Server, retired: &AtomicBool, shared: &Arc<Shared>) {
    let mut body = Vec::new();
    loop {
        match server.recv() {
            Ok(request) => visit(ManuallyDrop::new(request), &mut body, shared),
            Err(_) if retired.load(Relaxed) => return,
            Err(error) => {
                // The accept thread is gone; requests of its connections still come.
                if !shared.is_closing() {
                    log::warn!("accepting on {} failed: {error}", shared.bound);
                }
                shared.wake_guard();
            }
        }
    }
}

/// Decides about one request, or has it wait until the guard has seen which connection it is of.
fn visit(request: ManuallyDrop<Request>, body: &mut Vec<u8>, shared: &Arc<Shared>) {
    if shared.guard_rests.swap(false, Relaxed) {
        shared.wake_guard();
    }
    let ticket = shared.ledger.open(request.remote_addr().copied());
    if !ticket.is_condemned() && !shared.limbo.holds(request.remote_addr()) {
        return decide(request, ticket, body, shared);
    }
    match shared.limbo.hold(request) {
        None => shared.wake_guard(),
        Some(request) => {
            shared.condemn(&ticket);
            decide(request, ticket, body, shared);
        }
    }
}

/// Decides about a request that has waited.
pub(super) fn decide_at_last(request: ManuallyDrop<Request>, body: &mut Vec<u8>, shared: &Arc<Shared>) {
    let ticket = shared.ledger.open(request.remote_addr().copied());
    decide(request, ticket, body, shared);
}

fn decide(request: ManuallyDrop<Request>, mut ticket: Ticket, body: &mut Vec<u8>, shared: &Arc<Shared>) {
    let head = Head::new(&request);
    let unread = head.body_is_unread();
    let verdict = judge(head, shared);
    let must_park = request.body_length().is_some_and(|length| length > shared.park_above_bytes);
    let condemned = ticket.is_condemned();
    if must_park {
        let reply = verdict.err().unwrap_or(Reply::new(413, "Payload too large"));
        let shared = Arc::clone(shared);
        let job = Arc::clone(&shared);
        return shared.refusals.run(Box::new(move || {
            lot::refuse_unread(ManuallyDrop::into_inner(request), &reply, ticket, &job);
        }));
    }
    let request = ManuallyDrop::into_inner(request);
    if unread {
        let verdict = if condemned { Err(Reply::new(400, "Bad request").close()) } else { verdict };
        let todo = verdict.map_or_else(Todo::Refuse, Todo::Serve);
        ticket.we_wait();
        return shared.lane.take(Slow { request, ticket, todo }, shared);
    }
    match verdict {
        // It goes unanswered, as does all that follows it: its connection is about to end.
        _ if condemned => drop(request.into_writer()),
        Ok(length) => serve(request, length, body, ticket, shared),
        Err(reply) => refuse(request, reply, ticket, shared),
    }
}

/// The length of the body to read, or the answer that needs no body.
fn judge(head: Head<'_>, shared: &Shared) -> Result<usize, Reply> {
    let admitted = shared.handler.admit(head);
    let framing = head.framing();
    let admit = match (admitted, &framing) {
        // Where the next request starts is anybody's guess, whatever else is wrong.
        (Err(reply), Framing::Fault(_)) => return Err(reply.close()),
        (Err(reply), _) => return Err(reply),
        (Ok(_), Framing::Fault(fault)) => return Err(fault.clone().close()),
        (Ok(admit), _) => admit,
    };
    match framing {
        Framing::Length(length) if length > admit.max_body_bytes => Err(Reply::new(413, "Payload too large")),
        Framing::Length(length) => Ok(length),
        _ if admit.needs_length => Err(Reply::new(411, "Length required")),
        _ => Ok(0),
    }
}

fn serve(mut request: Request, length: usize, body: &mut Vec<u8>, ticket: Ticket, shared: &Arc<Shared>) {
    body.clear();
    if length > 0 {
        // It is in memory already: this neither waits nor fails.
        let _ = std::io::Read::read_to_end(request.as_reader(), body);
    }
    let served = if body.len() == length {
        shared.handler.serve(Head::new(&request), body)
    } else {
        Served::Reply(Reply::new(400, "Invalid JSON payload").close())
    };
    match served {
        Served::Reply(reply) => refuse(request, reply, ticket, shared),
        Served::Later(task) => {
            if let Some(job) = task(Responder::for_read(request, ticket, shared)) {
                shared.refusals.run(job);
            }
        }
    }
}

/// Has the answer written by another thread: it may have to wait for one of the keeper's.
fn refuse(request: Request, reply: Reply, ticket: Ticket, shared: &Arc<Shared>) {
    let responder = Responder::for_read(request, ticket, shared);
    if reply.closes() {
        // What follows on this connection is not to be taken for requests.
        responder.condemn();
    }
    shared.refusals.run(Box::new(move || responder.write(&reply)));
}
