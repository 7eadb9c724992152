//! The assembly: the engine, and the listeners around it. Starts them, reloads them, stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::config::Config;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{Outcome, Severity};
use crate::flow::Order;
use crate::health::Health;
use crate::intake::Intake;
use crate::listener::{Bound, HandedOver};
use crate::metrics::Metrics;
use crate::rooms::Failed;
use crate::store::Store;

/// Reasons to end that may wait to be read; one is enough.
const FAILURES_MAX: usize = 16;

/// A running daemon. Embedders start it, subscribe to it and shut it down; so does `dispod serve`.
pub struct Daemon {
    parts: Option<Parts>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    failures: Receiver<String>,
}

struct Parts {
    engine: Engine,
    intake: Intake,
}

impl Daemon {
    /// Starts everything: recovers the store, binds the listeners, takes events from then on.
    ///
    /// # Errors
    /// The store cannot be used or is held by another process, a listener cannot be bound, a thread cannot be had.
    pub fn start(config: &Config) -> Result<Self, Error> {
        let (report, failures) = bounded::<String>(FAILURES_MAX);
        let failed: Failed = Arc::new(move |why| {
            let _ = report.try_send(why);
        });
        let health = Arc::new(Health::default());
        let metrics = Arc::new(Metrics::default());
        let store = Store::open(&config.store)?;
        let listener = match HandedOver::take()?.webhook {
            Some(listener) => listener,
            None => Bound::bind(&config.webhook.listen, config.webhook.socket_mode)?,
        };
        let webhook_address = listener.to_string();
        let engine = Engine::start(config, store, &health, &metrics, &failed)?;
        let submit = engine.submissions().clone();
        #[expect(clippy::result_large_err, reason = "a submission that finds no room goes back whole")]
        let keep = Arc::new(move |submission| {
            submit.try_send(submission).map_err(crossbeam_channel::TrySendError::into_inner)
        });
        let intake = Intake::start(
            listener,
            &config.webhook,
            keep,
            Arc::clone(&health),
            Arc::clone(&metrics),
            failed,
        )?;
        log::info!("webhook listening on {webhook_address}{}", config.webhook.path);
        Ok(Self { parts: Some(Parts { engine, intake }), health, metrics, failures })
    }

    fn parts(&self) -> Option<&Parts> {
        self.parts.as_ref()
    }

    /// The address call results are posted to; `None` on a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.parts().and_then(|parts| parts.intake.local_addr())
    }

    /// Outcomes of a severity from now on, on a channel of [`crate::bus::CAPACITY`]; when it is full, outcomes are
    /// dropped for this subscriber alone, counted and logged. The channel ends with the daemon.
    #[must_use]
    pub fn subscribe(&self, severity: Severity) -> Receiver<Outcome> {
        match self.parts() {
            Some(parts) => parts.engine.bus().subscribe(format!("channel-{severity}"), severity),
            None => crossbeam_channel::never(),
        }
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

    /// Whether a request comes through the listener and a question through the keeper within `timeout`: the
    /// watchdog's probe, end to end. What the answers say does not matter here, a full store is alive.
    #[must_use]
    pub fn is_alive(&self, timeout: Duration) -> bool {
        let Some(parts) = self.parts() else { return false };
        let (answer, answered) = bounded(1);
        parts.engine.orders().send_timeout(Order::Probe(answer), timeout).is_ok()
            && answered.recv_timeout(timeout).is_ok()
            && parts.intake.probe(timeout).is_ok()
    }

    /// Uses another configuration's mapping, secrets and credentials from now on. The rest of it needs a restart.
    pub fn reload(&self, config: &Config) {
        if let Some(parts) = self.parts() {
            parts.intake.replace_secrets(config.webhook.secrets.clone());
            parts.engine.reload(config);
        }
    }

    /// Stops in order: no more events are taken, what is out is finished within `delivery.shutdown_grace`, what
    /// remains is pending and resumes at the next start. Dropping the daemon does the same.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(Parts { engine, intake }) = self.parts.take() else { return };
        self.health.set_stopping();
        intake.stop_taking();
        engine.wind_down();
        intake.stop();
        engine.stop();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
