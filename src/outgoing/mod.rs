//! Calls to others: ureq, with what it costs taken out of it.
//!
//! ureq's `unversioned` interfaces are used here and nowhere else.

mod addresses;
mod thrift;

use std::time::Duration;

use ureq::config::Config;
use ureq::http::{Request, Response};
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, AsSendBody, Body};

use addresses::Addresses;
use thrift::Thrift;

/// One connection's buffers, each way: an answer's head must fit, and a request's with the longest token. ureq's
/// own choice is 128 KiB each, 64 MB with 256 workers.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Calls with one configuration, on connections that are kept.
pub struct Outgoing {
    agent: Agent,
    addresses: Addresses,
}

impl Outgoing {
    /// Calls as `settings` say.
    #[must_use]
    pub fn new(settings: Config) -> Self {
        let addresses = Addresses::default();
        let connector = DefaultConnector::default().chain(Thrift);
        Self { agent: Agent::with_parts(settings, connector, addresses.clone()), addresses }
    }

    /// Sends a request; the answer's body is still to be read. `timeout` is for the whole exchange, if it is
    /// another than the settings': ureq copies them for it.
    ///
    /// # Errors
    /// What ureq says.
    pub fn run(
        &self,
        request: Request<impl AsSendBody>,
        timeout: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let response = match timeout {
            Some(timeout) => {
                let request = self.agent.configure_request(request).timeout_global(Some(timeout)).build();
                self.agent.run(request)
            }
            None => self.agent.run(request),
        };
        // A host that cannot be reached may have moved.
        response.inspect_err(|_| self.addresses.doubt())
    }
}
