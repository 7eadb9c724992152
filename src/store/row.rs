//! One row of the event table: reading it, and the checksum that guards it.
//!
//! SQLite does not notice a flipped bit, so every row carries a CRC-32 over all its other columns. A row that
//! fails it is never acted upon.

use rusqlite::Row;

use crate::event::{CallResult, KeptEvent, Severity};

/// Where an event stands. The numbers are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be delivered.
    Pending = 0,
    /// The Contact API accepted it.
    Delivered = 1,
    /// It cannot be delivered; an operator may retry or drop it.
    Dead = 2,
    /// An operator gave it up.
    Dropped = 3,
}

impl State {
    /// The lower-case name used in the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
        }
    }

    fn from_number(number: i64) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Dead, Self::Dropped].into_iter().find(|s| *s as i64 == number)
    }
}

/// How an event was settled; empty while it is pending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// When, Unix ms.
    pub at_ms: Option<i64>,
    /// The last HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long the last call took.
    pub latency_ms: Option<u32>,
    /// Why it is dead.
    pub reason: Option<String>,
    /// The first 1 KiB of the answer that killed it.
    pub answer: Option<String>,
}

impl Settled {
    /// Reason and answer as one text; `None` where there is neither.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match (self.reason.as_deref(), self.answer.as_deref().filter(|answer| !answer.is_empty())) {
            (Some(reason), Some(answer)) => Some(format!("{reason}: {answer}")),
            (reason, answer) => reason.or(answer).map(str::to_owned),
        }
    }
}

/// A whole row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The event.
    pub event: KeptEvent,
    /// Where it stands.
    pub state: State,
    /// How it was settled.
    pub settled: Settled,
}

/// A row is seldom longer.
const ROW_BYTES: usize = 384;
/// What an absent number counts as in the checksum.
const ABSENT: i64 = i64::MIN;

/// The columns [`read`] expects, in order.
pub(super) const COLUMNS: &str = "id, state, severity, place, attempts, mapping, received_ms, contact, code, \
     result, stamp, category, revived_ms, due_ms, settled_ms, status, latency_ms, reason, answer, crc";

/// A row, or the id of one whose checksum does not match.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Result<StoredEvent, u64>> {
    let id = row.get_ref(0)?.as_i64().map_or(0, i64::cast_unsigned);
    let Ok((stored, crc)) = decode(row) else { return Ok(Err(id)) };
    Ok(stored.filter(|stored| checksum(stored) == crc).ok_or(id))
}

/// Any error here means damage: the types and ranges are ours.
fn decode(row: &Row<'_>) -> rusqlite::Result<(Option<StoredEvent>, u32)> {
    let severity: u8 = row.get(2)?;
    let text = |index: usize| -> rusqlite::Result<Option<&str>> { Ok(row.get_ref(index)?.as_str_or_null()?) };
    let call =
        CallResult::new(text(7)?.unwrap_or_default(), text(8)?.unwrap_or_default(), text(9)?, text(10)?);
    let state = State::from_number(row.get(1)?);
    let crc: u32 = row.get(19)?;
    let (Ok(call), Some(severity), Some(state)) = (call, Severity::ALL.get(usize::from(severity)), state)
    else {
        return Ok((None, crc));
    };
    let stored = StoredEvent {
        event: KeptEvent {
            id: row.get::<_, i64>(0)?.cast_unsigned(),
            place: row.get::<_, i64>(3)?.cast_unsigned(),
            call,
            category: row.get(11)?,
            severity: *severity,
            mapping: row.get(5)?,
            received_ms: row.get(6)?,
            revived_ms: row.get(12)?,
            attempts: row.get(4)?,
            due_ms: row.get(13)?,
        },
        state,
        settled: Settled {
            at_ms: row.get(14)?,
            status: row.get(15)?,
            latency_ms: row.get(16)?,
            reason: row.get(17)?,
            answer: row.get(18)?,
        },
    };
    // The checksum takes it for an absent number.
    let times = [stored.event.revived_ms, stored.event.due_ms, stored.settled.at_ms];
    let sound = !times.contains(&Some(ABSENT));
    Ok((sound.then_some(stored), crc))
}

/// CRC-32 over every other column, in a fixed order.
pub(super) fn checksum(stored: &StoredEvent) -> u32 {
    let StoredEvent { event, state, settled } = stored;
    let mut crc = Checksum(Vec::with_capacity(ROW_BYTES));
    crc.number(event.id.cast_signed());
    crc.number(*state as i64);
    crc.number(event.severity as i64);
    crc.number(event.place.cast_signed());
    crc.number(event.attempts.into());
    crc.number(event.mapping.into());
    crc.number(event.received_ms);
    crc.text(Some(event.call.contact_id()));
    crc.text(Some(event.call.disposition_code()));
    crc.text(event.call.call_result());
    crc.text(event.call.timestamp());
    crc.text(Some(&event.category));
    for number in [
        event.revived_ms,
        event.due_ms,
        settled.at_ms,
        settled.status.map(i64::from),
        settled.latency_ms.map(i64::from),
    ] {
        crc.number(number.unwrap_or(ABSENT));
    }
    crc.text(settled.reason.as_deref());
    crc.text(settled.answer.as_deref());
    crc32fast::hash(&crc.0)
}

/// What is summed up, in one piece: by eight bytes at a time it costs several times as much.
struct Checksum(Vec<u8>);

impl Checksum {
    fn number(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: Option<&str>) {
        self.number(text.map_or(-1, |text| text.len().cast_signed() as i64));
        self.0.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
}
