//! Answers as bytes, written whole: `Request::respond` costs a third more and cannot be cut in half.

use std::io::Write as _;
use std::net::SocketAddr;

use tiny_http::StatusCode;

use super::options::RetryAfter;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The answer is sent.
    Answered,
    /// Half the answer is sent and the connection closed.
    Cut,
    /// The connection is reset without a byte.
    Reset,
    /// Nothing, until the sandbox stops.
    Hang,
}

/// One request in plain parts, its body read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) method: &'a tiny_http::Method,
    pub(super) url: &'a str,
    pub(super) headers: &'a [tiny_http::Header],
    pub(super) remote: SocketAddr,
    pub(super) body: &'a [u8],
}

impl Call<'_> {
    /// The value of a header that must be there exactly once.
    pub(super) fn header(&self, name: &'static str) -> Result<&str, String> {
        let mut values = self.headers.iter().filter(|header| header.field.equiv(name));
        match (values.next(), values.next()) {
            (Some(header), None) => Ok(header.value.as_str()),
            (None, _) => Err(format!("no {name} header")),
            (Some(_), Some(_)) => Err(format!("more than one {name} header")),
        }
    }

    /// Checks a header that must be there exactly once with exactly this value.
    pub(super) fn require(&self, name: &'static str, expected: &str) -> Result<(), String> {
        let found = self.header(name)?;
        if found == expected {
            return Ok(());
        }
        Err(format!("{name} is `{}`, `{expected}` is expected", shorten(found)))
    }
}

/// Enough of a text to recognise it.
pub(super) fn shorten(text: &str) -> &str {
    const SHOWN_MAX_BYTES: usize = 120;
    let end = (0..=SHOWN_MAX_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// A thread's buffers, used again for every request.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The body of the answer.
    pub(super) body: Vec<u8>,
    /// The whole answer.
    pub(super) whole: Vec<u8>,
    head_len: usize,
}

impl Buffers {
    /// Makes the answer whole from its status, further header lines (each ending in CRLF) and `self.body`.
    pub(super) fn finish(&mut self, status: u16, headers: &str) {
        let reason = StatusCode(status).default_reason_phrase();
        self.whole.clear();
        let length = self.body.len();
        // Writing to a Vec cannot fail.
        let _ = write!(
            self.whole,
            "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.head_len = self.whole.len();
        self.whole.extend_from_slice(&self.body);
    }

    /// The answer without its body, as HEAD wants it.
    pub(super) fn head(&self) -> &[u8] {
        &self.whole[..self.head_len]
    }

    /// An answer in the OAuth 2.0 form (RFC 6749 section 5.2), used for every refusal.
    pub(super) fn error(&mut self, status: u16, headers: &str, error: &str, description: &str) {
        self.json(&serde_json::json!({"error": error, "error_description": description}));
        self.finish(status, headers);
    }

    /// Makes `self.body` the JSON of `value`.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) {
        self.body.clear();
        // Only maps with keys that are not strings can fail, and no answer has one.
        let _ = serde_json::to_writer(&mut self.body, value);
    }

    /// A bare answer with this status and `Retry-After`.
    pub(super) fn bare(&mut self, status: u16, retry_after: RetryAfter) {
        let header = match retry_after {
            RetryAfter::Absent => String::new(),
            RetryAfter::Seconds(wait_s) => format!("Retry-After: {wait_s}\r\n"),
            RetryAfter::Date(wait_s) => format!("Retry-After: {}\r\n", date_after(wait_s)),
        };
        let reason = StatusCode(status).default_reason_phrase();
        self.error(status, &header, reason, "the sandbox was told to answer so");
    }
}

/// The HTTP date at least `wait_s` seconds from now.
fn date_after(wait_s: u32) -> httpdate::HttpDate {
    use std::time::{Duration, SystemTime};
    // An HTTP date has whole seconds; cut off, it would be too early.
    (SystemTime::now() + Duration::from_secs(u64::from(wait_s) + 1)).into()
}
