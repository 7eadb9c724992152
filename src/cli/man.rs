//! `dispod man`: the manual pages, as roff for man(1): `dispod man audit | man -l -`.

use clap::CommandFactory;

use crate::error::Error;

/// Where the page of dispod itself leads on.
const PAGES: &str = "`dispod man COMMAND` prints the page of a command: `dispod man audit | man -l -`";

/// `dispod man`
#[derive(clap::Args)]
pub struct Args {
    /// The command to print the page of, such as `audit` or `proxy nginx` [default: the page of dispod itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Prints the page.
///
/// # Errors
/// There is no such command, or standard output cannot be written to.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut root = super::Cli::command().disable_help_subcommand(true).after_long_help(PAGES);
    // Gives every command its full name, as it is to be typed.
    root.build();
    let mut page_of = &root;
    for name in &args.command {
        page_of = page_of.find_subcommand(name).ok_or_else(|| {
            Error::usage(format!("there is no command {:?}; see dispod help", args.command.join(" ")))
        })?;
    }
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(page_of.clone())
        .manual("dispod")
        .source(concat!("dispod ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).map_err(|error| Error::failed(error.to_string()))?;
    super::print(&String::from_utf8_lossy(&page))
}
