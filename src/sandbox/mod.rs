//! A stand-in CXone: token endpoint and Contact API over real HTTP, for tests, trials and measurements.
//!
//! It is strict: a header, body or form field that differs from contract section 7 is refused with words that say
//! what differs. It can be slow, limited, failing or away, by chance or by script, and it counts everything it sees,
//! so that a test can prove what a client did and did not do.
//!
//! | request | does |
//! |---|---|
//! | `POST /oauth/token` | issues a token |
//! | `PATCH /api/v2/contacts/{id}` | updates a contact; any id is known |
//! | `GET /_contacts`, `GET /_contacts/{id}` | what it holds |
//! | `GET /_stats` | what it has seen: [`Stats`] |
//! | `POST /_revoke` | makes every token issued so far worthless |
//! | `POST /_script` | `{"contact":"1","replies":[{"status":429,"retry_after":1},401,"cut","normal"]}`: the next answers for one contact |
//! | `POST /_behaviour` | `{"latency":"0ms-50ms","rate_limit":"200/s","outage":"hang"}`: changes [`Behaviour`]; what is absent stays |
//!
//! Of several reasons not to update, the first holds: a violation of the contract (400), the contact's script, an
//! outage, the rate limit (429), the token (401), chance.
//!
//! An update is committed at the end of its latency and is out of flight before its answer leaves, so two updates of
//! one contact in flight at once are the client's doing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod answer;
mod contact;
mod control;
mod cut;
mod ledger;
mod limit;
mod options;
pub mod parse;
mod server;
mod token;

pub use ledger::{
    CONTACTS_MAX, Contact, Custom, HISTORY_MAX, HISTORY_TOTAL_MAX, SCRIPTS_MAX, Stats, Update, VIOLATIONS_MAX,
};
pub use options::{
    Behaviour, ExpiresIn, Faults, LATENCY_MAX, LimitStyle, RateLimit, Reply, RetryAfter, SandboxOptions,
    THREADS_MAX,
};

use crate::error::Error;
use server::{Door, Shared};

/// A running stand-in CXone. Dropping it stops it.
pub struct Sandbox {
    shared: Arc<Shared>,
    local: SocketAddr,
    door: Option<Door>,
}

impl Sandbox {
    /// Binds, starts the threads, serves.
    ///
    /// # Errors
    /// An option out of range, an address that cannot be bound, threads that cannot be had.
    pub fn start(options: SandboxOptions) -> Result<Self, Error> {
        options.check()?;
        let shared = Arc::new(Shared::new(options));
        let door = Door::open(&shared, shared.options.listen)?;
        Ok(Self { local: door.local(), door: Some(door), shared })
    }

    /// Where it listens, with the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The value for `cxone.base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/api/v2", server::reachable(self.local))
    }

    /// The value for `cxone.token_url`.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}{}", server::reachable(self.local), token::PATH)
    }

    /// Makes every token issued so far worthless: calls with it are answered 401.
    pub fn revoke(&self) {
        self.shared.revoke();
    }

    /// Changes how it behaves from the next request on; calls being worked on are not affected.
    ///
    /// # Errors
    /// The outcome is out of range; the behaviour stays as it was.
    pub fn set_behaviour(&self, change: impl FnOnce(&mut Behaviour)) -> Result<(), Error> {
        self.shared.set_behaviour(change)
    }

    /// Adds to what the next calls for one contact get, one reply each.
    ///
    /// # Errors
    /// More than [`SCRIPTS_MAX`], or a status that is none.
    pub fn script(&self, contact_id: &str, replies: &[Reply]) -> Result<(), Error> {
        control::add_script(&self.shared, contact_id, replies)
    }

    /// What it holds of one contact; `None` if it was never called for it.
    #[must_use]
    pub fn contact(&self, contact_id: &str) -> Option<Contact> {
        self.shared.ledger().contact(contact_id)
    }

    /// What it holds, by contact id.
    #[must_use]
    pub fn contacts(&self) -> BTreeMap<String, Contact> {
        self.shared.ledger().contacts()
    }

    /// What it has seen so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.ledger().stats.clone()
    }

    /// Waits until `condition` holds of what it has seen; gives whether it came to hold within `timeout`.
    #[must_use = "false: the condition does not hold"]
    pub fn wait_until(&self, mut condition: impl FnMut(&Stats) -> bool, timeout: Duration) -> bool {
        self.shared.wait(timeout, |ledger| condition(&ledger.stats))
    }

    /// Goes away as a crashed server does: connections end, further ones are refused. What it holds stays.
    pub fn suspend(&mut self) {
        if let Some(door) = self.door.take() {
            door.close();
        }
    }

    /// Comes back at the same address after [`Sandbox::suspend`]; does nothing if it is there.
    ///
    /// # Errors
    /// Another process took the port meanwhile.
    pub fn resume(&mut self) -> Result<(), Error> {
        if self.door.is_none() {
            self.door = Some(Door::open(&self.shared, self.local)?);
        }
        Ok(())
    }

    /// Stops it: connections end, calls being worked on are not committed, threads are joined.
    pub fn stop(mut self) {
        self.suspend();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.suspend();
    }
}
