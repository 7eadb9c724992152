//! A thread that runs what it is given, in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::Shared;
use crate::error::Error;

/// Something to be done by another thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// Our threads need little stack: no recursion, buffers on the heap.
pub(super) const STACK_BYTES: usize = 128 * 1024;

/// Jobs that may wait before who hands one over has to do it itself.
const QUEUE: usize = 8 * 1024;

/// The way to the thread.
pub(super) struct Jobs(Sender<Option<Job>>);

/// What the thread takes from.
pub(super) struct Queue(Receiver<Option<Job>>);

/// A queue and the way to it.
pub(super) fn queue() -> (Jobs, Queue) {
    let (sender, receiver) = bounded(QUEUE);
    (Jobs(sender), Queue(receiver))
}

impl Jobs {
    /// Has the job done, by this very thread if the queue is full.
    pub(super) fn run(&self, job: Job) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.0.try_send(Some(job)) {
            do_here(job);
        }
    }

    /// Has the job done by the thread; waits for room.
    pub(super) fn hand_over(&self, job: Job) {
        if let Err(error) = self.0.send(Some(job)) {
            do_here(error.0);
        }
    }

    /// Ends the thread after what is in the queue.
    pub(super) fn end(&self) {
        // An error says that the thread has ended already.
        let _ = self.0.send(None);
    }
}

fn do_here(job: Option<Job>) {
    if let Some(job) = job {
        job();
    }
}

impl Queue {
    /// Starts the thread. It ends at [`Jobs::end`], or by a panic, which ends the process in order.
    pub(super) fn start(self, name: &'static str, shared: Arc<Shared>) -> Result<JoinHandle<()>, Error> {
        spawn(name, shared, move || {
            while let Ok(Some(job)) = self.0.recv() {
                job();
            }
        })
    }
}

/// Starts a thread whose panic is logged by its name and ends the process in order.
pub(super) fn spawn(
    name: &'static str,
    shared: Arc<Shared>,
    room: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let run = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(room)) {
            shared.fail(format!("the thread {name} panicked: {}", words(&*panic)));
        }
    };
    let thread = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run);
    thread.map_err(|error| Error::failed(format!("cannot start the thread {name}: {error}")))
}

/// What a panic said.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let words = panic.downcast_ref::<&str>().copied();
    words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}
