//! Writing a batch, and telling everybody what came of it.

use std::time::{Duration, Instant};

use crate::clock;
use crate::disposition::Mapping;
use crate::event::KeptEvent;
use crate::flow::{Notice, Settlement};
use crate::keep::{Receipt, Submission};
use crate::store::{Batch, Class, Kept, NewEvent, State, StoreError, Sync};
use crate::verdict::Verdict;

use super::outbox::Written;
use super::{Keeper, RETRY_AFTER_S};

/// Most bytes kept of the answer that killed an event when there is hardly any room.
const ANSWER_IN_NEED_BYTES: usize = 100;

/// What gives way, one after the other, so that settlements can be written.
#[derive(Debug, Clone, Copy)]
enum Relief {
    /// The oldest history; or the reserve, when it is the disk that is full.
    Room,
    /// What the settlements would add to the audit.
    Audit,
    /// `store.max_size`.
    Limit,
}

impl Keeper {
    /// Writes a batch. When there is no room, the settlements go without the submissions.
    pub(super) fn commit(&mut self, mut submissions: Vec<Submission>, mut settlements: Vec<Settlement>) {
        if self.in_need {
            self.in_need = !self.store.has_room().unwrap_or(false);
            settlements.iter_mut().for_each(slim);
        }
        if !submissions.is_empty() && !self.room() {
            refuse(&mut submissions);
            if settlements.is_empty() {
                return;
            }
        }
        match self.write(&submissions, &settlements) {
            Ok(kept) => {
                self.answer(submissions, kept);
                self.settled(settlements);
            }
            Err(StoreError::Full) => {
                self.health.set_backlog_full(true);
                let kept_nothing = submissions.is_empty();
                refuse(&mut submissions);
                if kept_nothing {
                    self.write_in_need(settlements);
                } else {
                    let way = self.housekeeping.make_way(&mut self.store);
                    self.survive(way);
                    self.commit(submissions, settlements);
                }
            }
            Err(StoreError::Damaged(_)) if self.store.mend() => self.commit(submissions, settlements),
            Err(error) => {
                self.held = settlements;
                // First, so that who was refused finds `/healthz` in agreement.
                self.survive(Err(error));
                refuse(&mut submissions);
            }
        }
    }

    fn write(
        &mut self,
        submissions: &[Submission],
        settlements: &[Settlement],
    ) -> Result<Vec<Kept>, StoreError> {
        let sync = if submissions.is_empty() { Sync::Later } else { Sync::Now };
        let started = Instant::now();
        let dedupe_since_s = (clock::now_ms() - clock::millis(self.config.dedupe_window)) / 1000;
        let (mapping, number) = (&self.mapping, self.mapping_number);
        let (kept, published): (_, Written) = self.store.transact(sync, |batch| {
            settlements.iter().try_for_each(|settlement| settle(batch, settlement))?;
            let published = self.outbox.write(batch, settlements)?;
            let kept = submissions
                .iter()
                .map(|submission| keep(batch, submission, mapping, number, dedupe_since_s))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((kept, published))
        })?;
        self.outbox.committed(&published);
        self.metrics.store_commit.observe(started.elapsed());
        self.housekeeping.note_commit(sync);
        Ok(kept)
    }

    /// Writes what cannot be put off although there is no room for it. Only a disk that is full to the last byte
    /// can refuse it; then it is held and tried again.
    pub(super) fn write_in_need(&mut self, mut settlements: Vec<Settlement>) {
        let mut result = Err(StoreError::Full);
        for relief in [Relief::Room, Relief::Audit, Relief::Limit] {
            let relieved = match relief {
                Relief::Room => self.housekeeping.make_way(&mut self.store),
                Relief::Audit => {
                    self.housekeeping
                        .complain("the store is full: retries are not audited until there is room");
                    self.in_need = true;
                    settlements.iter_mut().for_each(slim);
                    self.outbox.forget_unsaved();
                    Ok(())
                }
                Relief::Limit => self.store.raise_limit(),
            };
            result = relieved.and_then(|()| self.write(&[], &settlements)).map(|_| ());
            if !matches!(result, Err(StoreError::Full)) {
                break;
            }
        }
        if result.is_ok() {
            self.settled(settlements);
            self.room();
        } else {
            self.held = settlements;
        }
        self.survive(result);
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
        // Before the first reply, so that who has a 200 finds its event among the pending.
        let count = kept.iter().filter(|kept| matches!(kept, Kept::New(_))).count();
        self.metrics.events_pending.add(count as u64);
        self.housekeeping.note_kept(count);
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
        for event in new {
            self.tell_kept(event);
        }
    }

    pub(super) fn tell_kept(&mut self, event: KeptEvent) {
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
    pub(super) fn tell(&mut self, notice: Notice) {
        if let Err(crossbeam_channel::TrySendError::Full(_)) = self.notices.try_send(notice) {
            self.lost = Some("the channel to dispatch overflowed its reserve".to_owned());
        }
    }

    fn settled(&mut self, settlements: Vec<Settlement>) {
        if settlements.is_empty() {
            return;
        }
        let mut ids = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let StoreEventEnd { id, ended, dead } = StoreEventEnd::of(&settlement);
            ids.push(id);
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
        }
        self.tell(Notice::Settled(ids));
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

pub(super) fn refuse(submissions: &mut Vec<Submission>) {
    for submission in submissions.drain(..) {
        (submission.reply)(Receipt::NotKept { retry_after_s: RETRY_AFTER_S });
    }
}

/// Leaves of a settlement what cannot be left out.
fn slim(settlement: &mut Settlement) {
    settlement.steps.clear();
    if let Some(answer) = &mut settlement.stored.settled.answer {
        let end =
            (0..=ANSWER_IN_NEED_BYTES.min(answer.len())).rev().find(|end| answer.is_char_boundary(*end));
        answer.truncate(end.unwrap_or(0));
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
        batch.duplicate(id, submission.received_ms)?;
    }
    Ok(kept)
}
