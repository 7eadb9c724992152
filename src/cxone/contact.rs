//! The contact update: its URL and its body (contract section 7). Pure.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::clock;
use crate::config::CxoneConfig;
use crate::event::KeptEvent;

/// Everything but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URL to update a contact at: its id is exactly one path segment, whatever it holds.
pub(super) fn url(config: &CxoneConfig, contact_id: &str) -> String {
    let segment = match contact_id {
        // As they are, these two would be taken for the folder and its parent (RFC 3986 section 5.2.4).
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        id => utf8_percent_encode(id, SEGMENT).to_string(),
    };
    format!("{}{}", config.base_url, config.update_path.replace("{contactId}", &segment))
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
    serde_json::to_vec(&body).unwrap_or_default()
}

fn audit_line(event: &KeptEvent) -> String {
    let timestamp = match event.call.timestamp() {
        Some(timestamp) => Cow::Borrowed(timestamp),
        None => Cow::Owned(clock::rfc3339(event.received_ms)),
    };
    format!("[{timestamp}] Disposition {} mapped to {}", event.call.disposition_code(), event.category)
}
