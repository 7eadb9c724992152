//! One daemon, one API, and the model of what they must have done.

use std::collections::{BTreeMap, VecDeque};

use dispod::sandbox::{Behaviour, Faults, Reply, Sandbox};
use serde_json::Value;

use crate::support::daemon::{Daemon, config_for};
use crate::support::scene::{
    CODES, Event, Line, applied, bury_calls, count, dead, sandbox, status, wait_settled,
};
use crate::support::{SOON, wait_until};

const CONTACTS: usize = 8;
const WORKERS: (&str, &str) = ("DISPOD_DELIVERY_WORKERS", "4");
/// Smaller than what waits at times, so that the window is part of the game.
const WINDOW: (&str, &str) = ("DISPOD_DELIVERY_QUEUE", "8");
/// Codes whose category a reload changes.
const REMAPPED: [&str; 2] = ["2001", "9999"];

/// What the API does with an update in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    /// Takes it.
    Takes,
    /// Takes it after faults of every kind.
    TakesAfterFaults,
    /// Does not know the contact.
    Rejects,
    /// Is away: with this answer, or without one.
    Away(Option<Reply>),
}

/// Where every event is. What is pending moves on when the API has had the time for it, all of it and in order.
#[derive(Default)]
struct Model {
    pending: BTreeMap<String, VecDeque<Event>>,
    applied: BTreeMap<String, Vec<String>>,
    /// By number, that is in the order of keeping.
    dead: BTreeMap<usize, Event>,
    dropped: usize,
}

impl Model {
    fn keep(&mut self, event: Event) {
        self.pending.entry(event.contact.clone()).or_default().push_back(event);
    }

    fn revive(&mut self, number: usize) {
        let event = self.dead.remove(&number).unwrap();
        self.keep(event);
    }

    fn pending(&self) -> usize {
        self.pending.values().map(VecDeque::len).sum()
    }

    /// The API has dealt with everything.
    fn settle(&mut self, api: Api) {
        for (contact, events) in std::mem::take(&mut self.pending) {
            for event in events {
                match api {
                    Api::Takes | Api::TakesAfterFaults => {
                        self.applied.entry(contact.clone()).or_default().push(event.line());
                    }
                    Api::Rejects => {
                        self.dead.insert(event.name.parse().unwrap(), event);
                    }
                    Api::Away(_) => self.keep(event),
                }
            }
        }
    }
}

pub struct World {
    seed: u64,
    chance: fastrand::Rng,
    sandbox: Sandbox,
    daemon: Daemon,
    line: Line,
    api: Api,
    model: Model,
    posted: Vec<Event>,
    mapping: usize,
    kills: u64,
}

impl World {
    pub fn new(seed: u64, mut chance: fastrand::Rng) -> Self {
        let sandbox = sandbox(|options| options.seed = Some(chance.u64(..)));
        let daemon = Daemon::start_with(&config_for(&sandbox), &[WORKERS, WINDOW]);
        let line = Line::open(daemon.webhook_addr()).unwrap();
        Self {
            seed,
            chance,
            sandbox,
            daemon,
            line,
            api: Api::Takes,
            model: Model::default(),
            posted: Vec::new(),
            mapping: 0,
            kills: 0,
        }
    }

    pub fn post(&mut self) {
        let number = self.posted.len();
        let contact = format!("contact-{}", self.chance.usize(..CONTACTS));
        let mut event = Event::new(&contact, self.chance.usize(..CODES.len()), &number.to_string());
        if self.mapping > 0 && REMAPPED.contains(&event.code) {
            event.category = category(self.mapping);
        }
        println!("{}: post {event:?}", self.seed);
        assert_eq!(self.line.post(&event).unwrap(), 200);
        self.model.keep(event.clone());
        self.posted.push(event);
    }

    /// A duplicate changes nothing, wherever the first one is by now.
    pub fn post_again(&mut self) {
        if self.posted.is_empty() {
            return;
        }
        let event = &self.posted[self.chance.usize(..self.posted.len())];
        println!("{}: post again {event:?}", self.seed);
        assert_eq!(self.line.post(event).unwrap(), 200);
    }

    pub fn retry_one(&mut self) {
        let Some((number, id)) = self.choose_dead() else { return };
        println!("{}: retry {number}", self.seed);
        assert_eq!(self.daemon.admin("POST", &format!("/api/dead/{id}/retry")).status, 200);
        self.model.revive(number);
    }

    pub fn retry_all(&mut self) {
        self.let_settle();
        println!("{}: retry all", self.seed);
        assert_eq!(self.daemon.admin("POST", "/api/dead/retry").status, 200);
        for number in self.model.dead.keys().copied().collect::<Vec<_>>() {
            self.model.revive(number);
        }
    }

    pub fn drop_one(&mut self) {
        let Some((number, id)) = self.choose_dead() else { return };
        println!("{}: drop {number}", self.seed);
        assert_eq!(self.daemon.admin("DELETE", &format!("/api/dead/{id}")).status, 200);
        self.model.dead.remove(&number);
        self.model.dropped += 1;
    }

    /// A dead letter by its number in the model and its id in the daemon.
    fn choose_dead(&mut self) -> Option<(usize, String)> {
        self.let_settle();
        let number = *self.chance.choice(self.model.dead.keys())?;
        let letters = dead(&self.daemon);
        let name = number.to_string();
        let letter = letters.iter().find(|letter| letter["timestamp"] == name.as_str());
        Some((number, letter?["id"].as_str()?.to_owned()))
    }

    pub fn change_api(&mut self) {
        self.let_settle();
        let was_refusing = self.api == Api::Away(None);
        let away = [None, Some(Reply::Status(503)), Some(Reply::Reset), Some(Reply::Status(403))];
        self.api = match self.chance.u32(..8) {
            0..2 => Api::Takes,
            2..4 => Api::TakesAfterFaults,
            4..6 => Api::Rejects,
            _ => Api::Away(away[self.chance.usize(..away.len())]),
        };
        println!("{}: the API {:?}", self.seed, self.api);
        let mut behaviour = Behaviour::default();
        match self.api {
            Api::Takes => {}
            Api::TakesAfterFaults => {
                behaviour.error_rate = 0.1;
                behaviour.faults =
                    Faults { cut: 0.1, reset: 0.1, error: 0.1, throttle: 0.02, ..Faults::default() };
            }
            Api::Rejects => behaviour.outage = Reply::Status(404),
            Api::Away(Some(reply)) => behaviour.outage = reply,
            Api::Away(None) => self.sandbox.suspend(),
        }
        self.sandbox.set_behaviour(|now| *now = behaviour).unwrap();
        if was_refusing && self.api != Api::Away(None) {
            self.sandbox.resume().unwrap();
        }
    }

    pub fn kill(&mut self) {
        println!("{}: kill", self.seed);
        self.daemon.kill9();
        self.kills += 1;
        if self.api != Api::Away(None) {
            bury_calls(&mut self.sandbox);
        }
        self.start();
    }

    pub fn stop_and_start(&mut self) {
        println!("{}: stop and start", self.seed);
        assert!(self.daemon.sigterm().success());
        self.start();
    }

    fn start(&mut self) {
        self.daemon.restart();
        self.line = Line::open(self.daemon.webhook_addr()).unwrap();
    }

    /// Another mapping, for what is kept from now on.
    pub fn reload(&mut self) {
        const RELOADED: &str = "configuration reloaded";
        self.mapping += 1;
        println!("{}: reload {}", self.seed, self.mapping);
        let table = CODES.map(|(code, category_of_old)| {
            let new = if REMAPPED.contains(&code) { &category(self.mapping) } else { category_of_old };
            format!("{code} = \"{new}\"\n")
        });
        let config = config_for(&self.sandbox) + "\n[dispositions]\n" + &table.concat();
        std::fs::write(self.daemon.dir().join("dispod.toml"), config).unwrap();
        let before = self.daemon.log_count(RELOADED);
        self.daemon.sighup();
        assert!(wait_until(SOON, || self.daemon.log_count(RELOADED) > before));
    }

    /// Waits until everything is where it stays while the API is as it is.
    fn let_settle(&mut self) {
        if !matches!(self.api, Api::Away(_)) {
            wait_settled(&self.daemon);
        }
        self.model.settle(self.api);
    }

    pub fn compare(&mut self) {
        self.let_settle();
        println!("{}: compare", self.seed);
        let mut contacts = self.sandbox.contacts();
        contacts.retain(|_, contact| contact.updates > 0);
        assert!(contacts.keys().eq(self.model.applied.keys()), "{:?}", contacts.keys());
        for (id, contact) in contacts {
            let (found, promised) = (applied(&contact), &self.model.applied[&id]);
            let same = found.iter().zip(promised).take_while(|(one, other)| one == other).count();
            let (found_on, promised_on) = (&found[same..], &promised[same..]);
            assert_eq!(found_on, promised_on, "{id} after {same} updates, in {:?}", self.api);
        }
        let name = |letter: &Value| letter["timestamp"].as_str().unwrap().parse().unwrap();
        let letters: Vec<usize> = dead(&self.daemon).iter().map(name).collect();
        assert_eq!(letters, self.model.dead.keys().copied().collect::<Vec<_>>());
        let pending = self.model.pending() as u64;
        let counted = wait_until(SOON, || count(&self.daemon, "pending") == pending);
        assert!(counted, "{pending} pending: {}", status(&self.daemon));
    }

    /// Whatever is pending is delivered in the end.
    pub fn end(mut self) {
        while self.api != Api::Takes {
            self.change_api();
        }
        self.compare();
        let applied: usize = self.model.applied.values().map(Vec::len).sum();
        let stats = self.sandbox.stats();
        let (posted, dead, dropped) = (self.posted.len(), self.model.dead.len(), self.model.dropped);
        println!(
            "{}: {posted} posted, {applied} applied, {dead} dead, {dropped} dropped, {} kills",
            self.seed, self.kills
        );
        assert_eq!(applied + dead + dropped, posted);
        let repeated = stats.updates - applied as u64;
        let workers: u64 = WORKERS.1.parse().unwrap();
        assert!(repeated <= self.kills * workers + stats.unanswered, "{repeated} repeated, {stats:?}");
        assert_eq!((stats.max_in_flight_per_contact, stats.violations), (1, 0), "{stats:?}");
    }
}

fn category(mapping: usize) -> String {
    format!("category-{mapping}")
}
