//! The engine: everything between a submission and its contact's update. No listener, no signal, no command.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::bus::Bus;
use crate::config::Config;
use crate::cxone::Cxone;
use crate::dispatch::{self, Control, Dispatch, lanes};
use crate::error::Error;
use crate::event::{Outcome, Severity};
use crate::flow::Order;
use crate::handover;
use crate::health::Health;
use crate::keep::Submission;
use crate::keeper::{self, Keeper};
use crate::logging;
use crate::metrics::Metrics;
use crate::rooms::{self, Failed};
use crate::store::{Class, Store};
use crate::worker::Worker;

/// Submissions that may wait for the keeper; more are given back.
const SUBMISSIONS_MAX: usize = 1024;
/// Orders that may wait for the keeper.
const ORDERS_MAX: usize = 1024;

/// A built-in subscriber that is done pauses so long, so that under load it is woken for several lines and not for
/// each. Its channel takes [`crate::bus::CAPACITY`] of them meanwhile.
const LOG_PAUSE: Duration = Duration::from_millis(1);
/// Between looks at whether what is out is finished.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The running rooms: keeper, dispatch, workers, and the built-in subscribers.
pub struct Engine {
    submit: Sender<Submission>,
    orders: Sender<Order>,
    control: Sender<Control>,
    keeper: JoinHandle<()>,
    dispatch: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    cxone: Arc<Cxone>,
    bus: Arc<Bus>,
    grace: Duration,
}

impl Engine {
    /// Starts delivering what is pending in `store`, and keeping what is submitted.
    ///
    /// # Errors
    /// The store cannot be used, or a thread cannot be had.
    pub fn start(
        config: &Config,
        store: Store,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
        failed: &Failed,
    ) -> Result<Self, Error> {
        let (queue, workers) = (config.delivery.queue, config.delivery.workers);
        let (submit, submissions) = bounded(SUBMISSIONS_MAX);
        let (order, orders) = bounded(ORDERS_MAX);
        // Beside the kept events the channel takes every answer dispatch can be waiting for.
        let answers_max = workers + lanes::LOADS_MAX + 2 * Class::ALL.len();
        let (notify, notices) = bounded(queue + answers_max);
        let (give_job, jobs) = handover::way(queue, workers);
        let (send_report, reports) = bounded(workers);
        let (control, controls) = bounded(4);

        let channels = keeper::Channels { submissions, orders, notices: notify, notices_kept_max: queue };
        let (to_keeper, counts) = (Arc::clone(health), Arc::clone(metrics));
        let keeper = Keeper::new(store, config, channels, to_keeper, counts, failed)?;
        let keeper = start_keeper(keeper, failed)?;

        let bus = Arc::new(Bus::default());
        let cxone = Arc::new(Cxone::new(config.cxone.clone(), Arc::clone(metrics)));
        let mut others = start_log_subscribers(&bus, failed)?;
        let channels =
            dispatch::Channels { notices, orders: order.clone(), jobs: give_job, reports, control: controls };
        let dispatch =
            Dispatch::new(config.delivery.clone(), channels, Arc::clone(health), Arc::clone(metrics));
        let dispatch = rooms::start("dispatch", failed, move || dispatch.run())?;
        let worker = Worker {
            jobs,
            reports: send_report,
            cxone: Arc::clone(&cxone),
            bus: Arc::clone(&bus),
            metrics: Arc::clone(metrics),
        };
        for number in 1..=workers {
            let worker = worker.clone();
            others.push(rooms::start(&format!("worker-{number}"), failed, move || worker.run())?);
        }
        let grace = config.delivery.shutdown_grace;
        Ok(Self { submit, orders: order, control, keeper, dispatch, others, cxone, bus, grace })
    }

    /// Where submissions go.
    #[must_use]
    pub fn submissions(&self) -> &Sender<Submission> {
        &self.submit
    }

    /// Where orders to the keeper go.
    #[must_use]
    pub fn orders(&self) -> &Sender<Order> {
        &self.orders
    }

    /// The in-process subscribers.
    #[must_use]
    pub fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// The Contact API.
    #[must_use]
    pub fn cxone(&self) -> &Arc<Cxone> {
        &self.cxone
    }

    /// Uses another configuration's mapping and credentials from now on.
    pub fn reload(&self, config: &Config) {
        self.cxone.replace_credentials(&config.cxone);
        let _ = self.orders.send(Order::Remap(Arc::new(config.mapping.clone())));
        let _ = self.control.try_send(Control::Nudge);
    }

    /// Releases no more events from now on; what is out has `delivery.shutdown_grace` to finish.
    pub fn wind_down(&self) {
        let _ = self.control.send(Control::Stop(Instant::now() + self.grace));
    }

    /// Waits until what is out is finished, at most until then; to be called after [`Engine::wind_down`].
    pub fn wait_wound_down(&self, deadline: Instant) {
        while !self.dispatch.is_finished() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until what is out is finished and written, or the grace is over. Every other holder of
    /// [`Engine::orders`] must have let go.
    pub fn stop(self) {
        let Self { submit, orders, control, keeper, dispatch, others, bus, .. } = self;
        // Its last order sender is dispatch's: it ends when nothing is left to settle.
        drop((submit, orders, control));
        let _ = keeper.join();
        bus.close();
        // A worker may still be in a call that outlives the grace; its event is pending and will be repeated.
        for thread in others.into_iter().chain([dispatch]).filter(JoinHandle::is_finished) {
            let _ = thread.join();
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
                for Outcome { contact_id, category, timestamp, .. } in &outcomes {
                    let contact = logging::contact(&contact_id);
                    log::info!("{word} WORKFLOW TRIGGERED: Contact {contact} categorized as {category} at {timestamp}");
                    if outcomes.is_empty() {
                        std::thread::sleep(LOG_PAUSE);
                    }
                }
            })
        })
        .collect()
}
