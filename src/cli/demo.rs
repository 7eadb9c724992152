//! `dispod demo`: the whole job on this machine, without credentials or network.

mod acts;
mod audience;
mod stage;
mod table;
mod verify;

use std::io::Write;

use acts::{ACTS, Becomes, Post, Trouble};
use stage::Stage;
use table::Screen;
use verify::{Claims, Observed, Seen};

use crate::config::LogConfig;
use crate::error::Error;
use crate::logging;
use crate::store::Filter;

/// Show the whole job on this machine: no credentials, no network, a store that is thrown away.
///
/// Starts a stand-in CXone and the daemon on loopback, posts call results of every kind, shows what became of each,
/// then takes yours until Ctrl-C.
#[derive(clap::Args)]
pub struct Args {
    /// End after the table; fail if anything went otherwise than promised.
    #[arg(long)]
    once: bool,
}

/// Plays the demo and, without `--once`, serves until Ctrl-C.
///
/// # Errors
/// Something could not be started, or with `--once` a claim does not hold.
pub fn run(args: &Args) -> Result<(), Error> {
    // The table tells what happens; log lines between its rows would only disturb it.
    logging::start(&LogConfig { level: log::LevelFilter::Error, ..LogConfig::default() });
    let stage = Stage::set(args.once)?;
    let mut screen = table::standard_output();
    let observed = play(&stage, &mut screen)?;
    let claims = verify::verify(&observed);
    explain(&mut screen, &claims)?;
    screen.line("")?;
    if args.once {
        screen.line("Go on:  dispod demo           goes on serving, for call results of your own")?;
        screen.line("        dispod serve --help   the same with your tenant; see README.md")?;
        return if claims.wrong.is_empty() {
            Ok(())
        } else {
            Err(Error::failed(format!("the demo failed: {} claims do not hold", claims.wrong.len())))
        };
    }
    invite(&stage, &mut screen)?;
    audience::serve(&stage, &mut screen, observed.seen.len())
}

/// Posts everything, printing what becomes of each.
fn play<W: Write>(stage: &Stage, screen: &mut Screen<W>) -> Result<Observed, Error> {
    screen.line("A call ends, its result is posted to dispod, the contact is updated in CXone,")?;
    screen.line("and subscribers hear of it. Here CXone is a stand-in; everything else is real.")?;
    screen.line("")?;
    screen.head()?;
    let mut seen: Vec<Seen> = Vec::new();
    for act in &ACTS {
        screen.title(act.title)?;
        for scene in act.scenes {
            let first = seen.len();
            for post in *scene {
                trouble(stage, post)?;
                seen.push(Seen { reply: stage.post(post.body)?, kept: None });
            }
            for (index, post) in (first..).zip(*scene) {
                if let Becomes::Event(expected) = &post.becomes {
                    seen[index].kept = stage.settled(expected.contact, expected.code)?;
                }
                screen.post(index + 1, &post.becomes, &seen[index], post.note)?;
            }
        }
    }
    // A repeat of an event is recorded with it after it was first looked at.
    for (post, seen) in acts::posts().zip(&mut seen) {
        if let Becomes::Event(expected) = &post.becomes {
            seen.kept = stage.find(expected.contact, expected.code)?;
        }
    }
    let mut events = 0;
    let counted = stage.history.events(&Filter::default(), |_| {
        events += 1;
        true
    });
    counted.map_err(|error| stage::unreadable(&error))?;
    let delivered =
        acts::posts().filter(|post| matches!(&post.becomes, Becomes::Event(event) if event.delivered()));
    Ok(Observed {
        seen,
        events,
        outcomes: stage.published(delivered.count())?,
        contacts: stage.sandbox.contacts(),
        stats: stage.sandbox.stats(),
    })
}

fn trouble(stage: &Stage, post: &Post) -> Result<(), Error> {
    match post.trouble {
        Trouble::None => Ok(()),
        Trouble::Answer(contact, replies) => stage.sandbox.script(contact, replies),
        Trouble::Revoke => {
            stage.sandbox.revoke();
            Ok(())
        }
    }
}

/// What just happened and what it means.
fn explain<W: Write>(screen: &mut Screen<W>, claims: &Claims) -> Result<(), Error> {
    screen.title("A 200 means kept; kept means delivered, or dead with a reason")?;
    screen.line("Each event was on disk before its sender had the 200. A slow, failing or")?;
    screen.line("forgetful API costs time, never an event, an order or a second update.")?;
    let Claims { checked, wrong } = claims;
    if wrong.is_empty() {
        return screen.line(&format!("{checked} claims about this run were checked: all hold."));
    }
    screen.wrong(&format!("{checked} claims about this run were checked, {} do not hold:", wrong.len()))?;
    wrong.iter().try_for_each(|claim| screen.wrong(&format!("  {claim}")))
}

/// How to take part.
fn invite<W: Write>(stage: &Stage, screen: &mut Screen<W>) -> Result<(), Error> {
    screen.line(r#"Post:   curl -d '{"contactId":"42","dispositionCode":"1001"}' \"#)?;
    screen.line(&format!("          {}", stage.webhook_url()))?;
    let sandbox = stage.sandbox.local_addr();
    screen.line(&format!("Look:   curl http://{sandbox}/_contacts/42   (what CXone holds)"))?;
    if let Some(url) = stage.admin_url() {
        screen.line(&format!("        {url}   (the daemon's page)"))?;
    }
    screen.line("Go on:  dispod serve, with DISPOD_CXONE_ENVIRONMENT, DISPOD_CXONE_CLIENT_ID and")?;
    screen.line("        DISPOD_CXONE_CLIENT_SECRET of your tenant; see README.md")?;
    screen.aside("Serving; what you post appears below. Ctrl-C ends it.")
}

#[cfg(test)]
mod tests;
