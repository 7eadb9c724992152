//! What a request says before its body: the view the handlers get, and the framing rules of our own.
//!
//! tiny_http takes framing lightly (any `Transfer-Encoding` is chunked, a bad length is no body, of two lengths
//! the first holds). Whoever disagrees with it about where a request ends can hide a second one in the first,
//! so everything that is not plain is refused (RFC 9112 section 6.3, section 11.2).

use tiny_http::{HTTPVersion, Header, Request};

use super::HEAD_MAX_BYTES;
use super::reply::{Form, Reply, Then};

/// Bodies up to this length are read by tiny_http's own thread before we see the request (its `request.rs`).
const PREREAD_MAX_BYTES: usize = 1024;

/// A request without its body.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    request: &'a Request,
}

impl<'a> Head<'a> {
    pub(crate) fn new(request: &'a Request) -> Self {
        Self { request }
    }

    /// The method, as it was sent: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.request.method().as_str()
    }

    /// The path without query. Of an absolute-form target (RFC 9112 section 3.2.2) the path in it.
    #[must_use]
    pub fn path(&self) -> &'a str {
        path_of(self.request.url())
    }

    /// What follows the first `?` of the target, up to a `#`.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        let target = self.request.url().split('#').next()?;
        target.split_once('?').map(|(_, query)| query)
    }

    /// The values of all headers of that name, in order.
    pub fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.request.headers().iter().filter(move |h| h.field.equiv(name)).map(|h| h.value.as_str())
    }

    /// The value of the first header of that name.
    #[must_use]
    pub fn first(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Whether `Accept` names `application/json`.
    fn wants_json(self) -> bool {
        self.all("Accept").flat_map(|value| value.split(',')).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|t| t.eq_ignore_ascii_case("application/json"));
            named && !parts.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    }

    /// How the answer has to look.
    pub(super) fn form(self) -> Form {
        let asks = |option: &str| {
            self.all("Connection").flat_map(|v| v.split(',')).any(|o| o.trim().eq_ignore_ascii_case(option))
        };
        let http_1_1 = *self.request.http_version() >= HTTPVersion(1, 1);
        let then = match (asks("close"), http_1_1, asks("keep-alive")) {
            (true, _, _) | (false, false, false) => Then::Close,
            (false, false, true) => Then::KeepAlive,
            (false, true, _) => Then::Stay,
        };
        Form { json: self.wants_json(), head: self.method() == "HEAD", then }
    }

    /// Where the body ends, by our rules.
    pub(super) fn framing(self) -> Framing {
        let headers = self.request.headers();
        // The guard ends connections that go on and on; what came faster than it looks is caught here.
        if self.bytes() > HEAD_MAX_BYTES {
            return Framing::Fault(Reply::new(431, "Request header fields too large"));
        }
        if !headers.iter().all(is_plain) {
            return Framing::Fault(Reply::new(400, "Malformed header"));
        }
        let lengths = headers.iter().filter(|h| h.field.equiv("Content-Length")).count();
        if self.first("Transfer-Encoding").is_some() {
            return Framing::Fault(if lengths > 0 {
                Reply::new(400, "Transfer-Encoding and Content-Length together")
            } else {
                Reply::new(411, "Length required")
            });
        }
        if self.first("Upgrade").is_some() || self.upgrades() {
            return Framing::Fault(Reply::new(400, "Upgrade is not supported"));
        }
        if lengths > 1 {
            return Framing::Fault(Reply::new(400, "More than one Content-Length"));
        }
        let Some(length) = self.first("Content-Length") else { return Framing::NoLength };
        if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Framing::Fault(Reply::new(400, "Invalid Content-Length"));
        }
        match length.parse() {
            Ok(length) => Framing::Length(length),
            // Digits that do not fit: tiny_http takes them for no body.
            Err(_) => Framing::Fault(Reply::new(413, "Payload too large")),
        }
    }

    /// Roughly its length on the wire.
    fn bytes(self) -> usize {
        const COLON_AND_LINE_END_BYTES: usize = 4;
        let headers = self.request.headers().iter();
        let lines = headers.map(|h| h.field.as_str().len() + h.value.len() + COLON_AND_LINE_END_BYTES);
        self.request.url().len() + self.method().len() + lines.sum::<usize>()
    }

    /// Whether tiny_http takes the connection itself for the body.
    pub(super) fn upgrades(self) -> bool {
        self.all("Connection").any(|value| value.to_ascii_lowercase().contains("upgrade"))
    }

    /// Whether tiny_http left the body on the socket, so that reading it or dropping the request may wait for
    /// the client. Follows its `request.rs`, not our framing.
    pub(super) fn body_is_unread(self) -> bool {
        match self.request.body_length() {
            Some(length) => length > PREREAD_MAX_BYTES || (length > 0 && self.first("Expect").is_some()),
            None => self.first("Transfer-Encoding").is_some(),
        }
    }
}

/// Where a request's body ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(usize),
    /// No length was given: there is no body (RFC 9112 section 6.3, rule 7).
    NoLength,
    /// Nobody can be sure; the answer, after which the connection must end.
    Fault(Reply),
}

/// Whether a header is a token and a value without control characters (RFC 9110 section 5.5, 5.6.2).
fn is_plain(header: &Header) -> bool {
    let name = header.field.as_str().as_str();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty()
        && name.bytes().all(token)
        && header.value.as_str().bytes().all(|b| b == b'\t' || !b.is_ascii_control())
}

fn path_of(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|s| target.get(..s.len()).is_some_and(|start| start.eq_ignore_ascii_case(s)));
    match scheme {
        Some(scheme) => {
            let rest = &target[scheme.len()..];
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        None => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| Header::from_bytes(*name, *value).unwrap());
        headers
            .fold(tiny_http::TestRequest::new().with_body("12345"), tiny_http::TestRequest::with_header)
            .into()
    }

    #[test]
    fn paths() {
        for (target, path) in [
            ("/a", "/a"),
            ("/a?x=1", "/a"),
            ("/a#x", "/a"),
            ("http://host/a?x", "/a"),
            ("HTTPS://host:1/a/b", "/a/b"),
            ("http://host", "/"),
            ("http://host?x", "/"),
            ("*", "*"),
            ("host:443", "host:443"),
            ("//a", "//a"),
            ("", ""),
        ] {
            assert_eq!(path_of(target), path, "{target}");
        }
    }

    #[test]
    fn framing_takes_one_plain_length_only() {
        let length = |value| Framing::Length(value);
        let status = |headers: &[(&str, &str)]| match Head::new(&request(headers)).framing() {
            Framing::Fault(reply) => Err(reply.status()),
            other => Ok(other),
        };
        // TestRequest adds a Content-Length of its own unless there is one.
        assert_eq!(status(&[("Content-Length", "5")]), Ok(length(5)));
        assert_eq!(status(&[("Content-Length", "0")]), Ok(length(0)));
        assert_eq!(status(&[("content-length", "005")]), Ok(length(5)));
        for odd in ["", "+5", "-1", "5 5", "5,5", "0x5", "5;", "five", "5.0", "\u{1}5"] {
            assert_eq!(status(&[("Content-Length", odd)]), Err(400), "{odd:?}");
        }
        assert_eq!(status(&[("Content-Length", "99999999999999999999999999")]), Err(413));
        assert_eq!(status(&[("Content-Length", "5"), ("Content-Length", "5")]), Err(400));
        assert_eq!(status(&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")]), Err(400));
        assert_eq!(status(&[("Content-Length", "5"), ("Connection", "Upgrade")]), Err(400));
        assert_eq!(status(&[("Content-Length", "5"), ("Upgrade", "h2c")]), Err(400));
        assert_eq!(status(&[("Content-Length", "5"), ("X-A\u{0}", "b")]), Err(400));
        assert_eq!(status(&[("Content-Length", "5"), ("X-A", "a\rb")]), Err(400));
        assert_eq!(status(&[("Content-Length", "5"), ("X-A", "a\tb")]), Ok(length(5)));
    }

    #[test]
    fn json_is_sent_when_accept_names_it() {
        let wants = |accept| Head::new(&request(&[("Accept", accept)])).form().json;
        for yes in
            ["application/json", "text/html, Application/JSON;q=0.9", "application/json, text/plain, */*"]
        {
            assert!(wants(yes), "{yes}");
        }
        for no in ["*/*", "text/plain", "application/json;q=0", "application/*", "application/jsonp", ""] {
            assert!(!wants(no), "{no}");
        }
    }

    #[test]
    fn the_last_request_of_a_connection_is_known() {
        let last = |connection| Head::new(&request(&[("Connection", connection)])).form().then == Then::Close;
        assert!(last("close"));
        assert!(last("x, Close"));
        assert!(!last("keep-alive"));
    }
}
