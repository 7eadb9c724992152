//! What only glibc itself can be told.

use std::ffi::c_int;

/// `M_ARENA_MAX` of `malloc.h`.
const ARENA_MAX: c_int = -8;
/// `M_MMAP_THRESHOLD` of `malloc.h`.
const MMAP_THRESHOLD: c_int = -3;
/// `M_TRIM_THRESHOLD` of `malloc.h`.
const TRIM_THRESHOLD: c_int = -1;

/// `M_MXFAST` of `malloc.h`.
const MXFAST: c_int = 1;

/// Threads that allocate at the same time without waiting for each other. glibc's own choice is eight times the
/// cores. With 2 the keeper waits for the webhook's threads: 25,600 durable acknowledgements a second at 50 us of CPU
/// each; with 16 it is 36,500 at 37 us, in the same memory.
const ARENAS: c_int = 16;
/// A small free block that no thread's cache takes is joined with its neighbours at once. glibc would keep blocks up to
/// 128 bytes apart and join all in one go, while other threads wait for the arena: at twice the best rate memory then
/// grows by 1 MB a second instead of 0.35, and 41,000 acknowledgements a second are 38,000.
const UNJOINED_BYTES: c_int = 0;
/// What glibc begins with. Setting it keeps it from growing to 32 MiB with the first large block that is freed.
const LARGE_BYTES: c_int = 128 * 1024;

unsafe extern "C" {
    /// Sets a parameter of the allocator; 0 if there is no such parameter.
    safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
}

/// Has glibc's allocator know that there are many threads and little memory: a bound on arenas, and what is free
/// at their ends given back. To be called before there is a second thread. What it does not know it leaves as it is.
pub(crate) fn give_memory_back() {
    let parameters = [
        (ARENA_MAX, ARENAS),
        (MXFAST, UNJOINED_BYTES),
        (MMAP_THRESHOLD, LARGE_BYTES),
        (TRIM_THRESHOLD, LARGE_BYTES),
    ];
    for (parameter, value) in parameters {
        mallopt(parameter, value);
    }
}

/// Looks hosts up in `/etc/hosts` and the DNS alone.
///
/// Both are part of glibc. Any other service (Debian lists `myhostname`, for one) would be loaded as a shared
/// library, which brings a second glibc into the process and ends it with SIGFPE. To be called before the first
/// look-up.
#[cfg(target_feature = "crt-static")]
pub(crate) fn use_files_and_dns() {
    use std::ffi::c_char;

    unsafe extern "C" {
        /// Which services, in which order, look up a database, whatever `/etc/nsswitch.conf` says.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    // SAFETY: both arguments are strings that end with NUL and live as long as the program; glibc copies what it
    // keeps, takes its own lock, and there is no other thread yet.
    let status = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    if status != 0 {
        eprintln!(
            "dispod: name resolution is left to /etc/nsswitch.conf: {}",
            std::io::Error::last_os_error()
        );
    }
}
