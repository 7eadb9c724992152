//! The assembly: builds the channels, starts the rooms, stops them in order. The only file that knows who is next
//! door.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::bus::Bus;
use crate::config::Config;
use crate::cxone::Cxone;
use crate::dispatch::{self, Control, Dispatch, lanes};
use crate::error::Error;
use crate::event::{Outcome, Severity};
use crate::flow::Order;
use crate::health::Health;
use crate::intake::{Intake, listener};
use crate::keeper::{self, Keeper};
use crate::logging;
use crate::metrics::Metrics;
use crate::rooms::{self, Failed};
use crate::store::{Class, Store};
use crate::worker::Worker;

/// Submissions that may wait for the keeper; more are answered 503.
const SUBMISSIONS_MAX: usize = 1024;
/// Orders that may wait for the keeper.
const ORDERS_MAX: usize = 1024;

/// A running daemon. Embedders start it, subscribe to it and shut it down; so does `dispod serve`.
pub struct Daemon {
    intake: Option<Intake>,
    control: Sender<Control>,
    orders: Option<Sender<Order>>,
    keeper: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
    cxone: Arc<Cxone>,
    bus: Arc<Bus>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    failures: Receiver<String>,
    grace: Duration,
}

impl Daemon {
    /// Starts everything: recovers the store, binds the listeners, takes events from then on.
    ///
    /// # Errors
    /// The store cannot be used or is held by another process, a listener cannot be bound, a thread cannot be had.
    pub fn start(config: Config) -> Result<Self, Error> {
        let (report_failure, failures) = bounded::<String>(16);
        let failed: Failed = Arc::new(move |why| {
            let _ = report_failure.try_send(why);
        });
        let health = Arc::new(Health::default());
        let metrics = Arc::new(Metrics::default());
        let bus = Arc::new(Bus::default());
        let store = Store::open(&config.store)?;
        let listener = listener::Bound::bind(&config.webhook)?;

        let queue = config.delivery.queue;
        let workers = config.delivery.workers;
        let (submit, submissions) = bounded(SUBMISSIONS_MAX);
        let (order, orders) = bounded(ORDERS_MAX);
        // Beside the kept events the channel takes every answer dispatch can be waiting for.
        let answers_max = workers + lanes::LOADS_MAX + 2 * Class::ALL.len();
        let (notify, notices) = bounded(queue + answers_max);
        let (send_job, jobs) = bounded(queue);
        let (send_report, reports) = bounded(workers);
        let (control, controls) = bounded(4);

        let channels = keeper::Channels { submissions, orders, notices: notify, notices_kept_max: queue };
        let keeper = Keeper::new(
            store,
            config.store.clone(),
            Arc::new(config.mapping.clone()),
            channels,
            Arc::clone(&health),
            Arc::clone(&metrics),
        )
        .map_err(|error| Error::failed(format!("the store cannot be used: {error}")))?;
        let keeper = start_keeper(keeper, &failed)?;

        let cxone = Arc::new(Cxone::new(config.cxone.clone(), workers, Arc::clone(&metrics)));
        let mut others = start_log_subscribers(&bus, &failed)?;
        let channels =
            dispatch::Channels { notices, orders: order.clone(), jobs: send_job, reports, control: controls };
        let dispatch = Dispatch::new(config.delivery.clone(), channels, Arc::clone(&health), Arc::clone(&metrics));
        others.push(rooms::start("dispatch", &failed, move || dispatch.run())?);
        let worker = Worker {
            jobs,
            reports: send_report,
            cxone: Arc::clone(&cxone),
            bus: Arc::clone(&bus),
            metrics: Arc::clone(&metrics),
        };
        for number in 1..=workers {
            let worker = worker.clone();
            others.push(rooms::start(&format!("worker-{number}"), &failed, move || worker.run())?);
        }
        let keep = Arc::new(move |submission| {
            submit.try_send(submission).map_err(crossbeam_channel::TrySendError::into_inner)
        });
        let intake =
            Intake::start(listener, &config.webhook, keep, Arc::clone(&health), Arc::clone(&metrics), failed)?;
        Ok(Self {
            intake: Some(intake),
            control,
            orders: Some(order),
            keeper: Some(keeper),
            others,
            cxone,
            bus,
            health,
            metrics,
            failures,
            grace: config.delivery.shutdown_grace,
        })
    }

    /// The address call results are posted to; `None` on a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.intake.as_ref().and_then(Intake::local_addr)
    }

    /// Outcomes of a severity from now on, on a channel of [`crate::bus::CAPACITY`]; when it is full, outcomes are
    /// dropped for this subscriber alone, counted and logged.
    #[must_use]
    pub fn subscribe(&self, severity: Severity) -> Receiver<Outcome> {
        self.bus.subscribe(format!("channel-{severity}"), severity)
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Receives the reason when the daemon cannot go on and must be shut down.
    #[must_use]
    pub fn failures(&self) -> &Receiver<String> {
        &self.failures
    }

    /// Uses another configuration's mapping, secrets and credentials from now on. The rest of it needs a restart.
    pub fn reload(&self, config: Config) {
        if let Some(intake) = &self.intake {
            intake.replace_secrets(config.webhook.secrets);
        }
        self.cxone.replace_credentials(&config.cxone);
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order::Remap(Arc::new(config.mapping)));
        }
        let _ = self.control.try_send(Control::Nudge);
    }

    /// Stops in order: no more events are taken, what is out is finished within `delivery.shutdown_grace`, what
    /// remains is pending and resumes at the next start.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.health.set_stopping();
        let deadline = Instant::now() + self.grace;
        if let Some(intake) = &self.intake {
            intake.stop_taking();
        }
        let _ = self.control.send(Control::Stop(deadline));
        self.orders = None;
        if let Some(intake) = self.intake.take() {
            intake.stop();
        }
        // Its last order sender is dispatch's: it ends when nothing is left to settle.
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        self.bus.close();
        // A worker may still be in a call that outlives the grace; its event is pending and will be repeated.
        for thread in self.others.drain(..) {
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.stop();
        }
    }
}

fn start_keeper(keeper: Keeper, failed: &Failed) -> Result<JoinHandle<()>, Error> {
    let report = Arc::clone(failed);
    rooms::start("keeper", failed, move || {
        if let Err(why) = keeper.run() {
            log::error!("{why}");
            report(why);
        }
    })
}

/// The tutorial's two subscribers: a log line for each critical and each medium outcome.
fn start_log_subscribers(bus: &Bus, failed: &Failed) -> Result<Vec<JoinHandle<()>>, Error> {
    [(Severity::Critical, "CRITICAL"), (Severity::Medium, "MEDIUM")]
        .into_iter()
        .map(|(severity, word)| {
            let name = format!("log-{severity}");
            let outcomes = bus.subscribe(&name, severity);
            rooms::start(&name, failed, move || {
                for Outcome { contact_id, category, timestamp, .. } in outcomes {
                    let contact = logging::contact(&contact_id);
                    log::info!("{word} WORKFLOW TRIGGERED: Contact {contact} categorized as {category} at {timestamp}");
                }
            })
        })
        .collect()
}
