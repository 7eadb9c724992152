//! What the guard knows of each connection and what it makes of it. No I/O, no clock: it is told both.
//!
//! Over TCP a request is *in progress* from the first look at which bytes have arrived that no answer followed,
//! until an answer is sent or the request is complete and waits for us; and as long as we are known to wait for its
//! rest. A client that sends a byte now and then stays in progress, so its deadline holds. A Unix socket tells
//! nothing of that: its connections are given `read_timeout` and `idle_timeout` together, then no further request,
//! while answers still go out.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::Limits;
use super::super::ledger::{Standing, Turn};
use super::sockets::{Seen, Tcp};

/// A connection told to end is given this long before it is cut off, unless it waits for an answer.
const END_GRACE: Duration = Duration::from_secs(1);
/// A connection still there so long after it was cut off has lost its thread for good.
const STUCK_AFTER: Duration = Duration::from_secs(2);
/// A Unix client that reads nothing holds up the answers of the others: it is cut off after this long.
const UNIX_SEND_WAIT: Duration = Duration::from_secs(1);
/// So long after an answer a connection is not yet called idle.
pub(super) const JUST_SERVED: Duration = Duration::from_secs(1);
/// A connection nobody reads from is given so long before it is taken for stranded.
const STRANDED_AFTER: Duration = Duration::from_millis(80);

/// All connections.
pub(super) struct Table {
    limits: Limits,
    /// The most bytes that can come before an answer.
    request_max_bytes: u64,
    connections: HashMap<u64, Connection>,
    looks: u64,
}

#[derive(Debug)]
struct Connection {
    seen: Seen,
    first_seen: Instant,
    /// Whether it still had a peer at the last look.
    connected: bool,
    last_look: u64,
    /// Bytes received at the first look at which the last answer was sent.
    answered_at_bytes: u64,
    in_progress_since: Option<Instant>,
    idle_since: Instant,
    unwritable_since: Option<Instant>,
    pulsed: Option<Instant>,
    end: End,
}

/// How far a connection is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Not,
    /// Nothing more is read from it.
    Told(Instant),
    /// Nothing is sent either.
    Cut(Instant),
}

/// What is to be done after a look.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// From these nothing more is to be read.
    pub tell: Vec<Seen>,
    /// These are to be cut off.
    pub cut: Vec<Seen>,
    /// Connections ended by this look, those excepted that were condemned.
    pub shed: usize,
    /// Connections nobody reads from, which a new connection would free.
    pub stranded: usize,
    /// Open connections.
    pub open: usize,
    /// Connections that were cut off and do not go away, by their peers.
    pub stuck: Vec<Option<SocketAddr>>,
    /// Whether something is new, so that another look soon is worth it.
    pub lively: bool,
}

impl Table {
    pub(super) fn new(limits: Limits, head_max_bytes: usize) -> Self {
        let request_max_bytes = u64::try_from(head_max_bytes + limits.max_body_bytes).unwrap_or(u64::MAX);
        Self { limits, request_max_bytes, connections: HashMap::new(), looks: 0 }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The cookies of all connections.
    pub(super) fn cookies(&self) -> impl Iterator<Item = u64> {
        self.connections.keys().copied()
    }

    /// Whether a connection is known.
    pub(super) fn contains(&self, cookie: u64) -> bool {
        self.connections.contains_key(&cookie)
    }

    /// The peers that have a connection. One whose connection is over has none, even if its descriptor stays: the
    /// address is free for another connection.
    pub(super) fn peers(&self) -> impl Iterator<Item = SocketAddr> {
        self.connections.values().filter(|c| c.connected).filter_map(|c| c.seen.peer)
    }

    /// Whether the connection of that peer was cut off or is gone.
    pub(super) fn is_over(&self, peer: SocketAddr) -> bool {
        let mut of_peer = self.connections.values().filter(|c| c.seen.peer == Some(peer));
        of_peer.all(|c| matches!(c.end, End::Cut(_)))
    }

    /// Takes a look in and says what is to be done about it.
    pub(super) fn look(
        &mut self,
        now: Instant,
        seen: Vec<Seen>,
        standing: impl Fn(&Seen, bool) -> Standing,
    ) -> Plan {
        self.looks += 1;
        let mut plan = Plan::default();
        for mut seen in seen {
            let known = self.connections.get(&seen.cookie);
            plan.lively |= known.is_none();
            // A connection that was reset has no peer any more.
            let connected = seen.peer.is_some();
            seen.peer = seen.peer.or(known.and_then(|c| c.seen.peer));
            let standing = standing(&seen, connected);
            let connection =
                self.connections.entry(seen.cookie).or_insert_with(|| Connection::new(seen, now));
            connection.take_in(seen, standing, now);
            connection.connected = connected;
            connection.last_look = self.looks;
            connection.judge(&self.limits, self.request_max_bytes, standing, now, &mut plan);
        }
        // One missed look is forgiven: descriptors move while they are listed.
        self.connections.retain(|_, connection| connection.last_look + 1 >= self.looks);
        self.shed(now, &mut plan);
        plan
    }

    /// Tells all connections to end.
    pub(super) fn tell_all(&mut self, now: Instant) -> Vec<Seen> {
        let open = self.connections.values_mut().filter(|c| c.end == End::Not);
        open.map(|c| c.told(now)).collect()
    }

    /// Tells some connections to end.
    pub(super) fn tell_these(&mut self, cookies: &HashSet<u64>, now: Instant) -> Vec<Seen> {
        let these = self.connections.iter_mut().filter(|(cookie, _)| cookies.contains(cookie));
        these.filter(|(_, c)| c.end == End::Not).map(|(_, c)| c.told(now)).collect()
    }

    /// Cuts all connections off.
    pub(super) fn cut_all(&mut self, now: Instant) -> Vec<Seen> {
        let open = self.connections.values_mut().filter(|c| !matches!(c.end, End::Cut(_)));
        open.map(|c| c.cut(now)).collect()
    }

    /// Tells some to end when there are too many.
    fn shed(&mut self, now: Instant, plan: &mut Plan) {
        let mut open: Vec<_> = self.connections.values_mut().filter(|c| c.end == End::Not).collect();
        plan.open = open.len();
        let excess = open.len().saturating_sub(self.limits.max_connections);
        if excess == 0 {
            return;
        }
        open.sort_by_key(|c| c.worth(now));
        plan.tell.extend(open.into_iter().take(excess).map(|c| c.told(now)));
        plan.shed += excess;
    }
}

impl Connection {
    fn new(seen: Seen, now: Instant) -> Self {
        Self {
            seen: Seen { tcp: seen.tcp.map(|_| Tcp::default()), ..seen },
            first_seen: now,
            connected: false,
            last_look: 0,
            answered_at_bytes: 0,
            in_progress_since: None,
            idle_since: now,
            unwritable_since: None,
            pulsed: None,
            end: End::Not,
        }
    }

    /// What is ended first when there are too many: the longest idle; then the oldest of those that never
    /// completed a request, as slow clients do not; then the slowest of those that did. Who was just served is
    /// ended last, or slow clients would drive the good ones out.
    fn worth(&self, now: Instant) -> (u8, Instant) {
        let served = self.seen.tcp.is_some_and(|tcp| tcp.sent > 0);
        match self.in_progress_since {
            None if served && now.saturating_duration_since(self.idle_since) >= JUST_SERVED => {
                (0, self.idle_since)
            }
            _ if !served => (1, self.first_seen),
            Some(since) => (2, since),
            None => (3, self.idle_since),
        }
    }

    fn told(&mut self, now: Instant) -> Seen {
        self.end = End::Told(now);
        self.seen
    }

    fn cut(&mut self, now: Instant) -> Seen {
        self.end = End::Cut(now);
        self.seen
    }

    /// Works out what happened since the last look.
    fn take_in(&mut self, seen: Seen, standing: Standing, now: Instant) {
        if let (Some(tcp), Some(before)) = (seen.tcp, self.seen.tcp) {
            if tcp.sent != before.sent {
                self.idle_since = now;
                self.in_progress_since = tcp.received_last.then_some(now);
                // How much of it came before the answer cannot be seen: all of it, to a fast and honest sender.
                self.answered_at_bytes = tcp.received;
            } else if tcp.received != before.received && self.in_progress_since.is_none() {
                self.in_progress_since = Some(now);
            }
            match standing.turn {
                Some(Turn::Ours) => {
                    self.in_progress_since = None;
                    self.idle_since = now;
                }
                // Also where an earlier look found it waiting for us, or an answer went ahead of its end.
                Some(Turn::Clients) => self.in_progress_since = self.in_progress_since.or(Some(now)),
                None => {}
            }
        }
        self.unwritable_since = if seen.writable { None } else { self.unwritable_since.or(Some(now)) };
        self.seen = seen;
    }

    /// Says what is to be done about it.
    fn judge(
        &mut self,
        limits: &Limits,
        request_max_bytes: u64,
        standing: Standing,
        now: Instant,
        plan: &mut Plan,
    ) {
        let since = |at: Instant| now.saturating_duration_since(at);
        match self.end {
            End::Not if standing.broken => plan.cut.push(self.cut(now)),
            End::Not if standing.condemned => plan.tell.push(self.told(now)),
            End::Not if self.reads_nothing(limits, now) => {
                plan.cut.push(self.cut(now));
                plan.shed += 1;
            }
            End::Not if self.is_overdue(limits, now) || self.unanswered_bytes() > request_max_bytes => {
                plan.tell.push(self.told(now));
                plan.shed += 1;
            }
            End::Not => self.look_for_stranding(now, plan),
            End::Told(at) => {
                let grace = if standing.turn == Some(Turn::Ours) { limits.write_timeout } else { END_GRACE };
                if since(at) >= grace || standing.broken {
                    plan.cut.push(self.cut(now));
                }
                plan.lively = true;
            }
            End::Cut(at) if since(at) >= STUCK_AFTER && standing.turn != Some(Turn::Ours) => {
                plan.stuck.push(self.seen.peer);
            }
            End::Cut(_) => plan.lively = true,
        }
    }

    /// Whether it had the time it may have.
    fn is_overdue(&self, limits: &Limits, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        match self.seen.tcp {
            None => since(self.first_seen) >= limits.read_timeout + limits.idle_timeout,
            Some(tcp) => match self.in_progress_since {
                Some(at) => since(at) >= limits.read_timeout,
                None if tcp.received == 0 => since(self.first_seen) >= limits.read_timeout,
                None => since(self.idle_since) >= limits.idle_timeout,
            },
        }
    }

    fn reads_nothing(&self, limits: &Limits, now: Instant) -> bool {
        let wait = if self.seen.tcp.is_some() { limits.write_timeout } else { UNIX_SEND_WAIT };
        self.unwritable_since.is_some_and(|at| now.saturating_duration_since(at) >= wait)
    }

    fn unanswered_bytes(&self) -> u64 {
        self.seen.tcp.map_or(0, |tcp| tcp.received.saturating_sub(self.answered_at_bytes))
    }

    /// tiny_http's pool queues a connection when it believes a thread is free; after a burst none is, and
    /// nobody reads from it until yet another connection makes it start one (`util/task_pool.rs`).
    fn look_for_stranding(&mut self, now: Instant, plan: &mut Plan) {
        let never_read = self.seen.tcp.is_none_or(|tcp| tcp.received == self.seen.unread && tcp.sent == 0);
        let young = now.saturating_duration_since(self.first_seen) < STRANDED_AFTER;
        // One that has sent nothing may be stranded or only silent: one pulse makes sure.
        let worth_a_pulse = self.seen.unread > 0 || self.pulsed.is_none();
        if self.seen.peer_done || !never_read || !worth_a_pulse {
            return;
        }
        plan.lively = true;
        let pulsed_lately = self.pulsed.is_some_and(|at| now.saturating_duration_since(at) < STRANDED_AFTER);
        if !young && !pulsed_lately {
            self.pulsed = Some(now);
            plan.stranded += 1;
        }
    }
}
