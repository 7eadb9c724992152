//! A store filled before the daemon starts: more, or older, than a test has time to post.

use std::path::Path;

use dispod::clock;
use dispod::config::StoreConfig;
use dispod::disposition::Mapping;
use dispod::event::CallResult;
use dispod::store::{NewEvent, Store, Sync};

use super::scene::Event;

/// Events in one transaction.
const BATCH: usize = 10_000;

/// Keeps `events` in the store in `dir`, in this order, as received `age_ms` ago. No daemon may be using it.
pub fn fill(dir: &Path, age_ms: i64, events: impl IntoIterator<Item = Event>) {
    let config = StoreConfig { dir: dir.to_owned(), ..StoreConfig::default() };
    let mut store = Store::open(&config).unwrap();
    let received_ms = clock::now_ms() - age_ms;
    let default = Mapping::default();
    let mapping = store.transact(Sync::Later, |batch| batch.record_mapping(&default, received_ms)).unwrap();
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let more = events.by_ref().take(BATCH);
        store
            .transact(Sync::Later, |batch| {
                for event in more {
                    let call = CallResult::new(&event.contact, event.code, None, Some(&event.name)).unwrap();
                    let severity = default.severity(&event.category);
                    let category = &event.category;
                    let new = NewEvent { call: &call, key: None, received_ms, category, severity, mapping };
                    batch.keep(&new, 0)?;
                }
                Ok(())
            })
            .unwrap();
        if store.wants_checkpoint() {
            store.finish_checkpoint().unwrap();
        }
    }
    store.sync().unwrap();
}
