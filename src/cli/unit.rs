//! `dispod unit`: the service and the socket for systemd, as text.

use crate::error::Error;

/// The hardened service.
const SERVICE: &str = include_str!("assets/dispod.service");
/// The socket it can be given.
const SOCKET: &str = include_str!("assets/dispod.socket");

/// `dispod unit`
#[derive(clap::Args)]
pub struct Args {
    /// Print the socket unit, which keeps the listening socket while the daemon restarts
    #[arg(long)]
    socket: bool,
}

/// Prints the unit.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &Args) -> Result<(), Error> {
    super::print(if args.socket { SOCKET } else { SERVICE })
}
