//! The assembly: the engine, and the listeners around it. Starts them, reloads them, stops them in order.

use std::mem::discriminant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::admin::{Admin, Sources};
use crate::clock;
use crate::config::{Config, CxoneConfig};
use crate::disposition::Mapping;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{Outcome, Severity};
use crate::flow::Order;
use crate::health::Health;
use crate::intake::Intake;
use crate::listener::{Bound, HandedOver};
use crate::metrics::{Metrics, SubscriberMeter, SubscriberStatus};
use crate::rooms::Failed;
use crate::store::Store;
use crate::subscribers::Subscribers;

/// Permissions of the admin listener's Unix socket: whoever may open it may retry and drop dead letters.
const ADMIN_SOCKET_MODE: u32 = 0o600;
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
    subscribers: Subscribers,
    /// As it was at the start.
    config: Config,
    intake: Intake,
    admin: Option<Admin>,
}

impl Daemon {
    /// Starts everything: recovers the store, binds the listeners, takes events from then on.
    ///
    /// # Errors
    /// The store cannot be used or is held by another process, a listener cannot be bound, a thread cannot be had.
    pub fn start(config: &Config) -> Result<Self, Error> {
        let started_ms = clock::now_ms();
        let (report, failures) = bounded::<String>(FAILURES_MAX);
        let failed: Failed = Arc::new(move |why| {
            let _ = report.try_send(why);
        });
        let health = Arc::new(Health::default());
        let metrics = Arc::new(Metrics::default());
        let store = Store::open(&config.store)?;
        let handed_over = HandedOver::take()?;
        let webhook = match handed_over.webhook {
            Some(listener) => listener,
            None => Bound::bind(&config.webhook.listen, config.webhook.socket_mode)?,
        };
        let admin = match (handed_over.admin, &config.admin.listen) {
            (Some(listener), _) => Some(listener),
            (None, Some(listen)) => Some(Bound::bind(listen, ADMIN_SOCKET_MODE)?),
            (None, None) => None,
        };
        let webhook_address = format!("{webhook}{}", config.webhook.path);
        let store_id = store.store_id().to_owned();
        let engine = Engine::start(config, store, &health, &metrics, &failed)?;
        let subscribers = Subscribers::start(config, &store_id, engine.orders(), &metrics, &failed)?;
        let submit = engine.submissions().clone();
        let keep = Arc::new(move |submission| {
            submit.try_send(submission).map_err(crossbeam_channel::TrySendError::into_inner)
        });
        let intake = Intake::start(
            webhook,
            &config.webhook,
            keep,
            Arc::clone(&health),
            Arc::clone(&metrics),
            Arc::clone(&failed),
        )?;
        log::info!(
            "dispod {}, {} events pending in {}",
            env!("CARGO_PKG_VERSION"),
            metrics.events_pending.get(),
            config.store.dir.display()
        );
        log::info!("webhook listening on {webhook_address}");
        let sources = Sources {
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            bus: Arc::clone(engine.bus()),
            cxone: Arc::clone(engine.cxone()),
            orders: engine.orders().clone(),
            store_dir: config.store.dir.clone(),
            webhook_address,
            started_ms,
        };
        let admin = admin.map(|listener| Admin::start(listener, sources, failed)).transpose()?;
        let parts = Parts { engine, subscribers, config: config.clone(), intake, admin };
        Ok(Self { parts: Some(parts), health, metrics, failures })
    }

    fn parts(&self) -> Option<&Parts> {
        self.parts.as_ref()
    }

    /// The address call results are posted to; `None` on a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.parts().and_then(|parts| parts.intake.local_addr())
    }

    /// The address of the admin listener; `None` when it is off or a Unix socket.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.parts().and_then(|parts| parts.admin.as_ref()).and_then(Admin::local_addr)
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

    /// How the durable subscribers are doing.
    #[must_use]
    pub fn subscribers(&self) -> Vec<SubscriberStatus> {
        self.metrics.subscribers().iter().map(SubscriberMeter::status).collect()
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

    /// Uses another configuration's mapping, secrets and credentials from now on, or none of it. The rest of it needs a
    /// restart.
    ///
    /// # Errors
    /// The secrets or credentials are for another kind of proof than the one in force.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        let Some(parts) = self.parts() else { return Ok(()) };
        let running = &parts.config;
        let takes_a_restart =
            |what: &str| Error::config(format!("{what} has changed, and that takes a restart"));
        if config.webhook.auth != running.webhook.auth {
            return Err(takes_a_restart("webhook.auth"));
        }
        if discriminant(&config.cxone.grant) != discriminant(&running.cxone.grant) {
            return Err(takes_a_restart("cxone.grant"));
        }
        if rest_of(config) != rest_of(running) {
            log::warn!("what has changed beside dispositions, severities and secrets takes a restart");
        }
        parts.intake.replace_secrets(config.webhook.secrets.clone());
        parts.engine.reload(config);
        parts.subscribers.reload(&config.subscribers);
        Ok(())
    }

    /// Stops in order: no more events are taken, what is out is finished within `delivery.shutdown_grace`, what
    /// remains is pending and resumes at the next start. Dropping the daemon does the same.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(Parts { engine, subscribers, config, intake, admin }) = self.parts.take() else { return };
        let deadline = Instant::now() + config.delivery.shutdown_grace;
        // From here on senders are told 503.
        self.health.set_stopping();
        if intake.is_handed_over() {
            // Better than a 503: who connects now waits for our successor.
            intake.stop_taking();
        }
        log::info!("stopping");
        engine.wind_down();
        subscribers.wind_down();
        engine.wait_wound_down(deadline);
        intake.stop();
        subscribers.stop(deadline);
        // Until now, so that an operator can watch the stop.
        if let Some(admin) = admin {
            admin.stop();
        }
        engine.stop();
        log::info!("stopped, {} events are pending", self.metrics.events_pending.get());
    }
}

/// What a reload leaves as it is.
fn rest_of(config: &Config) -> Config {
    let mut rest = config.clone();
    rest.mapping = Mapping::default();
    rest.webhook.secrets.clear();
    let none = CxoneConfig::default();
    rest.cxone = CxoneConfig {
        client_id: none.client_id,
        client_secret: none.client_secret,
        grant: none.grant,
        ..rest.cxone
    };
    // Their own reload says what of them takes a restart.
    rest.subscribers.clear();
    rest
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
