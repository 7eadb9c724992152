//! What the keeper does beside keeping: syncing late commits, moving the log, pruning, making room, measuring.
//!
//! It costs nothing while nothing happens: after work it runs once within a second, otherwise once a minute.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checkpoints::Checkpoints;
use crate::clock;
use crate::config::StoreConfig;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::store::{Class, RESERVE_NAME, Store, StoreError, Sync};

use super::outbox::Outbox;

/// How long a settlement may wait for the sync that carries it through a power cut.
const SYNC_WITHIN: Duration = Duration::from_secs(1);
/// How often old history and old idempotency keys are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Events looked at by one step of pruning.
const PRUNE_STEP: usize = 512;
/// Idempotency keys looked at by one step.
const PRUNE_KEYS: usize = 4096;
/// For each event kept so many keys are looked at: in a steady stream of up to 2,000 events/s, a step a second, that
/// is all of them in half a window.
const PRUNE_KEYS_PER_EVENT: usize = 2;
/// Most steps of pruning to make room for one batch; the next batch goes on.
const MAKE_ROOM_STEPS_MAX: usize = 8;
/// So many events looked at without finding one that may be forgotten, and subscribers' backlogs give way.
const BARREN_EVENTS: usize = 64 * 1024;
/// At most one complaint of a kind in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// What the reserve, given up when the disk is full, has beyond the size of the log: the log can then be moved into
/// the database, and its own space be written again.
const RESERVE_MORE_BYTES: u64 = 1024 * 1024;
/// A disk with less than this is full: a batch may not fit.
const DISK_FULL_BYTES: u64 = 2 * 1024 * 1024;

pub(super) struct Housekeeping {
    checkpoints: Checkpoints,
    /// When the measures are due: after work.
    measure_at: Option<Instant>,
    /// Whether a commit awaits its sync.
    unsynced: bool,
    prune_at: Instant,
    /// Where pruning goes on: the last id looked at.
    pruned_through: u64,
    /// What pruning for room has found since it last began at the oldest event.
    pruned_this_round: usize,
    /// Events looked at since pruning for room last found one.
    barren_events: usize,
    /// There is no history to give way before this time.
    barren_until: Option<Instant>,
    /// Where pruning of idempotency keys goes on: the last one looked at.
    keys_pruned_through: Vec<u8>,
    /// Keys still to be looked at for the events that were kept.
    keys_owed: usize,
    behind: [bool; Class::ALL.len()],
    /// When each kind of complaint was last made.
    complained: Vec<(&'static str, Instant)>,
    reserve: PathBuf,
    reserve_bytes: u64,
    reserved: bool,
}

impl Housekeeping {
    pub(super) fn new(store: &mut Store, checkpoints: Checkpoints) -> Result<Self, StoreError> {
        let reserve = store.dir().join(RESERVE_NAME);
        let reserve_bytes = store.wal_limit_bytes() + RESERVE_MORE_BYTES;
        let reserved = allocate(&reserve, reserve_bytes);
        if !reserved {
            log::error!("the disk of the store is full: new events are refused until there is room");
            store.limit_to_present_size()?;
        }
        Ok(Self {
            checkpoints,
            measure_at: None,
            unsynced: false,
            prune_at: Instant::now() + PRUNE_EVERY,
            pruned_through: 0,
            pruned_this_round: 0,
            barren_events: 0,
            barren_until: None,
            keys_pruned_through: Vec::new(),
            keys_owed: 0,
            behind: [false; Class::ALL.len()],
            complained: Vec::new(),
            reserve,
            reserve_bytes,
            reserved,
        })
    }

    /// How long the keeper may sleep.
    pub(super) fn wait(&self) -> Duration {
        let next = self.measure_at.map_or(self.prune_at, |at| at.min(self.prune_at));
        next.saturating_duration_since(Instant::now())
    }

    pub(super) fn note_commit(&mut self, sync: Sync) {
        self.unsynced = sync == Sync::Later;
        if self.measure_at.is_none() {
            self.measure_at = Some(Instant::now() + SYNC_WITHIN);
        }
    }

    pub(super) fn note_kept(&mut self, events: usize) {
        self.keys_owed += events * PRUNE_KEYS_PER_EVENT;
    }

    pub(super) fn behind(&self, class: Class) -> bool {
        self.behind[class as usize]
    }

    pub(super) fn set_behind(&mut self, class: Class, behind: bool) {
        self.behind[class as usize] = behind;
    }

    pub(super) fn complain(&mut self, what: &'static str) {
        let now = Instant::now();
        self.complained.retain(|(_, at)| now - *at < COMPLAIN_EVERY);
        if self.complained.iter().all(|(said, _)| *said != what) {
            log::error!("{what}");
            self.complained.push((what, now));
        }
    }

    /// Everything that is due.
    pub(super) fn run(
        &mut self,
        store: &mut Store,
        outbox: &mut Outbox,
        config: &StoreConfig,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<(), StoreError> {
        self.checkpoints.run(store)?;
        let now = Instant::now();
        if self.measure_at.is_some_and(|at| at <= now) {
            self.measure_at = None;
            if std::mem::take(&mut self.unsynced) {
                store.sync()?;
            }
            Self::measure(store, metrics)?;
            self.reserve_again(store);
            let room = self.make_room(store, outbox)?;
            health.set_backlog_full(!room);
            if !room {
                // Look again without being asked, so that service returns by itself.
                self.measure_at = Some(now + SYNC_WITHIN);
            }
        }
        if self.prune_at <= now {
            // First, so that a store without room for it is not asked again at once.
            self.prune_at = now + PRUNE_EVERY;
            if self.prune(store, config)? {
                self.prune_at = now + SYNC_WITHIN;
            }
        }
        Ok(())
    }

    pub(super) fn measure(store: &Store, metrics: &Metrics) -> Result<(), StoreError> {
        metrics.store_bytes.set(store.bytes_on_disk());
        metrics.oldest_pending_ms.set(store.oldest_pending_ms()?.unwrap_or(0).max(0).cast_unsigned());
        Ok(())
    }

    /// Whether a new event may be kept. History gives way before an event is refused, and so do outcomes that a
    /// durable subscriber does not come for: it delays nobody but itself.
    pub(super) fn make_room(&mut self, store: &mut Store, outbox: &mut Outbox) -> Result<bool, StoreError> {
        if store.has_room()? {
            return Ok(true);
        }
        if self.forget_for_room(store, outbox.has_backlog())? {
            self.complain("the store is full: the oldest history is forgotten early");
            return Ok(true);
        }
        for _ in 0..MAKE_ROOM_STEPS_MAX {
            if self.barren_events < BARREN_EVENTS || !outbox.give_up(store)? {
                return Ok(false);
            }
            if store.has_room()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Forgets history until there is room. `thorough`: it is to be known now whether there is any.
    fn forget_for_room(&mut self, store: &mut Store, thorough: bool) -> Result<bool, StoreError> {
        let now = Instant::now();
        if self.barren_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        let steps = if thorough { BARREN_EVENTS / PRUNE_STEP } else { MAKE_ROOM_STEPS_MAX };
        for _ in 0..steps {
            let found = self.prune_history(store, i64::MAX)?;
            self.pruned_this_round += found;
            if store.has_room()? {
                return Ok(true);
            }
            self.barren_events = if found > 0 { 0 } else { self.barren_events.saturating_add(PRUNE_STEP) };
            if self.pruned_through == 0 && std::mem::take(&mut self.pruned_this_round) == 0 {
                // Once round and found nothing: all that is there is pending, dead or awaited by a subscriber.
                self.barren_until = Some(now + SYNC_WITHIN);
                self.barren_events = BARREN_EVENTS;
            }
            if self.barren_events >= BARREN_EVENTS {
                break;
            }
        }
        Ok(false)
    }

    /// Something found no room: history gives way or, when it is the disk that is full, the reserve; and the log
    /// starts over in the space it has.
    pub(super) fn make_way(&mut self, store: &mut Store) -> Result<(), StoreError> {
        self.measure_at.get_or_insert(Instant::now() + SYNC_WITHIN);
        let by_size = !store.has_room()?;
        if by_size {
            match self.forget_for_room(store, false) {
                Ok(_) | Err(StoreError::Full) => {}
                Err(error) => return Err(error),
            }
        }
        // Below the limit it is the disk, but for a batch larger than what is left of `store.max_size`.
        let little_bytes = if by_size { DISK_FULL_BYTES } else { 2 * self.reserve_bytes };
        if free_bytes(store) < little_bytes {
            self.complain("the disk of the store is full: new events are refused until there is room");
            store.limit_to_present_size()?;
            if std::mem::take(&mut self.reserved) {
                let _ = std::fs::remove_file(&self.reserve);
            }
        }
        match store.finish_checkpoint() {
            Err(StoreError::Full | StoreError::Busy) => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Reserves disk space again when there is more than is reserved, so that it is not taken and given up in turn.
    fn reserve_again(&mut self, store: &mut Store) {
        if !self.reserved && free_bytes(store) >= 2 * self.reserve_bytes {
            self.reserved = allocate(&self.reserve, self.reserve_bytes);
            if self.reserved {
                log::info!("the disk of the store has room again");
                store.lift_present_limit();
            }
        }
    }

    fn prune(&mut self, store: &mut Store, config: &StoreConfig) -> Result<bool, StoreError> {
        let now_ms = clock::now_ms();
        let before_s = (now_ms - clock::millis(config.dedupe_window)) / 1000;
        let after = std::mem::take(&mut self.keys_pruned_through);
        let last = store.transact(Sync::Later, |batch| batch.prune_seen(&after, before_s, PRUNE_KEYS))?;
        self.keys_pruned_through = last.unwrap_or_default();
        self.keys_owed = self.keys_owed.saturating_sub(PRUNE_KEYS);
        self.prune_history(store, now_ms - clock::millis(config.audit_retention))?;
        self.note_commit(Sync::Later);
        Ok(self.pruned_through != 0 || self.keys_owed > 0)
    }

    /// One step of forgetting; gives how many events went.
    fn prune_history(&mut self, store: &mut Store, before_ms: i64) -> Result<usize, StoreError> {
        let after = self.pruned_through;
        let pruned =
            store.transact(Sync::Later, |batch| batch.prune_history(after, before_ms, PRUNE_STEP))?;
        self.pruned_through = pruned.looked_through.unwrap_or(0);
        Ok(pruned.events)
    }
}

/// What the disk has left for us.
fn free_bytes(store: &Store) -> u64 {
    rustix::fs::statvfs(store.dir()).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Reserves disk space; whether it is there now.
fn allocate(path: &Path, bytes: u64) -> bool {
    let reserved = || -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        Ok(())
    };
    match reserved() {
        Ok(()) => true,
        // A file system without the call: the reserve is a convenience, not the promise.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => true,
        Err(_) => {
            let _ = std::fs::remove_file(path);
            false
        }
    }
}
