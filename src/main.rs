//! The `dispod` program: parse the command, run it; an error is one line on standard error and its exit status.

use std::process::ExitCode;

use clap::Parser;
use dispod::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dispod: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
