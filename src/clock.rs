//! Wall-clock time as the store and the wire have it: Unix milliseconds and RFC 3339.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// `ms` as RFC 3339, UTC, whole seconds: `2024-05-20T10:00:00Z`.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_second(ms.div_euclid(1000)).unwrap_or_default();
    timestamp.to_string()
}

/// `ms` as RFC 3339, UTC, with milliseconds: `2024-05-20T10:00:00.123Z`.
#[must_use]
pub fn rfc3339_ms(ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    format!("{timestamp:.3}")
}

/// A duration in whole milliseconds, for adding to Unix milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
