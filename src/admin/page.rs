//! The status page: one file without network, embedded, held to itself by a content security policy.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA256, digest};

use crate::http::Reply;

/// The page.
const PAGE: &str = include_str!("page.html");

/// Its header lines. Only the page's own script and style may run, by their hashes.
static FIELDS: LazyLock<String> = LazyLock::new(|| {
    let script = hash(between(PAGE, "<script>", "</script>"));
    let style = hash(between(PAGE, "<style>", "</style>"));
    format!(
        "Content-Security-Policy: default-src 'none'; script-src '{script}'; style-src '{style}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         Cache-Control: no-store\r\n"
    )
});

pub(super) fn reply() -> Reply {
    Reply::content(200, "text/html; charset=utf-8", PAGE).fields(&FIELDS)
}

/// What is between the first `open` and the `close` behind it.
fn between(text: &'static str, open: &str, close: &str) -> &'static str {
    let inside = text.split_once(open).and_then(|(_, rest)| rest.split_once(close));
    inside.map_or("", |(inside, _)| inside)
}

/// A source expression of CSP level 2.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_self_contained() {
        assert!(PAGE.len() < 40 * 1024, "{} bytes", PAGE.len());
        for once in ["<script>", "<style>"] {
            assert_eq!(PAGE.matches(once).count(), 1, "{once}");
        }
        for never in [
            "https://",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            "onclick=",
        ] {
            assert!(!PAGE.contains(never), "{never}");
        }
    }
}
