//! What an answer of the Contact API means: the one table of contract section 7. Pure.

use std::fmt;
use std::time::Duration;

/// What came of one call to the Contact API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A complete answer with this HTTP status.
    Status(u16),
    /// Nothing usable came back in time: refused, reset, name not found, TLS failure, cut or unreadable.
    None,
    /// The token endpoint refused our credentials, so the call could not be made.
    TokenRefused,
    /// The token endpoint told us to slow down, so the call could not be made.
    TokenThrottled,
}

/// One call to the Contact API, as it went.
#[derive(Debug, Clone)]
pub struct Call {
    /// What came of it.
    pub answer: Answer,
    /// How long to leave the API alone, if it said so.
    pub retry_after: Option<Duration>,
    /// The first 1 KiB of the answer, or the fault in words.
    pub detail: String,
    /// From sending to the last byte of the answer.
    pub took: Duration,
}

/// Whose fault it is and what happens next, in the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The API accepted the update: record, publish.
    Delivered,
    /// Nobody's fault for long: retry this event with backoff.
    Transient,
    /// We are too fast: every worker waits.
    Throttled,
    /// Our credentials or rights: keep the event, retry slowly, tell the operator.
    Denied,
    /// This update will never be accepted: dead, with the answer.
    Rejected,
    /// Still failing after `delivery.max_age`: dead.
    Expired,
}

impl Verdict {
    /// Every verdict, in the order of the metrics.
    pub const ALL: [Self; 6] =
        [Self::Delivered, Self::Transient, Self::Throttled, Self::Denied, Self::Rejected, Self::Expired];

    /// What `answer` means. A 401 is `Denied` here: the one retry with a fresh token has happened before.
    #[must_use]
    pub const fn of(answer: Answer) -> Self {
        match answer {
            Answer::Status(200 | 201 | 202 | 204) => Self::Delivered,
            Answer::Status(429) | Answer::TokenThrottled => Self::Throttled,
            Answer::Status(401 | 403) | Answer::TokenRefused => Self::Denied,
            // An informational or unheard-of success status is an answer we cannot read; any 5xx is the server's.
            Answer::None | Answer::Status(408 | 425 | 0..=299 | 500..) => Self::Transient,
            Answer::Status(300..=499) => Self::Rejected,
        }
    }

    /// The lower-case name used in the audit, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
