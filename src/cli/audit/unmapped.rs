//! `dispod audit --unmapped`: codes that came in and that the table did not or does not map.
//!
//! | member | is |
//! |---|---|
//! | `dispositionCode` | the code |
//! | `events`, `lastSeen` | how many events had it, and when the last one was received |
//! | `category`, `severity` | what these events were mapped to |
//! | `mappedThen` | whether the mapping then in force had the code; if not, the default category was taken |
//! | `categoryNow`, `severityNow` | what the present configuration's table maps the code to; `null`: it has no such code |

use crate::cli::codes::{self, count};
use crate::cli::records::{Cell, Format, Report};
use crate::cli::table::Column;
use crate::clock;
use crate::disposition::Mapping;
use crate::error::Error;
use crate::store::{History, Selection};

const NAMES: &[&str] = &[
    "dispositionCode",
    "events",
    "lastSeen",
    "category",
    "severity",
    "mappedThen",
    "categoryNow",
    "severityNow",
];

const COLUMNS: &[Column] = &[
    Column::shrinking("code"),
    Column::number("events"),
    Column::text("last seen"),
    Column::shrinking("category"),
    Column::text("severity"),
    Column::text("mapped then"),
    Column::shrinking("category now"),
    Column::text("severity now"),
];

/// Prints the report.
pub(super) fn print(
    history: &History,
    selection: &Selection,
    now: &Mapping,
    format: Format,
) -> Result<(), Error> {
    let mut found = codes::seen(history, selection, |alike| alike)?;
    found.retain(|(alike, _)| !alike.mapped || !now.dispositions.contains_key(&alike.code));
    if found.is_empty() {
        format.say("every code that came in was mapped and still is")?;
    }
    let records = found.into_iter().map(|(alike, seen)| {
        let category_now = now.dispositions.get(&alike.code);
        vec![
            alike.code.into(),
            count(seen.events),
            clock::rfc3339(seen.last_ms).into(),
            alike.category.into(),
            alike.severity.as_str().into(),
            Cell::Flag(alike.mapped),
            category_now.cloned().into(),
            category_now.map(|category| now.severity(category).as_str()).into(),
        ]
    });
    Report { names: NAMES, columns: COLUMNS, records: records.collect() }.print(format)
}
