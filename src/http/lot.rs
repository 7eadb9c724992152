//! Refusing a request whose body nobody will read, and the lot where those are parked that must not be let go.
//!
//! tiny_http reads the rest of a body when its request is dropped, into a buffer of the announced length
//! allocated at once (`util/equal_reader.rs`): a request announcing 30 GB aborts the process. Such a request is
//! turned into a bare stream instead and kept: a thread and two descriptors stay with it. Once its connection
//! is known to be over, one of a length that surely can be allocated is let go after all.

use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::{ReadWrite, Request, Response, StatusCode};

use super::Shared;
use super::head::Head;
use super::ledger::Ticket;
use super::reply::Reply;

/// Requests announcing more, and more than any handler takes, are parked rather than dropped.
pub(super) const PARK_ABOVE_BYTES: usize = 1024 * 1024;
/// Parked requests announcing no more than this are let go when their connection is over. Each takes that much
/// memory for a moment: with 64 MiB here the catalogue of bad requests peaked at 52 MB, with 4 at 22.
const RECLAIM_MAX_BYTES: usize = 4 * 1024 * 1024;
/// What is read of a refused body, so that the client gets to read the answer.
const DRAIN_MAX_BYTES: u64 = PARK_ABOVE_BYTES as u64;

/// The parked.
#[derive(Default)]
pub(super) struct Lot(Mutex<Vec<Parked>>);

struct Parked {
    stream: ManuallyDrop<Box<dyn ReadWrite + Send>>,
    announced: usize,
    peer: Option<SocketAddr>,
    since: Instant,
}

impl Lot {
    /// How many are parked.
    pub(super) fn len(&self) -> usize {
        self.parked().len()
    }

    /// The addresses of the parked.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        self.parked().iter().filter_map(|parked| parked.peer).collect()
    }

    /// Lets those go whose connection is over (`is_over` is told address and age) and whose announced length
    /// can be allocated.
    pub(super) fn reclaim(&self, mut is_over: impl FnMut(Option<SocketAddr>, Duration) -> bool) {
        let free = {
            let mut parked = self.parked();
            let mut over =
                |p: &Parked| p.announced <= RECLAIM_MAX_BYTES && is_over(p.peer, p.since.elapsed());
            parked.extract_if(.., |p| over(p)).collect::<Vec<_>>()
        };
        for parked in free {
            // Asked first, since dropping it aborts where this only fails.
            if Vec::<u8>::new().try_reserve_exact(parked.announced).is_ok() {
                drop(ManuallyDrop::into_inner(parked.stream));
            } else {
                self.parked().push(parked);
            }
        }
    }

    fn parked(&self) -> MutexGuard<'_, Vec<Parked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a request whose body is unread, then lets it go, or parks it. Waits for the client: to be called in
/// the slow lane, or for what is to be parked.
pub(super) fn refuse_unread(request: Request, reply: &Reply, mut ticket: Ticket, shared: &Arc<Shared>) {
    let announced = request.body_length().unwrap_or(0);
    let peer = request.remote_addr().copied();
    let upgraded = Head::new(&request).upgrades();
    shared.handler.replied(reply.status());
    // Before anything of the body is read: at its end tiny_http goes on with what follows on the connection.
    ticket.take_no_more();
    let mut stream = ManuallyDrop::new(answer_keeping_reader(request, reply, &ticket));
    ticket.we_wait();
    if announced > shared.park_above_bytes {
        shared.lot.parked().push(Parked { stream, announced, peer, since: Instant::now() });
        shared.condemn(&ticket);
        return;
    }
    // Of an upgraded connection the reader is the connection itself: there is no body to read.
    if !upgraded && !ticket.is_broken() {
        // An error is the end of it too.
        let _ = std::io::copy(&mut (&mut *stream).take(DRAIN_MAX_BYTES), &mut std::io::sink());
    }
    shared.condemn(&ticket);
    drop(ticket);
    drop(ManuallyDrop::into_inner(stream));
}

/// Writes the answer and gives the connection back as it is. `Request::respond` and `into_writer` would drop
/// the reader, and the latter even before anything is written.
fn answer_keeping_reader(request: Request, reply: &Reply, ticket: &Ticket) -> Box<dyn ReadWrite + Send> {
    let head = Head::new(&request);
    let (lines, body) = reply.last_lines_and_body(head.form());
    // `upgrade` is the only call that does. It writes status line, `Connection: upgrade` and what it takes for
    // a protocol's name: our header lines come along with that. `Upgrade` in a refusal is an offer at most
    // (RFC 9110 section 7.8).
    let bare = Response::new(StatusCode(reply.status()), Vec::new(), std::io::empty(), None, None);
    let mut stream = request.upgrade(&format!("HTTP/1.1\r\n{lines}"), bare);
    if stream.write_all(body.as_bytes()).and_then(|()| stream.flush()).is_err() {
        ticket.set_broken();
    }
    stream
}
