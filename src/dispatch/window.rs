//! How far dispatch has read the backlog of each class: what it was told of as it was kept, and what it has yet to
//! read from the store. Pure.

use crate::store::Class;

/// One class of the backlog as dispatch knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// Everything pending up to this place was offered to the lanes.
    through: u64,
    /// Whether the store may have pending events behind it.
    behind: bool,
    /// A load was ordered and is not answered.
    loading: bool,
}

/// Both classes.
#[derive(Debug)]
pub struct Window {
    readings: [Reading; Class::ALL.len()],
}

impl Default for Window {
    /// At the start everything is in the store and nothing was read.
    fn default() -> Self {
        Self { readings: [Reading { through: 0, behind: true, loading: false }; Class::ALL.len()] }
    }
}

impl Window {
    fn of(&mut self, class: Class) -> &mut Reading {
        &mut self.readings[class as usize]
    }

    /// Whether an event just kept may be offered; if not, it will be read from the store.
    pub fn admit(&mut self, class: Class, place: u64, room: bool) -> bool {
        let reading = self.of(class);
        if reading.behind || !room {
            reading.behind = true;
            return false;
        }
        reading.through = place;
        true
    }

    /// The store has events of `class` that dispatch was not told of.
    pub fn fall_behind(&mut self, class: Class) {
        self.of(class).behind = true;
    }

    /// The place behind which `class` is to be read on, if it is time.
    pub fn begin_load(&mut self, class: Class) -> Option<u64> {
        let reading = self.of(class);
        if !reading.behind || reading.loading {
            return None;
        }
        reading.loading = true;
        Some(reading.through)
    }

    /// A load was answered through this place; `None`: there is nothing behind what it gave, last at `last`.
    pub fn loaded(&mut self, class: Class, continue_after: Option<u64>, last: Option<u64>) {
        let reading = self.of(class);
        reading.loading = false;
        reading.behind = continue_after.is_some();
        reading.through = continue_after.or(last).unwrap_or(reading.through).max(reading.through);
    }

    /// Whether every pending event with a lower place than `place` was offered to the lanes, whatever its class.
    #[must_use]
    pub fn complete_below(&self, place: u64) -> bool {
        self.readings.iter().all(|reading| !reading.behind || reading.through >= place)
    }
}
