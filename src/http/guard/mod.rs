//! The guard: looks at the server's sockets from outside and keeps what tiny_http does not: deadlines, limits,
//! an accept thread that lives. It looks rarely while nothing happens.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;

use super::acceptor::{Acceptor, decide_at_last};
use super::jobs::spawn;
use super::{HEAD_MAX_BYTES, STUCK_MAX, Shared};
use crate::error::Error;

mod sockets;
mod table;
#[cfg(test)]
mod table_tests;

use sockets::{Seen, Sockets};
use table::{Plan, Table};

/// Between looks while connections come, go or are being ended.
const LIVELY: Duration = Duration::from_millis(100);
/// Between looks while connections just are.
const CALM: Duration = Duration::from_millis(500);
/// Between looks while there is no connection. A new one mostly wakes the guard, but not when the accept thread
/// was faster (`poll` then finds nothing and sleeps on); then its first request does. Every deadline is kept to within this.
const QUIET: Duration = Duration::from_secs(1);
/// Between looks at least, however often the bell rings.
const BREATH: Duration = Duration::from_millis(25);
/// Between attempts to repair the accept thread.
const REPAIR_EVERY: Duration = Duration::from_millis(500);
/// Free descriptors a repair needs: the listener's, and two for each of the first connections.
const REPAIR_DESCRIPTORS: usize = 16;
/// Servers with a dead accept thread that still have connections; the oldest of more has them ended.
const OLD_SERVERS_MAX: usize = 4;
/// Connections made at one look to free stranded ones.
const PULSES_MAX: usize = 512;
/// How long connections may take to end when the server stops.
pub(super) const END_CONNECTIONS_WAIT: Duration = Duration::from_secs(2);

/// Starts the first acceptor and the guard.
pub(super) fn start(shared: &Arc<Shared>) -> Result<JoinHandle<()>, Error> {
    let sockets = Sockets::new(shared.bound.as_fd())
        .map_err(|error| Error::failed(format!("cannot watch {}: {error}", shared.bound)))?;
    let mut guard = Guard {
        sockets,
        table: Table::new(shared.limits, HEAD_MAX_BYTES),
        acceptor: Acceptor::start(shared)?,
        old: Vec::new(),
        repaired: None,
        body: Vec::new(),
        shared: Arc::clone(shared),
    };
    spawn("guard", Arc::clone(shared), move || guard.run())
}

struct Guard {
    sockets: Sockets,
    table: Table,
    acceptor: Acceptor,
    /// Servers whose accept thread is dead, with the connections they may still have.
    old: Vec<(Acceptor, HashSet<u64>)>,
    repaired: Option<Instant>,
    /// For what waited for a look.
    body: Vec<u8>,
    shared: Arc<Shared>,
}

impl Guard {
    fn run(&mut self) {
        let mut pause = QUIET;
        while !self.shared.ending.load(Relaxed) {
            self.wait(pause);
            // Without a listing there is nothing to go by; the next one may succeed.
            pause = self.look().map_or(CALM, |plan| self.pause_after(&plan));
        }
        self.end_all();
        for (acceptor, _) in &self.old {
            acceptor.retire();
        }
        self.acceptor.retire();
    }

    /// Waits for the bell, for a new connection while nothing is going on, and at most for `pause`.
    fn wait(&self, pause: Duration) {
        let mut awaited = vec![PollFd::new(&self.shared.guard_bell, PollFlags::IN)];
        if pause != LIVELY && !self.shared.is_closing() {
            awaited.push(PollFd::new(&self.shared.bound, PollFlags::IN));
        }
        self.shared.guard_rests.store(pause == QUIET, Relaxed);
        let timeout = Timespec::try_from(pause).ok();
        // An interrupted wait is a short one.
        let woken = poll(&mut awaited, timeout.as_ref()).is_ok_and(|events| events > 0);
        self.shared.guard_rests.store(false, Relaxed);
        if woken {
            let _ = rustix::io::read(&self.shared.guard_bell, &mut [0; 8]);
            // Who just came needs a moment to be accepted, and many that come at once are seen at once.
            std::thread::sleep(BREATH);
        }
    }

    fn pause_after(&self, plan: &Plan) -> Duration {
        let half = self.shared.limits.max_connections / 2;
        if plan.lively || plan.open > half {
            LIVELY
        } else if self.table.is_empty() {
            QUIET
        } else {
            CALM
        }
    }

    /// One look at everything, and what follows from it.
    fn look(&mut self) -> Option<Plan> {
        let shared = Arc::clone(&self.shared);
        // Before the look, so that it tells of their connections.
        let in_limbo = shared.limbo.take();
        let plan = self.look_at_connections();
        if !in_limbo.is_empty() {
            for request in in_limbo {
                decide_at_last(request, &mut self.body, &shared);
            }
            shared.limbo.decided();
        }
        plan
    }

    fn look_at_connections(&mut self) -> Option<Plan> {
        let now = Instant::now();
        let listing = match self.sockets.list() {
            Ok(listing) => listing,
            Err(error) => {
                log::warn!("cannot list the connections of {}: {error}", self.shared.bound);
                return None;
            }
        };
        let shared = Arc::clone(&self.shared);
        let mut plan = self.table.look(now, listing.connections, |seen, connected| {
            if connected {
                shared.ledger.standing_of(seen.peer, seen.cookie)
            } else {
                shared.ledger.standing(seen.peer)
            }
        });
        self.carry_out(&plan);
        self.count_stuck(&plan);
        let live: HashSet<_> = self.table.peers().collect();
        shared.ledger.forget_all_but(&live, now);
        let unnamed_over = shared.limits.read_timeout + shared.limits.idle_timeout + 2 * CALM;
        shared.lot.reclaim(|peer, age| match peer {
            Some(peer) => self.table.is_over(peer),
            None => age > unnamed_over,
        });
        // Our own clone of the listener is one; each accept thread has another.
        if listing.listeners < 2 && !shared.is_closing() {
            self.repair(now);
            plan.lively = true;
        }
        self.retire_old();
        Some(plan)
    }

    fn carry_out(&mut self, plan: &Plan) {
        // Counted first: who sees its connection end finds it counted.
        for _ in 0..plan.shed {
            self.shared.handler.shed();
        }
        self.shut(&plan.tell, Shutdown::Read);
        self.shut(&plan.cut, Shutdown::Both);
        if plan.stranded > 0 {
            log::debug!("{} connections wait for a thread", plan.stranded);
        }
        for _ in 0..plan.stranded.min(PULSES_MAX) {
            // Without a descriptor or room in the backlog the next look tries again.
            let _ = self.shared.bound.dial();
        }
    }

    fn shut(&mut self, connections: &[Seen], how: Shutdown) {
        for seen in connections {
            log::debug!("ending ({how:?}) the connection of {:?}", seen.peer);
            self.sockets.shut(seen, how);
        }
    }

    /// Counts the threads that are lost, and ends the process when they are too many.
    fn count_stuck(&self, plan: &Plan) {
        let parked = self.shared.lot.peers();
        let unnamed_parked = self.shared.lot.len() - parked.len();
        let unnamed_stuck = plan.stuck.iter().filter(|peer| peer.is_none()).count();
        let named_stuck = plan.stuck.iter().flatten().filter(|peer| !parked.contains(peer)).count();
        let stuck = parked.len() + named_stuck + unnamed_parked.max(unnamed_stuck);
        self.shared.handler.connections(plan.open, stuck);
        if stuck > STUCK_MAX {
            self.shared.fail(format!(
                "{stuck} connections to {} are stuck for good (requests announcing huge bodies, or HTTP/2.0), \
                 more than the {STUCK_MAX} allowed: a new start is needed. A proxy in front keeps them out",
                self.shared.bound
            ));
        }
    }

    /// Has the same socket accepted from by a new server; the old one keeps its connections.
    fn repair(&mut self, now: Instant) {
        let lately = self.repaired.is_some_and(|at| now.duration_since(at) < REPAIR_EVERY);
        if lately {
            return;
        }
        self.repaired = Some(now);
        let spare = self.sockets.spare(REPAIR_DESCRIPTORS);
        if spare < REPAIR_DESCRIPTORS {
            log::error!("nobody accepts on {}: no descriptors left", self.shared.bound);
            return;
        }
        match Acceptor::start(&self.shared) {
            Ok(acceptor) => {
                log::warn!("accepting on {} again", self.shared.bound);
                let old = std::mem::replace(&mut self.acceptor, acceptor);
                self.old.push((old, self.table.cookies().collect()));
            }
            Err(error) => log::error!("nobody accepts on {}: {error}", self.shared.bound),
        }
    }

    /// Ends the servers that have no connection left.
    fn retire_old(&mut self) {
        if self.old.len() > OLD_SERVERS_MAX {
            let now = Instant::now();
            let (_, cookies) = &self.old[0];
            let told = self.table.tell_these(cookies, now);
            self.shut(&told, Shutdown::Read);
        }
        let table = &self.table;
        self.old.retain_mut(|(acceptor, cookies)| {
            cookies.retain(|cookie| table.contains(*cookie));
            if cookies.is_empty() {
                acceptor.retire();
            }
            !cookies.is_empty()
        });
    }

    /// Ends every connection: first lets the answers out, then cuts off what is left.
    fn end_all(&mut self) {
        let half_time = Instant::now() + END_CONNECTIONS_WAIT / 2;
        let deadline = half_time + END_CONNECTIONS_WAIT / 2;
        loop {
            let now = Instant::now();
            let Some(plan) = self.look() else { return };
            if self.table.is_empty() || now >= deadline {
                return;
            }
            let (ending, how) = if now < half_time {
                (self.table.tell_all(now), Shutdown::Read)
            } else {
                (self.table.cut_all(now), Shutdown::Both)
            };
            self.shut(&ending, how);
            if plan.stuck.len() == self.table.len() {
                return;
            }
            std::thread::sleep(BREATH);
        }
    }
}
