//! How a command reaches the running daemon: over HTTP, at the address the configuration gives its listener.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::Agent;
use ureq::http::Request;
use ureq::unversioned::transport::DefaultConnector;

use crate::backoff;
use crate::config::{Config, Listen};
use crate::error::Error;

mod ways;

/// One whole exchange. The daemon itself gives its keeper 10 s for a change.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An idle connection is given up before the daemon does it, which is after a minute unless configured otherwise.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// No answer of the daemon is near this.
const ANSWER_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How much of an answer is shown in a message.
const SHOWN_MAX_CHARS: usize = 300;

/// Speaks to one listener.
pub(super) struct Client {
    agent: Agent,
    /// What a path is put behind.
    base: String,
    /// The listener in words, for messages.
    place: String,
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// For how long we are asked to stay away.
    pub(super) retry_after: Option<Duration>,
    /// The body.
    pub(super) body: String,
}

/// No answer. Displays as the whole message.
#[derive(Debug)]
pub(super) struct Fault {
    place: String,
    why: String,
    /// Nobody listens there.
    nobody: bool,
}

impl Client {
    /// A client of the admin listener.
    ///
    /// # Errors
    /// There is none, or the configuration does not tell where.
    pub(super) fn admin(config: &Config) -> Result<Self, Error> {
        let Some(listen) = &config.admin.listen else {
            return Err(Error::failed(
                "admin.listen is \"off\": a running daemon can be asked nothing, it has no admin listener",
            ));
        };
        Self::to(listen, "admin.listen", 1)
    }

    /// A client of the listener that `key` of the configuration puts at `listen`, on as many connections at once.
    ///
    /// # Errors
    /// The port is 0.
    pub(super) fn to(listen: &Listen, key: &str, connections: usize) -> Result<Self, Error> {
        match listen {
            Listen::Unix(path) => Ok(Self::unix(path, key, connections)),
            Listen::Tcp(address) if address.port() == 0 => Err(Error::failed(format!(
                "{key} is {address}, any free port: name the one it has with DISPOD_{}=HOST:PORT",
                key.to_uppercase().replace('.', "_")
            ))),
            Listen::Tcp(address) => {
                let address = reachable(*address);
                let base = format!("http://{address}");
                let place = format!("{base} ({key})");
                let connector = DefaultConnector::default();
                let agent = Agent::with_parts(config(connections), connector, ways::Address(address));
                Ok(Self { agent, base, place })
            }
        }
    }

    /// A client of the URL itself.
    pub(super) fn url(url: &str, connections: usize) -> Self {
        Self { agent: config(connections).new_agent(), base: url.to_owned(), place: url.to_owned() }
    }

    fn unix(path: &Path, key: &str, connections: usize) -> Self {
        // For the listener's check of `Host` only.
        let host = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 80);
        let connector = ways::Connector::new(path);
        let agent = Agent::with_parts(config(connections), connector, ways::Address(host));
        Self {
            agent,
            base: format!("http://{}", host.ip()),
            place: format!("unix:{} ({key})", path.display()),
        }
    }

    /// The listener in words.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Asks for `target`.
    ///
    /// # Errors
    /// There was no answer.
    pub(super) fn get(&self, target: &str) -> Result<Answer, Fault> {
        self.send("GET", target, &[], None)
    }

    /// Asks for a change, with the header that says it is no web page asking.
    ///
    /// # Errors
    /// There was no answer; whether the change was made is unknown then.
    pub(super) fn change(&self, method: &str, target: &str) -> Result<Answer, Fault> {
        // A POST has a length even where it has no body.
        let body = (method == "POST").then_some(&b""[..]);
        self.send(method, target, &[("X-Dispod", "1")], body)
    }

    /// Posts a JSON body.
    ///
    /// # Errors
    /// There was no answer; whether it was taken is unknown then.
    pub(super) fn post(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Fault> {
        self.send("POST", target, headers, Some(body))
    }

    fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Fault> {
        let fault = |why: String, nobody| Fault { place: self.place.clone(), why, nobody };
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some_and(|body| !body.is_empty()) {
            request = request.header("Content-Type", "application/json");
        }
        let response = match body {
            Some(body) => request.body(body).map(|request| self.agent.run(request)),
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        let response = response.map_err(|error| fault(error.to_string(), false))?;
        let response = response.map_err(|error| fault(words(&error), is_nobody(&error)))?;
        let status = response.status().as_u16();
        let header = response.headers().get("Retry-After").and_then(|value| value.to_str().ok());
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let retry_after = header.and_then(|value| backoff::retry_after(value, now_s));
        let mut body = Vec::new();
        let mut reader = response.into_body().into_reader().take(ANSWER_MAX_BYTES);
        reader.read_to_end(&mut body).map_err(|error| fault(error.to_string(), false))?;
        Ok(Answer { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

impl Answer {
    /// Status and body on one line, for a message.
    pub(super) fn in_words(&self) -> String {
        let text: String = self.body.trim().chars().take(SHOWN_MAX_CHARS).collect();
        let text = super::table::harmless(&text).into_owned();
        let status = self.status;
        if text.is_empty() { format!("{status}") } else { format!("{status}: {text}") }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, why, nobody } = self;
        write!(f, "no daemon answers at {place}: {why}")?;
        if *nobody { f.write_str("; is it running?") } else { Ok(()) }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::failed(fault.to_string())
    }
}

fn config(connections: usize) -> ureq::config::Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A proxy is for the way out of this machine.
        .proxy(None)
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .max_idle_age(IDLE_MAX)
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("dispod/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The address one connects to in order to reach a listener on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn is_nobody(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error)
        if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound))
}

fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::HostNotFound => "the name cannot be resolved (DNS)".to_owned(),
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ErrorKind::NotFound => "there is no such socket".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            ErrorKind::UnexpectedEof => "the answer was cut short".to_owned(),
            _ => error.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_this_machine() {
        for (listen, base) in [
            ("0.0.0.0:9090", "http://127.0.0.1:9090"),
            ("[::]:9090", "http://[::1]:9090"),
            ("10.1.2.3:80", "http://10.1.2.3:80"),
        ] {
            let client = Client::to(&Listen::Tcp(listen.parse().unwrap()), "admin.listen", 1).unwrap();
            assert_eq!(client.base, base);
            assert_eq!(client.place(), format!("{base} (admin.listen)"));
        }
    }

    #[test]
    fn a_port_that_only_the_daemon_knows_is_asked_for() {
        let anywhere = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let error = Client::to(&anywhere, "admin.listen", 1).err().unwrap().to_string();
        assert!(error.ends_with("name the one it has with DISPOD_ADMIN_LISTEN=HOST:PORT"), "{error}");
    }
}
