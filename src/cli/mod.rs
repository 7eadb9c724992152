//! The commands, one file each: parse, call, exit status; nothing clever.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::error::Error;

mod audit;
mod check;
mod client;
mod codes;
mod completions;
mod dead;
mod demo;
mod interrupt;
mod man;
mod progress;
mod proxy;
mod records;
mod sandbox;
mod send;
mod serve;
mod status;
mod table;
mod text;
mod unit;
mod when;

/// The disposition daemon for NICE CXone Outbound: a 200 means kept, and kept means delivered or dead with a reason.
#[derive(Parser)]
#[command(name = "dispod", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell what happened to each event, step by step.
    Audit(audit::Args),
    /// Validate the configuration, print the effective one, obtain a token.
    Check(check::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// List, show, retry or drop dead letters.
    Dead(dead::Args),
    /// Show the whole job on this machine, without credentials or network.
    Demo(demo::Args),
    /// Print the manual page, or that of one command.
    Man(man::Args),
    /// Print the configuration of a proxy that goes in front of the webhook.
    Proxy(proxy::Args),
    /// Run a stand-in CXone for tests: token endpoint and Contact API.
    Sandbox(sandbox::Args),
    /// Post the call results of a file to the running daemon.
    Send(send::Args),
    /// Run the daemon.
    Serve(serve::Args),
    /// Show how the running daemon is doing.
    Status(status::Args),
    /// Print the hardened systemd unit.
    Unit(unit::Args),
}

/// Where the configuration is; shared by every command that needs one.
#[derive(clap::Args)]
pub struct ConfigFile {
    /// The configuration file [default: `$DISPOD_CONFIG`, else /etc/dispod/dispod.toml if it exists, else none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    /// As it is to be repeated in a command that goes on with the work; with a space in front.
    fn as_argument(&self) -> String {
        let named = |path: &PathBuf| format!(" --config {}", text::quote(&path.to_string_lossy()));
        self.config.as_ref().map_or_else(String::new, named)
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// One line for standard error, with its exit status.
    pub fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Audit(args) => audit::run(args),
            Command::Check(args) => check::run(&args),
            Command::Completions(args) => completions::run(&args),
            Command::Dead(args) => dead::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Man(args) => man::run(&args),
            Command::Proxy(args) => proxy::run(&args),
            Command::Sandbox(args) => sandbox::run(&args),
            Command::Send(args) => send::run(&args),
            Command::Serve(args) => serve::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Unit(args) => unit::run(&args),
        }
    }
}

/// Writes a result to standard output.
fn print(text: &str) -> Result<(), Error> {
    write_out(&mut std::io::stdout().lock(), text).map(drop)
}

/// The same, in parts; gives whether the reader wants more.
fn write_out(out: &mut impl Write, text: &str) -> Result<bool, Error> {
    let result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let wants_more = result.is_ok();
    written(result).map(|()| wants_more)
}

/// What came of writing to standard output; a reader that has seen enough (`| head`) is no error.
fn written(result: std::io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
