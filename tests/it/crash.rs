//! kill -9 at random moments under load: every acknowledged event is delivered, in order, or listed as dead, and of
//! what was delivered no more is repeated than the workers had out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use dispod::sandbox::{Reply, Sandbox};

use crate::support::daemon::Daemon;
use crate::support::scene::{
    CODES, Event, Line, applied, behaving, bury_calls, daemon, dead, seed, wait_settled,
};

const ROUNDS: usize = 24;
/// Every so many rounds the daemon is killed a second time, while it starts.
const KILLED_STARTING_EVERY: usize = 3;
const SENDERS: usize = 4;
const CONTACTS_OF_A_SENDER: usize = 5;
const WORKERS: &str = "8";
/// A round lasts up to this long.
const ROUND_MAX_MS: u64 = 300;
/// A start takes about as long.
const START_MAX_MS: u64 = 60;

/// A sender as senders are: one event after the other, and what was not answered is sent again, first of all.
struct Sender {
    number: usize,
    chance: fastrand::Rng,
    made: usize,
    unanswered: Option<Event>,
    acknowledged: Vec<Event>,
}

impl Sender {
    fn new(number: usize, chance: fastrand::Rng) -> Self {
        Self { number, chance, made: 0, unanswered: None, acknowledged: Vec::new() }
    }

    /// Posts until the daemon is gone; first an event for a contact that the API does not know.
    fn run(&mut self, address: SocketAddr, round: usize) {
        let Ok(mut line) = Line::open(address) else { return };
        let mut gone = Some(gone(self.number, round));
        if let Some(event) = self.unanswered.take() {
            self.post(&mut line, event);
        }
        while self.unanswered.is_none() {
            let event = gone.take().unwrap_or_else(|| self.make());
            self.post(&mut line, event);
        }
    }

    fn post(&mut self, line: &mut Line, event: Event) {
        match line.post(&event) {
            Ok(200) => self.acknowledged.push(event),
            Ok(status) => panic!("{status} for {event:?}"),
            Err(_) => self.unanswered = Some(event),
        }
    }

    fn make(&mut self) -> Event {
        self.made += 1;
        let (sender, made) = (self.number, self.made);
        let contact = format!("contact-{sender}-{}", self.chance.usize(..CONTACTS_OF_A_SENDER));
        Event::new(&contact, made % CODES.len(), &format!("{sender}-{made}"))
    }
}

fn gone(sender: usize, round: usize) -> Event {
    Event::new(&format!("gone-{sender}-{round}"), 0, &format!("gone-{sender}-{round}"))
}

#[test]
fn what_was_acknowledged_is_delivered_or_listed_however_often_it_is_killed() {
    let mut chance = fastrand::Rng::with_seed(seed("crash"));
    let mut sandbox = behaving(|behaviour| behaviour.latency = Duration::ZERO..=Duration::from_millis(20));
    let mut daemon = daemon(&sandbox, &[("DISPOD_DELIVERY_WORKERS", WORKERS)]);
    let mut senders: Vec<Sender> = (0..SENDERS).map(|number| Sender::new(number, chance.fork())).collect();
    let (mut kills, mut kills_at_work) = (0, 0);
    for round in 0..ROUNDS {
        for sender in 0..SENDERS {
            sandbox.script(&gone(sender, round).contact, &[Reply::Status(404)]).unwrap();
        }
        let address = daemon.webhook_addr();
        thread::scope(|scope| {
            for sender in &mut senders {
                scope.spawn(move || sender.run(address, round));
            }
            thread::sleep(Duration::from_millis(chance.u64(..ROUND_MAX_MS)));
            kills_at_work += usize::from(sandbox.stats().in_flight > 0);
            daemon.kill9();
        });
        kills += 1;
        if round % KILLED_STARTING_EVERY == 0 {
            daemon.spawn();
            thread::sleep(Duration::from_millis(chance.u64(..START_MAX_MS)));
            daemon.kill9();
            kills += 1;
        }
        bury_calls(&mut sandbox);
        daemon.restart();
    }
    for sender in &mut senders {
        let event = sender.unanswered.take().expect("the kill of the last round cut it short");
        assert_eq!(daemon.post(&event.json()).0, 200);
        sender.acknowledged.push(event);
    }
    wait_settled(&daemon);
    assert!(kills_at_work > 2, "only {kills_at_work} kills while an update was out");
    examine(&sandbox, &daemon, &senders, kills);
    send_all_again(&sandbox, &daemon, &senders);
}

/// Whether a key was held in memory or lay in the table at a kill: it is known.
fn send_all_again(sandbox: &Sandbox, daemon: &Daemon, senders: &[Sender]) {
    let before = sandbox.stats().calls;
    let mut line = Line::open(daemon.webhook_addr()).unwrap();
    for event in senders.iter().flat_map(|sender| &sender.acknowledged) {
        assert_eq!(line.post(event).unwrap(), 200);
    }
    wait_settled(daemon);
    assert_eq!(sandbox.stats().calls, before, "an event that was sent again was taken for a new one");
}

fn examine(sandbox: &Sandbox, daemon: &Daemon, senders: &[Sender], kills: usize) {
    let mut promised: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in senders.iter().flat_map(|sender| &sender.acknowledged) {
        promised.entry(event.contact.clone()).or_default().push(event.line());
    }
    let letters = dead(daemon);
    let is_dead = |contact: &str| letters.iter().any(|letter| letter["contactId"] == contact);
    let contacts = sandbox.contacts();
    for (contact, lines) in &promised {
        let found = contacts.get(contact).map(applied).unwrap_or_default();
        // A kill between the 404 and its record has it tried again, and then the API takes it.
        let buried = contact.starts_with("gone-") && found.is_empty() && is_dead(contact);
        assert!(buried || found == *lines, "{contact}: {found:#?} applied, {lines:#?} acknowledged");
    }
    assert_eq!(contacts.len(), promised.len(), "an update that nobody posted");
    assert!(letters.len() > SENDERS, "{letters:?}");
    let events: usize = promised.values().map(Vec::len).sum();
    let stats = sandbox.stats();
    let repeated = stats.calls - events as u64;
    println!("{events} events, {} dead, {kills} kills, {repeated} calls repeated", letters.len());
    assert!(events > ROUNDS * SENDERS, "{events} events are no load");
    let workers: u64 = WORKERS.parse().unwrap();
    assert!(repeated <= kills as u64 * workers, "{repeated} calls repeated by {kills} kills");
    assert_eq!(stats.violations, 0, "{stats:?}");
}
