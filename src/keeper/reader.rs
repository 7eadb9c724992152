//! One durable subscriber as the keeper sees it: what it wants, how far it has come, whether it asks.

use crossbeam_channel::Sender;
use ring::digest;

use crate::config::{SubscriberConfig, SubscriberTarget};
use crate::event::Severity;
use crate::flow::OutboxEntry;
use crate::metrics::SubscriberMeter;
use crate::store::{OutboxRow, Store, StoreError, SubscriberRow};

/// Rows of the outbox read at once.
const READ_ROWS: usize = 128;
/// Most such reads to find something for one subscriber; then the keeper does something else.
const READS_MAX: usize = 64;

/// A durable subscriber.
pub(super) struct Reader {
    pub(super) name: String,
    /// Tells its target from another one.
    pub(super) fingerprint: String,
    /// By [`Severity::ALL`].
    pub(super) wants: [bool; Severity::ALL.len()],
    pub(super) position: u64,
    pub(super) disabled: Option<String>,
    /// Whether the store has to be told of it.
    pub(super) unsaved: bool,
    pub(super) asking: Option<(usize, Sender<Vec<OutboxEntry>>)>,
}

impl Reader {
    pub(super) fn new(config: &SubscriberConfig, row: Option<&SubscriberRow>, end: u64) -> Self {
        let fingerprint = fingerprint(&config.target);
        let mut wants = [false; 3];
        for severity in &config.severities {
            wants[*severity as usize] = true;
        }
        let said = row.and_then(|row| row.disabled.as_ref());
        let disabled = said.filter(|said| said.split(' ').next() == Some(&fingerprint)).cloned();
        Self {
            name: config.name.clone(),
            fingerprint,
            wants,
            position: row.map_or(end, |row| row.position),
            unsaved: row.is_none() || said.is_some() != disabled.is_some(),
            disabled,
            asking: None,
        }
    }

    pub(super) fn row(&self, position: u64) -> SubscriberRow {
        SubscriberRow { name: self.name.clone(), position, disabled: self.disabled.clone() }
    }

    pub(super) fn wants(&self, row: &OutboxRow) -> bool {
        row.severity.is_some_and(|severity| self.wants[severity as usize])
    }

    pub(super) fn disabled_because(&self) -> Option<&str> {
        self.disabled.as_deref().map(|text| text.split_once(' ').map_or(text, |(_, reason)| reason))
    }

    /// Passes over what it does not want when there is nothing it does want.
    pub(super) fn skip_to_end(&mut self, meter: &SubscriberMeter, end: u64) {
        if meter.pending.get() == 0 {
            self.position = end;
        }
    }

    /// The next outcomes for it, at most `limit`; none: the search goes on another time.
    pub(super) fn entries(
        &mut self,
        store: &Store,
        limit: usize,
        meter: &SubscriberMeter,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut entries = Vec::new();
        let mut after = self.position;
        for _ in 0..READS_MAX {
            let rows = store.outbox(after, READ_ROWS)?;
            for row in &rows {
                if self.wants(row) {
                    match store.outbox_event(row.event)? {
                        Some(stored) => entries.push(OutboxEntry {
                            position: row.position,
                            delivered_ms: stored.settled.at_ms.unwrap_or(stored.event.received_ms),
                            event: stored.event,
                        }),
                        None if entries.is_empty() => self.lost(row.event, meter),
                        // It is counted once, when it comes first.
                        None => return Ok(entries),
                    }
                }
                after = row.position;
                if entries.is_empty() {
                    self.position = after;
                }
                if entries.len() == limit {
                    return Ok(entries);
                }
            }
            if rows.len() < READ_ROWS {
                if entries.is_empty() {
                    meter.pending.set(0);
                }
                break;
            }
            if !entries.is_empty() {
                break;
            }
        }
        Ok(entries)
    }

    fn lost(&self, event: u64, meter: &SubscriberMeter) {
        meter.pending.sub(1);
        meter.dropped.inc();
        log::error!("event {event} is damaged in the store: subscriber {} cannot be told of it", self.name);
    }
}

/// The kind of a target in words.
pub(super) fn kind(target: &SubscriberTarget) -> &'static str {
    match target {
        SubscriberTarget::Webhook { .. } => "webhook",
        SubscriberTarget::File(_) => "file",
    }
}

/// A few digits of a hash: who changes the target of a disabled subscriber wants it back.
fn fingerprint(target: &SubscriberTarget) -> String {
    let text = match target {
        SubscriberTarget::Webhook { url, .. } => url.as_bytes(),
        SubscriberTarget::File(path) => path.as_os_str().as_encoded_bytes(),
    };
    let mut first = [0; 8];
    first.copy_from_slice(&digest::digest(&digest::SHA256, text).as_ref()[..8]);
    format!("{:016x}", u64::from_be_bytes(first))
}
