//! The keeper: sole writer of the store. It drains whatever waits, writes one transaction, syncs once, answers all.
//!
//! Under load the batches grow by themselves; that is the whole tuning. The keeper never waits for another room:
//! what it tells dispatch either fits the channel or dispatch is told that it is behind and reads the store.

mod checkpoints;
mod housekeeping;
mod operate;
mod outbox;
mod reader;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use crate::clock;
use crate::config::{Config, StoreConfig};
use crate::disposition::Mapping;
use crate::error::Error;
use crate::flow::{Notice, Order, Settlement};
use crate::health::Health;
use crate::keep::{Receipt, Submission};
use crate::metrics::Metrics;
use crate::rooms::Failed;
use crate::store::{Batch, Class, Kept, NewEvent, State, Step, StepKind, Store, StoreError, Sync};
use crate::verdict::Verdict;

pub use operate::operate;

use checkpoints::Checkpoints;
use housekeeping::Housekeeping;
use outbox::Outbox;

/// Most submissions in one transaction.
const BATCH_SUBMISSIONS_MAX: usize = 512;
/// Most orders looked at between two transactions.
const BATCH_ORDERS_MAX: usize = 1024;
/// How long a sender is asked to stay away when the store is full or busy.
const RETRY_AFTER_S: u32 = 5;
/// How long to wait before settlements that found no room are tried again.
const HELD_RETRY: Duration = Duration::from_millis(250);

/// What the keeper's thread owns.
pub struct Keeper {
    store: Store,
    config: StoreConfig,
    mapping: Arc<Mapping>,
    mapping_number: u32,
    submissions: Receiver<Submission>,
    orders: Receiver<Order>,
    notices: Sender<Notice>,
    /// Most notices of kept events in the channel; the rest of it is for answers.
    notices_kept_max: usize,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Settlements that found no room; at most one per worker.
    held: Vec<Settlement>,
    housekeeping: Housekeeping,
    outbox: Outbox,
    /// What has become untrustworthy, once it has: nothing is written any more.
    lost: Option<String>,
}

/// The channels' ends that are the keeper's.
pub struct Channels {
    /// From intake.
    pub submissions: Receiver<Submission>,
    /// From dispatch, the admin listener and the subscribers.
    pub orders: Receiver<Order>,
    /// To dispatch.
    pub notices: Sender<Notice>,
    /// How many places of `notices` may hold kept events.
    pub notices_kept_max: usize,
}

impl Keeper {
    /// A keeper of `store`; records the mapping it starts with.
    ///
    /// # Errors
    /// The mapping cannot be recorded, the backlog not counted, or a thread not be had. A store that is merely full
    /// is no reason not to start: what it holds is to be delivered.
    pub fn new(
        mut store: Store,
        config: &Config,
        channels: Channels,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        failed: &Failed,
    ) -> Result<Self, Error> {
        let unusable = |error: StoreError| Error::failed(format!("the store cannot be used: {error}"));
        let checkpoints = Checkpoints::start(&store, failed)?;
        let mapping = Arc::new(config.mapping.clone());
        let recorded = store.transact(Sync::Now, |batch| batch.record_mapping(&mapping, clock::now_ms()));
        let mapping_number = match recorded {
            Ok(number) => number,
            Err(StoreError::Full) => 0,
            Err(error) => return Err(unusable(error)),
        };
        let outbox = Outbox::open(&store, &config.subscribers, &metrics).map_err(unusable)?;
        let (pending, dead) = store.count().map_err(unusable)?;
        metrics.events_pending.set(pending);
        metrics.events_dead.set(dead);
        let housekeeping = Housekeeping::new(store.dir(), checkpoints);
        Housekeeping::measure(&store, &metrics).map_err(unusable)?;
        let Channels { submissions, orders, notices, notices_kept_max } = channels;
        Ok(Self {
            store,
            config: config.store.clone(),
            mapping,
            mapping_number,
            submissions,
            orders,
            notices,
            notices_kept_max,
            health,
            metrics,
            held: Vec::new(),
            housekeeping,
            outbox,
            lost: None,
        })
    }

    /// Runs until every sender of orders is gone.
    ///
    /// # Errors
    /// The words for the log when the store can no longer be trusted; the process must end then.
    pub fn run(mut self) -> Result<(), String> {
        let mut intake_open = true;
        loop {
            let mut submissions = Vec::new();
            let mut orders = Vec::new();
            let wait = self.wait();
            let never = crossbeam_channel::never();
            let from_intake = if intake_open { &self.submissions } else { &never };
            select! {
                recv(from_intake) -> submission => match submission {
                    Ok(submission) => submissions.push(submission),
                    Err(_) => intake_open = false,
                },
                recv(self.orders) -> order => match order {
                    Ok(order) => orders.push(order),
                    Err(_) => break,
                },
                default(wait) => {}
            }
            submissions.extend(self.submissions.try_iter().take(BATCH_SUBMISSIONS_MAX - submissions.len()));
            orders.extend(self.orders.try_iter().take(BATCH_ORDERS_MAX));
            self.turn(submissions, orders);
            if let Some(why) = self.lost.take() {
                self.refuse_all();
                return Err(why);
            }
        }
        if self.outbox.has_unsaved() {
            self.save_outbox();
        }
        self.store.sync().map_err(|error| error.to_string())
    }

    fn wait(&self) -> Duration {
        let wait = if self.held.is_empty() { self.housekeeping.wait() } else { HELD_RETRY };
        wait.min(self.outbox.wait())
    }

    /// One round: settle and keep in one transaction, answer, then everything that reads.
    fn turn(&mut self, mut submissions: Vec<Submission>, orders: Vec<Order>) {
        let mut settlements = std::mem::take(&mut self.held);
        let mut others = Vec::new();
        for order in orders {
            match order {
                Order::Settle(settlement) => settlements.push(*settlement),
                // Before the submissions: who posts after the reload was logged is mapped by it.
                Order::Remap(mapping) => self.remap(mapping),
                other => others.push(other),
            }
        }
        if self.lost.is_some() {
            refuse(&mut submissions);
            return;
        }
        if !submissions.is_empty() || !settlements.is_empty() {
            self.commit(submissions, settlements);
        }
        for order in others {
            self.obey(order);
        }
        self.tend_outbox();
        let result = self.housekeeping.run(
            &mut self.store,
            &mut self.outbox,
            &self.config,
            &self.metrics,
            &self.health,
        );
        self.survive(result);
    }

    /// Writes a batch. When there is no room, the settlements go without the submissions; when even they find
    /// none, they are held.
    fn commit(&mut self, mut submissions: Vec<Submission>, settlements: Vec<Settlement>) {
        if !submissions.is_empty() && !self.room() {
            refuse(&mut submissions);
        }
        let sync = if submissions.is_empty() { Sync::Later } else { Sync::Now };
        let started = Instant::now();
        let dedupe_since_s = (clock::now_ms() - clock::millis(self.config.dedupe_window)) / 1000;
        let (mapping, number) = (&self.mapping, self.mapping_number);
        let written = self.store.transact(sync, |batch| {
            settlements.iter().try_for_each(|settlement| settle(batch, settlement))?;
            let published = self.outbox.write(batch, &settlements)?;
            let kept = submissions
                .iter()
                .map(|submission| keep(batch, submission, mapping, number, dedupe_since_s))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((kept, published))
        });
        match written {
            Ok((kept, published)) => {
                self.outbox.committed(&published);
                self.metrics.store_commit.observe(started.elapsed());
                self.housekeeping.note_commit(sync);
                self.answer(submissions, kept);
                self.settled(settlements);
            }
            Err(StoreError::Full) if !submissions.is_empty() => {
                self.health.set_backlog_full(true);
                refuse(&mut submissions);
                self.commit(submissions, settlements);
            }
            Err(error) => {
                if matches!(error, StoreError::Full) {
                    self.housekeeping.release_reserve();
                }
                refuse(&mut submissions);
                self.held = settlements;
                let full = matches!(error, StoreError::Full);
                self.survive(Err(error));
                if full {
                    self.room();
                }
            }
        }
    }

    fn room(&mut self) -> bool {
        let room = self.housekeeping.make_room(&mut self.store, &mut self.outbox);
        let room = room.unwrap_or_else(|error| {
            self.survive(Err(error));
            false
        });
        self.health.set_backlog_full(!room);
        room
    }

    /// Replies to the senders first, then tells dispatch.
    fn answer(&mut self, submissions: Vec<Submission>, kept: Vec<Kept>) {
        let mut new = Vec::with_capacity(kept.len());
        for (submission, kept) in submissions.into_iter().zip(kept) {
            match kept {
                Kept::New(event) => {
                    self.metrics.events_kept.inc();
                    (submission.reply)(Receipt::Kept(event.id));
                    new.push(event);
                }
                Kept::Before(id) => {
                    self.metrics.events_duplicate.inc();
                    (submission.reply)(Receipt::Duplicate(id));
                }
            }
        }
        self.metrics.events_pending.add(new.len() as u64);
        for event in new {
            self.tell_kept(event);
        }
    }

    fn tell_kept(&mut self, event: crate::event::KeptEvent) {
        let class = Class::of(event.severity);
        if self.housekeeping.behind(class) {
            return;
        }
        let notice = if self.notices.len() < self.notices_kept_max {
            Notice::Kept(event)
        } else {
            self.housekeeping.set_behind(class, true);
            Notice::Behind(class)
        };
        self.tell(notice);
    }

    /// Never blocks: the channel's capacity counts every answer that can be outstanding.
    fn tell(&mut self, notice: Notice) {
        if let Err(crossbeam_channel::TrySendError::Full(_)) = self.notices.try_send(notice) {
            self.lost = Some("the channel to dispatch overflowed its reserve".to_owned());
        }
    }

    fn settled(&mut self, settlements: Vec<Settlement>) {
        for settlement in settlements {
            let StoreEventEnd { id, ended, dead } = StoreEventEnd::of(&settlement);
            if ended {
                self.metrics.events_pending.sub(1);
            }
            if dead {
                self.metrics.events_dead.add(1);
            }
            if settlement.verdict == Verdict::Delivered {
                let age_ms = clock::now_ms() - settlement.stored.event.received_ms;
                self.metrics.delivery_latency.observe(Duration::from_millis(age_ms.max(0).cast_unsigned()));
            }
            self.tell(Notice::Settled(id));
        }
    }

    /// An error that time can mend is logged; any other ends the keeper.
    fn survive(&mut self, result: Result<(), StoreError>) {
        match result {
            Ok(()) => {}
            Err(StoreError::Full) => {
                self.health.set_backlog_full(true);
                self.housekeeping.complain("the store is full: new events are refused until there is room");
            }
            Err(StoreError::Busy) => self.housekeeping.complain("the store is locked by another program"),
            Err(error @ (StoreError::Damaged(_) | StoreError::Failed(_))) => {
                self.health.set_store_failing(true);
                let path = self.store.path();
                self.lost = Some(format!("the store {} can no longer be trusted: {error}", path.display()));
            }
        }
    }

    /// After the end: nobody may wait for an answer that never comes.
    fn refuse_all(&mut self) {
        let mut waiting: Vec<_> = self.submissions.try_iter().collect();
        refuse(&mut waiting);
    }
}

/// What a settlement does to the counts.
struct StoreEventEnd {
    id: u64,
    ended: bool,
    dead: bool,
}

impl StoreEventEnd {
    fn of(settlement: &Settlement) -> Self {
        let state = settlement.stored.state;
        Self { id: settlement.stored.event.id, ended: state != State::Pending, dead: state == State::Dead }
    }
}

fn refuse(submissions: &mut Vec<Submission>) {
    for submission in submissions.drain(..) {
        (submission.reply)(Receipt::NotKept { retry_after_s: RETRY_AFTER_S });
    }
}

fn settle(batch: &mut Batch<'_>, settlement: &Settlement) -> Result<(), StoreError> {
    batch.update(&settlement.stored)?;
    settlement.steps.iter().try_for_each(|step| batch.step(step))
}

fn keep(
    batch: &mut Batch<'_>,
    submission: &Submission,
    mapping: &Mapping,
    mapping_number: u32,
    dedupe_since_s: i64,
) -> Result<Kept, StoreError> {
    let category = mapping.category(submission.call.disposition_code());
    let new = NewEvent {
        call: &submission.call,
        key: submission.key,
        received_ms: submission.received_ms,
        category,
        severity: mapping.severity(category),
        mapping: mapping_number,
    };
    let kept = batch.keep(&new, dedupe_since_s)?;
    if let Kept::Before(id) = kept {
        batch.step(&Step {
            event: id,
            at_ms: submission.received_ms,
            kind: StepKind::Duplicate,
            attempt: None,
            status: None,
            latency_ms: None,
            note: None,
        })?;
    }
    Ok(kept)
}
