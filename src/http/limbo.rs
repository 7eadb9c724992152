//! Requests from an address whose connection was condemned. Is theirs that connection, or the next one there? Only
//! the guard can see that, so they wait for its next look.

use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tiny_http::Request;

/// Requests that wait at most; the connection of what comes beyond is condemned, since it must not overtake them.
const WAITING_MAX: usize = 1024;

/// Those that wait, in the order of their coming.
#[derive(Default)]
pub(super) struct Limbo {
    /// How many wait or are being decided.
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<ManuallyDrop<Request>>,
    /// The addresses of those that are being decided.
    deciding: Vec<SocketAddr>,
}

impl Limbo {
    /// Whether a request of that address waits: those behind it must not overtake it.
    pub(super) fn holds(&self, addr: Option<&SocketAddr>) -> bool {
        let Some(addr) = addr.filter(|_| self.count.load(SeqCst) > 0) else { return false };
        let state = self.state();
        state.deciding.contains(addr)
            || state.waiting.iter().any(|request| request.remote_addr() == Some(addr))
    }

    /// Takes a request, or gives it back when too many wait.
    pub(super) fn hold(&self, request: ManuallyDrop<Request>) -> Option<ManuallyDrop<Request>> {
        let mut state = self.state();
        if state.waiting.len() >= WAITING_MAX {
            return Some(request);
        }
        state.waiting.push(request);
        self.count.fetch_add(1, SeqCst);
        None
    }

    /// All that wait, to be decided once a look that begins now has told of their connections.
    pub(super) fn take(&self) -> Vec<ManuallyDrop<Request>> {
        if self.count.load(SeqCst) == 0 {
            return Vec::new();
        }
        let mut state = self.state();
        let taken = std::mem::take(&mut state.waiting);
        state.deciding = taken.iter().filter_map(|request| request.remote_addr().copied()).collect();
        taken
    }

    /// All that were taken are decided.
    pub(super) fn decided(&self) {
        let mut state = self.state();
        self.count.fetch_sub(state.deciding.len(), SeqCst);
        state.deciding.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
