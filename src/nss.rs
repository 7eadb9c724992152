//! Name resolution in a binary with glibc linked in.

use std::ffi::{c_char, c_int};

unsafe extern "C" {
    /// Of glibc: which services, in which order, look up a database, whatever `/etc/nsswitch.conf` says.
    fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
}

/// Looks hosts up in `/etc/hosts` and the DNS alone.
///
/// Both are part of glibc. Any other service (Debian lists `myhostname`, for one) would be loaded as a shared
/// library, which brings a second glibc into the process and ends it with SIGFPE. To be called before the first
/// look-up.
pub(crate) fn use_files_and_dns() {
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
