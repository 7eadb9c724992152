//! What durable subscribers still have to hear of, and how far each of them has come.
//!
//! A delivered event's row in the outbox is written in the transaction that settles it. A subscriber asks, and is
//! answered when there is something; how far it came rides on the next commit. A crash in between makes it hear of
//! a few outcomes again: at least once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::SubscriberConfig;
use crate::event::Severity;
use crate::flow::{Accepted, OutboxOrder, Settlement};
use crate::metrics::Metrics;
use crate::store::{Batch, OutboxRow, Step, StepKind, Store, StoreError, Sync};
use crate::storm::Storm;
use crate::verdict::Verdict;

use super::Keeper;
use super::reader::{self, Reader};

/// How long a subscriber's progress waits for a commit to ride on before it gets one of its own.
const SAVE_WITHIN: Duration = Duration::from_millis(200);
/// Most accepted outcomes whose acceptance is not in the store; then subscribers wait until it is.
const UNSAVED_MAX: usize = 1024;
/// How soon the search for a subscriber's next outcomes goes on.
const SEARCH_AGAIN: Duration = Duration::from_millis(10);
/// Most rows of the outbox removed by one commit.
const PRUNE_ROWS: usize = 4096;
/// Most rows given up at once when the store is full.
const GIVE_UP_ROWS: usize = 256;
/// At most one complaint about outcomes given up in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// The outbox as the keeper sees it. Without subscribers it writes nothing.
pub(super) struct Outbox {
    readers: Vec<Reader>,
    /// Subscribers that have a position and are configured no more.
    gone: Vec<String>,
    /// The last position given.
    end: u64,
    /// Up to here nothing is left in the store.
    pruned_through: u64,
    /// What was accepted since the last commit, for the audit.
    unsaved: Vec<Step>,
    save_at: Option<Instant>,
    metrics: Arc<Metrics>,
    given_up_log: Storm,
}

/// What [`Outbox::write`] wrote.
pub(super) struct Written {
    published: [u64; Severity::ALL.len()],
    end: u64,
    pruned_through: u64,
}

impl Outbox {
    /// Reads how far the configured subscribers have come; a new one begins at the present end.
    pub(super) fn open(
        store: &Store,
        subscribers: &[SubscriberConfig],
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let end = store.outbox_end()?;
        let rows = store.subscribers()?;
        metrics
            .set_subscribers(subscribers.iter().map(|each| (each.name.clone(), reader::kind(&each.target))));
        let readers: Vec<_> = subscribers
            .iter()
            .map(|config| Reader::new(config, rows.iter().find(|row| row.name == config.name), end))
            .collect();
        let known = |name: &String| readers.iter().any(|reader| reader.name == *name);
        let gone: Vec<_> = rows.into_iter().map(|row| row.name).filter(|name| !known(name)).collect();
        for name in &gone {
            log::warn!("subscriber {name} is configured no more: its position and backlog are forgotten");
        }
        let empty = store.outbox(0, 1)?.is_empty();
        let unsaved = !gone.is_empty() || !empty || readers.iter().any(|reader| reader.unsaved);
        let outbox = Self {
            readers,
            gone,
            end,
            pruned_through: if empty { end } else { 0 },
            unsaved: Vec::new(),
            save_at: unsaved.then(Instant::now),
            metrics: Arc::clone(metrics),
            given_up_log: Storm::every(COMPLAIN_EVERY),
        };
        outbox.count(store)?;
        for (reader, meter) in outbox.readers.iter().zip(metrics.subscribers()) {
            if let Some(reason) = reader.disabled_because() {
                let (name, pending) = (&reader.name, meter.pending.get());
                log::error!(
                    "subscriber {name} is disabled since its endpoint said it is gone ({reason}): \
                     {pending} outcomes wait until its URL is changed or it is removed"
                );
                meter.disabled.set(Some(reason.to_owned()));
            }
        }
        Ok(outbox)
    }

    /// Counts what each subscriber has yet to hear of, in one walk.
    fn count(&self, store: &Store) -> Result<(), StoreError> {
        let Some(mut after) = self.readers.iter().map(|reader| reader.position).min() else { return Ok(()) };
        loop {
            let rows = store.outbox(after, PRUNE_ROWS)?;
            for row in &rows {
                for (reader, meter) in self.readers.iter().zip(self.metrics.subscribers()) {
                    meter.pending.add(u64::from(reader.position < row.position && reader.wants(row)));
                }
            }
            match rows.last() {
                Some(last) if rows.len() == PRUNE_ROWS => after = last.position,
                _ => return Ok(()),
            }
        }
    }

    /// How long the keeper may sleep as far as the outbox is concerned.
    pub(super) fn wait(&self) -> Duration {
        if (0..self.readers.len()).any(|number| self.is_to_serve(number)) {
            return SEARCH_AGAIN;
        }
        self.save_at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether something has waited long enough for a commit.
    pub(super) fn is_due(&self) -> bool {
        self.save_at.is_some_and(|at| at <= Instant::now() || self.unsaved.len() >= UNSAVED_MAX)
    }

    /// Whether something waits for a commit.
    pub(super) fn has_unsaved(&self) -> bool {
        self.save_at.is_some()
    }

    /// Whether any subscriber has outcomes to come.
    pub(super) fn has_backlog(&self) -> bool {
        self.metrics.subscribers().iter().any(|meter| meter.pending.get() > 0)
    }

    /// The acceptances that are not in the store yet are not audited: there is no room for them.
    pub(super) fn forget_unsaved(&mut self) {
        self.unsaved.clear();
    }

    /// A commit failed; it is tried again later.
    pub(super) fn postpone(&mut self) {
        self.save_at = Some(Instant::now() + SAVE_WITHIN);
    }

    /// Writes into a transaction what `settlements` give subscribers to hear of, and all that waits to be written.
    pub(super) fn write(
        &self,
        batch: &mut Batch<'_>,
        settlements: &[Settlement],
    ) -> Result<Written, StoreError> {
        let mut written = Written { published: [0; 3], end: self.end, pruned_through: self.pruned_through };
        for Settlement { stored, verdict, .. } in settlements {
            let severity = stored.event.severity;
            let wanted = self.readers.iter().any(|reader| reader.wants[severity as usize]);
            if wanted && *verdict == Verdict::Delivered {
                written.end += 1;
                written.published[severity as usize] += 1;
                let event = stored.event.id;
                batch.publish(OutboxRow { position: written.end, event, severity: Some(severity) })?;
            }
        }
        for reader in self.readers.iter().filter(|reader| reader.unsaved) {
            batch.put_subscriber(&reader.row(reader.position))?;
        }
        self.gone.iter().try_for_each(|name| batch.remove_subscriber(name))?;
        self.unsaved.iter().try_for_each(|step| batch.step(step))?;
        let through = self.readers.iter().map(|reader| reader.position).min().unwrap_or(self.end);
        if through > self.pruned_through && batch.prune_outbox(through, PRUNE_ROWS)? < PRUNE_ROWS {
            written.pruned_through = through;
        }
        Ok(written)
    }

    /// What was written is committed.
    pub(super) fn committed(&mut self, written: &Written) {
        self.end = written.end;
        self.pruned_through = written.pruned_through;
        self.gone.clear();
        self.unsaved.clear();
        for (reader, meter) in self.readers.iter_mut().zip(self.metrics.subscribers()) {
            reader.unsaved = false;
            let new = written.published.iter().zip(reader.wants).filter(|(_, wants)| *wants);
            meter.pending.add(new.map(|(count, _)| count).sum());
            reader.skip_to_end(meter, written.end);
        }
        let through = self.readers.iter().map(|reader| reader.position).min().unwrap_or(self.end);
        self.save_at = None;
        if through > self.pruned_through {
            self.postpone();
        }
    }

    /// Does what a subscriber asks; questions are answered by [`Outbox::serve`].
    pub(super) fn obey(&mut self, order: OutboxOrder) {
        match order {
            OutboxOrder::Read { subscriber, limit, reply } => {
                // The end of a dropped channel tells a disabled subscriber that there is nothing to come.
                let reader = self.readers.get_mut(subscriber).filter(|reader| reader.disabled.is_none());
                if let Some(reader) = reader {
                    reader.asking = Some((limit, reply));
                }
            }
            OutboxOrder::Advance { subscriber, accepted } => self.advance(subscriber, &accepted),
            OutboxOrder::Disable { subscriber, reason } => {
                let Some(reader) = self.readers.get_mut(subscriber) else { return };
                reader.disabled = Some(format!("{} {reason}", reader.fingerprint));
                reader.asking = None;
                reader.unsaved = true;
                self.metrics.subscribers()[subscriber].disabled.set(Some(reason));
                self.save_at = Some(Instant::now());
            }
        }
    }

    fn advance(&mut self, subscriber: usize, accepted: &[Accepted]) {
        let Some(reader) = self.readers.get_mut(subscriber) else { return };
        let meter = &self.metrics.subscribers()[subscriber];
        meter.delivered.add(accepted.len() as u64);
        // What was given up meanwhile is off the books, and its event perhaps gone.
        let counted = accepted.partition_point(|each| each.position <= reader.position);
        let Some(last) = accepted[counted..].last() else { return };
        meter.pending.sub((accepted.len() - counted) as u64);
        self.unsaved.extend(accepted[counted..].iter().map(|each| Step {
            event: each.event,
            at_ms: clock::now_ms(),
            kind: StepKind::Published,
            attempt: None,
            status: None,
            latency_ms: None,
            note: Some(reader.name.clone()),
        }));
        reader.position = last.position;
        reader.unsaved = true;
        reader.skip_to_end(meter, self.end);
        self.save_at.get_or_insert(Instant::now() + SAVE_WITHIN);
    }

    fn is_to_serve(&self, number: usize) -> bool {
        let (reader, meter) = (&self.readers[number], &self.metrics.subscribers()[number]);
        reader.asking.is_some() && meter.pending.get() > 0 && self.unsaved.len() < UNSAVED_MAX
    }

    /// Answers every subscriber that asks and has something to come.
    pub(super) fn serve(&mut self, store: &Store) -> Result<(), StoreError> {
        for number in 0..self.readers.len() {
            if self.is_to_serve(number)
                && let Some((limit, _)) = self.readers[number].asking
            {
                let entries =
                    self.readers[number].entries(store, limit, &self.metrics.subscribers()[number])?;
                if !entries.is_empty()
                    && let Some((_, reply)) = self.readers[number].asking.take()
                {
                    // Nobody there any more: it asks again when it comes back.
                    let _ = reply.try_send(entries);
                }
            }
        }
        Ok(())
    }

    /// The store is full and history has nothing to give: gives up the oldest outcomes of whoever lags most, with
    /// their events. Gives whether anything went.
    pub(super) fn give_up(&mut self, store: &mut Store) -> Result<bool, StoreError> {
        let meters = Arc::clone(&self.metrics);
        let lagging =
            self.readers.iter().zip(meters.subscribers()).filter(|(_, meter)| meter.pending.get() > 0);
        let Some(lowest) = lagging.map(|(reader, _)| reader.position).min() else { return Ok(false) };
        // Whoever is further on keeps what is its own.
        let next =
            self.readers.iter().map(|reader| reader.position).filter(|position| *position > lowest).min();
        let mut rows = store.outbox(lowest, GIVE_UP_ROWS)?;
        rows.retain(|row| row.position <= next.unwrap_or(u64::MAX));
        let Some(through) = rows.last().map(|row| row.position) else { return Ok(false) };
        let written = store.transact(Sync::Later, |batch| {
            let written = self.write(batch, &[])?;
            for reader in self.readers.iter().filter(|reader| reader.position < through) {
                batch.put_subscriber(&reader.row(through))?;
            }
            batch.forget_outbox(through, 2 * GIVE_UP_ROWS)?;
            Ok(written)
        })?;
        self.committed(&written);
        for (reader, meter) in self.readers.iter_mut().zip(meters.subscribers()) {
            if reader.position < through {
                reader.position = through;
                let lost = rows.iter().filter(|row| reader.wants(row)).count() as u64;
                meter.pending.sub(lost);
                meter.dropped.add(lost);
                let (name, pending, dropped) = (&reader.name, meter.pending.get(), meter.dropped.get());
                self.given_up_log.log(|more| {
                    log::error!(
                        "the store is at store.max_size and subscriber {name} lags: its oldest outcomes are given \
                         up, {dropped} since the start, {pending} still wait{more}"
                    );
                });
            }
        }
        Ok(true)
    }
}

impl Keeper {
    /// Writes what subscribers accepted if it has waited long enough, and answers those that ask.
    pub(super) fn tend_outbox(&mut self) {
        if self.lost.is_none() && self.outbox.is_due() {
            self.save_outbox();
        }
        if self.lost.is_none() {
            let result = self.outbox.serve(&self.store);
            self.survive(result);
        }
    }

    pub(super) fn save_outbox(&mut self) {
        match self.store.transact(Sync::Later, |batch| self.outbox.write(batch, &[])) {
            Ok(written) => {
                self.outbox.committed(&written);
                self.housekeeping.note_commit(Sync::Later);
            }
            Err(error) => {
                self.outbox.postpone();
                if matches!(error, StoreError::Full) {
                    self.write_in_need(Vec::new());
                } else {
                    self.survive(Err(error));
                }
            }
        }
    }
}
