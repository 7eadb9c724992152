//! Points in time as arguments: `--since`, `--until`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::clock;
use crate::config;

/// A point in time, Unix ms. Parsed from RFC 3339 (`2024-05-20T10:00:00Z`), a date (`2024-05-20`: its beginning, UTC)
/// or an age (`2h`, `7d`, `1h30m`: so long ago). Displays as RFC 3339, UTC, with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct When {
    /// Unix ms.
    pub(super) ms: i64,
}

impl FromStr for When {
    type Err = &'static str;

    /// The command line puts the argument's name before the words.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, clock::now_ms()).map(|ms| Self { ms }).ok_or(
            "allowed: RFC 3339 such as 2024-05-20T10:00:00Z, a date such as 2024-05-20 (UTC), \
             or an age such as 90s, 2h or 7d",
        )
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clock::rfc3339_ms(self.ms))
    }
}

fn parse(text: &str, now_ms: i64) -> Option<i64> {
    if let Some(age) = config::parse_duration(text) {
        return Some(now_ms.saturating_sub(clock::millis(age)));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    // Of a time without an offset nobody can say when it was; a date alone is meant as UTC.
    let date = Some(text).filter(|text| text.len() == "YYYY-MM-DD".len())?;
    format!("{date}T00:00:00Z").parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_716_199_200_000;

    #[test]
    fn times_dates_and_ages() {
        for (text, ms) in [
            ("2024-05-20T10:00:00Z", NOW_MS),
            ("2024-05-20T12:00:00+02:00", NOW_MS),
            ("2024-05-20T10:00:00.250Z", NOW_MS + 250),
            ("2024-05-20", NOW_MS - 10 * 3_600_000),
            ("2h", NOW_MS - 7_200_000),
            ("7d", NOW_MS - 7 * 86_400_000),
            ("1h30m", NOW_MS - 5_400_000),
            ("0s", NOW_MS),
        ] {
            assert_eq!(parse(text, NOW_MS), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_could_mean_anything_is_refused() {
        for text in
            ["", "yesterday", "5", "-2h", "20.05.2024", "2024-05-20T10:00:00", "2024-13-01", "20240520"]
        {
            assert_eq!(parse(text, NOW_MS), None, "{text}");
        }
    }

    #[test]
    fn shown_as_it_is_written() {
        assert_eq!(When { ms: NOW_MS + 7 }.to_string(), "2024-05-20T10:00:00.007Z");
    }
}
