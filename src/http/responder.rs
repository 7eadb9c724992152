//! The right to answer one request, and the place where answers are written.

use std::io::Write;
use std::sync::Arc;

use tiny_http::Request;

use super::Shared;
use super::head::Head;
use super::ledger::Ticket;
use super::reply::{Form, Reply, Then};
use super::stream::Stream;

/// Seconds for `Retry-After` when a request is let go unanswered.
const LET_GO_RETRY_AFTER_S: u32 = 5;

/// The right to answer one request, once. Dropped unused, it answers 503.
///
/// The answers of one connection go out in the order of its requests: writing one waits until the ones before
/// it are written. Whoever answers from a queue must therefore answer in the order of that queue.
pub struct Responder(Option<Pending>);

struct Pending {
    way: Way,
    form: Form,
    ticket: Ticket,
    shared: Arc<Shared>,
}

/// Where the answer goes.
enum Way {
    /// The body was read before we saw the request.
    Writer(Box<dyn Write + Send>),
    /// The request whole: the next one of its connection is not even parsed before this one is let go.
    Request(Request),
}

impl Responder {
    /// For a request whose body tiny_http has read.
    pub(super) fn for_read(request: Request, ticket: Ticket, shared: &Arc<Shared>) -> Self {
        let form = Head::new(&request).form();
        let way = Way::Writer(request.into_writer());
        Self(Some(Pending { way, form, ticket, shared: Arc::clone(shared) }))
    }

    /// For a request whose body we have read, to be held until it is answered.
    pub(super) fn holding(request: Request, ticket: Ticket, shared: &Arc<Shared>) -> Self {
        let form = Head::new(&request).form();
        Self(Some(Pending { way: Way::Request(request), form, ticket, shared: Arc::clone(shared) }))
    }

    /// Nothing more is taken from this connection, from now on.
    pub(super) fn condemn(&self) {
        if let Some(pending) = &self.0 {
            pending.shared.condemn(&pending.ticket);
        }
    }

    /// Answers. Waits at most for the answers before it on the same connection and, over TCP, the short time a
    /// client has to make room; over a Unix socket another thread does the waiting. A client that is gone or
    /// does not read is no error: there is nobody to tell.
    pub fn send(mut self, reply: Reply) {
        let Some(pending) = self.0.take() else { return };
        if pending.ticket.is_nameless() {
            let shared = Arc::clone(&pending.shared);
            shared.acknowledge(Box::new(move || pending.write(&reply)));
        } else {
            pending.write(&reply);
        }
    }

    /// Says that the answer will be a stream, before another request of the connection is looked at.
    pub fn will_stream(&self) {
        if let Some(pending) = &self.0 {
            pending.ticket.set_streaming();
        }
    }

    /// Begins an answer announced by [`Responder::will_stream`], which goes on until the stream is dropped;
    /// `reply`'s text is its beginning. Waits like [`Responder::send`], on this thread whatever the socket. The
    /// answer to HEAD ends with the head.
    #[must_use]
    pub fn stream(mut self, reply: &Reply) -> Option<Stream> {
        self.0.take().and_then(|pending| pending.stream(reply))
    }

    /// As [`Responder::send`], on this thread whatever the socket.
    pub(super) fn write(mut self, reply: &Reply) {
        if let Some(pending) = self.0.take() {
            pending.write(reply);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(pending) = self.0.take() {
            // Silence would let the next answer of this connection pass for this one's.
            let reply = Reply::new(503, "Try again later").retry_after(LET_GO_RETRY_AFTER_S).close();
            pending.write(&reply);
        }
    }
}

impl Way {
    fn into_writer(self) -> Box<dyn Write + Send> {
        match self {
            Self::Writer(writer) => writer,
            // Its body was read to the end, so letting it go does not wait for the client.
            Self::Request(request) => request.into_writer(),
        }
    }
}

impl Pending {
    fn stream(self, reply: &Reply) -> Option<Stream> {
        if self.form.head || self.shared.is_closing() {
            self.write(reply);
            return None;
        }
        self.shared.handler.replied(reply.status());
        let mut stream = Stream::new(self.way.into_writer(), self.ticket, self.shared);
        stream.send(&reply.render_open()).then_some(stream)
    }

    fn write(self, reply: &Reply) {
        let closing = reply.closes() || self.shared.is_closing();
        let then = if closing { Then::Close } else { self.form.then };
        let form = Form { then, ..self.form };
        let bytes = reply.render(form);
        self.shared.handler.replied(reply.status());
        let mut writer = self.way.into_writer();
        if !self.ticket.is_broken() && writer.write_all(&bytes).and_then(|()| writer.flush()).is_err() {
            self.ticket.set_broken();
            self.shared.condemn(&self.ticket);
        }
        if closing {
            self.shared.condemn(&self.ticket);
        }
    }
}
