//! What became of an event, step by step: its row and its recorded steps, told as one story.
//!
//! The row tells how the story began (received, mapped) and how it ended (delivered, dead); the recorded steps tell
//! what was in between and behind. Told here once, shown by the admin listener and by `dispod audit`.

use crate::clock;
use crate::disposition::Mapping;
use crate::event::KeptEvent;
use crate::store::{History, State, Step, StepKind, StoreError, StoredEvent};

/// What is shown of a row that cannot be trusted as its state.
pub const DAMAGED: &str = "damaged";

/// What a line of the story tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It came in and was kept.
    Received,
    /// Its code was mapped to a category and a severity.
    Mapped,
    /// What was recorded on the way.
    Recorded(StepKind),
    /// The Contact API accepted it.
    Delivered,
    /// It could not be delivered.
    Dead,
}

impl What {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Mapped => "mapped",
            Self::Recorded(kind) => kind.as_str(),
            Self::Delivered => State::Delivered.as_str(),
            Self::Dead => State::Dead.as_str(),
        }
    }

    /// Of two lines of the same millisecond, the lower is told first: what follows from the end stands behind it.
    const fn rank(self) -> u8 {
        match self {
            Self::Recorded(StepKind::Published | StepKind::Dropped) => 2,
            Self::Delivered | Self::Dead => 1,
            Self::Received | Self::Mapped | Self::Recorded(_) => 0,
        }
    }
}

/// A line of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When, Unix ms.
    pub at_ms: i64,
    /// What.
    pub what: What,
    /// Which attempt it was.
    pub attempt: Option<u32>,
    /// HTTP status.
    pub status: Option<u16>,
    /// How long the call took.
    pub latency_ms: Option<u32>,
    /// The mapping in force, where it was mapped.
    pub mapped_by: Option<MappedBy>,
    /// In words.
    pub note: Option<String>,
}

/// The mapping an event was mapped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedBy {
    /// Its number in the store.
    pub number: u32,
    /// Since when it was in force, Unix ms; `None`: it is not recorded.
    pub since_ms: Option<i64>,
    /// Whether it had no such code, so that the default category was taken.
    pub by_default: bool,
}

/// The recorded mappings, read when an event needs one. Neighbours mostly need the same.
pub struct Mappings<'a> {
    history: &'a History,
    last: Option<(u32, Option<(Mapping, i64)>)>,
}

impl<'a> Mappings<'a> {
    /// Those of this store.
    #[must_use]
    pub fn new(history: &'a History) -> Self {
        Self { history, last: None }
    }

    /// A mapping and since when it was in force, Unix ms.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn get(&mut self, number: u32) -> Result<Option<&(Mapping, i64)>, StoreError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != number) {
            self.last = Some((number, self.history.mapping(number)?));
        }
        Ok(self.last.as_ref().and_then(|(_, mapping)| mapping.as_ref()))
    }

    fn of(&mut self, event: &KeptEvent) -> Result<MappedBy, StoreError> {
        let found = self.get(event.mapping)?;
        Ok(MappedBy {
            number: event.mapping,
            since_ms: found.map(|(_, since_ms)| *since_ms),
            by_default: found.is_some_and(|(mapping, _)| {
                !mapping.dispositions.contains_key(event.call.disposition_code())
            }),
        })
    }
}

/// A story in the telling: the recorded steps are handed to it in parts.
#[derive(Debug, Clone)]
pub struct Story {
    opening: Vec<Told>,
    ending: Option<Told>,
}

impl Story {
    /// The story of this row; of a damaged one only the recorded steps can be told.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn new(row: &Result<StoredEvent, u64>, mappings: &mut Mappings<'_>) -> Result<Self, StoreError> {
        let Ok(StoredEvent { event, state, settled }) = row else {
            return Ok(Self { opening: Vec::new(), ending: None });
        };
        let by = mappings.of(event)?;
        let mapped =
            Told { mapped_by: Some(by), ..told(What::Mapped, event.received_ms, Some(by.words(event))) };
        let ending = settled.at_ms.map(|at_ms| Told {
            attempt: Some(event.attempts),
            status: settled.status,
            latency_ms: settled.latency_ms,
            ..told(
                if *state == State::Delivered { What::Delivered } else { What::Dead },
                at_ms,
                settled.why(),
            )
        });
        Ok(Self { opening: vec![told(What::Received, event.received_ms, None), mapped], ending })
    }

    /// The next lines, with these recorded steps in them; `last`: no more are to come.
    pub fn tell(&mut self, steps: Vec<Step>, last: bool) -> Vec<Told> {
        let mut recorded: Vec<Told> = steps.into_iter().map(Told::from).collect();
        let turn = |told: &Told| (told.at_ms, told.what.rank());
        let is_due = |ending: &mut Told| last || recorded.iter().any(|step| turn(step) > turn(ending));
        recorded.extend(self.ending.take_if(is_due));
        recorded.sort_by_key(turn);
        let mut lines = std::mem::take(&mut self.opening);
        lines.append(&mut recorded);
        lines
    }
}

impl MappedBy {
    fn words(&self, event: &KeptEvent) -> String {
        let since = match self.since_ms {
            Some(since_ms) => format!("in force since {}", clock::rfc3339_ms(since_ms)),
            None => "which is not recorded".to_owned(),
        };
        let (category, severity, number) = (&event.category, event.severity, self.number);
        if self.by_default {
            return format!(
                "{category} ({severity}), the default for a code mapping {number} lacks, {since}"
            );
        }
        format!("{category} ({severity}), by mapping {number}, {since}")
    }
}

fn told(what: What, at_ms: i64, note: Option<String>) -> Told {
    Told { at_ms, what, attempt: None, status: None, latency_ms: None, mapped_by: None, note }
}

impl From<Step> for Told {
    fn from(step: Step) -> Self {
        let Step { at_ms, kind, attempt, status, latency_ms, note, .. } = step;
        Self { attempt, status, latency_ms, ..told(What::Recorded(kind), at_ms, note) }
    }
}
