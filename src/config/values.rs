//! The texts of durations, sizes, permissions and addresses, both ways; and TOML's quotes.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::{Listen, url};

/// Longest path of a Unix socket, in bytes: `sun_path` less its NUL (unix(7)).
const UNIX_PATH_MAX_BYTES: usize = 107;
/// Highest permissions of a Unix socket.
const MODE_MAX: u32 = 0o777;
/// Duration units in milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Size units in bytes; of two that fit, the first is written.
const SIZE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// `250ms`, `10s`, `1h30m`: numbers with units, each unit once, the larger first.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms = 0_u64;
    let mut units = DURATION_UNITS.iter();
    while !rest.is_empty() {
        let (number, tail) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, tail) = split_where(tail, |c| c.is_ascii_digit());
        // The iterator goes on from the last unit, so "30m1h", likelier a slip than a wish, is refused.
        let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
        total_ms = number.parse::<u64>().ok()?.checked_mul(*unit_ms)?.checked_add(total_ms)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// The inverse of [`parse_duration`], to the millisecond.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut left_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS {
        // "24h" reads better than "1d": days only from two on.
        let count = if unit == "d" && left_ms < 2 * unit_ms { 0 } else { left_ms / unit_ms };
        if count > 0 {
            text.extend([count.to_string().as_str(), unit]);
            left_ms -= count * unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `64KiB`, `1MB`, `512B` or plain bytes, in bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_where(text, |c| !c.is_ascii_digit());
    let number: u64 = number.parse().ok()?;
    if unit.is_empty() {
        return Some(number);
    }
    let (_, unit_bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*unit_bytes)
}

/// The inverse of [`parse_size`].
pub(super) fn format_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Octal permissions of three digits, or four with a leading zero.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    if !(3..=4).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= MODE_MAX)
}

/// `HOST:PORT` or `unix:/path`. A host name is resolved and its first address taken.
pub(super) fn parse_listen(text: &str) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        let fits = path.starts_with('/') && path.len() <= UNIX_PATH_MAX_BYTES && !path.contains('\0');
        return fits.then(|| Listen::Unix(PathBuf::from(path)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Listen::Tcp(address));
    }
    // Checked first, so that nothing but a host name is ever looked up.
    url::split_host(text)?.1?;
    text.to_socket_addrs().ok()?.next().map(Listen::Tcp)
}

/// The inverse of [`parse_listen`].
pub(super) fn format_listen(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&unicode_escape(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn unicode_escape(c: char) -> String {
    format!("\\u{:04X}", u32::from(c))
}

/// A TOML key: bare where it can be.
pub(super) fn quote_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { quote(key) }
}

fn split_where(text: &str, ends: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_both_ways() {
        for (text, ms, rendered) in [
            ("250ms", 250, "250ms"),
            ("10s", 10_000, "10s"),
            ("300s", 300_000, "5m"),
            ("24h", 86_400_000, "24h"),
            ("1d", 86_400_000, "24h"),
            ("90d", 7_776_000_000, "90d"),
            ("1h30m", 5_400_000, "1h30m"),
            ("0s", 0, "0s"),
            ("1d2h3m4s5ms", 93_784_005, "26h3m4s5ms"),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(ms)), rendered);
            assert_eq!(parse_duration(rendered), Some(Duration::from_millis(ms)), "{rendered}");
        }
        for text in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "+1s",
            "1.5s",
            "10S",
            "30m1h",
            "1s1s",
            "1y",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration("999999999999999d"), None, "an overflow is refused");
    }

    #[test]
    fn sizes_both_ways() {
        for (text, bytes, rendered) in [
            ("64KiB", 65_536, "64KiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1MB", 1_000_000, "1MB"),
            ("1024", 1024, "1KiB"),
            ("1500B", 1500, "1500B"),
            ("0", 0, "0B"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(format_size(bytes), rendered);
            assert_eq!(parse_size(rendered), Some(bytes), "{rendered}");
        }
        for text in ["", "KiB", "64 KiB", "64 bananas", "-1", "1.5MiB", "64kib", "99999999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(parse_mode("0660"), Some(0o660));
        assert_eq!(parse_mode("600"), Some(0o600));
        for text in ["", "66", "0888", "1777", "00660", "+660", "rw-"] {
            assert_eq!(parse_mode(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_both_ways() {
        for text in ["127.0.0.1:8080", "0.0.0.0:0", "[::1]:9090", "unix:/run/dispod/webhook.sock"] {
            assert_eq!(parse_listen(text).as_ref().map(format_listen).as_deref(), Some(text));
        }
        let localhost = parse_listen("localhost:8080").expect("localhost resolves");
        assert!(
            matches!(localhost, Listen::Tcp(address) if address.ip().is_loopback() && address.port() == 8080)
        );
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX_BYTES));
        for text in
            ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:http", "::1:8080", "unix:", "unix:run/x", &long]
        {
            assert_eq!(parse_listen(text), None, "{text}");
        }
    }

    #[test]
    fn quotes_survive_toml() {
        for text in ["plain", "a \"quoted\" \\ one", "line\nbreak\u{7f}\0", "ünï"] {
            let document = format!("{} = {}", quote_key(text), quote(text));
            let table: toml::Table = document.parse().expect("valid TOML");
            assert_eq!(table[text].as_str(), Some(text));
        }
    }
}
