//! The table's rules, one by one, on a clock of the tests' own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::Limits;
use super::super::ledger::{Standing, Turn};
use super::sockets::{Seen, Tcp};
use super::table::{JUST_SERVED, Plan, Table};

const LIMITS: Limits = Limits {
    max_connections: 3,
    read_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(8),
    idle_timeout: Duration::from_secs(60),
    max_body_bytes: 1000,
};
const HEAD_MAX_BYTES: usize = 500;

/// A table and connections that change between looks, half a second apart.
struct World {
    table: Table,
    now: Instant,
    connections: Vec<Seen>,
    standing: Standing,
}

impl World {
    fn new(connections: usize) -> Self {
        let seen = |index: usize| Seen {
            cookie: index as u64 + 1,
            inode: 0,
            fd: 0,
            peer: Some(SocketAddr::from(([127, 0, 0, 1], 1000 + u16::try_from(index).unwrap()))),
            unread: 0,
            writable: true,
            peer_done: false,
            tcp: Some(Tcp::default()),
        };
        Self {
            table: Table::new(LIMITS, HEAD_MAX_BYTES),
            now: Instant::now(),
            connections: (0..connections).map(seen).collect(),
            standing: Standing::default(),
        }
    }

    fn one() -> Self {
        Self::new(1)
    }

    fn tcp(&mut self) -> &mut Tcp {
        self.connections[0].tcp.as_mut().unwrap()
    }

    fn receive(&mut self, bytes: u64) {
        self.tcp().received += bytes;
        self.tcp().received_last = true;
    }

    fn answer(&mut self) {
        self.tcp().sent += 150;
        self.tcp().received_last = false;
    }

    fn look(&mut self) -> Plan {
        self.now += Duration::from_millis(500);
        let standing = self.standing;
        self.table.look(self.now, self.connections.clone(), |_, _| standing)
    }

    /// Looks, with something done before each look, until a connection is told to end; gives how long that took.
    fn until_told(&mut self, mut before: impl FnMut(&mut Self)) -> Duration {
        let start = self.now;
        loop {
            before(self);
            let plan = self.look();
            assert!(plan.cut.is_empty(), "cut off without a word");
            if !plan.tell.is_empty() {
                return self.now - start;
            }
            assert!(self.now - start < Duration::from_secs(1000), "never told to end");
        }
    }
}

fn about(took: Duration, expected: Duration) -> bool {
    took >= expected && took <= expected + Duration::from_secs(1)
}

#[test]
fn who_sends_nothing_has_the_time_of_a_request() {
    assert!(about(World::one().until_told(|_| {}), LIMITS.read_timeout));
}

#[test]
fn a_drip_has_the_time_of_a_request() {
    assert!(about(World::one().until_told(|world| world.receive(1)), LIMITS.read_timeout));
}

#[test]
fn after_an_answer_a_connection_may_be_idle() {
    let mut world = World::one();
    world.receive(100);
    world.look();
    world.answer();
    assert!(about(world.until_told(|_| {}), LIMITS.idle_timeout));
}

#[test]
fn a_request_begun_behind_another_has_its_own_time() {
    let mut world = World::one();
    for _ in 0..30 {
        // An answer between any two looks, and each time the next request already begun: busy, not slow.
        world.receive(100);
        world.answer();
        world.receive(10);
        assert!(world.look().tell.is_empty());
    }
    // It was begun before the last look.
    assert!(about(world.until_told(|_| {}) + Duration::from_millis(500), LIMITS.read_timeout));
}

#[test]
fn while_it_waits_for_us_its_time_stands_still() {
    let mut world = World::one();
    world.receive(100);
    world.standing.turn = Some(Turn::Ours);
    for _ in 0..500 {
        assert!(world.look().tell.is_empty());
    }
    world.standing.turn = None;
    world.answer();
    assert!(about(world.until_told(|_| {}), LIMITS.idle_timeout));
}

#[test]
fn a_look_between_a_head_and_our_wait_for_the_body_gives_no_more_time() {
    let mut world = World::one();
    world.receive(100);
    world.standing.turn = Some(Turn::Ours);
    world.look();
    world.standing.turn = Some(Turn::Clients);
    assert!(about(world.until_told(|_| {}), LIMITS.read_timeout));
}

#[test]
fn an_answer_ahead_of_the_end_of_a_request_gives_no_more_time() {
    let mut world = World::one();
    world.receive(100);
    world.look();
    world.answer();
    world.standing.turn = Some(Turn::Clients);
    assert!(about(world.until_told(|_| {}), LIMITS.read_timeout));
}

#[test]
fn more_bytes_than_any_request_has_end_it() {
    let mut world = World::one();
    world.receive(1500);
    assert!(world.look().tell.is_empty());
    world.receive(1);
    assert_eq!(world.look().tell.len(), 1);
    // Answered ones do not count.
    let mut world = World::one();
    for _ in 0..100 {
        world.receive(1400);
        world.answer();
        assert!(world.look().tell.is_empty());
    }
    // Nor do those of a fast sender, whose next request is always under way.
    for _ in 0..100 {
        world.receive(100_000);
        world.answer();
        world.receive(100);
        assert!(world.look().tell.is_empty());
    }
}

#[test]
fn who_does_not_read_is_cut_off() {
    let mut world = World::one();
    world.receive(100);
    world.answer();
    world.connections[0].writable = false;
    let start = world.now;
    while world.look().cut.is_empty() {
        assert!(world.now - start < Duration::from_secs(20));
    }
    assert!(about(world.now - start, LIMITS.write_timeout));
}

#[test]
fn one_told_to_end_is_cut_off_and_then_counted_as_stuck() {
    let mut world = World::one();
    world.standing.condemned = true;
    let plan = world.look();
    assert_eq!((plan.tell.len(), plan.shed), (1, 0));
    // As long as an answer is due to it, it gets the time to read it.
    world.standing.turn = Some(Turn::Ours);
    for _ in 0..10 {
        assert!(world.look().cut.is_empty());
    }
    world.standing.turn = None;
    assert_eq!(world.look().cut.len(), 1);
    assert!(world.table.is_over(world.connections[0].peer.unwrap()));
    for _ in 0..3 {
        assert!(world.look().stuck.is_empty());
    }
    assert_eq!(world.look().stuck.len(), 1);
    world.connections.clear();
    assert!(world.look().stuck.is_empty());
    world.look();
    assert!(world.table.is_empty());
}

#[test]
fn one_that_cannot_be_sent_to_is_cut_off_at_once() {
    let mut world = World::one();
    world.standing.broken = true;
    assert_eq!(world.look().cut.len(), 1);
}

#[test]
fn above_the_limit_the_longest_idle_go_first_and_who_was_just_served_last() {
    let mut world = World::new(6);
    let later = world.connections.split_off(3);
    let serve = |seen: &mut Seen| {
        seen.tcp = Some(Tcp { received: 100, sent: 150, received_last: false });
    };
    // 1 is served and then idle, 2 likewise but later; 3 never completes a request.
    serve(&mut world.connections[0]);
    world.connections[2].tcp.as_mut().unwrap().received = 10;
    world.look();
    world.look();
    serve(&mut world.connections[1]);
    world.look();
    world.now += JUST_SERVED;
    // Those that come after them are served at once.
    world.connections.extend(later);
    for seen in &mut world.connections[3..] {
        serve(seen);
    }
    let plan = world.look();
    let told: Vec<_> = plan.tell.iter().map(|seen| seen.cookie).collect();
    assert_eq!(told, [1, 2, 3]);
    assert_eq!((plan.shed, plan.open), (3, 6));
    assert_eq!(world.look().open, 3);
}

#[test]
fn stranded_connections_are_pulsed_until_somebody_reads() {
    let mut world = World::one();
    assert_eq!(world.look().stranded, 0, "it may just have come");
    assert_eq!(world.look().stranded, 1, "silent or stranded: one pulse tells");
    assert_eq!(world.look().stranded, 0);
    world.receive(100);
    world.connections[0].unread = 100;
    assert_eq!(world.look().stranded, 1);
    assert_eq!(world.look().stranded, 1);
    world.connections[0].unread = 0;
    assert_eq!(world.look().stranded, 0);
}

#[test]
fn a_unix_connection_has_a_life_in_all() {
    let mut world = World::one();
    world.connections[0].tcp = None;
    world.connections[0].peer = None;
    assert!(about(world.until_told(|_| {}), LIMITS.read_timeout + LIMITS.idle_timeout));
}

#[test]
fn one_missed_look_is_no_new_connection() {
    let mut world = World::one();
    let took = world.until_told(|world| {
        let seen = std::mem::take(&mut world.connections);
        world.look();
        world.connections = seen;
    });
    assert!(about(took, LIMITS.read_timeout));
}

#[test]
fn an_address_is_free_again_when_its_connection_is_over() {
    let mut world = World::one();
    world.receive(100);
    world.look();
    assert_eq!(world.table.peers().count(), 1);
    // Its thread is stuck: the descriptor stays, the client is gone.
    world.connections[0].peer = None;
    world.look();
    assert_eq!((world.table.len(), world.table.peers().count()), (1, 0));
}
