//! Calls to others: ureq, with what it costs taken out of it.
//!
//! ureq's `unversioned` interfaces are used here and nowhere else.

mod addresses;
mod agents;
mod thrift;

use std::time::Duration;

use ureq::http::{Request, Response};
use ureq::{AsSendBody, Body};

use agents::Agents;

/// Calls with one timeout, on connections that are kept.
pub struct Outgoing {
    agents: Agents,
}

impl Outgoing {
    /// Calls that take at most `timeout` each, from the connection to the answer's last byte.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { agents: Agents::new(timeout) }
    }

    /// Sends a request and has its answer read. `timeout` is for the whole exchange, if it is another than that of
    /// [`Outgoing::new`]: ureq copies its settings for it.
    ///
    /// # Errors
    /// What ureq says; `read` was not called then.
    pub fn exchange<T>(
        &self,
        request: Request<impl AsSendBody>,
        timeout: Option<Duration>,
        read: impl FnOnce(Response<Body>) -> T,
    ) -> Result<T, ureq::Error> {
        let agent = self.agents.take();
        let response = match timeout {
            Some(timeout) => {
                agent.run(agent.configure_request(request).timeout_global(Some(timeout)).build())
            }
            None => agent.run(request),
        };
        // The connection is the agent's again once the answer is read.
        let answer = response.map(read);
        self.agents.give_back(agent);
        if answer.is_err() {
            // A host that cannot be reached may have moved.
            self.agents.doubt_addresses();
        }
        answer
    }
}
