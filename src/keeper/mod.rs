//! The keeper: sole writer of the store. It drains whatever waits, writes one transaction, syncs once, answers all.
//!
//! Under load the batches grow by themselves; that is the whole tuning. The keeper never waits for another room:
//! what it tells dispatch either fits the channel or dispatch is told that it is behind and reads the store.

mod checkpoints;
mod commit;
mod housekeeping;
mod operate;
mod outbox;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use crate::clock;
use crate::config::{Config, StoreConfig};
use crate::disposition::Mapping;
use crate::error::Error;
use crate::flow::{Notice, Order, Settlement};
use crate::health::Health;
use crate::keep::Submission;
use crate::metrics::Metrics;
use crate::rooms::Failed;
use crate::store::{self, Store, StoreError, Sync};

pub use operate::operate;

use checkpoints::Checkpoints;
use commit::refuse;
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
    /// There was no room even for settlements; until there is some they are written as short as can be.
    in_need: bool,
    /// Questions that could not be answered yet; dispatch waits for each of them.
    put_off: Vec<Order>,
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
        let path = store.path();
        let unusable = |error: StoreError| match error {
            StoreError::Damaged(why) => store::damaged(&path, &why),
            error => Error::failed(format!("the store cannot be used: {error}")),
        };
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
        let housekeeping = Housekeeping::new(&mut store, checkpoints).map_err(unusable)?;
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
            in_need: false,
            put_off: Vec::new(),
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
            if self.lost.is_some() {
                break;
            }
        }
        self.end()
    }

    /// Nobody may wait for an answer that never comes, and nothing that is known may be left unwritten.
    fn end(mut self) -> Result<(), String> {
        self.refuse_all();
        if self.lost.is_none() && (!self.held.is_empty() || self.outbox.has_unsaved()) {
            let held = std::mem::take(&mut self.held);
            self.commit(Vec::new(), held);
        }
        if self.lost.is_none() {
            let synced = self.store.sync();
            self.survive(synced);
        }
        if !self.held.is_empty() {
            let count = self.held.len();
            log::warn!(
                "{count} updates were made and could not be recorded: they are repeated after the next start"
            );
        }
        let lost = self.lost.take();
        if lost.is_some() {
            self.store.distrust();
        }
        drop(self.housekeeping);
        drop(self.store);
        lost.map_or(Ok(()), Err)
    }

    fn wait(&self) -> Duration {
        let waits = !self.held.is_empty() || !self.put_off.is_empty();
        let wait = if waits { HELD_RETRY } else { self.housekeeping.wait() };
        wait.min(self.outbox.wait())
    }

    /// One round: settle and keep in one transaction, answer, then everything that reads.
    fn turn(&mut self, mut submissions: Vec<Submission>, orders: Vec<Order>) {
        let mut settlements = std::mem::take(&mut self.held);
        let mut others = std::mem::take(&mut self.put_off);
        for order in orders {
            match order {
                Order::Settle(first) if settlements.is_empty() => settlements = first,
                Order::Settle(more) => settlements.extend(more),
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

    /// An error that time can mend is logged; any other ends the keeper.
    fn survive(&mut self, result: Result<(), StoreError>) {
        match result {
            Ok(()) => {}
            Err(StoreError::Full) => {
                self.health.set_backlog_full(true);
                self.housekeeping.complain("the store is full: new events are refused until there is room");
            }
            Err(StoreError::Busy) => self.housekeeping.complain("the store is locked by another program"),
            Err(error @ (StoreError::Damaged(_) | StoreError::Newer(_) | StoreError::Failed(_))) => {
                self.health.set_store_failing(true);
                let words = match error {
                    StoreError::Damaged(why) => store::damaged(&self.store.path(), &why).to_string(),
                    error => format!("the store {} is {error}", self.store.path().display()),
                };
                self.lost.get_or_insert(format!("the store can no longer be trusted: {words}"));
            }
        }
    }

    fn refuse_all(&mut self) {
        let mut waiting: Vec<_> = self.submissions.try_iter().collect();
        refuse(&mut waiting);
    }
}
