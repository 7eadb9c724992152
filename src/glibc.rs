//! What only glibc itself can be told.

use std::ffi::c_int;

/// Of `malloc.h`: from which size on memory is mapped, and given back when freed.
const M_MMAP_THRESHOLD: c_int = -3;
/// Of `malloc.h`: heaps at most.
const M_ARENA_MAX: c_int = -8;
/// glibc's own beginning, which otherwise grows up to 32 MiB with the largest buffer ever freed.
const MMAP_THRESHOLD_BYTES: c_int = 128 * 1024;
/// Two, for the few threads that allocate at once, instead of eight for each core.
const ARENAS_MAX: c_int = 2;

unsafe extern "C" {
    fn mallopt(parameter: c_int, value: c_int) -> c_int;
}

/// Has large buffers given back as soon as they are free, and few heaps made. With glibc's defaults a client that
/// sends headers of 20 MB leaves that much behind in the heap of every thread it met.
pub(crate) fn give_memory_back() {
    // SAFETY: two integers, before there is another thread. A refusal changes nothing.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
        mallopt(M_ARENA_MAX, ARENAS_MAX);
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
