//! The demo's world: the stand-in CXone, the daemon and its throw-away store, all on loopback.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::verify::{Kept, Reply};
use crate::config::{Config, CxoneConfig, Listen, Secret};
use crate::daemon::Daemon;
use crate::error::Error;
use crate::event::{Outcome, Severity};
use crate::sandbox::{Behaviour, Sandbox, SandboxOptions};
use crate::store::{Filter, History, State, StoreError};

/// Ports tried first when the demo goes on serving: the daemon's defaults and the sandbox's.
const WEBHOOK_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9090;
const SANDBOX_PORT: u16 = 8090;
/// How long the stand-in CXone takes for an update.
const LATENCY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));
/// Backoff of the demo: short, so that nobody waits for a retry to be shown.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(80), Duration::from_secs(1));
/// Nothing the demo waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end waits for what is out.
const GRACE: Duration = Duration::from_secs(2);
/// How often the store is looked at while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Everything that runs. Dropping it stops it and removes the store.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    pub(super) history: History,
    pub(super) sandbox: Sandbox,
    outcomes: [Receiver<Outcome>; Severity::ALL.len()],
    signals: Receiver<i32>,
    admin: SocketAddr,
    agent: ureq::Agent,
    _dir: ThrowAway,
}

/// Why a wait ended early.
pub(super) enum Ended {
    /// Ctrl-C or SIGTERM.
    Signal,
    /// The daemon cannot go on, in words.
    Failure(String),
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Signal => Self::failed("interrupted"),
            Ended::Failure(why) => Self::failed(why),
        }
    }
}

impl Stage {
    /// Starts everything; on free ports only, or on the ports users know where they are free.
    pub(super) fn set(free_ports: bool) -> Result<Self, Error> {
        // Before there is anything to clean up after.
        let signals = signals()?;
        let port = |known| if free_ports { 0 } else { free_or_any(known) };
        let dir = ThrowAway::new()?;
        let sandbox = Sandbox::start(SandboxOptions {
            listen: local(port(SANDBOX_PORT)),
            behaviour: Behaviour { latency: LATENCY.0..=LATENCY.1, ..Behaviour::default() },
            ..SandboxOptions::default()
        })?;
        let admin = local(port(ADMIN_PORT));
        let config = config(&sandbox, dir.path(), local(port(WEBHOOK_PORT)), admin);
        let daemon = Daemon::start(&config)?;
        let outcomes = Severity::ALL.map(|severity| daemon.subscribe(severity));
        let history = History::open(dir.path())?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Ok(Self { daemon, history, sandbox, outcomes, signals, admin, agent, _dir: dir })
    }

    /// Where call results go.
    pub(super) fn webhook_url(&self) -> String {
        let path = crate::config::WebhookConfig::default().path;
        self.daemon.local_addr().map_or_else(String::new, |address| format!("http://{address}{path}"))
    }

    /// The admin page, if the daemon answers there.
    pub(super) fn admin_url(&self) -> Option<String> {
        let there = self.admin.port() != 0 && TcpStream::connect(self.admin).is_ok();
        there.then(|| format!("http://{}/", self.admin))
    }

    /// Posts a body to the webhook.
    pub(super) fn post(&self, body: &str) -> Result<Reply, Error> {
        let failed =
            |error: ureq::Error| Error::failed(format!("posting to {}: {error}", self.webhook_url()));
        let request = self.agent.post(self.webhook_url()).header("Content-Type", "application/json");
        let mut response = request.send(body).map_err(failed)?;
        let body = response.body_mut().read_to_string().map_err(failed)?;
        Ok(Reply { status: response.status().as_u16(), body })
    }

    /// The event of a contact with this code, with its story; `None` if none was kept.
    pub(super) fn find(&self, contact: &str, code: &str) -> Result<Option<Kept>, Error> {
        let filter = Filter { contact_id: Some(contact.to_owned()), ..Filter::default() };
        let mut id = None;
        let search = self.history.events(&filter, |stored| {
            if let Ok(stored) = stored
                && stored.event.call.disposition_code() == code
            {
                id = Some(stored.event.id);
            }
            true
        });
        search.map_err(|error| unreadable(&error))?;
        match id {
            Some(id) => self.kept(id),
            None => Ok(None),
        }
    }

    /// The event with this id, with its story.
    pub(super) fn kept(&self, id: u64) -> Result<Option<Kept>, Error> {
        let read = || -> Result<Option<Kept>, StoreError> {
            let Some(Ok(stored)) = self.history.event(id)? else { return Ok(None) };
            Ok(Some(Kept { stored, steps: self.history.steps(id)? }))
        };
        read().map_err(|error| unreadable(&error))
    }

    /// Waits until the event of a contact with this code is settled; gives it as it is after [`PATIENCE`] at last.
    pub(super) fn settled(&self, contact: &str, code: &str) -> Result<Option<Kept>, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let kept = self.find(contact, code)?;
            let settled = kept.as_ref().is_some_and(|kept| kept.stored.state != State::Pending);
            if settled || Instant::now() >= deadline {
                return Ok(kept);
            }
            self.pause(LOOK_EVERY)?;
        }
    }

    /// The outcomes published so far; waits until there are `expected` of them, up to [`PATIENCE`].
    pub(super) fn published(&self, expected: usize) -> Result<Vec<Outcome>, Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        loop {
            all.extend(self.outcomes.iter().flat_map(Receiver::try_iter));
            if all.len() >= expected || Instant::now() >= deadline {
                return Ok(all);
            }
            self.pause(LOOK_EVERY)?;
        }
    }

    /// Waits; ends early when the user or the daemon ends it.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Ended> {
        select! {
            recv(self.signals) -> _ => Err(Ended::Signal),
            recv(self.daemon.failures()) -> why => {
                Err(Ended::Failure(why.unwrap_or_else(|_| "the daemon ended".to_owned())))
            }
            default(time) => Ok(()),
        }
    }
}

pub(super) fn unreadable(error: &StoreError) -> Error {
    Error::failed(format!("cannot read the demo's store: {error}"))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// This port if nobody has it, else one that is free now.
fn free_or_any(port: u16) -> u16 {
    let bound = TcpListener::bind(local(port)).or_else(|_| TcpListener::bind(local(0)));
    bound.and_then(|listener| listener.local_addr()).map_or(0, |address| address.port())
}

/// Nothing of the user's own configuration or environment.
fn config(sandbox: &Sandbox, dir: &Path, webhook: SocketAddr, admin: SocketAddr) -> Config {
    let options = SandboxOptions::default();
    let client_id = Secret::new(options.client_id.as_str());
    let mut cxone = CxoneConfig::new("sandbox.invalid", client_id, options.client_secret);
    cxone.base_url = sandbox.base_url();
    cxone.token_url = sandbox.token_url();
    let mut config = Config { cxone, ..Config::default() };
    config.webhook.listen = Listen::Tcp(webhook);
    config.admin.listen = Some(Listen::Tcp(admin));
    dir.clone_into(&mut config.store.dir);
    (config.delivery.backoff_base, config.delivery.backoff_max) = BACKOFF;
    config.delivery.shutdown_grace = GRACE;
    config
}

fn signals() -> Result<Receiver<i32>, Error> {
    let cannot = |error: std::io::Error| Error::failed(format!("cannot listen for signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(cannot)?;
    let (send, receive) = bounded(1);
    let listen = move || {
        for signal in signals.forever() {
            let _ = send.try_send(signal);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(cannot)?;
    Ok(receive)
}

/// A directory of our own that is removed on drop.
struct ThrowAway(PathBuf);

impl ThrowAway {
    fn new() -> Result<Self, Error> {
        let name = format!("dispod-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        // An empty directory tree has no /tmp yet.
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        created.map_err(|error| Error::failed(format!("cannot create {}: {error}", path.display())))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
