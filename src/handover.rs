//! From one who has work to many who do it, by a bounded channel: so that, of many, those that get done take the next
//! piece, and those that have nothing to do sleep on.
//!
//! A receiver of crossbeam looks again for a while before it sleeps, and each piece wakes one that sleeps. Of 256 workers
//! each then slept and was woken for every event, though another got done within the millisecond: five changes of
//! threads per event where two do.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

/// So few takers are served by crossbeam alone: that is the quickest, and they cost little.
pub const FEW: usize = 62;

/// A way for work with room for `queue` pieces, to so many takers.
#[must_use]
pub fn way<T>(queue: usize, takers: usize) -> (Giver<T>, Taker<T>) {
    let (sender, receiver) = bounded(queue);
    let rest = (takers > FEW).then(Arc::<Rest>::default);
    (Giver { sender, rest: rest.clone(), given: 0, counted: 0 }, Taker { receiver, rest })
}

/// Who has the work.
pub struct Giver<T> {
    sender: Sender<T>,
    rest: Option<Arc<Rest>>,
    /// Pieces given in all.
    given: usize,
    /// And when those left over were last called for.
    counted: usize,
}

impl<T> Giver<T> {
    /// Gives a piece to whoever gets done; sleepers do not hear of it until they are called. Where there is no room it
    /// calls them and waits. Gives whether there is still a taker.
    pub fn give(&mut self, piece: T) -> bool {
        self.given = self.given.wrapping_add(1);
        if self.sender.is_full() {
            self.call();
        }
        self.sender.send(piece).is_ok()
    }

    /// Pieces that wait for a taker.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sender.len()
    }

    /// Wakes a sleeper for every piece that waits.
    pub fn call(&self) {
        self.wake(self.sender.len());
    }

    /// Wakes a sleeper for every piece that waited already when this was called last: nobody got done for it.
    pub fn call_for_left(&mut self) {
        let since = self.given.wrapping_sub(self.counted);
        self.wake(self.sender.len().saturating_sub(since));
        self.counted = self.given;
    }

    fn wake(&self, takers: usize) {
        if let Some(rest) = self.rest.as_ref().filter(|_| takers > 0) {
            rest.wake(takers);
        }
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        if let Some(rest) = &self.rest {
            rest.end();
        }
    }
}

/// One who does the work.
pub struct Taker<T> {
    receiver: Receiver<T>,
    rest: Option<Arc<Rest>>,
}

impl<T> Clone for Taker<T> {
    fn clone(&self) -> Self {
        Self { receiver: self.receiver.clone(), rest: self.rest.clone() }
    }
}

impl<T> Taker<T> {
    /// Takes the next piece, waiting for it. `None` when the giver is gone and everything is taken.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        let Some(rest) = &self.rest else { return self.receiver.recv().ok() };
        loop {
            match self.receiver.try_recv() {
                Ok(piece) => return Some(piece),
                Err(TryRecvError::Empty) if rest.sleep(|| !self.receiver.is_empty()) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Where takers sleep.
#[derive(Default)]
struct Rest {
    state: Mutex<State>,
    called: Condvar,
}

#[derive(Default)]
struct State {
    sleepers: usize,
    /// Sleepers that are called and not awake yet.
    calls: usize,
    ended: bool,
}

impl Rest {
    /// Sleeps until called, but not if there is work. It can wake for nothing. Gives whether there may be work yet.
    fn sleep(&self, is_there_work: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        // Looked at under the lock: who gives a piece and then calls finds us sleeping, or we find the piece.
        if is_there_work() {
            return true;
        }
        if state.ended {
            return false;
        }
        state.sleepers += 1;
        while state.calls == 0 && !state.ended {
            state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleepers -= 1;
        state.calls = state.calls.saturating_sub(1);
        true
    }

    /// Sees to it that so many are called, as far as there are sleepers.
    fn wake(&self, takers: usize) {
        let mut state = self.state();
        let more = takers.min(state.sleepers).saturating_sub(state.calls);
        state.calls += more;
        drop(state);
        for _ in 0..more {
            self.called.notify_one();
        }
    }

    fn end(&self) {
        self.state().ended = true;
        self.called.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    const MANY: usize = FEW + 1;

    fn wait_until(what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "never: {what}");
            thread::yield_now();
        }
    }

    /// Waits until so many sleep, and so many pieces wait.
    fn until_calm<T>(giver: &Giver<T>, takers: usize, pieces: usize) {
        wait_until("calm", || {
            let state = giver.rest.as_ref().unwrap().state();
            (giver.waiting(), state.sleepers, state.calls) == (pieces, takers, 0)
        });
    }

    #[test]
    fn all_that_is_given_is_taken_before_the_end() {
        for takers in [1, MANY] {
            let (mut giver, taker) = way(8, takers);
            assert!((0..8).all(|piece| giver.give(piece)));
            drop(giver);
            assert_eq!(std::iter::from_fn(|| taker.take()).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        }
        let (mut giver, taker) = way(1, MANY);
        drop(taker);
        assert!(!giver.give(0), "there is nobody to take it");
    }

    #[test]
    fn a_sleeper_is_woken_by_a_call_and_at_the_end() {
        let (mut giver, taker) = way(8, MANY);
        thread::scope(|scope| {
            let sleepers: Vec<_> = (0..3).map(|_| scope.spawn(|| taker.take())).collect();
            until_calm(&giver, 3, 0);
            giver.give(7);
            giver.call();
            until_calm(&giver, 2, 0);
            drop(giver);
            let pieces: Vec<_> = sleepers.into_iter().filter_map(|sleeper| sleeper.join().unwrap()).collect();
            assert_eq!(pieces, [7]);
        });
    }

    #[test]
    fn what_nobody_got_done_for_is_called_for_the_second_time() {
        let (mut giver, taker) = way(8, MANY);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| taker.take());
            }
            until_calm(&giver, 3, 0);
            giver.give(1);
            giver.call_for_left();
            giver.give(2);
            assert_eq!((giver.waiting(), giver.rest.as_ref().unwrap().state().calls), (2, 0));
            giver.call_for_left();
            // The second has waited for one call only.
            until_calm(&giver, 2, 1);
            giver.call_for_left();
            until_calm(&giver, 1, 0);
            drop(giver);
        });
    }

    #[test]
    fn who_finds_no_room_calls_before_it_waits() {
        let (mut giver, taker) = way(1, MANY);
        let takers: Vec<_> = (0..3).map(|_| taker.clone()).collect();
        // Threads of their own: where they hang the test fails nevertheless.
        let sleepers: Vec<_> = takers.into_iter().map(|taker| thread::spawn(move || taker.take())).collect();
        until_calm(&giver, 3, 0);
        let all = thread::spawn(move || (0..3).all(|piece| giver.give(piece)));
        wait_until("all are given", || all.is_finished());
        assert!(all.join().unwrap());
        let pieces = sleepers.into_iter().filter_map(|sleeper| sleeper.join().unwrap()).count();
        assert_eq!(pieces, 3);
    }

    #[test]
    fn nobody_sleeps_while_there_is_work() {
        let rest = Rest::default();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| rest.sleep(|| true));
            wait_until("it is awake, or asleep", || sleeper.is_finished() || rest.state().sleepers > 0);
            let awake = sleeper.is_finished();
            rest.end();
            assert!(awake);
        });
    }

    #[test]
    fn no_piece_is_left_while_takers_sleep() {
        const PIECES: usize = 20_000;
        let (mut giver, taker) = way(PIECES, MANY);
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taker.take().is_some() {
                        count.fetch_add(1, Relaxed);
                    }
                });
            }
            for _ in 0..PIECES {
                giver.give(());
                giver.call();
            }
            until_calm(&giver, 4, 0);
            drop(giver);
        });
        assert_eq!(count.into_inner(), PIECES);
    }
}
