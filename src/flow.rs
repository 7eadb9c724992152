//! The messages between the rooms. Every one of them travels on a bounded channel.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::disposition::Mapping;
use crate::event::KeptEvent;
use crate::store::{Class, Step, StoredEvent};
use crate::verdict::{Call, Verdict};

/// Dispatch to a worker: update this contact.
pub struct Job {
    /// The event to deliver.
    pub event: KeptEvent,
}

/// A worker to dispatch: what came of a [`Job`].
pub struct Report {
    /// The event, given back.
    pub event: KeptEvent,
    /// When the worker took it.
    pub started: Instant,
    /// A first call that was answered 401, before the token was fetched anew.
    pub refused: Option<Call>,
    /// The call that counts.
    pub call: Call,
}

/// Dispatch to the keeper: what is to be written about an event.
pub struct Settlement {
    /// The event's row as it is to be.
    pub stored: StoredEvent,
    /// What to add to its story.
    pub steps: Vec<Step>,
    /// What the call meant.
    pub verdict: Verdict,
}

/// What the keeper is asked to do, besides keeping.
pub enum Order {
    /// Write these; answered with [`Notice::Settled`].
    Settle(Vec<Settlement>),
    /// Give the next pending events of a class; answered with [`Notice::Backlog`].
    LoadClass {
        /// Of this class.
        class: Class,
        /// Behind this place.
        after_place: u64,
        /// At most so many.
        limit: usize,
    },
    /// Give the first pending events of a contact; answered with [`Notice::Lane`].
    LoadLane {
        /// Whose.
        contact_id: Arc<str>,
        /// At most so many.
        limit: usize,
    },
    /// Map codes with this from now on.
    Remap(Arc<Mapping>),
    /// What a durable subscriber wants.
    Outbox(OutboxOrder),
    /// What an operator wants of the dead letters; the answer is how many were affected.
    Operate(Operation, Sender<Result<Operated, String>>),
    /// Answer when everything before it is on stable storage: the watchdog's question.
    Probe(Sender<bool>),
}

/// What a durable subscriber asks of the keeper. It says who it is by its place in the configuration's list.
pub enum OutboxOrder {
    /// Give what comes next; answered as soon as there is something. The last one counts.
    Read {
        /// Who asks.
        subscriber: usize,
        /// At most so many.
        limit: usize,
        /// Where the answer goes; it needs room for one.
        reply: Sender<Vec<OutboxEntry>>,
    },
    /// It accepted these, in order.
    Advance {
        /// Who.
        subscriber: usize,
        /// What.
        accepted: Vec<Accepted>,
    },
    /// It wants to hear of nothing any more.
    Disable {
        /// Who.
        subscriber: usize,
        /// What it said.
        reason: String,
    },
}

/// An outcome for a durable subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Its place in the order of delivery.
    pub position: u64,
    /// The delivered event.
    pub event: KeptEvent,
    /// When it was delivered, Unix ms.
    pub delivered_ms: i64,
}

/// An [`OutboxEntry`] that a subscriber accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The entry's position.
    pub position: u64,
    /// The event's id.
    pub event: u64,
}

/// What an operator can do to dead letters.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Make these pending again.
    Retry(Vec<u64>),
    /// Give these up.
    Drop(Vec<u64>),
    /// Make all behind this id pending again, as many as fit one transaction.
    RetryAll {
        /// Continue behind this id.
        after_id: u64,
    },
    /// Give all behind this id up, as many as fit one transaction.
    DropAll {
        /// Continue behind this id.
        after_id: u64,
    },
}

/// What an [`Operation`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operated {
    /// The ids it was done to.
    pub done: Vec<u64>,
    /// The ids that are not dead, or whose content cannot be trusted.
    pub not_done: Vec<u64>,
    /// Continue behind this id; `None`: that was all.
    pub continue_after: Option<u64>,
}

/// The keeper to dispatch.
pub enum Notice {
    /// This event is pending now, last in its lane.
    Kept(KeptEvent),
    /// Events of this class were kept that dispatch was not told of: there was no room in the channel.
    Behind(Class),
    /// Answer to [`Order::LoadClass`].
    Backlog {
        /// Which class.
        class: Class,
        /// In order.
        events: Vec<KeptEvent>,
        /// The last place looked at; `None`: there are no more.
        continue_after: Option<u64>,
    },
    /// Answer to [`Order::LoadLane`].
    Lane {
        /// Whose.
        contact_id: Arc<str>,
        /// In order.
        events: Vec<KeptEvent>,
        /// Whether the contact has more pending events than these.
        more: bool,
    },
    /// The settlements of these events are written.
    Settled(Vec<u64>),
}
