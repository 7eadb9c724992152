//! `dispod serve`: the daemon, until a signal.

use std::time::Duration;

use crossbeam_channel::{Receiver, after, bounded, select};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::ConfigFile;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::error::Error;
use crate::{logging, notify, program};

/// From when the daemon is ready. What is still going on then gets its pages back as it goes.
const START_LASTS: Duration = Duration::from_secs(1);

/// `dispod serve`
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs the daemon until SIGTERM or SIGINT, or until it cannot go on.
///
/// # Errors
/// The configuration is wrong, the daemon cannot start, or it had to end: the words say why.
pub fn run(args: &Args) -> Result<(), Error> {
    let config = Config::load(args.file.config.as_deref())?;
    logging::start(&config.log);
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    let signals = signals()?;
    let daemon = Daemon::start(&config)?;
    notify::ready("keeping call results");
    let ended = wait(&daemon, &signals, args);
    notify::stopping();
    // Whoever asks twice does not want to wait.
    std::thread::spawn(move || {
        for signal in &signals {
            if signal != SIGHUP {
                log::warn!("stopping at once; what was not finished is pending");
                std::process::exit(0);
            }
        }
    });
    let failures = daemon.failures().clone();
    daemon.shutdown();
    // What cannot be written at the very end is a failure too.
    ended.and_then(|()| failures.try_recv().map_or(Ok(()), |why| Err(Error::failed(why))))
}

fn wait(daemon: &Daemon, signals: &Receiver<i32>, args: &Args) -> Result<(), Error> {
    // systemd's watchdog is fed only while a probe comes through from end to end.
    let watchdog = notify::watchdog_every();
    let beat = watchdog.map_or_else(crossbeam_channel::never, crossbeam_channel::tick);
    let started = after(START_LASTS);
    loop {
        select! {
            recv(started) -> _ => program::forget_start(),
            recv(beat) -> _ => {
                if daemon.is_alive(watchdog.unwrap_or_default()) {
                    notify::alive();
                }
            }
            recv(signals) -> signal => match signal {
                Ok(SIGHUP) => reload(daemon, args),
                Ok(_) | Err(_) => return Ok(()),
            },
            recv(daemon.failures()) -> why => {
                return Err(Error::failed(why.unwrap_or_else(|_| "the daemon ended".to_owned())));
            }
        }
    }
}

/// At once or not at all: an invalid file leaves the old configuration in force.
fn reload(daemon: &Daemon, args: &Args) {
    match Config::load(args.file.config.as_deref()) {
        Ok(config) => match daemon.reload(&config) {
            Ok(()) => log::info!("configuration reloaded: dispositions, severities and secrets"),
            Err(error) => log::error!("not reloaded, the old configuration stays in force: {error}"),
        },
        Err(error) => log::error!("not reloaded, the old configuration stays in force: {error}"),
    }
}

fn signals() -> Result<Receiver<i32>, Error> {
    let cannot = |error: std::io::Error| Error::failed(format!("cannot listen for signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
    let (send, receive) = bounded(8);
    let listen = move || {
        for signal in signals.forever() {
            if send.send(signal).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(cannot)?;
    Ok(receive)
}
