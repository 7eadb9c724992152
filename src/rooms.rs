//! Starting a room's thread: named, with a stack of its own size, and never gone without a word.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::error::Error;

/// Stack of a room's thread. Only what is touched costs memory; a TLS handshake needs the most.
const STACK_BYTES: usize = 512 * 1024;

/// Ends the process in order: called with the reason when a room cannot go on.
pub type Failed = Arc<dyn Fn(String) + Send + Sync>;

/// Starts a thread called `name`. A panic in it is logged and reported through `failed`: a daemon with a room
/// missing must end and be started again, not go on with less.
///
/// # Errors
/// The thread cannot be had: a limit of the system.
pub fn start(
    name: &str,
    failed: &Failed,
    room: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let failed = Arc::clone(failed);
    let owned = name.to_owned();
    let body = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(room)) {
            let words = format!("{owned} panicked: {}", words(panic.as_ref()));
            log::error!("{words}");
            failed(words);
        }
    };
    Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body)
        .map_err(|error| Error::failed(format!("cannot start a thread for {name}: {error}")))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
