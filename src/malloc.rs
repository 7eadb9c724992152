//! glibc's allocator, told that there are many threads and little memory.

use std::ffi::c_int;

/// `M_ARENA_MAX` of `malloc.h`.
const ARENA_MAX: c_int = -8;
/// `M_MMAP_THRESHOLD` of `malloc.h`.
const MMAP_THRESHOLD: c_int = -3;
/// `M_TRIM_THRESHOLD` of `malloc.h`.
const TRIM_THRESHOLD: c_int = -1;

/// Threads that allocate at the same time without waiting for each other. glibc's own choice is eight times the
/// cores, each with what was ever freed in it.
const ARENAS: c_int = 2;
/// What glibc begins with. Setting it keeps it from growing to 32 MiB with the first large block that is freed.
const LARGE_BYTES: c_int = 128 * 1024;

unsafe extern "C" {
    /// Of glibc: sets a parameter of the allocator; 0 if there is no such parameter.
    safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
}

/// Few arenas, and what is free at their ends given back. To be called before there is a second thread. What the
/// allocator does not know it leaves as it is: no harm is done.
pub(crate) fn be_small() {
    for (parameter, value) in
        [(ARENA_MAX, ARENAS), (MMAP_THRESHOLD, LARGE_BYTES), (TRIM_THRESHOLD, LARGE_BYTES)]
    {
        mallopt(parameter, value);
    }
}
