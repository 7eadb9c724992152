//! What intake hands the keeper: a parsed event and the right to reply. Neither side sees the other's world.

use ring::digest;

use crate::event::CallResult;

/// A call result on its way to the store, with the right to answer its sender.
pub struct Submission {
    /// The event.
    pub call: CallResult,
    /// Its idempotency key, if it has one (contract section 6).
    pub key: Option<DedupeKey>,
    /// When it was received, Unix milliseconds.
    pub received_ms: i64,
    /// Called exactly once, after the commit or instead of it. Must not block for long.
    pub reply: Reply,
}

/// Answers the sender.
pub type Reply = Box<dyn FnOnce(Receipt) + Send>;

/// What became of a [`Submission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is on stable storage under this id.
    Kept(u64),
    /// An event with its key was kept before, under this id.
    Duplicate(u64),
    /// It could not be kept; worth another try after so many seconds.
    NotKept {
        /// For `Retry-After`.
        retry_after_s: u32,
    },
}

/// An idempotency key, so that keys of any length cost the store the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DedupeKey {
    /// Of a header: 128 bits of a SHA-256.
    Given([u8; 16]),
    /// Of a content: the second it bears and 96 bits of a SHA-256. The second comes first so that what is kept at one
    /// time lies together in the store: keys that are all hash are spread over all of it, and each event then costs a
    /// page of its own to read and to write.
    Content([u8; 16]),
}

/// The request headers that carry an idempotency key; the first present one counts (contract section 6).
pub const KEY_HEADERS: [&str; 3] = ["webhook-id", "idempotency-key", "ce-id"];

impl DedupeKey {
    /// The key a sender gave in a header of [`KEY_HEADERS`].
    #[must_use]
    pub fn from_header(value: &str) -> Self {
        Self::Given(Self::hash(&["header", value]))
    }

    /// The key of an event without such a header: its content, if it has a timestamp (contract section 6).
    #[must_use]
    pub fn from_content(call: &CallResult) -> Option<Self> {
        let timestamp = call.timestamp()?;
        let result = call.call_result().unwrap_or_default();
        let mut key = Self::hash(&["content", call.contact_id(), call.disposition_code(), result, timestamp]);
        key[..4].copy_from_slice(&second_of(timestamp).to_be_bytes());
        Some(Self::Content(key))
    }

    /// The key itself. One of a header and one of a content are never the same.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 16] {
        let (Self::Given(bytes) | Self::Content(bytes)) = self;
        bytes
    }

    /// The same if it does not follow from the content.
    #[must_use]
    pub fn given(&self) -> Option<&[u8; 16]> {
        match self {
            Self::Given(bytes) => Some(bytes),
            Self::Content(_) => None,
        }
    }

    fn hash(parts: &[&str]) -> [u8; 16] {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            // The length in front keeps ("ab", "c") and ("a", "bc") apart.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&context.finish().as_ref()[..16]);
        key
    }
}

/// The date and time in a timestamp in 32 bits that are in order of time for 64 years, from its digits alone: RFC 3339
/// or nearly, or whatever a sender writes. Too few digits give 0. Only where a key lies depends on it.
fn second_of(timestamp: &str) -> u32 {
    const DIGITS: [(usize, u32); 6] = [(4, 6), (2, 4), (2, 5), (2, 5), (2, 6), (2, 6)];
    let mut digits = timestamp.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let mut second = 0;
    for (count, bits) in DIGITS {
        let mut field = 0;
        for _ in 0..count {
            let Some(digit) = digits.next() else { return 0 };
            field = field * 10 + digit;
        }
        second = (second << bits) | (field % (1 << bits));
    }
    second
}

#[cfg(test)]
mod tests {
    use super::{DedupeKey, second_of};
    use crate::event::CallResult;

    #[test]
    fn seconds_are_in_order_of_time() {
        let times = [
            "2024-05-20T10:00:00Z",
            "2024-05-20 10:00:01.250",
            "2024-05-20T10:01:00+02:00",
            "20240520110000",
            "2024-05-21T00:00:00Z",
            "2024-12-01T00:00:00Z",
            "2025-01-01T00:00:00Z",
            "2047-12-31T23:59:59Z",
        ];
        assert!(times.is_sorted_by(|a, b| second_of(a) < second_of(b)), "{:?}", times.map(second_of));
        assert_eq!(["", "yesterday", "1716199200"].map(second_of), [0; 3]);
    }

    #[test]
    fn keys_of_one_second_lie_together_and_differ() {
        let key = |contact: &str, time: &str| {
            let body = format!(r#"{{"contactId":"{contact}","dispositionCode":"1","timestamp":"{time}"}}"#);
            *DedupeKey::from_content(&CallResult::parse(body.as_bytes()).unwrap()).unwrap().bytes()
        };
        let (first, second) = (key("a", "2024-05-20T10:00:00Z"), key("b", "2024-05-20T10:00:00Z"));
        assert_eq!(first[..4], second[..4]);
        assert_ne!(first[4..], second[4..]);
        assert_eq!(first, key("a", "2024-05-20T10:00:00Z"));
        // Only hashed, and not forgotten: what is written otherwise is another content.
        assert_ne!(first[4..], key("a", "2024-05-20T10:00:00.0Z")[4..]);
        assert!(first < key("a", "2024-05-20T10:00:01Z"));
    }
}
