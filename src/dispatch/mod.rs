//! Dispatch: whose turn it is. Holds a window of the backlog as lanes, releases at most one event of a contact to
//! the workers, as fast as the API takes them, and learns from what they report.
//!
//! There are as many places as workers, and a place is free again only when the keeper has written what came of its
//! event, so a kill -9 repeats at most as many updates as there are workers.

pub mod breaker;
pub mod lanes;
pub mod pacer;
mod round;
pub mod window;
mod words;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use crate::clock;
use crate::config::DeliveryConfig;
use crate::event::{CallResult, KeptEvent};
use crate::flow::{Job, Notice, Order, Report, Settlement};
use crate::handover::Giver;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::settle;
use crate::store::Class;
use crate::verdict::Verdict;

use breaker::{Breaker, Permit};
use lanes::{Lanes, Outcome};
use pacer::Pacer;
use round::Round;
use window::Window;
use words::{Words, denial};

/// Most events read from the store at once.
const LOAD_MAX: usize = 256;
/// No more than this part of what is out is left to workers that get done: they would be long in coming.
const LEFT_PART: usize = 8;
/// An outage so many times as long as the first backoff was one.
const OUTAGE_MIN_BACKOFFS: u32 = 4;
/// What failed in an outage is tried again within this time after its end.
const RESUME_WITHIN: Duration = Duration::from_secs(10);

/// What the daemon tells dispatch.
pub enum Control {
    /// Credentials changed: try again at once.
    Nudge,
    /// Release nothing more; end when what is out is settled, or at this time.
    Stop(Instant),
}

/// The channels' ends that are dispatch's.
pub struct Channels {
    /// From the keeper.
    pub notices: Receiver<Notice>,
    /// To the keeper.
    pub orders: Sender<Order>,
    /// To the workers.
    pub jobs: Giver<Job>,
    /// From the workers.
    pub reports: Receiver<Report>,
    /// From the daemon.
    pub control: Receiver<Control>,
}

/// What dispatch's thread owns.
pub struct Dispatch {
    config: DeliveryConfig,
    channels: Channels,
    lanes: Lanes,
    window: Window,
    pacer: Pacer,
    breaker: Breaker,
    /// What is to be written of this round's reports.
    judged: Vec<Settlement>,
    round: Round,
    /// Events whose settlement the keeper has not written yet, with their call and what comes then.
    settling: HashMap<u64, (CallResult, Outcome)>,
    /// Events released whose settlement is not written.
    out: usize,
    stop_at: Option<Instant>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    words: Words,
}

impl Dispatch {
    /// A dispatch that has read nothing yet.
    #[must_use]
    pub fn new(
        config: DeliveryConfig,
        channels: Channels,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (base, max) = (config.backoff_base, config.backoff_max);
        Self {
            pacer: Pacer::new(config.rate_limit, base, max, Instant::now()),
            breaker: Breaker::new(base, max),
            config,
            channels,
            lanes: Lanes::default(),
            window: Window::default(),
            judged: Vec::new(),
            round: Round::default(),
            settling: HashMap::new(),
            out: 0,
            stop_at: None,
            health,
            metrics,
            words: Words::default(),
        }
    }

    /// Runs until told to stop or the keeper is gone.
    pub fn run(mut self) {
        loop {
            let now = Instant::now();
            if self.round.end_if_due(now) {
                self.settle();
            }
            self.lanes.wake(now);
            let wake_at = self.release(now);
            self.hand_over(now);
            self.load();
            if self.stop_at.is_some_and(|at| self.out == 0 || now >= at) {
                self.settle();
                return;
            }
            let deadlines = [wake_at, self.lanes.next_due(), self.stop_at, self.round.ends_at()];
            let wait = match deadlines.into_iter().flatten().min() {
                Some(at) => crossbeam_channel::at(at),
                None => crossbeam_channel::never(),
            };
            let never = crossbeam_channel::never();
            // The first of a round is heard at once, whatever it is to teach; the others when it ends.
            let gathering = self.round.is_on() && !self.judged.is_empty();
            let reports = if gathering { &never } else { &self.channels.reports };
            select! {
                recv(self.channels.notices) -> notice => match notice {
                    Ok(notice) => self.note(notice),
                    Err(_) => return,
                },
                recv(reports) -> report => match report {
                    Ok(report) => {
                        self.judge(&report);
                        self.round.begin(Instant::now(), self.out);
                    }
                    Err(_) => return,
                },
                recv(self.channels.control) -> control => match control {
                    Ok(Control::Nudge) => self.breaker.nudge(Instant::now()),
                    Ok(Control::Stop(at)) => self.stop_at = Some(at),
                    // The daemon lets go of its end when it waits for ours; the time it set before still holds.
                    Err(_) => {
                        self.channels.control = crossbeam_channel::never();
                        self.stop_at.get_or_insert(now);
                    }
                },
                recv(wait) -> _ => {}
            }
            for _ in 0..LOAD_MAX {
                let Ok(notice) = self.channels.notices.try_recv() else { break };
                self.note(notice);
            }
        }
    }

    /// Gives the workers what may go now; gives the time at which more may go.
    fn release(&mut self, now: Instant) -> Option<Instant> {
        while self.stop_at.is_none() && self.out < self.config.workers && self.lanes.any_ready() {
            let permit = self.breaker.permit();
            if let Permit::ProbeAt(at) = permit {
                if self.out > 0 {
                    return None;
                }
                if now < at {
                    return Some(at);
                }
            }
            if let Some(at) = self.pacer.wait(now) {
                return Some(at);
            }
            let event = match permit {
                Permit::ProbeAt(_) => self.lanes.take_probe(),
                Permit::All => self.lanes.take(clock::now_ms()),
            }?;
            self.pacer.took(now);
            self.out += 1;
            if !self.channels.jobs.give(Job { event }) {
                self.stop_at = Some(now);
            }
        }
        None
    }

    /// Leaves what was released to the workers that get done in this round, or calls for it.
    fn hand_over(&mut self, now: Instant) {
        let waiting = self.channels.jobs.waiting();
        if waiting > self.out / LEFT_PART || (waiting > 0 && !self.round.begin(now, self.out)) {
            self.channels.jobs.call();
        }
    }

    /// Orders from the store what the window has room for.
    fn load(&mut self) {
        // Half a small window at a time: were it read on only when empty, a class would seem to be done in between.
        let limit = LOAD_MAX.min(self.config.queue.div_ceil(2));
        for class in Class::ALL {
            if self.room(class, limit)
                && let Some(after_place) = self.window.begin_load(class)
            {
                self.order(Order::LoadClass { class, after_place, limit });
            }
        }
        // A full window takes the head of a lane, which may be due, and no more.
        let full = Class::ALL.iter().any(|class| self.lanes.held(*class) >= self.config.queue);
        let limit = if full { 1 } else { lanes::LANE_EVENTS_MAX };
        for contact_id in self.lanes.take_loads() {
            self.order(Order::LoadLane { contact_id, limit });
        }
    }

    fn order(&mut self, order: Order) {
        // Without a keeper the notices end too, and with them dispatch.
        let _ = self.channels.orders.send(order);
    }

    /// Whether the window takes `more` events of a class; a backlog of one never keeps the other out.
    fn room(&self, class: Class, more: usize) -> bool {
        self.lanes.have_room() && self.lanes.held(class) + more <= self.config.queue
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Kept(event) => {
                let class = Class::of(event.severity);
                let room = self.room(class, 1);
                if self.window.admit(class, event.place, room) {
                    self.offer(event);
                }
            }
            Notice::Behind(class) => self.window.fall_behind(class),
            Notice::Backlog { class, events, continue_after } => {
                self.window.loaded(class, continue_after, events.last().map(|event| event.place));
                for event in events {
                    self.offer(event);
                }
            }
            Notice::Lane { contact_id, events, more } => {
                let due = events.first().and_then(|event| self.due(event));
                self.lanes.loaded(&contact_id, events, more, due);
            }
            Notice::Settled(ids) => {
                for id in ids {
                    if let Some((call, outcome)) = self.settling.remove(&id) {
                        self.out -= 1;
                        self.lanes.finish(call.contact_id(), outcome);
                    }
                }
            }
        }
    }

    fn offer(&mut self, event: KeptEvent) {
        let certain = self.window.complete_below(event.place);
        let due = self.due(&event);
        self.lanes.offer(event, certain, due);
    }

    /// When an event that was tried before is due, if that is still to come. No wait we write is longer than this
    /// bound: a clock that was set in between must not park an event.
    fn due(&self, event: &KeptEvent) -> Option<Instant> {
        let longest = self.config.backoff_max.max(settle::RETRY_AFTER_MAX);
        let left = span(event.due_ms? - clock::now_ms()).min(longest);
        (!left.is_zero()).then(|| Instant::now() + left)
    }

    /// Has what was reported written, all in one, and calls workers for what nobody got done for.
    fn settle(&mut self) {
        while let Ok(report) = self.channels.reports.try_recv() {
            self.judge(&report);
        }
        if !self.judged.is_empty() {
            let next = Vec::with_capacity(self.judged.len());
            let judged = std::mem::replace(&mut self.judged, next);
            self.order(Order::Settle(judged));
        }
        self.channels.jobs.call_for_left();
    }

    /// Learns from a report; what came of it is to be written.
    fn judge(&mut self, report: &Report) {
        let now = Instant::now();
        let now_ms = clock::now_ms();
        let settlement = settle::settlement(report, &self.config, now_ms, fastrand::f64());
        let event = &settlement.stored.event;
        self.metrics.delivery(settlement.verdict).inc();
        self.learn(report, settlement.verdict, now);
        self.words.report(report, settlement.verdict);
        let outcome = match (settlement.verdict, event.due_ms) {
            (Verdict::Throttled, _) => Outcome::Again(Box::new(event.clone())),
            (_, Some(due_ms)) if report.call.retry_after.is_some() => {
                Outcome::ToldAt(now + span(due_ms - now_ms))
            }
            (_, Some(due_ms)) => Outcome::RetryAt(now + span(due_ms - now_ms)),
            (_, None) => Outcome::Done,
        };
        self.settling.insert(event.id, (event.call.clone(), outcome));
        self.judged.push(settlement);
    }

    fn learn(&mut self, report: &Report, verdict: Verdict, now: Instant) {
        // An expired event failed like any other.
        match if verdict == Verdict::Expired { Verdict::of(report.call.answer) } else { verdict } {
            Verdict::Throttled => {
                self.answered(now);
                self.pacer.refused(report.started, now, report.call.retry_after, fastrand::f64());
            }
            Verdict::Transient => self.failed(report, false, now),
            Verdict::Denied => {
                self.health.set_denied(Some(denial(&report.call)));
                self.failed(report, true, now);
            }
            Verdict::Delivered | Verdict::Rejected | Verdict::Expired => {
                self.health.set_denied(None);
                self.answered(now);
                self.pacer.accepted();
            }
        }
    }

    fn answered(&mut self, now: Instant) {
        let Some(away) = self.breaker.answered(now) else { return };
        Words::is_back();
        // Not when it only seemed away, because some contacts fail for reasons of their own.
        if away >= self.config.backoff_base * OUTAGE_MIN_BACKOFFS {
            self.lanes.hurry(now, RESUME_WITHIN);
        }
    }

    fn failed(&mut self, report: &Report, denied: bool, now: Instant) {
        let mut hasher = DefaultHasher::new();
        report.event.call.contact_id().hash(&mut hasher);
        if self.breaker.failed(hasher.finish(), denied, now, fastrand::f64()) {
            self.words.is_away(&report.call);
        }
    }
}

fn span(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
