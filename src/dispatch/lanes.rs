//! The lanes: per contact, the pending events in order, of which at most one is out. Pure: no channel, no clock.
//!
//! A lane holds a bounded prefix of what its contact has pending; the store has the rest (`more`). What a lane
//! holds is always a gapless prefix, so its head is the contact's oldest pending event, and taking heads only
//! keeps the order of keeping. When there is any doubt whether the prefix is gapless, the lane is loaded from the
//! store instead.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{KeptEvent, Severity};
use crate::store::Class;

/// Most events of one contact in memory, so that a busy contact cannot fill the window.
pub const LANE_EVENTS_MAX: usize = 16;
/// Most lanes in memory: contacts with an event ready, out, or waiting for a retry.
pub const LANES_MAX: usize = 32 * 1024;
/// Most lanes that are being loaded from the store at once.
pub const LOADS_MAX: usize = 64;
/// A ready event of the rest older than this takes its turn among the critical ones...
pub const PATIENCE: Duration = Duration::from_secs(60);
/// ...once after so many of them.
pub const CRITICAL_RUN_MAX: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its head may go; it stands in `ready` under this key.
    Ready(Turn),
    /// Its head, of this class, is with a worker, and not in `events`.
    Out(Class),
    /// A retry is due then; it stands in `waiting`. Its events are in the store only.
    Waiting(Instant),
    /// It is to be loaded from the store, or is being.
    Loading,
}

/// Whether the end of an outage shortens a lane's wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// It does not: the API said how long to wait, or we do not know.
    Not,
    /// It does: the wait is of our own choosing.
    Possible,
    /// It did: the head goes when it is loaded.
    Made,
}

/// The order of ready lanes: class, then place of the head.
type Turn = (Class, u64);

#[derive(Debug)]
struct Lane {
    events: VecDeque<KeptEvent>,
    /// Whether the store may have pending events of the contact behind `events`.
    more: bool,
    /// The highest place this lane has held.
    held_through: u64,
    /// The lane is critical while its head's place is not above this: a critical event waits behind it.
    urgent_through: u64,
    haste: Haste,
    state: State,
}

/// What became of an event that was out.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered or dead: the lane goes on.
    Done,
    /// To be tried again at this time of our own choosing; the lane waits.
    RetryAt(Instant),
    /// The same at a time the API told us.
    ToldAt(Instant),
    /// To be tried again as soon as dispatch may.
    Again(Box<KeptEvent>),
}

/// All lanes.
#[derive(Debug, Default)]
pub struct Lanes {
    by_contact: HashMap<Arc<str>, Lane>,
    ready: BTreeMap<Turn, Arc<str>>,
    waiting: BTreeMap<(Instant, u64), Arc<str>>,
    /// Lanes that want loading, in the order they began to.
    to_load: VecDeque<Arc<str>>,
    loading: HashSet<Arc<str>>,
    /// Events in memory by class, those that are out included.
    held: [usize; Class::ALL.len()],
    critical_run: u32,
    next_waiting: u64,
}

impl Lanes {
    /// Events of a class in memory.
    #[must_use]
    pub fn held(&self, class: Class) -> usize {
        self.held[class as usize]
    }

    /// Whether another contact finds a place.
    #[must_use]
    pub fn have_room(&self) -> bool {
        self.by_contact.len() < LANES_MAX
    }

    /// When the next retry is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }

    /// Whether an event could be taken now.
    #[must_use]
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes in an event the store has as pending. `certain`: no event of its contact with a lower place can be
    /// pending in the store without being in its lane. Offering an event twice does nothing.
    pub fn offer(&mut self, event: KeptEvent, certain: bool, due: Option<Instant>) {
        let urgent = event.severity == Severity::Critical;
        let place = event.place;
        let contact: Arc<str> = Arc::from(event.call.contact_id());
        let Some(lane) = self.by_contact.get_mut(&contact) else {
            self.create(&contact, event, certain, due);
            return;
        };
        if place <= lane.held_through {
            return;
        }
        if urgent {
            lane.urgent_through = lane.urgent_through.max(place);
        }
        if lane.more || !certain || lane.events.len() >= LANE_EVENTS_MAX {
            lane.more = true;
        } else {
            lane.held_through = place;
            self.held[Class::of(event.severity) as usize] += 1;
            lane.events.push_back(event);
        }
        if urgent {
            self.promote(&contact);
        }
    }

    fn create(&mut self, contact: &Arc<str>, event: KeptEvent, certain: bool, due: Option<Instant>) {
        let urgent_through = if event.severity == Severity::Critical { event.place } else { 0 };
        let lane = Lane {
            events: VecDeque::new(),
            more: true,
            held_through: 0,
            urgent_through,
            haste: Haste::Not,
            state: State::Loading,
        };
        self.by_contact.insert(Arc::clone(contact), lane);
        match (certain, due) {
            (_, Some(at)) => self.wait(contact, at),
            (false, None) => self.load(contact),
            (true, None) => self.fill(contact, vec![event], false),
        }
    }

    /// A ready lane in which a critical event has come to stand goes before the rest.
    fn promote(&mut self, contact: &Arc<str>) {
        let Some(lane) = self.by_contact.get(contact) else { return };
        if let State::Ready(turn) = lane.state {
            self.ready.remove(&turn);
            self.make_ready(contact);
        }
    }

    /// The lanes to load from the store now.
    pub fn take_loads(&mut self) -> Vec<Arc<str>> {
        let room = LOADS_MAX.saturating_sub(self.loading.len()).min(self.to_load.len());
        let loads: Vec<_> = self.to_load.drain(..room).collect();
        self.loading.extend(loads.iter().cloned());
        loads
    }

    /// The first pending events of a contact, as the store has them; `more` if it has others behind them.
    /// `due` gives the time before which the head may not be tried, if it is still to come.
    pub fn loaded(&mut self, contact: &Arc<str>, events: Vec<KeptEvent>, more: bool, due: Option<Instant>) {
        self.loading.remove(contact);
        let lane = self.by_contact.get_mut(contact);
        let haste = lane.map(|lane| std::mem::replace(&mut lane.haste, Haste::Not));
        let due = due.filter(|_| haste != Some(Haste::Made));
        if events.is_empty() {
            self.by_contact.remove(contact);
        } else if let Some(at) = due {
            self.wait(contact, at);
        } else {
            self.fill(contact, events, more);
        }
    }

    fn fill(&mut self, contact: &Arc<str>, events: Vec<KeptEvent>, more: bool) {
        let Some(lane) = self.by_contact.get_mut(contact) else { return };
        for event in &events {
            self.held[Class::of(event.severity) as usize] += 1;
            if event.severity == Severity::Critical {
                lane.urgent_through = lane.urgent_through.max(event.place);
            }
            lane.held_through = lane.held_through.max(event.place);
        }
        lane.events = events.into();
        lane.more = more;
        self.make_ready(contact);
    }

    fn make_ready(&mut self, contact: &Arc<str>) {
        let Some(lane) = self.by_contact.get_mut(contact) else { return };
        let Some(head) = lane.events.front() else { return };
        let class = if head.place <= lane.urgent_through { Class::Critical } else { Class::Rest };
        let turn = (class, head.place);
        lane.state = State::Ready(turn);
        self.ready.insert(turn, Arc::clone(contact));
    }

    fn wait(&mut self, contact: &Arc<str>, at: Instant) {
        let Some(lane) = self.by_contact.get_mut(contact) else { return };
        for event in lane.events.drain(..) {
            self.held[Class::of(event.severity) as usize] -= 1;
        }
        lane.more = true;
        lane.held_through = 0;
        lane.state = State::Waiting(at);
        self.next_waiting += 1;
        self.waiting.insert((at, self.next_waiting), Arc::clone(contact));
    }

    fn load(&mut self, contact: &Arc<str>) {
        let Some(lane) = self.by_contact.get_mut(contact) else { return };
        lane.state = State::Loading;
        // From the start: what was held before is settled or comes again.
        lane.held_through = 0;
        self.to_load.push_back(Arc::clone(contact));
    }

    /// Wakes the lanes whose retry is due at `now`.
    pub fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let contact = entry.remove();
            self.load(&contact);
        }
    }

    /// Has every lane that waits longer, and not because the API said so, tried again `within` that time, evenly
    /// spread: what failed in an outage need not wait for the whole of its backoff when that is over.
    pub fn hurry(&mut self, now: Instant, within: Duration) {
        let waiting = std::mem::take(&mut self.waiting);
        let step = within / u32::try_from(waiting.len()).unwrap_or(u32::MAX).max(1);
        for (((at, number), contact), count) in waiting.into_iter().zip(1..) {
            let Some(lane) = self.by_contact.get_mut(&contact) else { continue };
            let mut at = at;
            if lane.haste == Haste::Possible {
                lane.haste = Haste::Made;
                at = at.min(now + step * count);
                lane.state = State::Waiting(at);
            }
            self.waiting.insert((at, number), contact);
        }
    }

    /// The event whose turn it is: critical lanes first, each in the order of keeping; an impatient one of the
    /// rest after every [`CRITICAL_RUN_MAX`] critical ones.
    pub fn take(&mut self, now_ms: i64) -> Option<KeptEvent> {
        let turn = self.turn(now_ms)?;
        self.take_at(turn)
    }

    /// The event to find out with whether the API is back: the one tried least. Contacts that fail for reasons of
    /// their own must not be asked again and again while others wait.
    pub fn take_probe(&mut self) -> Option<KeptEvent> {
        let attempts = |contact: &Arc<str>| Some(self.by_contact.get(contact)?.events.front()?.attempts);
        let (turn, _) = self.ready.iter().min_by_key(|(turn, contact)| (attempts(contact), **turn))?;
        self.take_at(*turn)
    }

    fn take_at(&mut self, turn: Turn) -> Option<KeptEvent> {
        self.critical_run = if turn.0 == Class::Critical { self.critical_run + 1 } else { 0 };
        let contact = self.ready.remove(&turn)?;
        let lane = self.by_contact.get_mut(&contact)?;
        let event = lane.events.pop_front()?;
        lane.state = State::Out(Class::of(event.severity));
        Some(event)
    }

    fn turn(&self, now_ms: i64) -> Option<Turn> {
        let first = *self.ready.keys().next()?;
        if first.0 == Class::Critical && self.critical_run >= CRITICAL_RUN_MAX {
            let rest = self.ready.range((Class::Rest, 0)..).next();
            let waited_ms = rest
                .and_then(|(_, contact)| self.by_contact.get(contact)?.events.front())
                .map_or(0, |head| now_ms - head.received_ms);
            if let Some((turn, _)) = rest
                && waited_ms >= crate::clock::millis(PATIENCE)
            {
                return Some(*turn);
            }
        }
        Some(first)
    }

    /// What became of the event of `contact` that was out.
    pub fn finish(&mut self, contact: &str, outcome: Outcome) {
        let Some((contact, _)) = self.by_contact.get_key_value(contact) else { return };
        let contact = Arc::clone(contact);
        let Some(lane) = self.by_contact.get_mut(&contact) else { return };
        let State::Out(class) = lane.state else { return };
        if !matches!(outcome, Outcome::Again(_)) {
            self.held[class as usize] -= 1;
        }
        match outcome {
            Outcome::Again(event) => {
                lane.events.push_front(*event);
                self.make_ready(&contact);
            }
            Outcome::RetryAt(at) => {
                lane.haste = Haste::Possible;
                self.wait(&contact, at);
            }
            Outcome::ToldAt(at) => self.wait(&contact, at),
            Outcome::Done => match (lane.events.is_empty(), lane.more) {
                (false, _) => self.make_ready(&contact),
                (true, true) => self.load(&contact),
                (true, false) => {
                    self.by_contact.remove(&contact);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CallResult;

    fn event(id: u64) -> KeptEvent {
        KeptEvent {
            id,
            call: CallResult::new(&format!("contact-{id}"), "1001", None, None).unwrap(),
            category: "do_not_call".to_owned(),
            severity: Severity::Critical,
            mapping: 1,
            received_ms: 0,
            revived_ms: None,
            place: id,
            attempts: 3,
            due_ms: None,
        }
    }

    #[test]
    fn after_an_outage_all_are_tried_within_the_time_and_then_wait_again() {
        const LANES: u64 = 100;
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut lanes = Lanes::default();
        for id in 1..=LANES + 1 {
            lanes.offer(event(id), true, None);
            let contact = lanes.take(0).unwrap().call.contact_id().to_owned();
            let told = id > LANES;
            let outcome = if told { Outcome::ToldAt(now + hour) } else { Outcome::RetryAt(now + hour) };
            lanes.finish(&contact, outcome);
        }
        assert_eq!(lanes.next_due(), Some(now + hour));
        let within = Duration::from_secs(10);
        lanes.hurry(now, within);
        lanes.wake(now + within / 2);
        assert!((45..=50).contains(&lanes.to_load.len()), "they do not all come at once");
        lanes.wake(now + within);
        assert_eq!(lanes.to_load.len(), 100, "what the API said is obeyed");
        for contact in lanes.to_load.clone() {
            let id = contact.strip_prefix("contact-").unwrap().parse().unwrap();
            lanes.loaded(&contact, vec![event(id)], false, Some(now + hour));
        }
        assert_eq!(lanes.ready.len(), 100);
        let first = lanes.take(0).unwrap();
        let contact = first.call.contact_id().to_owned();
        lanes.finish(&contact, Outcome::RetryAt(now + hour));
        lanes.wake(now + within);
        assert_eq!(lanes.next_due(), Some(now + hour), "only once");
    }

    #[test]
    fn the_probe_is_the_one_tried_least() {
        let mut lanes = Lanes::default();
        for (id, attempts) in [(1, 5), (2, 2), (3, 0), (4, 0)] {
            lanes.offer(KeptEvent { attempts, ..event(id) }, true, None);
        }
        let order: Vec<u64> = (0..4).map(|_| lanes.take_probe().unwrap().id).collect();
        assert_eq!(order, [3, 4, 2, 1]);
    }
}
