//! Which codes came in, and what they were mapped to: what the reports about the mapping are made from.

use std::collections::BTreeMap;

use super::records::Cell;
use crate::audit::Mappings;
use crate::error::Error;
use crate::event::Severity;
use crate::store::{CodeCount, History, Selection, StoreError};

/// Different codes looked at; the rarest beyond are left out, and it is said.
const CODES_MAX: usize = 20_000;

/// Events of the same code that were mapped alike.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alike {
    pub(super) code: String,
    pub(super) category: String,
    pub(super) severity: Severity,
    /// Whether the mapping then in force had the code.
    pub(super) mapped: bool,
}

/// How many they are.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) events: u64,
    pub(super) last_ms: i64,
}

/// A number of events.
pub(super) fn count(events: u64) -> Cell<'static> {
    Cell::Number(i64::try_from(events).unwrap_or(i64::MAX))
}

/// How many events had each code, put together by `key`, the most frequent first.
pub(super) fn seen<K: Ord>(
    history: &History,
    selection: &Selection,
    key: impl Fn(Alike) -> K,
) -> Result<Vec<(K, Seen)>, Error> {
    let failed = |error: StoreError| Error::failed(format!("cannot read the store: it is {error}"));
    let mut mappings = Mappings::new(history);
    let mut all: BTreeMap<K, Seen> = BTreeMap::new();
    let mut counts = history.codes(selection, CODES_MAX).map_err(failed)?;
    if counts.len() == CODES_MAX {
        eprintln!("dispod: warning: only the {CODES_MAX} most frequent codes are looked at");
    }
    // Mapping by mapping, so that each is read once.
    counts.sort_by_key(|count| count.mapping);
    for CodeCount { disposition_code: code, category, severity, mapping, events, last_seen_ms } in counts {
        let recorded = mappings.get(mapping).map_err(failed)?;
        let mapped = recorded.is_none_or(|(then, _)| then.dispositions.contains_key(&code));
        let seen = all.entry(key(Alike { code, category, severity, mapped })).or_default();
        seen.events += events;
        seen.last_ms = seen.last_ms.max(last_seen_ms);
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.events));
    Ok(all)
}
