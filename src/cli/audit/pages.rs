//! The audit for a person: a line an event, below it a line a step, folded to the terminal's width.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::audit::{Told, What};
use crate::cli::table::{bold, columns_of, fold, harmless, styled, terminal_width};
use crate::clock;
use crate::store::{StepKind, StoredEvent};

/// Columns before a step's particulars: two, the time, two, the step's name, two.
const MARGIN_WIDTH: usize = 39;
/// The longest step's name.
const STEP_WIDTH: usize = 9;
/// Particulars are not folded to less: the terminal then does it.
const FOLDED_MIN_WIDTH: usize = 20;

/// Where the stories are printed.
pub(super) struct Pages<W> {
    out: W,
    /// Columns for a step's particulars; `None`: no end.
    width: Option<usize>,
    styled: bool,
    first: bool,
}

impl<W: Write> Pages<W> {
    /// As standard output can show them.
    pub(super) fn new(out: W) -> Self {
        let width = terminal_width().map(|width| width.saturating_sub(MARGIN_WIDTH).max(FOLDED_MIN_WIDTH));
        Self { out, width, styled: styled(), first: true }
    }

    /// Opens an event's story.
    pub(super) fn begin(&mut self, row: &Result<StoredEvent, u64>) -> io::Result<()> {
        if !std::mem::replace(&mut self.first, false) {
            writeln!(self.out)?;
        }
        let title = title(row);
        let title = harmless(&title);
        writeln!(self.out, "{}", if self.styled { Cow::Owned(bold(&title)) } else { title })
    }

    /// Prints a step of it.
    pub(super) fn step(&mut self, told: &Told) -> io::Result<()> {
        let (at, what, particulars) = (clock::rfc3339_ms(told.at_ms), told.what.as_str(), particulars(told));
        let particulars = harmless(&particulars);
        let lines = match self.width {
            Some(width) if columns_of(&particulars) > width => fold(&particulars, width),
            _ => vec![particulars.into_owned()],
        };
        let mut margin = format!("  {at}  {what:<STEP_WIDTH$}  ");
        for line in lines {
            writeln!(self.out, "{}", format!("{margin}{line}").trim_end())?;
            margin = " ".repeat(MARGIN_WIDTH);
        }
        Ok(())
    }

    /// Ends the printing.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn title(row: &Result<StoredEvent, u64>) -> String {
    match row {
        Ok(StoredEvent { event, state, .. }) => {
            let call = &event.call;
            let said: Vec<&str> = [call.call_result(), call.timestamp()].into_iter().flatten().collect();
            let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) };
            format!(
                "event {}: contact {}, code {}{said}, {} ({}): {}",
                event.id,
                call.contact_id(),
                call.disposition_code(),
                event.category,
                event.severity,
                state.as_str()
            )
        }
        Err(id) => format!("event {id}: damaged, its row fails its checksum; only recorded steps are told"),
    }
}

/// What there is to say of a step, as a sentence.
fn particulars(told: &Told) -> String {
    let note = told.note.as_deref();
    let of = |before: &str| note.map_or_else(String::new, |note| format!("{before}{note}"));
    match told.what {
        What::Received => "kept".to_owned(),
        What::Mapped => of("to "),
        What::Recorded(StepKind::Duplicate) => "the same event came in again".to_owned(),
        What::Recorded(StepKind::RetryAt) => of("not before "),
        What::Recorded(StepKind::Revived) => format!("by an operator; {}", of("it was dead: ")),
        What::Recorded(StepKind::Dropped) => "by an operator".to_owned(),
        What::Recorded(StepKind::Published) => of("to subscriber "),
        What::Recorded(StepKind::Attempt | StepKind::Dead) | What::Delivered | What::Dead => {
            let attempt = told.attempt.map(|attempt| format!("attempt {attempt}"));
            let status = told.status.map(|status| format!("HTTP {status}"));
            let latency = told.latency_ms.map(|latency_ms| format!("{latency_ms} ms"));
            let call: Vec<String> = [attempt, status, latency].into_iter().flatten().collect();
            format!("{}{}", call.join(", "), of(": "))
        }
    }
}
