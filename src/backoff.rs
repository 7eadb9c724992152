//! How long to wait before the next try: exponential, with full jitter. Pure.

use std::time::Duration;

/// The longest wait before try number `tries + 1`: `base` doubled for each try that failed, at most `max`.
#[must_use]
pub fn ceiling(tries: u32, base: Duration, max: Duration) -> Duration {
    let doublings = tries.saturating_sub(1).min(32);
    base.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(max)
}

/// A wait drawn from zero to [`ceiling`] by `draw` in 0..=1: full jitter, so that what failed together does not
/// come back together.
#[must_use]
pub fn full_jitter(tries: u32, base: Duration, max: Duration, draw: f64) -> Duration {
    ceiling(tries, base, max).mul_f64(draw.clamp(0.0, 1.0))
}

/// `Retry-After` as seconds or an HTTP date (RFC 9110 section 10.2.3); `now_s` is the Unix time. A date in the
/// past is no wait; anything else is no header.
#[must_use]
pub fn retry_after(value: &str, now_s: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    if let Ok(seconds) = value.parse::<f64>() {
        // Not in the RFC, but sent.
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let at_s = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(Duration::from_secs(at_s.saturating_sub(now_s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_maximum() {
        let (base, max) = (Duration::from_secs(1), Duration::from_secs(300));
        let seconds: Vec<u64> = (0..12).map(|tries| ceiling(tries, base, max).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(ceiling(u32::MAX, base, max), max);
        assert_eq!(full_jitter(5, base, max, 0.5), Duration::from_secs(8));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let cases = [
            ("7", Some(7.0)),
            (" 0 ", Some(0.0)),
            ("1.5", Some(1.5)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0.0)),
            ("soon", None),
            ("-1", None),
            ("nan", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            let found = retry_after(value, 784_111_740).map(|wait| wait.as_secs_f64());
            assert_eq!(found, seconds, "{value:?}");
        }
    }
}
