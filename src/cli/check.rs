//! `dispod check`: is the configuration right, and does the tenant take it?

use std::sync::Arc;

use super::ConfigFile;
use crate::config::Config;
use crate::cxone::Cxone;
use crate::error::Error;
use crate::metrics::Metrics;

/// `dispod check`
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

/// Prints the effective configuration as TOML, secrets redacted, then obtains a token.
///
/// # Errors
/// The configuration is wrong (78), or no token could be obtained (1); the words say what is wrong and where.
pub fn run(args: &Args) -> Result<(), Error> {
    let config = Config::load(args.file.config.as_deref())?;
    print!("{}", config.to_toml());
    for warning in config.warnings() {
        eprintln!("dispod: warning: {warning}");
    }
    let cxone = Cxone::new(config.cxone, 1, Arc::new(Metrics::default()));
    cxone.check().map_err(|why| Error::failed(format!("no token: {why}")))?;
    eprintln!("dispod: the configuration is valid and a token was obtained");
    Ok(())
}
