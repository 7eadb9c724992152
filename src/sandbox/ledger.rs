//! What the sandbox holds and has seen: contacts, counts, scripts. Bounded whatever comes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::limit::Limiter;
use super::options::{Behaviour, Reply, RetryAfter};

/// Most contacts held; an update of one more is answered 507.
pub const CONTACTS_MAX: usize = 1_000_000;
/// Most updates remembered of one contact; the counts stay exact beyond it.
pub const HISTORY_MAX: usize = 1000;
/// Most updates remembered of all contacts together.
pub const HISTORY_TOTAL_MAX: usize = 2_000_000;
/// Most contacts with a script, and most replies in one.
pub const SCRIPTS_MAX: usize = 10_000;
/// Most violations of the contract remembered in words; the count stays exact beyond it.
pub const VIOLATIONS_MAX: usize = 100;

/// What the sandbox has seen since it started. Control requests (`/_...`) are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Contact updates that arrived, whatever became of them.
    pub calls: u64,
    /// Answers to them by status.
    pub answers: BTreeMap<u16, u64>,
    /// Calls that got no whole answer: hung, cut or reset.
    pub unanswered: u64,
    /// Updates committed.
    pub updates: u64,
    /// Contacts held.
    pub contacts: usize,
    /// Calls being worked on now; a hung one is not.
    pub in_flight: u32,
    /// The most there ever were.
    pub max_in_flight: u32,
    /// The most there ever were of one contact; above 1 the order of its updates was left to chance.
    pub max_in_flight_per_contact: u32,
    /// Distinct remote ports that calls came from: the connections opened, unless a port was used again.
    pub connections: u32,
    /// Calls that arrived after an answer with `Retry-After` had been sent and before its time was up. Calls
    /// that were on their way when that answer was sent are among them; see `early_after_ms_max`.
    pub early_calls: u64,
    /// How long after the first of those answers the latest early call arrived, at most, in milliseconds.
    pub early_after_ms_max: u64,
    /// Requests, also for tokens, that differ from the contract and were refused for it.
    pub violations: u64,
    /// What the latest of them were, in words.
    pub violation_texts: VecDeque<String>,
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// Answers to them by status.
    pub token_answers: BTreeMap<u16, u64>,
    /// Tokens issued.
    pub tokens_issued: u64,
    /// Calls of [`super::Sandbox::revoke`].
    pub revocations: u64,
}

/// The two custom attributes of contract section 7.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// The category.
    pub disposition_category: String,
    /// `[timestamp] Disposition CODE mapped to CATEGORY`
    pub last_audit_log: String,
}

/// One committed update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Update {
    /// Its place among all updates of all contacts, from 1.
    pub number: u64,
    /// What it set.
    pub custom: Custom,
}

/// What the sandbox holds of one contact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// Its custom attributes; `None` before the first update.
    pub custom: Option<Custom>,
    /// Updates committed.
    pub updates: u64,
    /// The most calls for it that were ever being worked on at once.
    pub max_in_flight: u32,
    /// The latest updates, oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<Update>,
}

/// A contact as it is stored: one allocation an update, taken apart only when somebody looks.
#[derive(Debug, Default)]
struct Held {
    updates: u64,
    in_flight: u32,
    max_in_flight: u32,
    history: VecDeque<(u64, Box<str>)>,
}

/// Everything behind the sandbox's one lock.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) stats: Stats,
    held: HashMap<Box<str>, Held>,
    history_total: usize,
    scripts: HashMap<String, VecDeque<Reply>>,
    limiter: Option<Limiter>,
    ports: Ports,
    told: Option<Told>,
    /// How many threads wait for a change.
    pub(super) watchers: usize,
}

/// The time for which callers were told to stay away.
#[derive(Debug, Clone, Copy)]
struct Told {
    since: Instant,
    until: Instant,
}

impl Ledger {
    /// Counts a call from `port` that differs from the contract and is answered 400.
    pub(super) fn refuse(&mut self, port: u16, why: String) {
        self.stats.calls += 1;
        self.stats.connections += u32::from(self.ports.insert(port));
        *self.stats.answers.entry(400).or_default() += 1;
        self.violation(why);
    }

    /// Counts a request to the token endpoint; `status` is that of its answer, if it gets a whole one.
    pub(super) fn token_answered(&mut self, status: Option<u16>) {
        self.stats.token_requests += 1;
        if let Some(status) = status {
            *self.stats.token_answers.entry(status).or_default() += 1;
        }
    }

    /// Counts an update that arrived at `now` from `port`, and says what to do with it.
    pub(super) fn arrive(&mut self, id: &str, port: u16, now: Instant, behaviour: &Behaviour) -> Reply {
        self.stats.calls += 1;
        self.stats.in_flight += 1;
        self.stats.max_in_flight = self.stats.max_in_flight.max(self.stats.in_flight);
        self.stats.connections += u32::from(self.ports.insert(port));
        if let Some(told) = self.told.filter(|told| (told.since..told.until).contains(&now)) {
            self.stats.early_calls += 1;
            let after_ms = u64::try_from((now - told.since).as_millis()).unwrap_or(u64::MAX);
            self.stats.early_after_ms_max = self.stats.early_after_ms_max.max(after_ms);
        }
        if !self.held.contains_key(id) {
            if self.held.len() >= CONTACTS_MAX {
                return Reply::Status(507);
            }
            self.held.insert(id.into(), Held::default());
            self.stats.contacts += 1;
        }
        if let Some(held) = self.held.get_mut(id) {
            held.in_flight += 1;
            held.max_in_flight = held.max_in_flight.max(held.in_flight);
            self.stats.max_in_flight_per_contact =
                self.stats.max_in_flight_per_contact.max(held.max_in_flight);
        }
        self.plan(id, now, behaviour)
    }

    fn plan(&mut self, id: &str, now: Instant, behaviour: &Behaviour) -> Reply {
        if !self.scripts.is_empty()
            && let Some(replies) = self.scripts.get_mut(id)
            && let Some(reply) = replies.pop_front()
        {
            if replies.is_empty() {
                self.scripts.remove(id);
            }
            return reply;
        }
        if behaviour.outage != Reply::Normal {
            return behaviour.outage;
        }
        if let Some(limit) = behaviour.rate_limit
            && !self.limiter.get_or_insert_with(|| Limiter::new(limit, now)).allow(now)
        {
            return Reply::RetryLater(429, limit.retry_after);
        }
        Reply::Normal
    }

    /// Counts the end of what [`Ledger::arrive`] began. `custom` is committed if given; `status` is that of the
    /// answer about to be sent, `None` if there will be no whole one.
    pub(super) fn settle(&mut self, id: &str, custom: Option<&str>, status: Option<u16>) {
        self.stats.in_flight -= 1;
        match status {
            Some(status) => *self.stats.answers.entry(status).or_default() += 1,
            None => self.stats.unanswered += 1,
        }
        let Some(held) = self.held.get_mut(id) else { return };
        held.in_flight -= 1;
        let Some(custom) = custom else { return };
        held.updates += 1;
        self.stats.updates += 1;
        if held.history.len() >= HISTORY_MAX || self.history_total >= HISTORY_TOTAL_MAX {
            // The latest update is always held, even when its contact has nothing older to give up.
            self.history_total -= usize::from(held.history.pop_front().is_some());
        }
        held.history.push_back((self.stats.updates, custom.into()));
        self.history_total += 1;
    }

    /// Remembers that an answer sent at `now` told callers to stay away.
    pub(super) fn tell(&mut self, retry_after: RetryAfter, now: Instant) {
        let (RetryAfter::Seconds(wait_s) | RetryAfter::Date(wait_s)) = retry_after else { return };
        let until = now + Duration::from_secs(wait_s.into());
        match &mut self.told {
            Some(told) if now < told.until => told.until = told.until.max(until),
            told => *told = Some(Told { since: now, until }),
        }
    }

    pub(super) fn violation(&mut self, text: String) {
        self.stats.violations += 1;
        if self.stats.violation_texts.len() >= VIOLATIONS_MAX {
            self.stats.violation_texts.pop_front();
        }
        self.stats.violation_texts.push_back(text);
    }

    /// Adds to a contact's script; gives whether there was room for it.
    pub(super) fn script(&mut self, id: &str, replies: &[Reply]) -> bool {
        let scripts = self.scripts.len();
        let script = self.scripts.entry(id.to_owned()).or_default();
        let room =
            (scripts < SCRIPTS_MAX || !script.is_empty()) && script.len() + replies.len() <= SCRIPTS_MAX;
        if room {
            script.extend(replies);
        }
        if script.is_empty() {
            self.scripts.remove(id);
        }
        room
    }

    /// Begins counting anew against the limit in force.
    pub(super) fn forget_limiter(&mut self) {
        self.limiter = None;
    }

    pub(super) fn contact(&self, id: &str) -> Option<Contact> {
        self.held.get(id).map(Held::view)
    }

    pub(super) fn contacts(&self) -> BTreeMap<String, Contact> {
        self.held.iter().map(|(id, held)| (id.as_ref().to_owned(), held.view())).collect()
    }
}

impl Held {
    fn view(&self) -> Contact {
        // What was committed was checked, so it always parses.
        let parse = |(number, custom): &(u64, Box<str>)| {
            serde_json::from_str(custom).ok().map(|custom| Update { number: *number, custom })
        };
        let history: Vec<Update> = self.history.iter().filter_map(parse).collect();
        Contact {
            custom: history.last().map(|update| update.custom.clone()),
            updates: self.updates,
            max_in_flight: self.max_in_flight,
            history,
        }
    }
}

/// A set of TCP ports.
#[derive(Debug)]
pub(super) struct Ports(Box<[u64; 1024]>);

impl Default for Ports {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl Ports {
    /// Gives whether the port was not in the set.
    pub(super) fn insert(&mut self, port: u16) -> bool {
        let (word, bit) = (usize::from(port / 64), 1u64 << (port % 64));
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUSTOM: &str = r#"{"disposition_category":"a","last_audit_log":"b"}"#;

    #[test]
    fn history_is_bounded_and_counts_are_exact() {
        let mut ledger = Ledger::default();
        let behaviour = Behaviour::default();
        for _ in 0..HISTORY_MAX + 5 {
            assert_eq!(ledger.arrive("1", 1, Instant::now(), &behaviour), Reply::Normal);
            ledger.settle("1", Some(CUSTOM), Some(200));
        }
        let contact = ledger.contact("1").expect("held");
        assert_eq!(contact.updates, (HISTORY_MAX + 5) as u64);
        assert_eq!(contact.history.len(), HISTORY_MAX);
        assert_eq!(contact.history[0].number, 6);
        assert_eq!((contact.max_in_flight, ledger.stats.max_in_flight), (1, 1));
    }

    #[test]
    fn early_calls_are_those_within_the_time_told() {
        let mut ledger = Ledger::default();
        let behaviour = Behaviour::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        ledger.tell(RetryAfter::Seconds(1), at(10));
        for ms in [9, 10, 700, 1009, 1010, 5000] {
            ledger.arrive("1", 1, at(ms), &behaviour);
        }
        assert_eq!((ledger.stats.early_calls, ledger.stats.early_after_ms_max), (3, 999));
        ledger.tell(RetryAfter::Absent, at(6000));
        ledger.arrive("1", 1, at(6001), &behaviour);
        assert_eq!(ledger.stats.early_calls, 3, "nothing was told");
    }

    #[test]
    fn scripts_are_bounded() {
        let mut ledger = Ledger::default();
        assert!(!ledger.script("1", &vec![Reply::Hang; SCRIPTS_MAX + 1]));
        for contact in 0..SCRIPTS_MAX {
            assert!(ledger.script(&contact.to_string(), &[Reply::Hang]));
        }
        assert!(!ledger.script("one more", &[Reply::Hang]));
        assert!(ledger.script("1", &[Reply::Cut]), "a known one may grow");
        assert_eq!(ledger.scripts.len(), SCRIPTS_MAX);
    }
}
