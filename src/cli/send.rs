//! `dispod send`: posts the call results of a file to a running daemon.

mod csv;
mod ledger;
mod lines;
mod post;
mod records;

use std::fmt::Write as _;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use indicatif::ProgressBar;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::client::Client;
use super::interrupt::IMPATIENT_STATUS;
use super::{ConfigFile, progress, text};
use crate::config::{self, Config};
use crate::error::Error;

use ledger::{Balance, Ledger, Stop};
use lines::Lines;
use post::{Parcel, Post, Proof};
use records::Records;

/// Records that wait for each sender: enough that none of them waits for the reader, and few enough for long ones.
const WAITING_MAX: usize = 16;
/// Read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Stands for standard input.
const STANDARD_INPUT: &str = "-";

/// `dispod send`
#[derive(clap::Args)]
#[command(after_help = "\
Every record is posted with an idempotency key made of its content, its line and --batch: what was kept is kept \
once, however often the same file is sent within store.dedupe_window. To have the same file kept again, name another \
--batch. The records of one contact are sent one after the other, in their order.

Exit status: 0 when every record was kept, 1 when one was refused or not sent.")]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// JSON Lines, or CSV whose header names contactId, dispositionCode and, if there, callResult and timestamp; `-`
    /// for standard input.
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Where to post to [default: webhook.listen and webhook.path of the configuration]
    #[arg(long, value_parser = url)]
    url: Option<String>,
    /// How many connections to use.
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
    /// Pass over what begins before this line: where an earlier run stopped.
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Part of every record's key: records of another batch are other records.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    batch: String,
    /// How long the daemon may give no answer.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    give_up_after: Duration,
    /// Print the counts as one JSON object.
    #[arg(long)]
    json: bool,
}

fn url(text: &str) -> Result<String, &'static str> {
    let known = text.starts_with("http://") || text.starts_with("https://");
    known.then(|| text.to_owned()).ok_or("allowed: a URL that begins with http:// or https://")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    config::parse_duration(text).ok_or("allowed: a duration such as 500ms, 60s or 1h30m")
}

/// Posts every record, then prints how many were kept, refused and not sent.
///
/// # Errors
/// Not every record was kept; the words say why, and how to go on.
pub fn run(args: &Args) -> Result<(), Error> {
    let config = Config::load_local(args.file.config.as_deref())?;
    let (client, path) = receiver(args, &config)?;
    let proof = Proof::of(&config.webhook)?;
    let (input, size) = open(&args.input)?;
    let cannot = |why: String| Error::failed(format!("{}: {why}", args.input.display()));
    let records = Records::open(Lines::new(input)).map_err(cannot)?;
    let ledger = Arc::new(Ledger::new(bar(size)));
    let stop = Arc::new(Stop::new());
    listen(&stop)?;
    let give_up_after = args.give_up_after;
    let post =
        Post { client, path, proof, ledger: Arc::clone(&ledger), stop: Arc::clone(&stop), give_up_after };
    let started = start(&Arc::new(post), usize::from(args.connections))?;
    let (lanes, senders): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let source = Source {
        records,
        from_line: args.from_line,
        batch: args.batch.clone(),
        is_file: size.is_some(),
        ledger: Arc::clone(&ledger),
        stop: Arc::clone(&stop),
    };
    let reader = thread(move || source.read(&lanes))?;
    for sender in senders {
        sender.join().map_err(|_| Error::failed("a sender panicked"))?;
    }
    // Standard input may never end, and nobody wants to know how much of it is left.
    if size.is_some() || !stop.is_set() {
        reader.join().map_err(|_| Error::failed("the reader panicked"))?;
    }
    report(args, &ledger.balance(), stop.why())
}

/// The client, and the path behind its base.
fn receiver(args: &Args, config: &Config) -> Result<(Client, String), Error> {
    let connections = usize::from(args.connections);
    if let Some(url) = &args.url {
        return Ok((Client::url(url, connections), String::new()));
    }
    let client = Client::to(&config.webhook.listen, "webhook.listen", connections)?;
    Ok((client, config.webhook.path.clone()))
}

/// The input, and its size if it is a file.
fn open(path: &Path) -> Result<(Box<BufReader<Input>>, Option<u64>), Error> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok((Box::new(BufReader::with_capacity(BUFFER_BYTES, Box::new(std::io::stdin()))), None));
    }
    let cannot = |error| Error::failed(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let size = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(BufReader::with_capacity(BUFFER_BYTES, Box::new(file))), size))
}

type Input = Box<dyn Read + Send>;

fn bar(size: Option<u64>) -> ProgressBar {
    match size {
        Some(_) => progress::drawn(size, "{bar:30} {percent:>3}%  {msg}  {eta} left"),
        None => progress::drawn(None, "{spinner} {msg}  {elapsed}"),
    }
    .with_message("0 kept")
}

/// The first SIGINT or SIGTERM stops the run, the second ends the process.
fn listen(stop: &Arc<Stop>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Error::failed(format!("cannot listen for signals: {error}")))?;
    let stop = Arc::clone(stop);
    thread(move || {
        for (count, _) in signals.forever().enumerate() {
            if count > 0 {
                std::process::exit(IMPATIENT_STATUS);
            }
            stop.now("interrupted".to_owned());
        }
    })
    .map(drop)
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .spawn(work)
        .map_err(|error| Error::failed(format!("cannot start a thread: {error}")))
}

/// A sender's inlet, and its thread.
type Connection = (Sender<Parcel>, JoinHandle<()>);

/// One sender a connection.
fn start(post: &Arc<Post>, connections: usize) -> Result<Vec<Connection>, Error> {
    let one = |_| {
        let (lane, parcels) = bounded(WAITING_MAX);
        let post = Arc::clone(post);
        Ok((lane, thread(move || post.run(&parcels))?))
    };
    (0..connections).map(one).collect()
}

/// Reads records and hands them to the senders.
struct Source {
    records: Records,
    from_line: u64,
    batch: String,
    is_file: bool,
    ledger: Arc<Ledger>,
    stop: Arc<Stop>,
}

impl Source {
    fn read(mut self, lanes: &[Sender<Parcel>]) {
        loop {
            let record = match self.records.next() {
                Ok(Some(record)) => record,
                Ok(None) => return self.ledger.end(),
                Err(error) => return self.ledger.fail(error.to_string()),
            };
            let (line, next_line, end) = (record.line, record.next_line, record.end);
            if line < self.from_line {
                self.ledger.skip(next_line);
                continue;
            }
            if self.stop.is_set() {
                if !self.is_file {
                    return;
                }
                self.ledger.pass_over();
                continue;
            }
            match record.call() {
                Ok(call) => {
                    self.ledger.begin(line, next_line);
                    let key = post::key(&self.batch, line, &call.body);
                    let sender = &lanes[lane_of(&call.contact_id, lanes.len())];
                    // It fails after a stop only; the record stays on the books as not sent.
                    let _ = sender.send(Parcel { line, next_line, end, body: call.body, key });
                }
                Err(why) => self.ledger.refuse(line, next_line, end, &why),
            }
        }
    }
}

fn lane_of(contact_id: &str, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    contact_id.hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or(0)
}

/// The counts for a program.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    kept: u64,
    refused: u64,
    /// `null`: unknown, the input was not read to its end.
    not_sent: Option<u64>,
    /// Where to go on; `null`: there is nothing left.
    next_line: Option<u64>,
}

fn report(args: &Args, balance: &Balance, stopped: Option<String>) -> Result<(), Error> {
    let why = stopped.or_else(|| balance.fault.clone().map(|why| format!("{}: {why}", args.input.display())));
    let Balance { kept, refused, not_sent, complete, next_line, .. } = *balance;
    let next_line = next_line.max(args.from_line);
    let rest = why.is_some() && (not_sent > 0 || !complete);
    if args.json {
        let counts = Counts {
            kept,
            refused,
            not_sent: complete.then_some(not_sent),
            next_line: rest.then_some(next_line),
        };
        let json = serde_json::to_string(&counts).map_err(|error| Error::failed(error.to_string()))?;
        super::print(&(json + "\n"))?;
    } else {
        let (kept, refused) = (text::count(kept), text::count(refused));
        let not_sent = if complete { text::count(not_sent) } else { "the rest".to_owned() };
        super::print(&format!("{kept} kept, {refused} refused, {not_sent} not sent\n"))?;
    }
    match why {
        Some(why) if rest => {
            let command = go_on(args, next_line);
            Err(Error::failed(format!("{why}; go on with: {command}")))
        }
        _ if refused > 0 => Err(Error::failed(format!("{} refused", text::count(refused)))),
        _ => Ok(()),
    }
}

/// The command that sends what is left.
fn go_on(args: &Args, line: u64) -> String {
    let mut command = format!("dispod send --from-line {line}{}", args.file.as_argument());
    for (option, value) in [("url", args.url.as_deref()), ("batch", Some(args.batch.as_str()))] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(command, " --{option} {}", text::quote(value));
        }
    }
    format!("{command} {}", text::quote(&args.input.to_string_lossy()))
}
