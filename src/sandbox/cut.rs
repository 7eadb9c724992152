//! Ends connections under tiny_http, which has no way to do so.
//!
//! The descriptors are found in `/proc/self/fd` and duplicated through a pidfd, so no descriptor that is not ours
//! to touch is ever touched: the duplicate is examined, not the number. Where the kernel or a container forbids
//! `pidfd_getfd` nothing is ended, and the connections live until their clients close them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, connect_unspec, getpeername, getsockname, shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In order: what was written arrives, then the end.
    Close,
    /// With a reset, where the kernel can do it; else as [`End::Close`].
    Reset,
}

/// Ends the connection accepted on `port` from `remote`. Gives whether it was found.
pub(super) fn connection(port: u16, remote: SocketAddr, end: End) -> bool {
    each_accepted(port, |socket, peer| peer == remote && finish(socket, end))
}

/// Ends every connection accepted on `port`.
pub(super) fn all(port: u16) {
    each_accepted(port, |socket, _| {
        finish(socket, End::Close);
        false
    });
}

fn finish(socket: &OwnedFd, end: End) -> bool {
    if end == End::Reset && connect_unspec(socket).is_ok() {
        return true;
    }
    shutdown(socket, Shutdown::Both).is_ok()
}

/// Calls `visit` with each accepted connection until it says true; gives whether it did.
fn each_accepted(port: u16, mut visit: impl FnMut(&OwnedFd, SocketAddr) -> bool) -> bool {
    let Ok(pidfd) = pidfd_open(getpid(), PidfdFlags::empty()) else { return false };
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return false };
    for entry in entries.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(socket) = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) else { continue };
        let Some(local) = getsockname(&socket).ok().and_then(|address| SocketAddr::try_from(address).ok())
        else {
            continue;
        };
        let Ok(Some(peer)) = getpeername(&socket) else { continue };
        let Ok(peer) = SocketAddr::try_from(peer) else { continue };
        if local.port() == port && visit(&socket, peer) {
            return true;
        }
    }
    false
}
