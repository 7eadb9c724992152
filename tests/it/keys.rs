//! Idempotency keys: the expired ones go, wherever they lie, and a step of that looks at a few only.

use dispod::config::StoreConfig;
use dispod::disposition::Mapping;
use dispod::event::CallResult;
use dispod::keep::DedupeKey;
use dispod::store::{Batch, Kept, NewEvent, Store, Sync};

use crate::support::daemon::TempDir;

const KEYS: u32 = 1000;
const STEP: usize = 128;
const LONG_AGO_S: i64 = 1000;
const EXPIRED_BEFORE_S: i64 = 2000;
const LATELY_S: i64 = 3000;

/// Keeps an event with the key `number` stands for, half of them from headers; gives whether that was new.
fn keep(batch: &mut Batch<'_>, number: u32, at_s: i64) -> bool {
    let mapping = Mapping::default();
    let time = format!("2024-05-20T10:{:02}:{:02}Z", number / 60 % 60, number % 60);
    let call = CallResult::new(&format!("contact-{number}"), "1001", None, Some(&time)).unwrap();
    let key = match number % 4 {
        0 | 1 => DedupeKey::from_content(&call),
        _ => Some(DedupeKey::from_header(&number.to_string())),
    };
    let category = mapping.category("1001");
    let severity = mapping.severity(category);
    let new = NewEvent { call: &call, key, received_ms: at_s * 1000, category, severity, mapping: 1 };
    matches!(batch.keep(&new, 0).unwrap(), Kept::New(_))
}

#[test]
fn the_expired_ones_are_forgotten_step_by_step_and_no_others() {
    let dir = TempDir::new();
    let config = StoreConfig { dir: dir.path().to_owned(), ..StoreConfig::default() };
    let mut store = Store::open(&config).unwrap();
    let is_old = |number: u32| number.is_multiple_of(2);
    store
        .transact(Sync::Now, |batch| {
            for number in 0..KEYS {
                assert!(keep(batch, number, if is_old(number) { LONG_AGO_S } else { LATELY_S }));
            }
            Ok(())
        })
        .unwrap();
    let mut steps = 0;
    let mut after = Vec::new();
    while let Some(last) =
        store.transact(Sync::Now, |batch| batch.prune_seen(&after, EXPIRED_BEFORE_S, STEP)).unwrap()
    {
        assert!(last > after, "it goes on");
        after = last;
        steps += 1;
    }
    assert_eq!(steps, (KEYS as usize).div_ceil(STEP));
    let new_again = store
        .transact(Sync::Now, |batch| Ok((0..KEYS).filter(|n| keep(batch, *n, LATELY_S)).collect::<Vec<_>>()));
    assert_eq!(new_again.unwrap(), (0..KEYS).filter(|n| is_old(*n)).collect::<Vec<_>>());
}
