//! `dispod dead`: the dead letters. Looking at them needs only the store, with the daemon running or stopped.

mod change;

use std::fmt::Write as _;

use serde::Serialize;

use super::table::{Column, Table, bold, harmless, styled, terminal_width};
use super::{ConfigFile, write_out};
use crate::admin::{Letter, Told};
use crate::audit::{Mappings, Story};
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::store::{CORRUPT, History, State, Steps, StoreError, StoredEvent};

/// Dead letters read and shown at once.
const PAGE: usize = 500;
/// Recorded steps shown of one dead letter. An event can have any number: every duplicate is one.
const STEPS_MAX: usize = 200;
/// What begins a line of `show`.
const LABEL_WIDTH: usize = 13;

/// `dispod dead`
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the dead letters, in the order they were kept.
    List(ListArgs),
    /// Show one dead letter with its story.
    Show(ShowArgs),
    /// Make dead letters pending again, each at the end of its contact's queue.
    Retry(change::RetryArgs),
    /// Give dead letters up for good.
    Drop(change::DropArgs),
}

#[derive(clap::Args)]
struct ListArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object a line, with the members `GET /api/dead` has.
    #[arg(long)]
    json: bool,
    /// Only those behind this id.
    #[arg(long, value_name = "ID", default_value = "0", hide_default_value = true, value_parser = id)]
    after: u64,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Which one.
    #[arg(value_parser = id)]
    id: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Lists, shows, retries or drops.
///
/// # Errors
/// The store cannot be read, there is no such dead letter, or not everything could be done: exit status 1.
pub fn run(args: &Args) -> Result<(), Error> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Retry(args) => change::retry(args),
        Command::Drop(args) => change::give_up(args),
    }
}

/// An event's id: digits only, in the store's range.
fn id(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|_| digits);
    number.map(i64::cast_unsigned).ok_or_else(|| "an id is a number, see dispod dead list".to_owned())
}

fn open(file: &ConfigFile) -> Result<History, Error> {
    History::open(&Config::load_local(file.config.as_deref())?.store.dir)
}

fn unreadable(error: &StoreError) -> Error {
    Error::failed(format!("the store cannot be read: it is {error}"))
}

/// Page by page, each written before the next is read: any number of them takes the memory of one page.
fn list(args: &ListArgs) -> Result<(), Error> {
    let history = open(&args.file)?;
    let (mut after, mut left) = (args.after, args.limit.unwrap_or(usize::MAX));
    let mut out = std::io::stdout().lock();
    let mut first = true;
    while left > 0 {
        let rows = history.dead(after, PAGE.min(left)).map_err(|error| unreadable(&error))?;
        let Some(last) = rows.last() else { break };
        after = id_of(last);
        left -= rows.len();
        let text = if args.json { lines(rows)? } else { table(&rows, first) };
        if !write_out(&mut out, &text)? {
            return Ok(());
        }
        first = false;
    }
    if first && !args.json {
        eprintln!("dispod: no dead letters");
    }
    Ok(())
}

fn id_of(row: &Result<StoredEvent, u64>) -> u64 {
    match row {
        Ok(stored) => stored.event.id,
        Err(id) => *id,
    }
}

fn lines(rows: Vec<Result<StoredEvent, u64>>) -> Result<String, Error> {
    let mut text = String::new();
    for row in rows {
        text += &json(&Letter::new(row))?;
    }
    Ok(text)
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n").map_err(|error| Error::failed(format!("cannot be put into JSON: {error}")))
}

/// A page as a table; only the first has a head.
fn table(rows: &[Result<StoredEvent, u64>], with_head: bool) -> String {
    let mut table = Table::new(&[
        Column::number("id"),
        Column::text("died"),
        Column::shrinking("contact"),
        Column::shrinking("code"),
        Column::shrinking("category"),
        Column::shrinking("why"),
    ]);
    for row in rows {
        match row {
            Ok(StoredEvent { event, settled, .. }) => table.row([
                event.id.to_string(),
                settled.at_ms.map_or_else(String::new, clock::rfc3339),
                event.call.contact_id().to_owned(),
                event.call.disposition_code().to_owned(),
                event.category.clone(),
                why(settled.reason.as_deref(), settled.status, settled.answer.as_deref()),
            ]),
            Err(id) => table.row([&id.to_string(), "", "", "", "", CORRUPT]),
        }
    }
    let text = table.render(terminal_width(), styled());
    match text.split_once('\n') {
        Some((_, rest)) if !with_head => rest.to_owned(),
        _ => text,
    }
}

/// `rejected, 422: contact is archived`
fn why(reason: Option<&str>, status: Option<u16>, answer: Option<&str>) -> String {
    let mut text = reason.unwrap_or_default().to_owned();
    if let Some(status) = status {
        let _ = write!(text, ", {status}");
    }
    if let Some(answer) = answer.filter(|answer| !answer.is_empty()) {
        let _ = write!(text, ": {answer}");
    }
    text
}

/// A dead letter and its story.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    letter: Letter,
    /// Whether there are earlier steps than those shown.
    more_steps: bool,
    steps: Vec<Told>,
}

fn show(args: &ShowArgs) -> Result<(), Error> {
    let (history, id) = (open(&args.file)?, args.id);
    let none = |what: &str| Error::failed(format!("{id} is no dead letter: {what}"));
    let row = history.event(id).map_err(|error| unreadable(&error))?;
    let row = row.ok_or_else(|| none("there is no such event"))?;
    if let Ok(StoredEvent { state, .. }) = &row
        && *state != State::Dead
    {
        return Err(none(&format!("it is {}", state.as_str())));
    }
    let Steps { steps, more } = history.last_steps(id, STEPS_MAX).map_err(|error| unreadable(&error))?;
    let mut story = Story::new(&row, &mut Mappings::new(&history)).map_err(|error| unreadable(&error))?;
    let steps: Vec<Told> = story.tell(steps, true).into_iter().map(Told::from).collect();
    if args.json {
        return super::print(&json(&Shown { letter: Letter::new(row), more_steps: more, steps })?);
    }
    super::print(&(card(&row) + &table_of(&steps, more)))
}

/// All that is known of it, nothing shortened.
fn card(row: &Result<StoredEvent, u64>) -> String {
    let title = format!("dead letter {}", id_of(row));
    let mut text = if styled() { bold(&title) } else { title } + "\n";
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{label:<LABEL_WIDTH$}{}", harmless(value));
        }
    };
    let Ok(StoredEvent { event, settled, .. }) = row else {
        line("reason", "corrupt: its row is damaged in the store; it can be dropped, not retried");
        return text;
    };
    let time = |ms: Option<i64>| ms.map_or_else(String::new, clock::rfc3339_ms);
    line("contact", event.call.contact_id());
    let (code, category, severity) = (event.call.disposition_code(), &event.category, event.severity);
    line("disposition", &format!("{code}, {category} ({severity})"));
    line("call result", event.call.call_result().unwrap_or_default());
    line("timestamp", event.call.timestamp().unwrap_or_default());
    line("received", &time(Some(event.received_ms)));
    line("retried", &time(event.revived_ms));
    let attempts = if event.attempts == 1 { "attempt" } else { "attempts" };
    line("died", &format!("{}, after {} {attempts}", time(settled.at_ms), event.attempts));
    line("reason", &why(settled.reason.as_deref(), settled.status, None));
    line("answer", settled.answer.as_deref().unwrap_or_default());
    text
}

fn table_of(steps: &[Told], more: bool) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        Column::text("at"),
        Column::text("what"),
        Column::number("attempt"),
        Column::number("status"),
        Column::number("ms"),
        Column::shrinking("note"),
    ]);
    let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
    for step in steps {
        table.row([
            &step.at,
            step.what,
            &number(step.attempt),
            &number(step.status.map(u32::from)),
            &number(step.latency_ms),
            step.note.as_deref().unwrap_or_default(),
        ]);
    }
    let earlier = if more { format!("only the last {STEPS_MAX} recorded steps:\n") } else { String::new() };
    format!("\n{earlier}{}", table.render(terminal_width(), styled()))
}
