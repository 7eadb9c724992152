//! The bus: delivered outcomes to whoever listens inside the process, by severity.
//!
//! Every subscriber and severity has a bounded channel; a full one drops for that subscriber alone, counted and
//! logged. Who must not miss anything is a durable subscriber and reads the store instead.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::event::{Outcome, Severity};
use crate::metrics::Counter;
use crate::storm::Storm;

/// Outcomes a subscriber may be behind (contract section 7).
pub const CAPACITY: usize = 100;

/// The subscribers, by severity.
#[derive(Default)]
pub struct Bus {
    subscribers: RwLock<Vec<Subscriber>>,
    subscribed: Counter,
}

struct Subscriber {
    number: u64,
    name: String,
    severity: Severity,
    channel: Sender<Outcome>,
    dropped: Counter,
    storm: Storm,
}

impl Bus {
    /// Subscribes `name` to a severity; dropping the receiver ends it.
    pub fn subscribe(&self, name: impl Into<String>, severity: Severity) -> Receiver<Outcome> {
        let (channel, receiver) = bounded(CAPACITY);
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        self.subscribed.inc();
        subscribers.push(Subscriber {
            number: self.subscribed.get(),
            name: name.into(),
            severity,
            channel,
            dropped: Counter::default(),
            storm: Storm::every(Duration::from_secs(1)),
        });
        receiver
    }

    /// Whether anybody listens to a severity.
    #[must_use]
    pub fn is_heard(&self, severity: Severity) -> bool {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        subscribers.iter().any(|subscriber| subscriber.severity == severity)
    }

    /// Publishes an outcome to the subscribers of its severity, without waiting for any of them.
    pub fn publish(&self, outcome: &Outcome) {
        let mut gone = Vec::new();
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.severity == outcome.severity) {
            match subscriber.channel.try_send(outcome.clone()) {
                Ok(()) => {}
                Err(TrySendError::Disconnected(_)) => gone.push(subscriber.number),
                Err(TrySendError::Full(_)) => {
                    subscriber.dropped.inc();
                    let (name, severity) = (&subscriber.name, subscriber.severity);
                    subscriber.storm.log(|more| {
                        log::warn!(
                            "subscriber {name}: channel full for severity {severity}, outcome dropped{more}"
                        );
                    });
                }
            }
        }
        drop(subscribers);
        if !gone.is_empty() {
            let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
            subscribers.retain(|subscriber| !gone.contains(&subscriber.number));
        }
    }

    /// How many outcomes each subscriber was too slow for.
    pub fn dropped(&self) -> Vec<(String, u64)> {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        subscribers.iter().map(|subscriber| (subscriber.name.clone(), subscriber.dropped.get())).collect()
    }

    /// Ends every subscription: the receivers see the end after what is queued.
    pub fn close(&self) {
        self.subscribers.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
