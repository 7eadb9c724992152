//! Retrying and dropping: by the running daemon, or, while it is stopped, in the store itself.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Deserialize;

use super::super::client::{Answer, Client};
use super::super::interrupt::Interrupt;
use super::super::{ConfigFile, progress, text};
use super::id;
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::flow::Operation;
use crate::keeper;
use crate::store::{History, Store, StoreError, Sync};

/// Above so many a bar shows how far it is.
const BAR_ABOVE: u64 = 256;
/// How often a busy daemon is asked.
const TRIES_MAX: u32 = 5;
/// How long to wait before it is asked again, at most.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// `dispod dead retry`
#[derive(clap::Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    which: Which,
}

/// `dispod dead drop`
#[derive(clap::Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    which: Which,
    /// Do not ask, on a terminal.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
struct Which {
    #[command(flatten)]
    file: ConfigFile,
    /// These, in this order.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all", value_parser = id)]
    ids: Vec<u64>,
    /// All of them, in the order they were kept.
    #[arg(long)]
    all: bool,
    /// Of all of them, only those behind this id: where an earlier run stopped.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "ids",
        default_value = "0",
        hide_default_value = true,
        value_parser = id
    )]
    after: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Retry,
    Drop,
}

impl Verb {
    fn command(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Retry => "pending again",
            Self::Drop => "given up",
        }
    }

    /// For those it could not be done to.
    fn not_done(self) -> &'static str {
        match self {
            Self::Retry => "not retried",
            Self::Drop => "not dropped",
        }
    }

    fn one(self, id: u64) -> Operation {
        match self {
            Self::Retry => Operation::Retry(vec![id]),
            Self::Drop => Operation::Drop(vec![id]),
        }
    }

    fn all(self, after_id: u64) -> Operation {
        match self {
            Self::Retry => Operation::RetryAll { after_id },
            Self::Drop => Operation::DropAll { after_id },
        }
    }
}

pub(super) fn retry(args: &RetryArgs) -> Result<(), Error> {
    run(Verb::Retry, &args.which, true)
}

pub(super) fn give_up(args: &DropArgs) -> Result<(), Error> {
    run(Verb::Drop, &args.which, args.yes || !std::io::stdin().is_terminal())
}

fn run(verb: Verb, which: &Which, sure: bool) -> Result<(), Error> {
    let config = Config::load_local(which.file.config.as_deref())?;
    let mut hand = Hand::of(&config)?;
    let count = if which.all { hand.count()? } else { which.ids.len() as u64 };
    if !sure && count > 0 && !confirmed(count, which.all)? {
        return Err(Error::failed("nothing was dropped"));
    }
    let work = Work { verb, which, interrupt: Interrupt::listen()?, bar: progress::bar(count, BAR_ABOVE) };
    let (tally, ended) = if which.all { work.all(&mut hand) } else { work.each(&mut hand) };
    work.bar.finish_and_clear();
    super::super::print(&format!("{} {}\n", text::count(tally.done), verb.done()))?;
    ended?;
    match tally.not_done {
        0 => Ok(()),
        some => Err(Error::failed(format!("{} {}", text::count(some), verb.not_done()))),
    }
}

fn confirmed(count: u64, all: bool) -> Result<bool, Error> {
    let which = match (all, count) {
        (true, count) => format!("all {} dead letters", text::count(count)),
        (false, 1) => "this dead letter".to_owned(),
        (false, count) => format!("these {} dead letters", text::count(count)),
    };
    let mut answer = String::new();
    let mut out = std::io::stderr().lock();
    write!(out, "Give {which} up for good? [y/N] ")
        .and_then(|()| out.flush())
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| Error::failed(format!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What became of them.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    done: u64,
    not_done: u64,
}

struct Work<'a> {
    verb: Verb,
    which: &'a Which,
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl Work<'_> {
    /// The ones named, in the order they were named.
    fn each(&self, hand: &mut Hand) -> (Tally, Result<(), Error>) {
        let (mut tally, ids) = (Tally::default(), &self.which.ids);
        for (index, id) in ids.iter().enumerate() {
            let result = if self.interrupt.asked() {
                Err(interrupted())
            } else {
                hand.one(self.verb, *id, &self.interrupt)
            };
            match result {
                Ok(true) => tally.done += 1,
                Ok(false) => {
                    tally.not_done += 1;
                    let why = "it is no dead letter, or its content cannot be trusted";
                    self.bar.suspend(|| eprintln!("dispod: {id} {}: {why}", self.verb.not_done()));
                }
                Err(why) => {
                    let rest = ids[index..].iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
                    return (tally, Err(self.stopped(&why, &rest)));
                }
            }
            self.bar.inc(1);
        }
        (tally, Ok(()))
    }

    /// All of them, as many at once as fit one transaction.
    fn all(&self, hand: &mut Hand) -> (Tally, Result<(), Error>) {
        let (mut tally, mut after) = (Tally::default(), self.which.after);
        loop {
            let result = if self.interrupt.asked() {
                Err(interrupted())
            } else {
                hand.page(self.verb, after, &self.interrupt)
            };
            let Page { done, not_done, continue_after } = match result {
                Ok(page) => page,
                Err(why) => return (tally, Err(self.stopped(&why, &format!("--all --after {after}")))),
            };
            tally.done += done;
            tally.not_done += not_done;
            self.bar.inc(done + not_done);
            match continue_after {
                Some(id) => after = id,
                None => return (tally, Ok(())),
            }
        }
    }

    /// Says how to go on. What was done is done, and doing it again would change nothing.
    fn stopped(&self, why: &Error, rest: &str) -> Error {
        let config = self.which.file.as_argument();
        let command = self.verb.command();
        Error::failed(format!("{why}; go on with: dispod dead {command}{config} {rest}"))
    }
}

fn interrupted() -> Error {
    Error::failed("interrupted")
}

/// Who makes the change.
enum Hand {
    /// The daemon, which holds the store.
    Daemon(Client),
    /// We ourselves, holding the store so that no daemon can start in between.
    Store(Box<Store>),
}

/// What came of a page of all of them.
struct Page {
    done: u64,
    not_done: u64,
    continue_after: Option<u64>,
}

impl Hand {
    fn of(config: &Config) -> Result<Self, Error> {
        // Opening it for writing would make one where there is none.
        drop(History::open(&config.store.dir)?);
        match Store::open(&config.store) {
            Ok(store) => Ok(Self::Store(Box::new(store))),
            Err(held) if held.is_store_held() => {
                let unreachable = |why: String| Error::failed(format!("{held}, and {why}"));
                let client = Client::admin(config).map_err(|error| unreachable(error.to_string()))?;
                client.get("/livez").map_err(|fault| unreachable(fault.to_string()))?;
                Ok(Self::Daemon(client))
            }
            Err(error) => Err(error),
        }
    }

    fn count(&self) -> Result<u64, Error> {
        match self {
            Self::Store(store) => Ok(store.count().map_err(|error| unchanged(&error))?.1),
            Self::Daemon(client) => {
                let answer = client.get("/api/status")?;
                let status: Status = understand(client, &answer)?;
                Ok(status.dead)
            }
        }
    }

    /// Whether it was done.
    fn one(&mut self, verb: Verb, id: u64, interrupt: &Interrupt) -> Result<bool, Error> {
        match self {
            Self::Store(store) => Ok(in_store(store, &verb.one(id))?.done > 0),
            Self::Daemon(client) => {
                let (method, target) = match verb {
                    Verb::Retry => ("POST", format!("/api/dead/{id}/retry")),
                    Verb::Drop => ("DELETE", format!("/api/dead/{id}")),
                };
                let answer = ask(client, method, &target, interrupt)?;
                if answer.status == 404 {
                    return Ok(false);
                }
                let effect: Effect = understand(client, &answer)?;
                Ok(effect.done > 0)
            }
        }
    }

    fn page(&mut self, verb: Verb, after: u64, interrupt: &Interrupt) -> Result<Page, Error> {
        match self {
            Self::Store(store) => in_store(store, &verb.all(after)),
            Self::Daemon(client) => {
                let target = format!("/api/dead/{}?after={after}", verb.command());
                let answer = ask(client, "POST", &target, interrupt)?;
                let Effect { done, not_done, continue_after } = understand(client, &answer)?;
                let continue_after =
                    continue_after.map(|text| id(&text)).transpose().map_err(Error::failed)?;
                Ok(Page { done, not_done, continue_after })
            }
        }
    }
}

/// The same operation in the store of a stopped daemon.
fn in_store(store: &mut Store, operation: &Operation) -> Result<Page, Error> {
    let result = store.transact(Sync::Now, |batch| keeper::operate(batch, operation, clock::now_ms()));
    let (operated, _) = result.map_err(|error| unchanged(&error))?;
    Ok(Page {
        done: operated.done.len() as u64,
        not_done: operated.not_done.len() as u64,
        continue_after: operated.continue_after,
    })
}

fn unchanged(error: &StoreError) -> Error {
    Error::failed(format!("the store could not be changed: {error}"))
}

/// Asks again while the daemon is too busy. What was done unnoticed the first time is not done twice.
fn ask(client: &Client, method: &str, target: &str, interrupt: &Interrupt) -> Result<Answer, Error> {
    let mut tries = 1;
    loop {
        let answer = client.change(method, target)?;
        let pause = answer.retry_after.unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        if answer.status != 503 || tries == TRIES_MAX || interrupt.wait(pause) {
            return Ok(answer);
        }
        tries += 1;
    }
}

/// What is read of `GET /api/status`.
#[derive(Deserialize)]
struct Status {
    dead: u64,
}

/// What a change answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Effect {
    done: u64,
    not_done: u64,
    continue_after: Option<String>,
}

fn understand<T: for<'a> Deserialize<'a>>(client: &Client, answer: &Answer) -> Result<T, Error> {
    let value = Some(answer).filter(|answer| answer.status == 200);
    let value = value.and_then(|answer| serde_json::from_str(&answer.body).ok());
    value.ok_or_else(|| Error::failed(format!("{} answers {}", client.place(), answer.in_words())))
}
