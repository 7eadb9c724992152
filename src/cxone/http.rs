//! One exchange by blocking ureq: every timeout set, every body read, every fault in words.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::Body;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use ureq::http::method::InvalidMethod;
use ureq::http::uri::InvalidUri;
use ureq::http::{HeaderMap, Request, Response};

use crate::backoff;
use crate::outgoing::Outgoing;

/// How much of an answer is kept for the dead letter (contract section 7).
pub(super) const DETAIL_MAX_BYTES: usize = 1024;
/// How much of an answer is read, so that its connection can be used again; beyond it the connection is closed.
const ANSWER_MAX_BYTES: u64 = 256 * 1024;

/// Headers of a request, with those ureq adds.
const HEADERS: usize = 8;

pub(super) struct Http {
    outgoing: Outgoing,
    timeout: Duration,
}

/// A complete answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// At most [`DETAIL_MAX_BYTES`], control characters made visible.
    pub(super) body: String,
    /// At most [`ANSWER_MAX_BYTES`].
    pub(super) raw: Vec<u8>,
}

impl Http {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { outgoing: Outgoing::new(timeout), timeout }
    }

    /// Sends a contact update; the answer, or the fault in words.
    pub(super) fn update(&self, method: &str, url: &str, token: &str, body: &[u8]) -> Result<Reply, String> {
        let request = request(method, url, Some(format!("Bearer {token}")), "application/json", body)?;
        self.exchange(request, None)
    }

    /// Sends a form; the answer, or the fault in words. `basic` is the value of an `Authorization` header.
    pub(super) fn form(
        &self,
        url: &str,
        basic: Option<String>,
        body: &str,
        timeout: Duration,
    ) -> Result<Reply, String> {
        let request = request("POST", url, basic, "application/x-www-form-urlencoded", body.as_bytes())?;
        self.exchange(request, Some(timeout))
    }

    /// `other_timeout` if it is not the update's.
    fn exchange(&self, request: Request<&[u8]>, other_timeout: Option<Duration>) -> Result<Reply, String> {
        let timeout = other_timeout.unwrap_or(self.timeout);
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let words = |error: &ureq::Error| fault(error, &host, timeout);
        let answer = self.outgoing.exchange(request, other_timeout, |response| {
            let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
            read(response).map(|raw| Reply { status, retry_after, body: printable(&raw), raw })
        });
        answer.flatten().map_err(|error| words(&error))
    }
}

/// A request that wants JSON; or why there can be none.
fn request<'a>(
    method: &str,
    url: &str,
    authorization: Option<String>,
    content_type: &'static str,
    body: &'a [u8],
) -> Result<Request<&'a [u8]>, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot call {url}: {error}");
    let mut request = Request::new(body);
    *request.method_mut() = method.parse().map_err(|error: InvalidMethod| cannot(&error))?;
    *request.uri_mut() = url.parse().map_err(|error: InvalidUri| cannot(&error))?;
    let headers = request.headers_mut();
    headers.reserve(HEADERS);
    if let Some(authorization) = authorization {
        let value = HeaderValue::try_from(authorization);
        headers.insert(AUTHORIZATION, value.map_err(|error| cannot(&error))?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(request)
}

/// The answer's body. Reading it to its end gives the connection back; one that goes on too long is cut.
fn read(response: Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    let mut raw = Vec::new();
    let mut reader = response.into_body().into_reader().take(ANSWER_MAX_BYTES);
    reader.read_to_end(&mut raw)?;
    Ok(raw)
}

fn printable(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(DETAIL_MAX_BYTES)]);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    backoff::retry_after(headers.get("Retry-After")?.to_str().ok()?, now_s)
}

/// A fault in words: what happened, to whom.
fn fault(error: &ureq::Error, host: &str, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(what) => format!("{host}: no answer within {timeout:?} ({what})"),
        ureq::Error::HostNotFound => format!("{host}: the name cannot be resolved (DNS)"),
        ureq::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("{host}: connection refused"),
            std::io::ErrorKind::ConnectionReset => format!("{host}: connection reset"),
            std::io::ErrorKind::UnexpectedEof => format!("{host}: the answer was cut short"),
            _ => format!("{host}: {error}"),
        },
        ureq::Error::Rustls(error) => format!("{host}: TLS: {error}"),
        ureq::Error::Tls(error) => format!("{host}: TLS: {error}"),
        other => format!("{host}: {other}"),
    }
}
