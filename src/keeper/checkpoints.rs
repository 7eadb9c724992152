//! When the log is moved: the thread beside the keeper copies most of it, the keeper the rest.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Error;
use crate::rooms::{self, Failed};
use crate::store::{Store, StoreError};

/// Each round of copying is shorter than the one before, since less has come meanwhile; after so many the keeper
/// copies what is left.
const ROUNDS_MAX: u32 = 4;

/// The keeper's end of the checkpointer's thread, which ends when this is dropped.
pub(super) struct Checkpoints {
    ask: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    done: Receiver<Result<u32, StoreError>>,
    /// Rounds of the checkpoint under way; 0: none is.
    rounds: u32,
}

impl Checkpoints {
    /// Starts the checkpointer's thread.
    pub(super) fn start(store: &Store, failed: &Failed) -> Result<Self, Error> {
        let mut checkpointer = store.checkpointer()?;
        let (ask, asked) = bounded(1);
        let (say, done) = bounded(1);
        let thread = rooms::start("checkpointer", failed, move || {
            for () in asked {
                let _ = say.send(checkpointer.run());
            }
        })?;
        Ok(Self { ask: Some(ask), thread: Some(thread), done, rounds: 0 })
    }

    fn ask(&self) -> bool {
        self.ask.as_ref().is_some_and(|ask| ask.try_send(()).is_ok())
    }

    /// Asks for a checkpoint when one pays, and finishes one that was made. Never waits for the thread.
    pub(super) fn run(&mut self, store: &mut Store) -> Result<(), StoreError> {
        if self.rounds == 0 {
            if store.wants_checkpoint() && self.ask() {
                self.rounds = 1;
            }
            return Ok(());
        }
        let Ok(result) = self.done.try_recv() else { return Ok(()) };
        let copied = match result {
            // A log that cannot be moved now just grows until it can.
            Err(StoreError::Full | StoreError::Busy) => 0,
            result => result?,
        };
        if self.rounds < ROUNDS_MAX && store.wants_another_round(copied) && self.ask() {
            self.rounds += 1;
            return Ok(());
        }
        self.rounds = 0;
        match store.finish_checkpoint() {
            Err(StoreError::Full | StoreError::Busy) => Ok(()),
            result => result.map(|_| ()),
        }
    }
}

impl Drop for Checkpoints {
    /// Waits for the thread, so that the store is closed last and leaves no log behind.
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
