//! An answer without an end: server-sent events.

use std::io::Write;
use std::sync::Arc;

use super::Shared;
use super::ledger::Ticket;

/// An answer that goes on. Dropping it ends the connection.
///
/// The connection takes no further request: one that comes ends the stream.
pub struct Stream {
    writer: Box<dyn Write + Send>,
    ticket: Ticket,
    shared: Arc<Shared>,
}

impl Stream {
    pub(super) fn new(writer: Box<dyn Write + Send>, ticket: Ticket, shared: Arc<Shared>) -> Self {
        Self { writer, ticket, shared }
    }

    /// Sends; gives whether the client still takes it. One that does not make room in time is given up.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        if self.ticket.is_broken() {
            return false;
        }
        let sent = self.writer.write_all(bytes).and_then(|()| self.writer.flush()).is_ok();
        if !sent {
            self.ticket.set_broken();
        }
        sent
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.condemn(&self.ticket);
    }
}
