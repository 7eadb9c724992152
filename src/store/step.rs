//! The lines of an event's story.

/// What a [`Step`] tells. The numbers are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// The same event came in again and was answered 200.
    Duplicate = 1,
    /// A call to the API that did not settle the event.
    Attempt = 2,
    /// It is to be tried again, not before the note's time.
    RetryAt = 3,
    /// It was dead until an operator retried it; the note is the reason it was dead for.
    Revived = 4,
    /// An operator gave it up.
    Dropped = 5,
    /// A durable subscriber accepted its outcome; the note names it.
    Published = 6,
    /// It was dead, before it was revived; the note is the reason and the answer. A row tells only of the last death.
    Dead = 7,
}

impl StepKind {
    /// The name used in the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Attempt => "attempt",
            Self::RetryAt => "retry-at",
            Self::Revived => "revived",
            Self::Dropped => "dropped",
            Self::Published => "published",
            Self::Dead => "dead",
        }
    }

    /// The kind of that number, if there is one.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        const ALL: [StepKind; 7] = [
            StepKind::Duplicate,
            StepKind::Attempt,
            StepKind::RetryAt,
            StepKind::Revived,
            StepKind::Dropped,
            StepKind::Published,
            StepKind::Dead,
        ];
        ALL.into_iter().find(|kind| *kind as i64 == number)
    }
}

/// One line of an event's story, beyond what its row tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The event.
    pub event: u64,
    /// When, Unix ms.
    pub at_ms: i64,
    /// What.
    pub kind: StepKind,
    /// Which attempt it was.
    pub attempt: Option<u32>,
    /// HTTP status.
    pub status: Option<u16>,
    /// How long the call took.
    pub latency_ms: Option<u32>,
    /// In words.
    pub note: Option<String>,
}
