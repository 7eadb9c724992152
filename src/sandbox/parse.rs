//! The text forms of the options, as the command line and the control endpoints take them.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::options::{LimitStyle, RateLimit, RetryAfter};

/// A duration such as `20ms`, `1h`: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// Says what was found and what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("`{text}` is not a duration such as 250ms, 10s, 1h")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` has no whole number before `{unit}`"))?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

/// A latency: one duration (`20ms`) or a range of them (`0ms-50ms`).
///
/// # Errors
/// Says what was found and what is allowed.
pub fn latency(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let range = duration(low)?..=duration(high)?;
    if range.is_empty() {
        return Err(format!("`{text}` is a range that ends before it starts"));
    }
    Ok(range)
}

/// A rate such as `200/s`, `17/m`, `1000/h`, counted by a token bucket holding one period's calls.
impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate such as 200/s, 17/m, 1000/h");
        let (calls, per) = text.split_once('/').ok_or_else(wrong)?;
        let calls: u32 = calls.parse().map_err(|_| wrong())?;
        let per_s = match per {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        if calls == 0 {
            return Err(wrong());
        }
        Ok(Self {
            calls,
            per: Duration::from_secs(per_s),
            style: LimitStyle::TokenBucket { burst: calls },
            retry_after: RetryAfter::Absent,
        })
    }
}

/// `none` or a number of seconds.
impl FromStr for RetryAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Absent),
            seconds => {
                let wrong = |_| format!("`{text}` is neither a number of seconds nor `none`");
                seconds.parse().map(Self::Seconds).map_err(wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("0ms", 0), ("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in
            ["", "ms", "10", "1.5s", "-1s", "1 s", "1S", "99999999999999999999s", "999999999999999999d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn latencies() {
        let ms = Duration::from_millis;
        assert_eq!(latency("20ms"), Ok(ms(20)..=ms(20)));
        assert_eq!(latency("0ms-50ms"), Ok(ms(0)..=ms(50)));
        for text in ["50ms-0ms", "0-50ms", "20ms-", "a"] {
            assert!(latency(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_retry_after() {
        let limit: RateLimit = "17/m".parse().expect("a rate");
        assert_eq!((limit.calls, limit.per), (17, Duration::from_secs(60)));
        for text in ["", "17", "0/s", "x/s", "5/d", "1.5/s"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text}");
        }
        assert_eq!("none".parse(), Ok(RetryAfter::Absent));
        assert_eq!("3".parse(), Ok(RetryAfter::Seconds(3)));
        assert!("soon".parse::<RetryAfter>().is_err());
    }
}
