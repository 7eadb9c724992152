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

/// An idempotency key: 128 bits of a SHA-256, so that keys of any length cost the store the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DedupeKey(pub [u8; 16]);

/// The request headers that carry an idempotency key; the first present one counts (contract section 6).
pub const KEY_HEADERS: [&str; 3] = ["webhook-id", "idempotency-key", "ce-id"];

impl DedupeKey {
    /// The key a sender gave in a header of [`KEY_HEADERS`].
    #[must_use]
    pub fn from_header(value: &str) -> Self {
        Self::hash(&["header", value])
    }

    /// The key of an event without such a header: its content, if it has a timestamp (contract section 6).
    #[must_use]
    pub fn from_content(call: &CallResult) -> Option<Self> {
        let timestamp = call.timestamp()?;
        let result = call.call_result().unwrap_or_default();
        Some(Self::hash(&["content", call.contact_id(), call.disposition_code(), result, timestamp]))
    }

    fn hash(parts: &[&str]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            // The length in front keeps ("ab", "c") and ("a", "bc") apart.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(key)
    }
}
