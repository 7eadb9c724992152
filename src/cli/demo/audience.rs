//! After the play: each request the user posts becomes one more line.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use super::stage::{Ended, Stage, unreadable};
use super::table::Screen;
use super::verify::Kept;
use crate::error::Error;
use crate::store::{Filter, State, StepKind};

/// How often the counters are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// An event that takes longer is shown as pending first.
const PENDING_AFTER: Duration = Duration::from_millis(1500);
/// Most events awaited at once; later ones are shown when there is room.
const AWAITED_MAX: usize = 256;

/// The webhook's answer to an event that is kept.
const KEPT: u16 = 200;

struct Audience<'a, W> {
    stage: &'a Stage,
    screen: &'a mut Screen<W>,
    /// Rows printed so far.
    rows: usize,
    /// The last event looked at.
    last_id: u64,
    /// Events that are not settled: since when, and whether that was shown.
    awaited: BTreeMap<u64, (Instant, bool)>,
    duplicates: u64,
    /// Requests not answered 200, by status.
    refused: BTreeMap<u16, u64>,
}

/// Prints what is posted until the user ends it; `rows` were printed before.
pub(super) fn serve<W: Write>(stage: &Stage, screen: &mut Screen<W>, rows: usize) -> Result<(), Error> {
    let mut audience = Audience {
        stage,
        screen,
        rows,
        last_id: 0,
        awaited: BTreeMap::new(),
        duplicates: 0,
        refused: BTreeMap::new(),
    };
    audience.skip()?;
    loop {
        match stage.pause(LOOK_EVERY) {
            Ok(()) => audience.look()?,
            Err(Ended::Signal) => return Ok(()),
            Err(ended @ Ended::Failure(_)) => return Err(ended.into()),
        }
    }
}

impl<W: Write> Audience<'_, W> {
    /// What the play posted has been shown.
    fn skip(&mut self) -> Result<(), Error> {
        let metrics = self.stage.daemon.metrics();
        self.duplicates = metrics.events_duplicate.get();
        self.refused = metrics.webhook_requests.seen().filter(|(status, _)| *status != KEPT).collect();
        let newest = Filter { newest_first: true, limit: Some(1), ..Filter::default() };
        self.last_id = self.new_ids(&newest)?.pop().unwrap_or(0);
        Ok(())
    }

    fn new_ids(&self, filter: &Filter) -> Result<Vec<u64>, Error> {
        let mut ids = Vec::new();
        let read = self.stage.history.events(filter, |stored| {
            ids.push(stored.map_or_else(|damaged| damaged, |stored| stored.event.id));
            true
        });
        read.map_err(|error| unreadable(&error))?;
        Ok(ids)
    }

    fn look(&mut self) -> Result<(), Error> {
        let room = AWAITED_MAX - self.awaited.len();
        if room > 0 {
            let filter = Filter { after_id: self.last_id, limit: Some(room), ..Filter::default() };
            for id in self.new_ids(&filter)? {
                self.last_id = id;
                self.awaited.insert(id, (Instant::now(), false));
            }
        }
        for id in self.awaited.keys().copied().collect::<Vec<_>>() {
            self.show(id)?;
        }
        self.show_others()
    }

    /// Shows an event when it is settled, or once when it takes long.
    fn show(&mut self, id: u64) -> Result<(), Error> {
        let Some(kept) = self.stage.kept(id)? else {
            self.awaited.remove(&id);
            return Ok(());
        };
        let pending = kept.stored.state == State::Pending;
        if !pending {
            self.awaited.remove(&id);
        } else if let Some((since, shown)) = self.awaited.get_mut(&id) {
            if *shown || since.elapsed() < PENDING_AFTER {
                return Ok(());
            }
            *shown = true;
        }
        self.rows += 1;
        self.screen.event(self.rows, KEPT, &kept)?;
        match remark(&kept) {
            Some(remark) => self.screen.note(&remark),
            None => Ok(()),
        }
    }

    /// Repeats and refused requests leave no event of their own; the counters tell of them.
    fn show_others(&mut self) -> Result<(), Error> {
        let metrics = self.stage.daemon.metrics();
        let duplicates = metrics.events_duplicate.get();
        let refused: BTreeMap<u16, u64> =
            metrics.webhook_requests.seen().filter(|(status, _)| *status != KEPT).collect();
        for _ in self.duplicates..duplicates {
            self.rows += 1;
            self.screen.refused(self.rows, KEPT, "kept before: not delivered again")?;
        }
        for (status, count) in &refused {
            for _ in self.refused.get(status).copied().unwrap_or(0)..*count {
                self.rows += 1;
                self.screen.refused(self.rows, *status, "not kept: the answer says why")?;
            }
        }
        (self.duplicates, self.refused) = (duplicates, refused);
        Ok(())
    }
}

/// The API's own words about an event that is not delivered.
fn remark(kept: &Kept) -> Option<String> {
    let settled = &kept.stored.settled;
    let (status, words) = match kept.stored.state {
        State::Delivered => return None,
        State::Pending => {
            let attempt = kept.steps.iter().rfind(|step| step.kind == StepKind::Attempt)?;
            (attempt.status, attempt.note.as_deref())
        }
        State::Dead | State::Dropped => (settled.status, settled.answer.as_deref()),
    };
    let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    Some(format!("{status}: {}", words.unwrap_or_default()))
}
