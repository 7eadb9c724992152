//! Orders that read, or that an operator gave.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::Keeper;
use crate::clock;
use crate::disposition::Mapping;
use crate::event::KeptEvent;
use crate::flow::{Notice, Operated, Operation, Order};
use crate::store::{BacklogRow, Batch, Class, StoreError, Sync};

/// Most dead letters one operation touches in one transaction.
const OPERATION_MAX: usize = 256;

impl Keeper {
    pub(super) fn obey(&mut self, order: Order) {
        if self.lost.is_some() {
            return;
        }
        let result = match order {
            Order::LoadClass { class, after_place, limit } => {
                let result = self.load_class(class, after_place, limit);
                self.unless_put_off(result, order)
            }
            Order::LoadLane { ref contact_id, limit } => {
                let result = self.load_lane(contact_id, limit);
                self.unless_put_off(result, order)
            }
            Order::Settle(_) | Order::Remap(_) => Ok(()),
            Order::Outbox(order) => {
                self.outbox.obey(order);
                Ok(())
            }
            Order::Operate(operation, reply) => self.operate(&operation, &reply),
            Order::Probe(reply) => {
                let result = self.store.transact(Sync::Now, |_| Ok(()));
                let _ = reply.send(result.is_ok());
                result
            }
        };
        self.survive(result);
    }

    fn load_class(&mut self, class: Class, after_place: u64, limit: usize) -> Result<(), StoreError> {
        let (events, full) = loop {
            let rows = self.store.pending(class, after_place, limit)?;
            let full = rows.len() == limit;
            let events = self.bury(rows)?;
            // Of a part that was all damaged nothing is pending any more: the next one comes in its place.
            if !full || !events.is_empty() {
                break (events, full);
            }
        };
        let continue_after = if full { events.last().map(|event| event.place) } else { None };
        self.housekeeping.set_behind(class, false);
        self.tell(Notice::Backlog { class, events, continue_after });
        Ok(())
    }

    fn load_lane(&mut self, contact_id: &Arc<str>, limit: usize) -> Result<(), StoreError> {
        let (events, more) = loop {
            let rows = self.store.lane(contact_id, limit)?;
            let more = rows.len() == limit;
            let events = self.bury(rows)?;
            if !more || !events.is_empty() {
                break (events, more);
            }
        };
        self.tell(Notice::Lane { contact_id: Arc::clone(contact_id), events, more });
        Ok(())
    }

    /// A question that time can answer is put off: dispatch asks it only once.
    fn unless_put_off(&mut self, result: Result<(), StoreError>, question: Order) -> Result<(), StoreError> {
        if matches!(result, Err(StoreError::Full | StoreError::Busy)) {
            self.put_off.push(question);
        }
        result
    }

    /// Maps with this from now on. A store that is merely full changes nothing about that, as at the start: events
    /// kept later then refer to no recorded mapping.
    pub(super) fn remap(&mut self, mapping: Arc<Mapping>) {
        let recorded =
            self.store.transact(Sync::Now, |batch| batch.record_mapping(&mapping, clock::now_ms()));
        let (number, result) = match recorded {
            Ok(number) => (number, Ok(())),
            Err(error) => (0, Err(error)),
        };
        self.mapping = mapping;
        self.mapping_number = number;
        self.survive(result);
    }

    /// Puts the damaged rows among the dead and gives the sound ones.
    fn bury(&mut self, rows: Vec<BacklogRow>) -> Result<Vec<KeptEvent>, StoreError> {
        let damaged: Vec<u64> = rows.iter().filter_map(|row| row.as_ref().err().copied()).collect();
        if !damaged.is_empty() {
            self.store.bury_corrupt(&damaged, clock::now_ms())?;
            self.metrics.events_pending.sub(damaged.len() as u64);
            self.metrics.events_dead.add(damaged.len() as u64);
        }
        Ok(rows.into_iter().filter_map(Result::ok).collect())
    }

    fn operate(
        &mut self,
        operation: &Operation,
        reply: &Sender<Result<Operated, String>>,
    ) -> Result<(), StoreError> {
        let result = self.store.transact(Sync::Now, |batch| operate(batch, operation, clock::now_ms()));
        match result {
            Ok((operated, revived)) => {
                self.metrics.events_dead.sub(operated.done.len() as u64);
                self.metrics.events_pending.add(revived.len() as u64);
                for event in revived {
                    self.tell_kept(event);
                }
                let _ = reply.send(Ok(operated));
                Ok(())
            }
            Err(error) => {
                let _ = reply.send(Err(format!("the store could not be changed: {error}")));
                Err(error)
            }
        }
    }
}

/// Does `operation` in the transaction; gives what was done and the events that are pending again. The same code
/// serves the daemon and a command run while it is stopped.
///
/// # Errors
/// [`StoreError`]
pub fn operate(
    batch: &mut Batch<'_>,
    operation: &Operation,
    now_ms: i64,
) -> Result<(Operated, Vec<KeptEvent>), StoreError> {
    let all = |after_id: u64| batch.dead_ids(after_id, OPERATION_MAX);
    let (ids, retry, of_all) = match operation {
        Operation::Retry(ids) => (ids.clone(), true, false),
        Operation::Drop(ids) => (ids.clone(), false, false),
        Operation::RetryAll { after_id } => (all(*after_id)?, true, true),
        Operation::DropAll { after_id } => (all(*after_id)?, false, true),
    };
    let mut operated = Operated::default();
    let mut revived = Vec::new();
    if of_all && ids.len() == OPERATION_MAX {
        operated.continue_after = ids.last().copied();
    }
    for id in ids {
        let done = if retry {
            let event = batch.revive(id, now_ms)?;
            let done = event.is_some();
            revived.extend(event);
            done
        } else {
            batch.drop_dead(id, now_ms)?
        };
        if done { operated.done.push(id) } else { operated.not_done.push(id) }
    }
    Ok((operated, revived))
}
