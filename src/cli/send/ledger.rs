//! What became of each record, and so the line at which a later run has to begin.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select_biased};
use indicatif::ProgressBar;

use super::super::table::harmless;
use super::super::text;

/// The books of one run, kept by reader and senders.
pub(super) struct Ledger {
    books: Mutex<Books>,
    bar: ProgressBar,
    asked_to_wait: AtomicBool,
}

#[derive(Debug, Default)]
struct Books {
    kept: u64,
    refused: u64,
    /// Lines of records read and not yet settled: as many as there is room for between reader and senders.
    outstanding: BTreeSet<u64>,
    /// Behind everything read so far.
    next_line: u64,
    /// Records counted and not to be sent any more.
    passed_over: u64,
    at_end: bool,
    fault: Option<String>,
}

/// The books when all is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Balance {
    /// Records the daemon has.
    pub(super) kept: u64,
    /// Records it will not take.
    pub(super) refused: u64,
    /// Records read and not sent, or not surely.
    pub(super) not_sent: u64,
    /// Whether these are all there are.
    pub(super) complete: bool,
    /// The first line of a record that is not surely settled.
    pub(super) next_line: u64,
    /// Why the input could not be read on.
    pub(super) fault: Option<String>,
}

impl Ledger {
    pub(super) fn new(bar: ProgressBar) -> Self {
        let books = Books { next_line: 1, ..Books::default() };
        Self { books: Mutex::new(books), bar, asked_to_wait: AtomicBool::new(false) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was read that is to be sent.
    pub(super) fn begin(&self, line: u64, next_line: u64) {
        let mut books = self.books();
        books.outstanding.insert(line);
        books.next_line = next_line;
    }

    /// A record was read that an earlier run has settled.
    pub(super) fn skip(&self, next_line: u64) {
        self.books().next_line = next_line;
    }

    /// A record was read that nobody will send now.
    pub(super) fn pass_over(&self) {
        self.books().passed_over += 1;
    }

    /// Everything was read.
    pub(super) fn end(&self) {
        self.books().at_end = true;
    }

    /// The input cannot be read any more.
    pub(super) fn fail(&self, why: String) {
        self.books().fault = Some(why);
    }

    /// The daemon has it.
    pub(super) fn keep(&self, line: u64, end: u64) {
        let mut books = self.books();
        books.outstanding.remove(&line);
        books.kept += 1;
        self.show(&books, end);
    }

    /// It will never be taken.
    pub(super) fn refuse(&self, line: u64, next_line: u64, end: u64, why: &str) {
        let mut books = self.books();
        books.outstanding.remove(&line);
        books.next_line = books.next_line.max(next_line);
        books.refused += 1;
        self.show(&books, end);
        drop(books);
        self.say(&format!("line {line}: {why}"));
    }

    fn show(&self, books: &Books, end: u64) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_position(end.max(self.bar.position()));
        let refused = match books.refused {
            0 => String::new(),
            some => format!(", {} refused", text::count(some)),
        };
        self.bar.set_message(format!("{} kept{refused}", text::count(books.kept)));
    }

    /// The daemon asked us to stay away; said once.
    pub(super) fn note_wait(&self, place: &str, answer: &str) {
        if !self.asked_to_wait.swap(true, Relaxed) {
            self.say(&format!("{place} answers {answer}; waiting as long as it asks to"));
        }
    }

    fn say(&self, what: &str) {
        self.bar.suspend(|| eprintln!("dispod: {}", harmless(what)));
    }

    pub(super) fn balance(&self) -> Balance {
        self.bar.finish_and_clear();
        let books = self.books();
        Balance {
            kept: books.kept,
            refused: books.refused,
            not_sent: books.outstanding.len() as u64 + books.passed_over,
            complete: books.at_end,
            next_line: books.outstanding.first().copied().unwrap_or(books.next_line),
            fault: books.fault.clone(),
        }
    }
}

/// Ends a run early, once and for everybody, with the reason.
pub(super) struct Stop {
    /// Gone when it has come.
    going: Mutex<Option<Sender<()>>>,
    stopped: Receiver<()>,
    why: Mutex<Option<String>>,
}

impl Stop {
    pub(super) fn new() -> Self {
        let (going, stopped) = bounded(0);
        Self { going: Mutex::new(Some(going)), stopped, why: Mutex::new(None) }
    }

    /// Stops; the first reason is the one told.
    pub(super) fn now(&self, why: String) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.going.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits, but not beyond the stop; gives whether it came.
    pub(super) fn wait(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }

    /// The next of these; `None` when there are no more, or the stop came first.
    pub(super) fn unless<T>(&self, these: &Receiver<T>) -> Option<T> {
        select_biased! {
            recv(self.stopped) -> _ => None,
            recv(these) -> next => next.ok(),
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_run_begins_at_the_first_record_that_is_not_settled() {
        let ledger = Ledger::new(ProgressBar::hidden());
        for line in 2..=6 {
            ledger.begin(line, line + 1);
        }
        ledger.keep(2, 0);
        ledger.keep(5, 0);
        ledger.refuse(3, 4, 0, "Invalid JSON payload");
        ledger.refuse(7, 9, 0, "never sent");
        let balance = ledger.balance();
        assert_eq!((balance.kept, balance.refused, balance.not_sent), (2, 2, 2));
        assert_eq!((balance.next_line, balance.complete), (4, false));
        ledger.keep(4, 0);
        ledger.keep(6, 0);
        ledger.end();
        let balance = ledger.balance();
        assert_eq!((balance.next_line, balance.not_sent, balance.complete), (9, 0, true));
    }
}
