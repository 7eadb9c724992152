//! `dispod check`: is the configuration right, and does the tenant take it? Or: what would its mapping change?
//!
//! `--against-history` compares the present configuration's table with what the recorded events were mapped to, and
//! prints what would have come out otherwise; it needs a store, but neither credentials nor a network:
//!
//! | member | is |
//! |---|---|
//! | `dispositionCode` | the code |
//! | `events`, `lastSeen` | how many events had it and were mapped so, and when the last one was received |
//! | `category`, `severity` | what they were mapped to |
//! | `categoryNow`, `severityNow` | what they would be mapped to |

use std::sync::Arc;

use super::ConfigFile;
use super::codes::{self, Alike, Seen, count};
use super::records::{Format, Report};
use super::table::Column;
use crate::clock;
use crate::config::Config;
use crate::cxone::Cxone;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::{History, Selection};

const NAMES: &[&str] =
    &["dispositionCode", "events", "lastSeen", "category", "severity", "categoryNow", "severityNow"];

const COLUMNS: &[Column] = &[
    Column::shrinking("code"),
    Column::number("events"),
    Column::text("last seen"),
    Column::shrinking("category"),
    Column::text("severity"),
    Column::shrinking("now"),
    Column::text("severity"),
];

/// `dispod check`
#[derive(clap::Args)]
pub struct Args {
    /// Instead of obtaining a token: print which recorded events its mapping would have mapped otherwise
    #[arg(long)]
    against_history: bool,
    /// With --against-history: for a person, or for a program
    #[arg(long, value_enum, default_value_t = Format::Table, requires = "against_history")]
    format: Format,
    #[command(flatten)]
    file: ConfigFile,
}

/// Prints the effective configuration as TOML, secrets redacted, then obtains a token; or prints what its mapping
/// would have done differently.
///
/// # Errors
/// The configuration is wrong (78), no token could be obtained (1), or there is no store to compare with (1); the
/// words say what is wrong and where.
pub fn run(args: &Args) -> Result<(), Error> {
    let file = args.file.config.as_deref();
    let config = if args.against_history { Config::load_local(file) } else { Config::load(file) }?;
    if !args.against_history {
        super::print(&config.to_toml())?;
    }
    for warning in config.warnings() {
        eprintln!("dispod: warning: {warning}");
    }
    if args.against_history {
        return against_history(&config, args.format);
    }
    let cxone = Cxone::new(config.cxone, Arc::new(Metrics::default()));
    cxone.check().map_err(|why| Error::failed(format!("no token: {why}")))?;
    eprintln!("dispod: the configuration is valid and a token was obtained");
    Ok(())
}

fn against_history(config: &Config, format: Format) -> Result<(), Error> {
    let history = History::open(&config.store.dir)?;
    let outcome = |Alike { code, category, severity, .. }| (code, category, severity);
    let seen = codes::seen(&history, &Selection::default(), outcome)?;
    let events: u64 = seen.iter().map(|(_, seen)| seen.events).sum();
    let (mut changed, mut records) = (0, Vec::new());
    for ((code, category, severity), Seen { events, last_ms }) in seen {
        let category_now = config.mapping.category(&code).to_owned();
        let severity_now = config.mapping.severity(&category_now);
        if (&category, severity) == (&category_now, severity_now) {
            continue;
        }
        changed += events;
        records.push(vec![
            code.into(),
            count(events),
            clock::rfc3339(last_ms).into(),
            category.into(),
            severity.as_str().into(),
            category_now.into(),
            severity_now.as_str().into(),
        ]);
    }
    format.say(&if changed == 0 {
        format!("no differences: the {events} recorded events would be mapped as they were")
    } else {
        format!("differences: {changed} of the {events} recorded events would be mapped otherwise")
    })?;
    Report { names: NAMES, columns: COLUMNS, records }.print(format)
}
