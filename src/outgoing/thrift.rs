//! A connection that asks the kernel less: of the 13 calls ureq makes for an exchange on a kept connection, 5 are left.

use std::fmt;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// So much is held back at most.
const HELD_MAX_BYTES: usize = 8 * 1024;
/// What is left of a timeout is rounded up to this, so that the socket need not be told anew each time...
const TIMEOUT_STEP_MS: u64 = 100;
/// ...unless less than this is left of it.
const TIMEOUT_EXACT: Duration = Duration::from_secs(2);

/// Wraps the connections of the connector before it.
#[derive(Debug)]
pub(super) struct Thrift;

impl<In: Transport> Connector<In> for Thrift {
    type Out = Thrifty<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Thrifty { inner, held: Vec::new(), just_read: false }))
    }
}

/// Sends a request's head and body together, once the answer is awaited.
pub(super) struct Thrifty<T> {
    inner: T,
    /// Written and not sent.
    held: Vec<u8>,
    /// Nothing was done since something was read.
    just_read: bool,
}

impl<T: Transport> Thrifty<T> {
    fn send_held(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let mut sent = 0;
        while sent < self.held.len() {
            let output = self.inner.buffers().output();
            let amount = output.len().min(self.held.len() - sent);
            output[..amount].copy_from_slice(&self.held[sent..sent + amount]);
            self.inner.transmit_output(amount, timeout)?;
            sent += amount;
        }
        self.held.clear();
        Ok(())
    }
}

impl<T: Transport> Transport for Thrifty<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.just_read = false;
        self.held.extend_from_slice(&self.inner.buffers().output()[..amount]);
        if self.held.len() > HELD_MAX_BYTES { self.send_held(rounded(timeout)) } else { Ok(()) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = rounded(timeout);
        self.send_held(timeout)?;
        self.just_read = self.inner.await_input(timeout)?;
        Ok(self.just_read)
    }

    /// ureq asks when it puts a connection away and again when it takes it out. Right after the answer the question
    /// tells nothing that the second one does not.
    fn is_open(&mut self) -> bool {
        std::mem::take(&mut self.just_read) || self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl<T: Transport> fmt::Debug for Thrifty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The same a little later, if there is much time left.
fn rounded(mut timeout: NextTimeout) -> NextTimeout {
    if !timeout.after.is_not_happening() && *timeout.after > TIMEOUT_EXACT {
        let left_ms = u64::try_from(timeout.after.as_millis()).unwrap_or(u64::MAX);
        let steps = left_ms / TIMEOUT_STEP_MS + 1;
        timeout.after = Duration::from_millis(steps.saturating_mul(TIMEOUT_STEP_MS)).into();
    }
    timeout
}

#[cfg(test)]
mod tests {
    use ureq::Timeout;

    use super::*;

    #[test]
    fn only_long_timeouts_are_rounded_and_only_up() {
        for (after_ms, rounded_ms) in [(0, 0), (1999, 1999), (2000, 2000), (2001, 2100), (14_999, 15_000)] {
            let after = Duration::from_millis(after_ms);
            let timeout =
                NextTimeout { after: after.into(), reason: Timeout::Global, ..NextTimeout::default() };
            assert_eq!(*rounded(timeout).after, Duration::from_millis(rounded_ms), "{after_ms} ms");
        }
    }
}
