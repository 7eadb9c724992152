//! `dispod audit`: what happened to each event, step by step, read from the store, with the daemon running or stopped.
//!
//! Events come in the order they were kept, the steps of one in the order they happened. `jsonl` prints one object a
//! step and `csv` one row a step, both with these members, in this order, `null` or empty where there is nothing:
//!
//! | member | is |
//! |---|---|
//! | `event` | the event's id; text, as everywhere |
//! | `contactId`, `dispositionCode`, `callResult`, `timestamp` | the call result as it came in |
//! | `category`, `severity` | what its code was mapped to when it was kept |
//! | `state` | where the event stands now: `pending`, `delivered`, `dead`, `dropped`; `damaged`: its row fails its checksum, and only the recorded steps are told |
//! | `at` | when the step happened: RFC 3339, UTC, milliseconds |
//! | `step` | see below |
//! | `attempt`, `status`, `latencyMs` | which call to the Contact API it was, its HTTP status if it was answered, how long it took |
//! | `mapping`, `mappingSince` | of `mapped`: the number of the mapping in force, and since when it was |
//! | `note` | further particulars, in words unless said otherwise |
//!
//! | step | tells |
//! |---|---|
//! | `received` | it came in and was kept |
//! | `duplicate` | the same event came in again and was answered 200 |
//! | `mapped` | its code was mapped; the note says to what and by which mapping |
//! | `attempt` | a call that did not settle it; the note is the API's answer or the fault |
//! | `retry-at` | it waits; the note is the time before which it is not tried, RFC 3339 |
//! | `delivered` | the API accepted it |
//! | `dead` | it cannot be delivered; the note is the reason and the API's answer |
//! | `revived` | an operator retried the dead letter; the note is the reason it was dead for |
//! | `dropped` | an operator gave the dead letter up |
//! | `published` | a durable subscriber accepted the outcome; the note is its name |
//! | `damaged` | nothing more is known: the row fails its checksum; without a time |

use std::io::{self, BufWriter, StdoutLock};

use super::ConfigFile;
use super::records::{Cell, Format, Records};
use super::when::When;
use crate::audit::{self, Mappings, Story, Told};
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::store::{History, Recorded, Selection, StoreError, StoredEvent};

mod pages;
mod unmapped;

/// The members of a step, see the module's documentation.
const NAMES: &[&str] = &[
    "event",
    "contactId",
    "dispositionCode",
    "callResult",
    "timestamp",
    "category",
    "severity",
    "state",
    "at",
    "step",
    "attempt",
    "status",
    "latencyMs",
    "mapping",
    "mappingSince",
    "note",
];

/// Bytes of output put together before they are written.
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// `dispod audit`
#[derive(clap::Args)]
pub struct Args {
    /// Only the events of this contact
    #[arg(long, value_name = "ID")]
    contact: Option<String>,
    /// Only events received at or after: RFC 3339, a date (UTC), or an age such as 2h or 7d
    #[arg(long, value_name = "T")]
    since: Option<When>,
    /// Only events received before: likewise
    #[arg(long, value_name = "T")]
    until: Option<When>,
    /// For a person, or for a program
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Instead: the codes that the table does not map, with how often and when last they were seen
    #[arg(long)]
    unmapped: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// Prints the audit.
///
/// # Errors
/// The configuration is wrong (78), or there is no store or it cannot be read (1).
pub fn run(args: Args) -> Result<(), Error> {
    let config = Config::load_local(args.file.config.as_deref())?;
    let history = History::open(&config.store.dir)?;
    let selection = Selection {
        contact_id: args.contact,
        since_ms: args.since.map(|when| when.ms),
        until_ms: args.until.map(|when| when.ms),
    };
    if args.unmapped {
        return unmapped::print(&history, &selection, &config.mapping, args.format);
    }
    match tell(&history, selection, args.format) {
        Ok(0) => args.format.say("no such events"),
        Ok(_) => Ok(()),
        Err(Stop::Store(error)) => Err(Error::failed(format!("cannot read the store: it is {error}"))),
        Err(Stop::Output(error)) => super::written(Err(error)),
    }
}

/// Why the telling ended early.
enum Stop {
    Store(StoreError),
    Output(io::Error),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Where the steps go.
enum Sink {
    Pages(pages::Pages<BufWriter<StdoutLock<'static>>>),
    Records(Records<BufWriter<StdoutLock<'static>>>),
}

/// Tells every story; gives how many there were. Of an event with any number of steps a part is held at a time.
fn tell(history: &History, selection: Selection, format: Format) -> Result<u64, Stop> {
    let out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let mut sink = match format {
        Format::Table => Sink::Pages(pages::Pages::new(out)),
        Format::Jsonl => Sink::Records(Records::jsonl(out, NAMES)),
        Format::Csv => Sink::Records(Records::csv(out, NAMES)?),
    };
    let mut mappings = Mappings::new(history);
    let mut walk = history.walk(selection)?;
    let mut count = 0;
    while let Some(part) = walk.next_part()? {
        for Recorded { row, steps } in part {
            count += 1;
            sink.begin(&row)?;
            let mut story = Story::new(&row, &mut mappings)?;
            let mut page = steps;
            loop {
                let after = page.continue_after;
                for told in story.tell(page.steps, after.is_none()) {
                    sink.step(&row, &told)?;
                }
                let Some(after) = after else { break };
                page = history.steps_after(id(&row), after)?;
            }
        }
    }
    sink.finish()?;
    Ok(count)
}

fn id(row: &Result<StoredEvent, u64>) -> u64 {
    row.as_ref().map_or_else(|id| *id, |stored| stored.event.id)
}

impl Sink {
    fn begin(&mut self, row: &Result<StoredEvent, u64>) -> io::Result<()> {
        match (self, row) {
            (Self::Pages(pages), row) => pages.begin(row),
            (Self::Records(records), Err(_)) => {
                let mut cells = event_cells(row);
                cells.extend([Cell::Nothing, audit::DAMAGED.into()]);
                cells.resize(NAMES.len(), Cell::Nothing);
                records.write(&cells)
            }
            (Self::Records(_), Ok(_)) => Ok(()),
        }
    }

    fn step(&mut self, row: &Result<StoredEvent, u64>, told: &Told) -> io::Result<()> {
        match self {
            Self::Pages(pages) => pages.step(told),
            Self::Records(records) => {
                let mut cells = event_cells(row);
                cells.extend([
                    clock::rfc3339_ms(told.at_ms).into(),
                    told.what.as_str().into(),
                    told.attempt.into(),
                    told.status.into(),
                    told.latency_ms.into(),
                    told.mapped_by.map(|by| by.number).into(),
                    told.mapped_by.and_then(|by| by.since_ms).map(clock::rfc3339_ms).into(),
                    told.note.as_deref().into(),
                ]);
                records.write(&cells)
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Pages(pages) => pages.finish(),
            Self::Records(records) => records.finish(),
        }
    }
}

/// What is the same in every step of an event.
fn event_cells(row: &Result<StoredEvent, u64>) -> Vec<Cell<'_>> {
    let mut cells = Vec::with_capacity(NAMES.len());
    match row {
        Ok(StoredEvent { event, state, .. }) => cells.extend([
            event.id.to_string().into(),
            event.call.contact_id().into(),
            event.call.disposition_code().into(),
            event.call.call_result().into(),
            event.call.timestamp().into(),
            event.category.as_str().into(),
            event.severity.as_str().into(),
            state.as_str().into(),
        ]),
        Err(id) => {
            cells.push(id.to_string().into());
            cells.resize(7, Cell::Nothing);
            cells.push(audit::DAMAGED.into());
        }
    }
    cells
}
