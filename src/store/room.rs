//! How much room there is, and what is done when there is none.

use super::{Store, StoreError};

/// Part of the file that new events may not use, so that those kept can always be settled...
pub(super) const RESERVE_FRACTION: u64 = 8;
/// ...but not more than this of `store.max_size`.
pub(super) const RESERVE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The file may grow by so much at a time beyond `store.max_size`, for what cannot be put off.
const GRACE_BYTES: u64 = 1024 * 1024;

impl Store {
    /// Whether there is room for another event, besides what is reserved for settling those already kept.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn has_room(&self) -> Result<bool, StoreError> {
        let limit_pages = self.present_limit_pages.unwrap_or(u64::MAX).min(self.keep_limit_pages);
        Ok(self.pages_in_use()? < limit_pages)
    }

    /// The disk is full: no new event is taken before there is room in what the file has now.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn limit_to_present_size(&mut self) -> Result<(), StoreError> {
        let pages = self.number("page_count")?;
        self.present_limit_pages = Some(pages - pages / RESERVE_FRACTION);
        Ok(())
    }

    /// The disk has room again.
    pub fn lift_present_limit(&mut self) {
        self.present_limit_pages = None;
    }

    /// Lets the file grow a little beyond `store.max_size`, until the next start: what is kept must be settled,
    /// and a settlement adds a few bytes to its row at most. Nothing is kept by it, see [`Store::has_room`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn raise_limit(&mut self) -> Result<(), StoreError> {
        let pages = self.number("page_count")? + GRACE_BYTES / self.number("page_size")?.max(1);
        Ok(self.connection.pragma_update(None, "max_page_count", pages.cast_signed())?)
    }

    /// The size of the log from which it is moved into the database, in bytes.
    #[must_use]
    pub fn wal_limit_bytes(&self) -> u64 {
        u64::from(self.wal_limit_pages) * self.page_bytes
    }

    fn pages_in_use(&self) -> Result<u64, StoreError> {
        Ok(self.number("page_count")?.saturating_sub(self.number("freelist_count")?))
    }

    fn number(&self, pragma: &str) -> Result<u64, StoreError> {
        let number = self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))?;
        Ok(number.cast_unsigned())
    }
}
