//! The commands, one file each: parse, call, exit status; nothing clever.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::error::Error;

mod check;
mod demo;
mod sandbox;
mod serve;

/// The disposition daemon for NICE CXone Outbound: a 200 means kept, and kept means delivered or dead with a reason.
#[derive(Parser)]
#[command(name = "dispod", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Validate the configuration, print the effective one, obtain a token.
    Check(check::Args),
    /// Show the whole job on this machine, without credentials or network.
    Demo(demo::Args),
    /// Run a stand-in CXone for tests: token endpoint and Contact API.
    Sandbox(sandbox::Args),
    /// Run the daemon.
    Serve(serve::Args),
}

/// Where the configuration is; shared by every command that needs one.
#[derive(clap::Args)]
pub struct ConfigFile {
    /// The configuration file [default: `$DISPOD_CONFIG`, else /etc/dispod/dispod.toml if it exists, else none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// One line for standard error, with its exit status.
    pub fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Check(args) => check::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Sandbox(args) => sandbox::run(&args),
            Command::Serve(args) => serve::run(&args),
        }
    }
}
