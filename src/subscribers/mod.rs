//! Durable subscribers, `[[subscribers]]` (contract section 7): each hears of every delivered outcome of its
//! severities at least once, in order, and none delays another or the deliveries.
//!
//! Each is a thread with a position in the store. It asks the keeper for what comes next, hands it over, and says
//! how far it came; a target that fails is tried again until it accepts, however long that takes.

mod file;
mod room;
mod webhook;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::config::{Config, DeliveryConfig, SubscriberConfig, SubscriberTarget};
use crate::error::Error;
use crate::flow::{Order, OutboxEntry};
use crate::metrics::Metrics;
use crate::rooms::{self, Failed};

use file::FileTarget;
use room::{Logs, Room};
use webhook::WebhookTarget;

/// Where outcomes go.
trait Target: Send {
    /// Hands over the first of `entries`, one or more.
    fn deliver(&mut self, entries: &[OutboxEntry]) -> Delivery;

    /// Uses another configuration's secret from now on, or opens its file again. The error is in words.
    fn renew(&mut self, fresh: &SubscriberTarget) -> Result<(), String>;

    /// Finds out early whether it is there, where that costs nobody anything. The error is in words.
    fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// What came of [`Target::deliver`].
enum Delivery {
    /// The first so many are accepted for good.
    Accepted(usize),
    /// Not accepted; to be tried again.
    Again {
        /// In words.
        why: String,
        /// Not before so long, if the target said so.
        after: Option<Duration>,
    },
    /// The target wants to hear of nothing any more, in its words.
    Gone(String),
}

/// How long to wait between tries.
#[derive(Clone, Copy)]
struct Backoff {
    base: Duration,
    max: Duration,
}

/// A way to the keeper that can be closed under its holder's feet: a call that outlives the grace must not keep the
/// keeper from ending.
struct Line(Mutex<Option<Sender<Order>>>);

impl Line {
    /// Sends; gives whether there is still a keeper.
    fn send(&self, order: Order) -> bool {
        let orders = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        orders.is_some_and(|orders| orders.send(order).is_ok())
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What a running subscriber is told.
struct Told {
    /// Its target in a newer configuration, until it has looked.
    fresh: Mutex<Option<SubscriberTarget>>,
    stopping: AtomicBool,
}

/// One that runs.
struct Running {
    config: SubscriberConfig,
    told: Arc<Told>,
    nudge: Sender<()>,
    line: Arc<Line>,
}

/// The running subscribers.
pub struct Subscribers {
    running: Vec<Running>,
    /// Ends when the last of them has ended.
    ended: Receiver<()>,
}

impl Subscribers {
    /// Starts every configured subscriber. `store_id` names the store in the ids of messages.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub fn start(
        config: &Config,
        store_id: &str,
        orders: &Sender<Order>,
        metrics: &Arc<Metrics>,
        failed: &Failed,
    ) -> Result<Self, Error> {
        let DeliveryConfig { backoff_base: base, backoff_max: max, .. } = config.delivery;
        let (end, ended) = bounded::<()>(0);
        let mut running = Vec::with_capacity(config.subscribers.len());
        for (number, config) in config.subscribers.iter().enumerate() {
            let (nudge, nudged) = bounded(1);
            let told = Arc::new(Told { fresh: Mutex::new(None), stopping: AtomicBool::new(false) });
            let line = Arc::new(Line(Mutex::new(Some(orders.clone()))));
            let target: Box<dyn Target> = match &config.target {
                SubscriberTarget::Webhook { url, secret } => {
                    Box::new(WebhookTarget::new(url, secret.as_ref(), store_id))
                }
                SubscriberTarget::File(path) => Box::new(FileTarget::new(path)),
            };
            let room = Room {
                number,
                name: config.name.clone(),
                target,
                backoff: Backoff { base, max },
                line: Arc::clone(&line),
                told: Arc::clone(&told),
                nudged,
                metrics: Arc::clone(metrics),
                failures: 0,
                failing: false,
                logs: Logs::default(),
            };
            let end = end.clone();
            rooms::start(&format!("sub-{}", config.name), failed, move || {
                room.run();
                drop(end);
            })?;
            running.push(Running { config: config.clone(), told, nudge, line });
        }
        Ok(Self { running, ended })
    }

    /// Uses the secrets of another configuration from now on, opens every file again, and tries at once what is
    /// waiting. What else differs needs a restart.
    pub fn reload(&self, fresh: &[SubscriberConfig]) {
        for Running { config, told, nudge, .. } in &self.running {
            let Some(found) = fresh.iter().find(|other| other.name == config.name) else { continue };
            *told.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.target.clone());
            let _ = nudge.try_send(());
        }
        let same = fresh.len() == self.running.len()
            && fresh.iter().zip(&self.running).all(|(fresh, Running { config, .. })| is_same(fresh, config));
        if !same {
            log::warn!("[[subscribers]] changed in more than secrets: that takes a restart");
        }
    }

    /// Asks every subscriber to hand over nothing more.
    pub fn wind_down(&self) {
        for Running { told, nudge, .. } in &self.running {
            told.stopping.store(true, Relaxed);
            let _ = nudge.try_send(());
        }
    }

    /// Waits until what is being handed over is through, at most until `deadline`; what is not is handed over again
    /// after the next start. No subscriber holds a way to the keeper afterwards.
    pub fn stop(self, deadline: Instant) {
        self.wind_down();
        // Nothing is ever sent: it disconnects when the last holder ends.
        if self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
            log::warn!("a subscriber did not answer within the grace: its outcome is handed over again");
        }
        for Running { line, .. } in self.running {
            line.close();
        }
    }
}

/// Whether two entries differ in nothing but the secret.
fn is_same(one: &SubscriberConfig, other: &SubscriberConfig) -> bool {
    let place = |config: &SubscriberConfig| match &config.target {
        SubscriberTarget::Webhook { url, .. } => (true, url.clone()),
        SubscriberTarget::File(path) => (false, path.to_string_lossy().into_owned()),
    };
    one.name == other.name && one.severities == other.severities && place(one) == place(other)
}
