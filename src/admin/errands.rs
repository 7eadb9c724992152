//! What needs the store or the keeper: done by one thread, in order, so that nobody else waits for a disk.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::letters::{Audit, Effect, Letter, Letters};
use super::trend::{MINUTE_MS, Totals, Trend};
use super::{RETRY_AFTER_S, busy, json, plain};
use crate::audit::Mappings;
use crate::clock;
use crate::flow::{Operated, Operation, Order};
use crate::http::{Reply, Responder};
use crate::metrics::Metrics;
use crate::store::{History, State, StoreError};

/// How long the keeper may take for a change.
const KEEPER_WAIT: Duration = Duration::from_secs(10);
/// How long one request may search; it is told where to go on.
const SEARCH_WAIT: Duration = Duration::from_millis(400);
/// Steps shown of one event.
const STEPS_MAX: usize = 200;

/// Something to be looked up or changed.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// Dead letters behind an id.
    Letters { after: u64, limit: usize },
    /// One dead letter.
    Letter(u64),
    /// A contact's events below an id.
    Audit { contact_id: String, below: Option<u64>, limit: usize },
    /// A change to dead letters.
    Operate(Operation),
}

/// A request for it.
pub(super) struct Errand {
    pub what: What,
    pub responder: Responder,
}

/// What the thread owns.
pub(super) struct Clerk {
    pub queue: Receiver<Errand>,
    /// Ends when the thread has to.
    pub end: Receiver<()>,
    pub orders: Sender<Order>,
    pub store_dir: PathBuf,
    pub metrics: Arc<Metrics>,
    pub trend: Arc<Mutex<Trend>>,
}

impl Clerk {
    /// Runs errands, and once a minute closes a minute of the last hour.
    pub(super) fn run(self) {
        loop {
            select! {
                recv(self.queue) -> errand => match errand {
                    Ok(Errand { what, responder }) => responder.send(plain(self.run_errand(what))),
                    Err(_) => return,
                },
                recv(self.end) -> _ => return,
                default(until_next_minute(clock::now_ms())) => {}
            }
            let totals = Totals::of(&self.metrics);
            self.trend.lock().unwrap_or_else(PoisonError::into_inner).roll(&totals, clock::now_ms());
        }
    }

    fn run_errand(&self, what: What) -> Reply {
        match what {
            What::Letters { after, limit } => self.read(|history| {
                let rows = history.dead(after, limit)?;
                let full = rows.len() == limit;
                Ok(json(&Letters::new(rows, full)))
            }),
            What::Letter(id) => self.read(|history| {
                let dead = history.event(id)?.filter(|row| match row {
                    Ok(stored) => stored.state == State::Dead,
                    Err(_) => true,
                });
                Ok(dead.map_or_else(|| no_such_letter(id), |row| json(&Letter::new(row))))
            }),
            What::Audit { contact_id, below, limit } => self.read(|history| {
                let page = history.of_contact(&contact_id, below, limit, SEARCH_WAIT)?;
                let id = |row: &Result<_, u64>| match row {
                    Ok(crate::store::StoredEvent { event, .. }) => event.id,
                    Err(id) => *id,
                };
                let steps = page.events.iter().map(|row| history.last_steps(id(row), STEPS_MAX));
                let steps = steps.collect::<Result<Vec<_>, _>>()?;
                Ok(json(&Audit::new(contact_id.clone(), page, steps, &mut Mappings::new(history))?))
            }),
            What::Operate(operation) => self.operate(&operation),
        }
    }

    /// Opens the store for one errand: between them nothing is held.
    fn read(&self, look: impl FnOnce(&History) -> Result<Reply, StoreError>) -> Reply {
        match History::open(&self.store_dir) {
            Ok(history) => look(&history).unwrap_or_else(|error| cannot(&format!("the store is {error}"))),
            Err(error) => cannot(&error.to_string()),
        }
    }

    fn operate(&self, operation: &Operation) -> Reply {
        let (answer, answers) = bounded(1);
        if self.orders.try_send(Order::Operate(operation.clone(), answer)).is_err() {
            return busy();
        }
        let operated = select! {
            recv(answers) -> operated => operated,
            recv(self.end) -> _ => return busy(),
            default(KEEPER_WAIT) => return cannot("the keeper does not answer; the change may still be made"),
        };
        match operated {
            Ok(Ok(operated)) => done(operation, &operated),
            Ok(Err(why)) => cannot(&why),
            Err(_) => busy(),
        }
    }
}

fn done(operation: &Operation, operated: &Operated) -> Reply {
    let count = operated.done.len();
    let one = operated.done.first().or(operated.not_done.first()).copied().unwrap_or(0);
    match operation {
        Operation::Retry(_) | Operation::Drop(_) if count == 0 => return no_such_letter(one),
        Operation::Retry(_) => log::info!("admin: dead letter {one} is pending again"),
        Operation::Drop(_) => log::info!("admin: dead letter {one} was given up"),
        Operation::RetryAll { .. } => log::info!("admin: {count} dead letters are pending again"),
        Operation::DropAll { .. } => log::info!("admin: {count} dead letters were given up"),
    }
    json(&Effect::from(operated))
}

fn no_such_letter(id: u64) -> Reply {
    Reply::with_text(404, format!("{id} is no dead letter, or its content cannot be trusted"))
}

fn cannot(why: &str) -> Reply {
    Reply::with_text(503, why.to_owned()).retry_after(RETRY_AFTER_S)
}

fn until_next_minute(now_ms: i64) -> Duration {
    Duration::from_millis((MINUTE_MS - now_ms.rem_euclid(MINUTE_MS)).cast_unsigned())
}
