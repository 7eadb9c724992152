//! Which URLs and host names are let through. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a URL may be, for messages.
pub(super) const ALLOWED: &str = "an https:// URL, or http:// for a loopback host (127.0.0.0/8, ::1, localhost), without user, password or fragment";
/// Longest host name, in bytes (RFC 1035 section 2.3.4).
const HOST_MAX_BYTES: usize = 253;

/// Whether this is an absolute URL dispod may talk to: `https`, or `http` where the host is this machine, since
/// a token or a contact must not cross a network in the clear (contract section 3).
pub(super) fn is_allowed(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((host, _)) = split_host(authority) else { return false };
    is_uri_text(tail) && (scheme == "https" || (scheme == "http" && is_loopback(host)))
}

/// Splits `host` or `host:port`; `None` if either is not one. An IPv6 address stands in brackets, which are
/// not part of the host given back.
pub(super) fn split_host(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        if tail.is_empty() { (host, None) } else { (host, Some(tail.strip_prefix(':')?)) }
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if !is_host_name(host) {
            return None;
        }
        (host, port)
    };
    match port {
        None => Some((host, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

/// Whether the host is this machine by its name alone.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the text holds only what may stand in a path or query (RFC 3986), percent signs in pairs of digits.
pub(super) fn is_uri_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(byte),
    })
}

fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A last label of digits makes it an address to every resolver, "127.1" included.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= HOST_MAX_BYTES
        && host.split('.').all(is_label)
        && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for url in [
            "https://us-east-1.api.cxone.com/api/v2",
            "https://host:8443",
            "https://[2001:db8::1]/x?y=z",
            "https://h/a%20b",
            "http://127.0.0.1:8080/oauth/token",
            "http://127.9.9.9",
            "http://[::1]:1/",
            "http://LOCALHOST/",
        ] {
            assert!(is_allowed(url), "{url}");
        }
        for url in [
            "",
            "https://",
            "host/path",
            "ftp://host/",
            "HTTPS://host/",
            "http://example.com/",
            "http://10.0.0.1/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://127.1/",
            "http://localhost@example.com/",
            "https://user:word@host/",
            "https://host:port/",
            "https://host:99999/",
            "https://host/#x",
            "https://host/a b",
            "https://host/{x}",
            "https://host/%2",
            "https://host/%zz",
            "https://host/\n",
            "https://-host/",
            "https://ho..st/",
            "https://::1/",
        ] {
            assert!(!is_allowed(url), "{url}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(split_host("us-east-1.api.cxone.com"), Some(("us-east-1.api.cxone.com", None)));
        assert_eq!(split_host("localhost:8443"), Some(("localhost", Some(8443))));
        assert_eq!(split_host("[::1]:1"), Some(("::1", Some(1))));
        for text in ["", "https://h", "h/x", "h:", "h:x", "h:+1", "[::1", "[x]:1", "::1", "a b", "1.2.3"] {
            assert_eq!(split_host(text), None, "{text}");
        }
    }
}
