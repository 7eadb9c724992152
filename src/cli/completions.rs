//! `dispod completions`: what a shell needs to complete commands and options, as text.

use clap::CommandFactory;

use crate::error::Error;

/// `dispod completions`
#[derive(clap::Args)]
pub struct Args {
    /// The shell to print for
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "dispod", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
