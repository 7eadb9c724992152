//! What is answered, as the bytes that go over the wire: built whole, so that one write sends it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An answer before it is written: status, text and the few headers of contract section 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    text: Cow<'static, str>,
    /// Of a text that is not to be put into words of JSON.
    content_type: Option<&'static str>,
    fields: &'static str,
    allow: Option<&'static str>,
    retry_after_s: Option<u32>,
    close: bool,
}

impl Reply {
    /// A status and its text.
    #[must_use]
    pub const fn new(status: u16, text: &'static str) -> Self {
        Self::of(status, Cow::Borrowed(text), None)
    }

    /// A status and a text made for the occasion.
    #[must_use]
    pub const fn with_text(status: u16, text: String) -> Self {
        Self::of(status, Cow::Owned(text), None)
    }

    /// A status and a body of that type, sent as it is whatever `Accept` says.
    #[must_use]
    pub fn content(status: u16, content_type: &'static str, body: impl Into<Cow<'static, str>>) -> Self {
        Self::of(status, body.into(), Some(content_type))
    }

    const fn of(status: u16, text: Cow<'static, str>, content_type: Option<&'static str>) -> Self {
        Self { status, text, content_type, fields: "", allow: None, retry_after_s: None, close: false }
    }

    /// With these header lines, each ended by CR LF.
    #[must_use]
    pub fn fields(mut self, lines: &'static str) -> Self {
        self.fields = lines;
        self
    }

    /// With an `Allow` header (RFC 9110 section 15.5.6).
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// With a `Retry-After` header (RFC 9110 section 10.2.3).
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The connection is of no more use after it.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the connection is to end after it.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.close
    }

    /// The body in the form asked for (contract section 4).
    fn body(&self, json: bool) -> Cow<'_, str> {
        if !json || self.content_type.is_some() {
            return Cow::Borrowed(&self.text);
        }
        Cow::Owned(if self.status < 400 {
            serde_json::json!({ "status": self.text.to_lowercase() }).to_string()
        } else {
            serde_json::json!({ "error": self.text }).to_string()
        })
    }

    /// Status line, headers and body.
    #[must_use]
    pub(super) fn render(&self, form: Form) -> Vec<u8> {
        let body = self.body(form.json);
        let mut message = String::with_capacity(256 + body.len());
        self.push_start(&mut message);
        self.push_lines(&mut message, form, Some(body.len()));
        message.push_str("\r\n");
        if !form.head {
            message.push_str(&body);
        }
        message.into_bytes()
    }

    /// Status line, headers and the beginning of a body that ends with the connection.
    #[must_use]
    pub(super) fn render_open(&self) -> Vec<u8> {
        let mut message = String::with_capacity(256);
        self.push_start(&mut message);
        self.push_lines(&mut message, Form { then: Then::Close, ..Form::default() }, None);
        message.push_str("\r\n");
        message.push_str(&self.text);
        message.into_bytes()
    }

    fn push_start(&self, head: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(head, "HTTP/1.1 {} {}\r\nDate: ", self.status, reason(self.status));
        push_date(head);
        head.push_str("\r\n");
    }

    /// The header lines that depend on the reply.
    fn push_lines(&self, head: &mut String, form: Form, length: Option<usize>) {
        let text_type = if form.json { "application/json" } else { "text/plain; charset=utf-8" };
        let _ = write!(head, "Content-Type: {}\r\n", self.content_type.unwrap_or(text_type));
        if let Some(length) = length {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        head.push_str(self.fields);
        if let Some(methods) = self.allow {
            let _ = write!(head, "Allow: {methods}\r\n");
        }
        if let Some(seconds) = self.retry_after_s {
            let _ = write!(head, "Retry-After: {seconds}\r\n");
        }
        if self.status == 401 {
            // RFC 9110 section 15.5.2 requires a challenge.
            head.push_str("WWW-Authenticate: Bearer\r\n");
        }
        match form.then {
            Then::Close => head.push_str("Connection: close\r\n"),
            _ if self.close => head.push_str("Connection: close\r\n"),
            Then::KeepAlive => head.push_str("Connection: keep-alive\r\n"),
            Then::Stay => {}
        }
    }

    /// Header lines without the last line end, and the body, for a reply whose head tiny_http writes.
    pub(super) fn last_lines_and_body(&self, form: Form) -> (String, String) {
        let body = self.body(form.json);
        let mut lines = String::with_capacity(128);
        self.push_lines(&mut lines, Form { then: Then::Close, ..form }, Some(body.len()));
        lines.truncate(lines.trim_end().len());
        (lines, if form.head { String::new() } else { body.into_owned() })
    }
}

/// What the request says about the form of its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// `Accept` asks for JSON.
    pub json: bool,
    /// The method is HEAD: no body.
    pub head: bool,
    /// What becomes of the connection.
    pub then: Then,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Then {
    /// It stays, as is usual in HTTP/1.1.
    #[default]
    Stay,
    /// It stays, and an HTTP/1.0 client that asked for it is told so.
    KeepAlive,
    /// It ends, at the client's wish or ours.
    Close,
}

/// The reason phrases of the statuses we send (RFC 9110 section 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Payload Too Large",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

thread_local! {
    /// The `Date` of the second it was last asked for.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Appends the time as RFC 9110 section 5.6.7 wants it, formatted once a second.
fn push_date(head: &mut String) {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DATE.with_borrow_mut(|(at_s, text)| {
        if *at_s != now_s {
            *at_s = now_s;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now_s));
        }
        head.push_str(text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &Reply, form: Form) -> String {
        String::from_utf8(reply.render(form)).unwrap()
    }

    #[test]
    fn a_reply_is_one_whole_message() {
        let reply = text(&Reply::new(200, "Received"), Form::default());
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{reply}");
        assert!(reply.contains("\r\nContent-Length: 8\r\n"), "{reply}");
        assert!(reply.ends_with("\r\n\r\nReceived"), "{reply}");
        assert!(!reply.contains("Connection"), "{reply}");
    }

    #[test]
    fn json_is_given_to_who_asks_for_it() {
        let json = Form { json: true, ..Form::default() };
        assert!(text(&Reply::new(200, "Received"), json).ends_with("\r\n\r\n{\"status\":\"received\"}"));
        let odd = Reply::with_text(400, "Invalid \"x\"".to_owned());
        assert!(text(&odd, json).ends_with("\r\n\r\n{\"error\":\"Invalid \\\"x\\\"\"}"));
    }

    #[test]
    fn content_keeps_its_type_whatever_is_asked_for() {
        let json = Form { json: true, ..Form::default() };
        let page = Reply::content(200, "text/html", "<p>").fields("X-A: b\r\n");
        let page = text(&page, json);
        assert!(page.contains("\r\nContent-Type: text/html\r\nContent-Length: 3\r\nX-A: b\r\n"), "{page}");
        assert!(page.ends_with("\r\n\r\n<p>"), "{page}");
        let open = Reply::content(200, "text/event-stream", ":\n").render_open();
        let open = String::from_utf8(open).unwrap();
        assert!(!open.contains("Content-Length"), "{open}");
        assert!(open.ends_with("\r\nConnection: close\r\n\r\n:\n"), "{open}");
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let reply = text(
            &Reply::new(405, "Method not allowed").allow("POST"),
            Form { head: true, ..Form::default() },
        );
        assert!(reply.contains("\r\nAllow: POST\r\n"), "{reply}");
        assert!(reply.contains("\r\nContent-Length: 18\r\n"), "{reply}");
        assert!(reply.ends_with("\r\n\r\n"), "{reply}");
    }

    #[test]
    fn the_end_of_the_connection_is_announced() {
        let last = Form { then: Then::Close, ..Form::default() };
        assert!(text(&Reply::new(200, "ok"), last).contains("\r\nConnection: close\r\n"));
        assert!(
            text(&Reply::new(503, "x").retry_after(7).close(), Form::default())
                .contains("Retry-After: 7\r\nConnection: close\r\n")
        );
        let kept = Form { then: Then::KeepAlive, ..Form::default() };
        assert!(text(&Reply::new(200, "ok"), kept).contains("\r\nConnection: keep-alive\r\n"));
    }
}
