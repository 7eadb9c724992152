//! What the demo plays: what is posted, what the stand-in CXone does about it, and what must become of it.

use crate::event::Severity;
use crate::sandbox::{Reply, RetryAfter};

/// One request to the webhook and everything promised about it.
pub(super) struct Post {
    /// The body as it is sent.
    pub(super) body: &'static str,
    /// What befalls the delivery.
    pub(super) trouble: Trouble,
    /// The answer the sender must get.
    pub(super) reply: (u16, &'static str),
    /// What must become of it.
    pub(super) becomes: Becomes,
    /// For the reader of the table; empty when the row says it all.
    pub(super) note: &'static str,
}

/// What the stand-in CXone is told before a post.
pub(super) enum Trouble {
    None,
    /// Answer the next calls for this contact like this.
    Answer(&'static str, &'static [Reply]),
    /// Forget every token issued.
    Revoke,
}

/// What must become of a post.
pub(super) enum Becomes {
    /// Nothing: the answer says what is wrong with it.
    NotKept,
    /// Nothing new: it was kept before, as the post with this number.
    Duplicate(usize),
    /// An event.
    Event(Expected),
}

/// An event as it must end.
pub(super) struct Expected {
    pub(super) contact: &'static str,
    pub(super) code: &'static str,
    /// The call's own time; `None`: the time of receipt stands for it.
    pub(super) timestamp: Option<&'static str>,
    pub(super) category: &'static str,
    pub(super) severity: Severity,
    /// The API's last answer.
    pub(super) status: u16,
    /// Calls to the API.
    pub(super) calls: usize,
    /// It cannot have been settled faster.
    pub(super) at_least_ms: i64,
}

impl Expected {
    /// Whether it is to be delivered; dead otherwise.
    pub(super) fn delivered(&self) -> bool {
        self.status == 200
    }
}

/// Posts that belong together: all are sent, then all are waited for.
pub(super) type Scene = &'static [Post];

/// A part of the demo.
pub(super) struct Act {
    pub(super) title: &'static str,
    pub(super) scenes: &'static [Scene],
}

const RECEIVED: (u16, &str) = (200, "Received");

const fn event(
    contact: &'static str,
    code: &'static str,
    timestamp: &'static str,
    category: &'static str,
    severity: Severity,
) -> Expected {
    let timestamp = if timestamp.is_empty() { None } else { Some(timestamp) };
    Expected { contact, code, timestamp, category, severity, status: 200, calls: 1, at_least_ms: 0 }
}

const fn kept(body: &'static str, event: Expected, trouble: Trouble, note: &'static str) -> Post {
    Post { body, trouble, reply: RECEIVED, becomes: Becomes::Event(event), note }
}

const fn refused(body: &'static str, reply: &'static str, note: &'static str) -> Post {
    Post { body, trouble: Trouble::None, reply: (400, reply), becomes: Becomes::NotKept, note }
}

const FIRST_BODY: &str = r#"{"contactId":"1234567890","dispositionCode":"1001","callResult":"ANSWERED","timestamp":"2024-05-20T10:00:00Z"}"#;

/// The whole demo, in order.
pub(super) const ACTS: [Act; 3] = [
    Act {
        title: "Calls end: one result of each category",
        scenes: &[
            &[kept(
                FIRST_BODY,
                event("1234567890", "1001", "2024-05-20T10:00:00Z", "do_not_call", Severity::Critical),
                Trouble::None,
                "",
            )],
            &[kept(
                r#"{"contactId":"2345678901","dispositionCode":"2001","callResult":"ANSWERED","timestamp":"2024-05-20T10:00:05Z"}"#,
                event("2345678901", "2001", "2024-05-20T10:00:05Z", "callback_later", Severity::Medium),
                Trouble::None,
                "",
            )],
            &[kept(
                r#"{"contactId":"3456789012","dispositionCode":"3001","callResult":"ANSWERED","timestamp":"2024-05-20T10:00:10Z"}"#,
                event("3456789012", "3001", "2024-05-20T10:00:10Z", "qualified_lead", Severity::Medium),
                Trouble::None,
                "",
            )],
            &[kept(
                r#"{"contactId":"4567890123","dispositionCode":"4001","callResult":"ANSWERED","timestamp":"2024-05-20T10:00:15Z"}"#,
                event("4567890123", "4001", "2024-05-20T10:00:15Z", "wrong_number", Severity::Low),
                Trouble::None,
                "",
            )],
            &[kept(
                r#"{"contactId":5678901234,"dispositionCode":9999}"#,
                event("5678901234", "9999", "", "unclassified", Severity::Low),
                Trouble::None,
                "a code in no table; numbers are taken, a missing time is filled in",
            )],
        ],
    },
    Act {
        title: "Senders repeat themselves and make mistakes",
        scenes: &[
            &[Post {
                body: FIRST_BODY,
                trouble: Trouble::None,
                reply: RECEIVED,
                becomes: Becomes::Duplicate(1),
                note: "",
            }],
            &[refused(
                r#"{"contactId":"6789012345","disposi"#,
                "Invalid JSON payload",
                r#"came in: {"contactId":"6789012345","disposi"#,
            )],
            &[refused(
                r#"{"contactId":"6789012345"}"#,
                "Missing contactId or dispositionCode",
                r#"came in: {"contactId":"6789012345"}"#,
            )],
        ],
    },
    Act {
        title: "The Contact API has a bad day",
        scenes: &[
            &[
                kept(
                    r#"{"contactId":"7890123456","dispositionCode":"3002","callResult":"ANSWERED","timestamp":"2024-05-20T10:01:00Z"}"#,
                    Expected {
                        calls: 3,
                        ..event(
                            "7890123456",
                            "3002",
                            "2024-05-20T10:01:00Z",
                            "qualified_lead",
                            Severity::Medium,
                        )
                    },
                    Trouble::Answer("7890123456", &[Reply::Status(503), Reply::Status(503)]),
                    "503 Service Unavailable, twice: tried again with backoff",
                ),
                kept(
                    r#"{"contactId":"7890123456","dispositionCode":"2002","callResult":"ANSWERED","timestamp":"2024-05-20T10:01:05Z"}"#,
                    event("7890123456", "2002", "2024-05-20T10:01:05Z", "callback_later", Severity::Medium),
                    Trouble::None,
                    "the same contact: it waited for the one before, order is kept",
                ),
            ],
            &[kept(
                r#"{"contactId":"8901234567","dispositionCode":"1002","callResult":"ANSWERED","timestamp":"2024-05-20T10:01:10Z"}"#,
                Expected {
                    calls: 2,
                    ..event("8901234567", "1002", "2024-05-20T10:01:10Z", "do_not_call", Severity::Critical)
                },
                Trouble::Revoke,
                "401: the token was revoked; one new token, then once more",
            )],
            &[kept(
                r#"{"contactId":"9012345678","dispositionCode":"3003","callResult":"ANSWERED","timestamp":"2024-05-20T10:01:15Z"}"#,
                Expected {
                    status: 404,
                    ..event("9012345678", "3003", "2024-05-20T10:01:15Z", "qualified_lead", Severity::Medium)
                },
                Trouble::Answer("9012345678", &[Reply::Status(404)]),
                "404: no such contact; kept as a dead letter with the API's answer",
            )],
            &[kept(
                r#"{"contactId":"9123456780","dispositionCode":"1003","callResult":"ANSWERED","timestamp":"2024-05-20T10:01:20Z"}"#,
                Expected {
                    calls: 2,
                    at_least_ms: 1000,
                    ..event("9123456780", "1003", "2024-05-20T10:01:20Z", "do_not_call", Severity::Critical)
                },
                Trouble::Answer("9123456780", &[Reply::RetryLater(429, RetryAfter::Seconds(1))]),
                "429 with Retry-After: 1: everyone waited as told",
            )],
        ],
    },
];

/// Every post, in order; the first one is number 1.
pub(super) fn posts() -> impl Iterator<Item = &'static Post> {
    ACTS.iter().flat_map(|act| act.scenes).copied().flatten()
}

/// Contact and code of the post with this number, if it was one that could be read.
pub(super) fn sent(number: usize) -> Option<(&'static str, &'static str)> {
    match posts().nth(number.checked_sub(1)?)?.becomes {
        Becomes::Event(ref event) => Some((event.contact, event.code)),
        Becomes::NotKept | Becomes::Duplicate(_) => None,
    }
}
