//! Who waits for an answer: per peer, so that the guard can tell a client that waits for us from one we wait
//! for, and so that nothing more is taken from a connection that has to end.
//!
//! tiny_http gives no handle on a connection; over TCP the peer's address is one (no two connections to one
//! listener share it at a time; the guard tells the next one there from the last by its cookie). Over a Unix
//! socket there is none: all its clients share one entry, which is never condemned. They are local processes let
//! in by the socket's mode.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Unanswered requests one connection may have (it pipelines them) before it is ended.
const PIPELINE_MAX: usize = 1024;
/// Unanswered requests there may be altogether before connections with more than [`PIPELINE_FAIR`] are ended.
const WAITING_MAX: usize = 8 * 1024;
/// What each connection may have unanswered when there are [`WAITING_MAX`] in all.
const PIPELINE_FAIR: usize = 8;
/// A condemned peer the guard has never seen is gone after this long.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// The book of unanswered requests.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    waiting: Arc<AtomicUsize>,
    peers: Mutex<HashMap<SocketAddr, Arc<Peer>>>,
    nameless: Arc<Peer>,
}

/// One connection, as far as it can be told from others.
#[derive(Debug, Default)]
pub(super) struct Peer {
    waiting: AtomicUsize,
    /// Requests whose rest we wait for.
    unfinished: AtomicUsize,
    condemned: AtomicBool,
    /// No further request is taken, though it may go on sending the body of the last one.
    deaf: AtomicBool,
    broken: AtomicBool,
    /// Its answer goes on until one of us ends the connection.
    streaming: AtomicBool,
    condemned_at: Mutex<Option<Instant>>,
    /// Which connection that is, once the guard has seen it: the address may be given to another. 0: not yet.
    cookie: AtomicU64,
}

/// What the ledger knows of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whose turn it is, if it has open requests: ours as long as one of them waits for us.
    pub turn: Option<Turn>,
    /// Nothing more is taken from it.
    pub condemned: bool,
    /// Nothing more can be sent to it.
    pub broken: bool,
}

/// One request; dropping it says that it was answered and is at its end.
#[derive(Debug)]
pub(super) struct Ticket {
    turn: Turn,
    waiting: Arc<AtomicUsize>,
    peer: Arc<Peer>,
    nameless: bool,
}

/// Who has to do something about a request next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The client waits for an answer.
    Ours,
    /// We wait for the rest of it.
    Clients,
}

impl Ledger {
    /// Books a request. A peer with too many unanswered ones is condemned by it.
    pub(super) fn open(&self, addr: Option<SocketAddr>) -> Ticket {
        let peer = match addr {
            Some(addr) => Arc::clone(self.peers().entry(addr).or_default()),
            None => Arc::clone(&self.nameless),
        };
        let waiting = Arc::clone(&self.waiting);
        let ticket = Ticket { turn: Turn::Ours, waiting, peer, nameless: addr.is_none() };
        ticket.book(Turn::Ours);
        let (in_all, of_peer) = (self.waiting.load(Relaxed), ticket.peer.waiting.load(Relaxed));
        if of_peer > PIPELINE_MAX || (in_all > WAITING_MAX && of_peer > PIPELINE_FAIR) {
            ticket.condemn();
        }
        if ticket.peer.streaming.load(Relaxed) {
            // Its answer would have to wait for the end of the stream, and hold up others meanwhile.
            ticket.set_broken();
        }
        ticket
    }

    /// What is known of a peer. Of a nameless one: whether any of them waits.
    pub(super) fn standing(&self, addr: Option<SocketAddr>) -> Standing {
        match addr {
            Some(addr) => self.peers().get(&addr).map(|peer| peer.standing()).unwrap_or_default(),
            None => self.nameless.standing(),
        }
    }

    /// The same of the connection the guard sees at that address. What is known of the last one there is forgotten
    /// when this is another, also what may yet be learnt: who holds a ticket of it may condemn that one only.
    pub(super) fn standing_of(&self, addr: Option<SocketAddr>, cookie: u64) -> Standing {
        let Some(addr) = addr else { return self.standing(None) };
        let mut peers = self.peers();
        match peers.get(&addr) {
            Some(peer) if peer.is_of(cookie) => return peer.standing(),
            Some(_) => drop(peers.remove(&addr)),
            None => {}
        }
        Standing::default()
    }

    /// Forgets peers that have no open request and, as far as the guard has seen, no connection any more.
    pub(super) fn forget_all_but(&self, live: &HashSet<SocketAddr>, now: Instant) {
        self.peers().retain(|addr, peer| {
            let condemned_at = *peer.condemned_at();
            let seen = peer.cookie.load(Relaxed) != 0;
            let settled = seen || condemned_at.is_none_or(|at| now.duration_since(at) > FORGET_AFTER);
            // Who holds a ticket may yet condemn the connection: a request behind it must find that out.
            live.contains(addr) || Arc::strong_count(peer) > 1 || !settled
        });
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn standing(&self) -> Standing {
        let turn = if self.waiting.load(Relaxed) > 0 {
            Some(Turn::Ours)
        } else {
            (self.unfinished.load(Relaxed) > 0).then_some(Turn::Clients)
        };
        Standing { turn, condemned: self.condemned.load(Relaxed), broken: self.broken.load(Relaxed) }
    }

    fn is_condemned(&self) -> bool {
        self.condemned.load(Relaxed) || self.deaf.load(Relaxed)
    }

    /// Whether it is that connection. The first that is seen is.
    fn is_of(&self, cookie: u64) -> bool {
        self.cookie.compare_exchange(0, cookie, Relaxed, Relaxed).is_ok()
            || self.cookie.load(Relaxed) == cookie
    }

    fn condemned_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.condemned_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// It is the client's turn to send: its time runs.
    pub(super) fn we_wait(&mut self) {
        self.pass_to(Turn::Clients);
    }

    /// It is our turn to answer: the client's time stands still.
    pub(super) fn client_waits(&mut self) {
        self.pass_to(Turn::Ours);
    }

    fn pass_to(&mut self, turn: Turn) {
        let before = std::mem::replace(&mut self.turn, turn);
        if before != turn {
            self.book(turn);
            self.cross_out(before);
        }
    }

    fn book(&self, turn: Turn) {
        self.counters(turn).for_each(|counter| _ = counter.fetch_add(1, Relaxed));
    }

    fn cross_out(&self, turn: Turn) {
        self.counters(turn).for_each(|counter| _ = counter.fetch_sub(1, Relaxed));
    }

    /// Where a request is counted while it is that turn.
    fn counters(&self, turn: Turn) -> impl Iterator<Item = &AtomicUsize> {
        let (of_peer, of_all) = match turn {
            Turn::Ours => (&self.peer.waiting, Some(&*self.waiting)),
            Turn::Clients => (&self.peer.unfinished, None),
        };
        std::iter::once(of_peer).chain(of_all)
    }

    /// Nothing more is taken from this connection; the guard ends it.
    pub(super) fn condemn(&self) {
        if !self.nameless && !self.peer.condemned.swap(true, Relaxed) {
            *self.peer.condemned_at() = Some(Instant::now());
        }
    }

    /// No further request is taken from this connection; the guard lets it send on until it is condemned.
    pub(super) fn take_no_more(&self) {
        if !self.nameless {
            self.peer.deaf.store(true, Relaxed);
        }
    }

    /// Whether nothing more is taken from this connection.
    pub(super) fn is_condemned(&self) -> bool {
        self.peer.is_condemned()
    }

    /// The answer has no end of its own: a further request on this connection ends it.
    pub(super) fn set_streaming(&self) {
        if !self.nameless {
            self.peer.streaming.store(true, Relaxed);
        }
    }

    /// Part of an answer was lost: whatever followed would be taken for its rest.
    pub(super) fn set_broken(&self) {
        if !self.nameless {
            self.peer.broken.store(true, Relaxed);
        }
        self.condemn();
    }

    /// Whether nothing more can be sent to this connection.
    pub(super) fn is_broken(&self) -> bool {
        self.peer.broken.load(Relaxed)
    }

    /// Whether the connection cannot be told from others.
    pub(super) fn is_nameless(&self) -> bool {
        self.nameless
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cross_out(self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_ticket_is_counted_until_it_is_dropped() {
        let ledger = Ledger::default();
        let one = ledger.open(Some(addr(1)));
        let nameless = ledger.open(None);
        let waits = |peer| ledger.standing(peer).turn.is_some();
        assert_eq!((waits(Some(addr(1))), waits(Some(addr(2))), waits(None)), (true, false, true));
        drop(one);
        assert_eq!((waits(Some(addr(1))), waits(None)), (false, true));
        drop(nameless);
        assert_eq!((waits(None), ledger.waiting.load(Relaxed)), (false, 0));
    }

    #[test]
    fn a_ticket_says_whose_turn_it_is() {
        let ledger = Ledger::default();
        let peer = Some(addr(1));
        let turn = || ledger.standing(peer).turn;
        let mut ticket = ledger.open(peer);
        assert_eq!(turn(), Some(Turn::Ours));
        ticket.we_wait();
        ticket.we_wait();
        assert_eq!((turn(), ledger.waiting.load(Relaxed)), (Some(Turn::Clients), 0));
        ticket.client_waits();
        assert_eq!(turn(), Some(Turn::Ours));
        ticket.we_wait();
        let behind = ledger.open(peer);
        assert_eq!(turn(), Some(Turn::Ours));
        drop((ticket, behind));
        assert_eq!((turn(), ledger.waiting.load(Relaxed)), (None, 0));
    }

    #[test]
    fn a_condemned_peer_stays_so_until_it_is_forgotten() {
        let ledger = Ledger::default();
        let ticket = ledger.open(Some(addr(1)));
        ticket.condemn();
        assert!(ledger.open(Some(addr(1))).is_condemned());
        drop(ticket);
        let now = Instant::now();
        ledger.forget_all_but(&HashSet::new(), now);
        assert!(ledger.open(Some(addr(1))).is_condemned(), "the guard may not have seen its connection yet");
        ledger.forget_all_but(&HashSet::from([addr(1)]), now + FORGET_AFTER * 2);
        assert!(ledger.open(Some(addr(1))).is_condemned(), "it is still there");
        ledger.forget_all_but(&HashSet::new(), now + FORGET_AFTER * 2);
        assert!(!ledger.open(Some(addr(1))).is_condemned());
    }

    #[test]
    fn another_connection_of_a_condemned_address_is_not_condemned() {
        let ledger = Ledger::default();
        let (peer, live) = (Some(addr(1)), HashSet::from([addr(1)]));
        let ticket = ledger.open(peer);
        ticket.condemn();
        assert!(ledger.standing_of(peer, 7).condemned);
        ledger.forget_all_but(&live, Instant::now());
        assert!(ledger.standing_of(peer, 7).condemned && ledger.open(peer).is_condemned());
        assert!(!ledger.standing_of(peer, 8).condemned && !ledger.open(peer).is_condemned());
        assert!(ticket.is_condemned());
    }

    #[test]
    fn a_connection_condemned_when_it_is_over_leaves_the_next_one_of_its_address_alone() {
        let ledger = Ledger::default();
        let peer = Some(addr(1));
        let ticket = ledger.open(peer);
        ledger.standing_of(peer, 7);
        ledger.standing_of(peer, 8);
        ticket.condemn();
        assert!(!ledger.standing_of(peer, 8).condemned && !ledger.open(peer).is_condemned());
    }

    #[test]
    fn a_condemned_connection_that_was_seen_is_forgotten_when_it_is_gone() {
        let ledger = Ledger::default();
        ledger.open(Some(addr(1))).condemn();
        assert!(ledger.standing_of(Some(addr(1)), 7).condemned);
        ledger.forget_all_but(&HashSet::new(), Instant::now());
        assert!(!ledger.open(Some(addr(1))).is_condemned());
    }

    #[test]
    fn a_peer_that_is_condemned_late_was_not_forgotten_before() {
        let ledger = Ledger::default();
        let mut ticket = ledger.open(Some(addr(1)));
        ticket.we_wait();
        // The guard's look was older than the connection.
        ledger.forget_all_but(&HashSet::new(), Instant::now());
        ticket.condemn();
        assert!(ledger.open(Some(addr(1))).is_condemned(), "the request behind is taken");
    }

    #[test]
    fn who_pipelines_without_end_is_condemned() {
        let ledger = Ledger::default();
        let tickets: Vec<_> = (0..PIPELINE_MAX).map(|_| ledger.open(Some(addr(1)))).collect();
        assert!(!tickets.iter().any(Ticket::is_condemned));
        assert!(ledger.open(Some(addr(1))).is_condemned());
        assert_eq!(
            ledger.standing(Some(addr(1))),
            Standing { turn: Some(Turn::Ours), condemned: true, broken: false }
        );
        assert!(!ledger.open(Some(addr(2))).is_condemned());
    }

    #[test]
    fn while_a_refused_body_is_read_no_further_request_is_taken() {
        let ledger = Ledger::default();
        let ticket = ledger.open(Some(addr(1)));
        ticket.take_no_more();
        assert!(ledger.open(Some(addr(1))).is_condemned());
        assert!(!ledger.standing(Some(addr(1))).condemned, "the guard cuts it off in mid-body");
        assert!(!ledger.open(Some(addr(2))).is_condemned());
    }

    #[test]
    fn a_further_request_ends_a_stream() {
        let ledger = Ledger::default();
        let ticket = ledger.open(Some(addr(1)));
        ticket.set_streaming();
        assert!(!ticket.is_condemned() && !ticket.is_broken());
        assert!(!ledger.open(Some(addr(2))).is_condemned());
        assert!(ledger.open(Some(addr(1))).is_condemned());
        assert!(ticket.is_broken());
    }

    #[test]
    fn the_nameless_are_never_condemned() {
        let ledger = Ledger::default();
        let ticket = ledger.open(None);
        ticket.set_broken();
        assert!(!ledger.open(None).is_condemned());
    }
}
