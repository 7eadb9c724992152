//! The contact update: its URL and its body (contract section 7). Pure.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::clock;
use crate::config::CxoneConfig;
use crate::event::KeptEvent;

/// A body is seldom longer.
const BODY_BYTES: usize = 256;

/// Everything but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URL to update a contact at: its id is exactly one path segment, whatever it holds.
pub(super) fn url(config: &CxoneConfig, contact_id: &str) -> String {
    let (before, after) = config.update_path.split_once("{contactId}").unwrap_or((&config.update_path, ""));
    let mut url = String::with_capacity(config.base_url.len() + config.update_path.len() + contact_id.len());
    url.extend([config.base_url.as_str(), before]);
    match contact_id {
        // As they are, these two would be taken for the folder and its parent (RFC 3986 section 5.2.4).
        "." => url.push_str("%2E"),
        ".." => url.push_str("%2E%2E"),
        id => url.extend(utf8_percent_encode(id, SEGMENT)),
    }
    url.push_str(after);
    url
}

#[derive(Serialize)]
struct Body<'a> {
    custom: Custom<'a>,
}

#[derive(Serialize)]
struct Custom<'a> {
    disposition_category: &'a str,
    last_audit_log: String,
}

/// The body of the update. The same event gives the same bytes at every try.
pub(super) fn body(event: &KeptEvent) -> Vec<u8> {
    let last_audit_log = audit_line(event);
    let body = Body { custom: Custom { disposition_category: &event.category, last_audit_log } };
    let mut json = Vec::with_capacity(BODY_BYTES);
    // Texts into memory: neither can fail.
    let _ = serde_json::to_writer(&mut json, &body);
    json
}

fn audit_line(event: &KeptEvent) -> String {
    let timestamp = match event.call.timestamp() {
        Some(timestamp) => Cow::Borrowed(timestamp),
        None => Cow::Owned(clock::rfc3339(event.received_ms)),
    };
    format!("[{timestamp}] Disposition {} mapped to {}", event.call.disposition_code(), event.category)
}
