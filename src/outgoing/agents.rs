//! The kept connections: an agent of ureq's for each, the one used last taken first.
//!
//! An agent shared by all callers asks the kernel whether a connection is open, and looks through all of them, while
//! the others wait for its lock; and it takes the connection that was idle longest, so that none is ever given up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::unversioned::transport::{ChainedConnector, ConnectionDetails, Connector, DefaultConnector};
use ureq::{Agent, Error};

use super::addresses::Addresses;
use super::thrift::Thrift;

/// One connection's buffers, each way: an answer's head must fit, and a request's with the longest token. ureq's
/// own choice is 128 KiB each, 64 MB with 256 workers.
const BUFFER_BYTES: usize = 16 * 1024;
/// An idle connection is given up after this time: most servers do so after a minute.
const IDLE_MAX: Duration = Duration::from_secs(50);
/// The API's and the token endpoint's.
const HOSTS_MAX: usize = 2;

pub(super) struct Agents {
    settings: Config,
    connector: Shared,
    addresses: Addresses,
    /// With the time since which they are; the last one was used last.
    idle: Mutex<VecDeque<(Instant, Agent)>>,
}

impl Agents {
    pub(super) fn new(timeout: Duration) -> Self {
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(HOSTS_MAX)
            .max_idle_connections_per_host(1)
            .max_idle_age(IDLE_MAX)
            .timeout_global(Some(timeout))
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .user_agent(concat!("dispod/", env!("CARGO_PKG_VERSION")))
            .build();
        let connector = Shared(Arc::new(DefaultConnector::default().chain(Thrift)));
        Self { settings, connector, addresses: Addresses::default(), idle: Mutex::default() }
    }

    /// An agent for one exchange: there are never more than exchanges at a time.
    pub(super) fn take(&self) -> Agent {
        let idle = self.lock().pop_back();
        idle.map_or_else(
            || Agent::with_parts(self.settings.clone(), self.connector.clone(), self.addresses.clone()),
            |(_, agent)| agent,
        )
    }

    /// After the exchange. Whoever was idle for too long is given up, one each time.
    pub(super) fn give_back(&self, agent: Agent) {
        let now = Instant::now();
        let mut idle = self.lock();
        idle.push_back((now, agent));
        let too_long = |(since, _): &(Instant, Agent)| now.saturating_duration_since(*since) > IDLE_MAX;
        let too_old = if idle.front().is_some_and(too_long) { idle.pop_front() } else { None };
        // Its connections are closed when nobody waits for the lock.
        drop(idle);
        drop(too_old);
    }

    /// See [`Addresses::doubt`].
    pub(super) fn doubt_addresses(&self) {
        self.addresses.doubt();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Agent)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agents' one connector, so that they have one TLS configuration.
#[derive(Debug, Clone)]
struct Shared(Arc<Chain>);

type Chain = ChainedConnector<(), DefaultConnector, Thrift>;

impl Connector for Shared {
    type Out = <Chain as Connector>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Answers requests without a body; its answer says how many came on this connection.
    fn serve(stream: &TcpStream) {
        let (mut requests, mut answers) = (0, stream);
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if line.is_empty() {
                requests += 1;
                write!(answers, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{requests}").unwrap();
            }
        }
    }

    #[test]
    fn the_connection_used_last_is_taken_and_one_idle_too_long_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(|| serve(&stream.unwrap()));
            }
        });
        let agents = Agents::new(Duration::from_secs(20));
        let ask = |agent: &Agent| agent.get(&url).call().unwrap().into_body().read_to_string().unwrap();

        let (first, second) = (agents.take(), agents.take());
        assert_eq!([ask(&first), ask(&second), ask(&second)], ["1", "1", "2"]);
        agents.give_back(first);
        agents.give_back(second);
        let third = agents.take();
        assert_eq!(ask(&third), "3");

        let Some(long_ago) = Instant::now().checked_sub(IDLE_MAX + Duration::from_secs(1)) else { return };
        agents.lock()[0].0 = long_ago;
        agents.give_back(third);
        assert_eq!(agents.lock().len(), 1);
        assert_eq!(ask(&agents.take()), "4");
    }
}
