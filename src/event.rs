//! What comes in and what goes out: a call result, the severity it gets, the outcome published for it.
//!
//! Pure: no I/O, no clock. A [`CallResult`] that exists is valid; nothing downstream checks again.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock;

/// Longest `contactId`, in bytes (contract section 4).
pub const CONTACT_ID_MAX_BYTES: usize = 256;
/// Longest `dispositionCode`, in bytes (contract section 4).
pub const DISPOSITION_CODE_MAX_BYTES: usize = 128;
/// Longest `callResult` and longest `timestamp`, in bytes (contract section 4).
pub const DETAIL_MAX_BYTES: usize = 256;

/// One call result as the sender gave it, checked against the limits of contract section 4. A clone is the same one:
/// from the webhook to the subscribers each room holds it, and nobody changes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallResult(Arc<Members>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Members {
    contact_id: Box<str>,
    disposition_code: Box<str>,
    result: Option<Box<str>>,
    timestamp: Option<Box<str>>,
}

/// Why a body is not a call result. Displays as the text of the 400 reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidCallResult {
    /// Not JSON, not an object, or cut short.
    NotJson,
    /// `contactId` or `dispositionCode` is absent or empty.
    Missing,
    /// A member has a wrong type, is over its limit or holds a control character: which, and why.
    Member(&'static str, String),
}

impl fmt::Display for InvalidCallResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("Invalid JSON payload"),
            Self::Missing => f.write_str("Missing contactId or dispositionCode"),
            Self::Member(name, why) => write!(f, "Invalid {name}: {why}"),
        }
    }
}

impl std::error::Error for InvalidCallResult {}

impl CallResult {
    /// A call result from its parts. Empty optional parts count as absent.
    ///
    /// # Errors
    /// [`InvalidCallResult`] when a required part is empty or a part breaks a limit.
    pub fn new(
        contact_id: &str,
        disposition_code: &str,
        call_result: Option<&str>,
        timestamp: Option<&str>,
    ) -> Result<Self, InvalidCallResult> {
        check("contactId", contact_id, CONTACT_ID_MAX_BYTES)?;
        check("dispositionCode", disposition_code, DISPOSITION_CODE_MAX_BYTES)?;
        let call_result = call_result.filter(|v| !v.is_empty());
        let timestamp = timestamp.filter(|v| !v.is_empty());
        check("callResult", call_result.unwrap_or_default(), DETAIL_MAX_BYTES)?;
        check("timestamp", timestamp.unwrap_or_default(), DETAIL_MAX_BYTES)?;
        if contact_id.is_empty() || disposition_code.is_empty() {
            return Err(InvalidCallResult::Missing);
        }
        Ok(Self(Arc::new(Members {
            contact_id: contact_id.into(),
            disposition_code: disposition_code.into(),
            result: call_result.map(Box::from),
            timestamp: timestamp.map(Box::from),
        })))
    }

    /// Parses a webhook body (contract section 4): a JSON object whose members may be strings or integers;
    /// `null` counts as absent, unknown members are ignored, of a repeated member the last one holds.
    ///
    /// # Errors
    /// [`InvalidCallResult`], which displays as the body of the 400 reply.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidCallResult> {
        let raw: RawMembers<'_> = serde_json::from_slice(body).map_err(|_| InvalidCallResult::NotJson)?;
        let contact_id = text("contactId", raw.contact_id)?;
        let disposition_code = text("dispositionCode", raw.disposition_code)?;
        let call_result = text("callResult", raw.call_result)?;
        let timestamp = text("timestamp", raw.timestamp)?;
        Self::new(
            contact_id.as_deref().unwrap_or_default(),
            disposition_code.as_deref().unwrap_or_default(),
            call_result.as_deref(),
            timestamp.as_deref(),
        )
    }

    /// The contact whose attributes are to be updated.
    #[must_use]
    pub fn contact_id(&self) -> &str {
        &self.0.contact_id
    }

    /// The code the agent or the dialler gave the call.
    #[must_use]
    pub fn disposition_code(&self) -> &str {
        &self.0.disposition_code
    }

    /// The dialler's own word for the result, such as `ANSWERED`.
    #[must_use]
    pub fn call_result(&self) -> Option<&str> {
        self.0.result.as_deref()
    }

    /// When the call ended, as the sender wrote it; never interpreted.
    #[must_use]
    pub fn timestamp(&self) -> Option<&str> {
        self.0.timestamp.as_deref()
    }
}

fn check(name: &'static str, value: &str, max_bytes: usize) -> Result<(), InvalidCallResult> {
    if value.len() > max_bytes {
        let why = format!("{} bytes, at most {max_bytes} are allowed", value.len());
        return Err(InvalidCallResult::Member(name, why));
    }
    if value.chars().any(char::is_control) {
        return Err(InvalidCallResult::Member(name, "control characters are not allowed".to_owned()));
    }
    Ok(())
}

/// The text of one member: a string as it is, an integer as its digits (contract section 4).
fn text(name: &'static str, raw: Option<&RawValue>) -> Result<Option<String>, InvalidCallResult> {
    let Some(raw) = raw.map(RawValue::get) else { return Ok(None) };
    match raw.as_bytes()[0] {
        b'"' => serde_json::from_str(raw).map(Some).map_err(|_| InvalidCallResult::NotJson),
        b'n' => Ok(None),
        b'-' | b'0'..=b'9' if !raw.contains(['.', 'e', 'E']) => Ok(Some(raw.to_owned())),
        first => {
            let found = match first {
                b'{' => "an object",
                b'[' => "an array",
                b't' | b'f' => "a boolean",
                _ => "a fraction",
            };
            Err(InvalidCallResult::Member(name, format!("{found}, a string or an integer is expected")))
        }
    }
}

/// The four members still as JSON text, so that integers of any size keep their digits.
#[derive(Default)]
struct RawMembers<'a> {
    contact_id: Option<&'a RawValue>,
    disposition_code: Option<&'a RawValue>,
    call_result: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
}

impl<'de> serde::Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = RawMembers::default();
                while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    let value: &'de RawValue = map.next_value()?;
                    match name.as_ref() {
                        "contactId" => members.contact_id = Some(value),
                        "dispositionCode" => members.disposition_code = Some(value),
                        "callResult" => members.call_result = Some(value),
                        "timestamp" => members.timestamp = Some(value),
                        _ => {}
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// How much an outcome matters to the business; decides who is told and who is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Delivered before everything else when there is a backlog.
    Critical,
    /// The usual.
    Medium,
    /// Of interest to reports only.
    Low,
}

impl Severity {
    /// All severities, most severe first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Medium, Self::Low];

    /// The lower-case name used in configuration, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }

    /// The severity of that name, if it is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is published after a delivery (contract section 7). Serialises to exactly that JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The event's id, as in `dispod audit` and `dispod dead`.
    pub id: String,
    /// The contact that was updated.
    pub contact_id: String,
    /// The category its disposition code was mapped to.
    pub category: String,
    /// The category's severity.
    pub severity: Severity,
    /// The code as it came in.
    pub disposition_code: String,
    /// When the Contact API accepted the update: RFC 3339, UTC.
    pub timestamp: String,
}

impl Outcome {
    /// The outcome of an event that was delivered at `delivered_ms`, Unix ms.
    #[must_use]
    pub fn of(event: &KeptEvent, delivered_ms: i64) -> Self {
        Self {
            id: event.id.to_string(),
            contact_id: event.call.contact_id().to_owned(),
            category: event.category.clone(),
            severity: event.severity,
            disposition_code: event.call.disposition_code().to_owned(),
            timestamp: clock::rfc3339(delivered_ms),
        }
    }
}

/// An event on stable storage: the call result, what it was mapped to, and where it stands in its contact's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvent {
    /// Unique within a store; ascends in the order of keeping.
    pub id: u64,
    /// Order within the contact's lane and among all: the id, until an operator retries it from the dead.
    pub place: u64,
    /// The call result as it came in.
    pub call: CallResult,
    /// The category its code was mapped to when it was kept.
    pub category: String,
    /// The severity of that category when it was kept.
    pub severity: Severity,
    /// Which recorded mapping that was.
    pub mapping: u32,
    /// When it was received, Unix ms.
    pub received_ms: i64,
    /// When an operator last retried it from the dead, Unix ms; its age counts from here.
    pub revived_ms: Option<i64>,
    /// Calls to the Contact API that were made for it and counted against it.
    pub attempts: u32,
    /// Not to be tried before, Unix ms.
    pub due_ms: Option<i64>,
}

impl KeptEvent {
    /// When its age began to count for `delivery.max_age`, Unix ms.
    #[must_use]
    pub fn since_ms(&self) -> i64 {
        self.revived_ms.unwrap_or(self.received_ms)
    }
}
