//! The process's own sockets, found and handled from outside: tiny_http hands out none of its connections.
//!
//! `/proc/self/fd` lists the descriptors; where it is not mounted every number is tried. One that is a socket is
//! looked at, or shut, through a duplicate put in a slot reserved for that, so that nothing here depends on a free
//! descriptor and a descriptor number reused meanwhile does no harm: the socket's cookie, read through the duplicate,
//! says which socket it is.

#![allow(
    unsafe_code,
    reason = "duplicating a descriptor another owner may close meanwhile; reading TCP_INFO"
)]

use std::ffi::{c_int, c_void};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, open};
use rustix::io::{DupFlags, Errno, dup3, ioctl_fionread};
use rustix::net::{SocketAddrAny, getpeername, getsockname, sockopt};

/// A socket at one moment, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Unique for the life of the kernel (`SO_COOKIE`).
    pub cookie: u64,
    /// Its inode, the same for all its descriptors.
    pub inode: u64,
    /// One of its descriptors.
    pub fd: RawFd,
    /// The client, over TCP.
    pub peer: Option<SocketAddr>,
    /// Bytes that have arrived and nobody has read.
    pub unread: u64,
    /// Whether there is room to send.
    pub writable: bool,
    /// Whether the client has sent its last byte.
    pub peer_done: bool,
    /// What only TCP knows.
    pub tcp: Option<Tcp>,
}

/// Of `TCP_INFO`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tcp {
    /// Bytes received in all.
    pub received: u64,
    /// Bytes sent in all, without retransmissions.
    pub sent: u64,
    /// Whether something was received after the last thing was sent.
    pub received_last: bool,
}

/// What a listing found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The accepted connections of the listener.
    pub connections: Vec<Seen>,
    /// How many descriptors the listening socket has.
    pub listeners: usize,
}

/// Sees the sockets of one listener.
pub(super) struct Sockets {
    /// `None`: there is no `/proc`, as in an empty directory tree.
    proc_self_fd: Option<Dir>,
    listener: (u64, SocketAddrAny),
    /// Takes the duplicates; always holds a descriptor.
    slot: OwnedFd,
    /// Put into the slot to release what was there.
    blank: OwnedFd,
    numbers: Vec<RawFd>,
}

impl Sockets {
    /// Reserves the descriptors it needs.
    pub(super) fn new(listener: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc_self_fd = match open("/proc/self/fd", flags, Mode::empty()) {
            Ok(directory) => Some(Dir::new(directory)?),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        let blank = eventfd(0, EventfdFlags::CLOEXEC)?;
        let slot = rustix::io::fcntl_dupfd_cloexec(&blank, 0)?;
        let listener = (fstat(listener)?.st_ino, getsockname(listener)?);
        Ok(Self { proc_self_fd, listener, slot, blank, numbers: Vec::new() })
    }

    /// Looks at everything once.
    pub(super) fn list(&mut self) -> Result<Listing, Errno> {
        self.read_numbers()?;
        let mut listing = Listing::default();
        let mut inodes = std::collections::HashSet::new();
        for index in 0..self.numbers.len() {
            let fd = self.numbers[index];
            let Some(inode) = socket_inode(fd) else { continue };
            if inode == self.listener.0 {
                listing.listeners += 1;
            } else if !inodes.contains(&inode)
                && let Some(seen) =
                    self.with(fd, |socket, listener| look(socket, (fd, inode), listener)).flatten()
            {
                inodes.insert(inode);
                listing.connections.push(seen);
            }
        }
        self.release();
        Ok(listing)
    }

    /// Shuts a connection down, if it is still there.
    pub(super) fn shut(&mut self, seen: &Seen, how: rustix::net::Shutdown) {
        if !self.shut_by(seen.fd, seen, how) && self.read_numbers().is_ok() {
            // The descriptor was another guard's duplicate, or its number has a new owner.
            for index in 0..self.numbers.len() {
                if self.shut_by(self.numbers[index], seen, how) {
                    break;
                }
            }
        }
        self.release();
    }

    /// Shuts what that descriptor stands for, if it is the connection seen.
    fn shut_by(&mut self, fd: RawFd, seen: &Seen, how: rustix::net::Shutdown) -> bool {
        socket_inode(fd) == Some(seen.inode)
            && self.with(fd, |socket, _| {
                let same = sockopt::socket_cookie(socket) == Ok(seen.cookie);
                if same {
                    // A connection that is over already needs no end.
                    let _ = rustix::net::shutdown(socket, how);
                }
                same
            }) == Some(true)
    }

    /// How many descriptors could be opened now, counted up to `wanted`.
    pub(super) fn spare(&self, wanted: usize) -> usize {
        let dup = |_| rustix::io::fcntl_dupfd_cloexec(&self.blank, 0).ok();
        (0..wanted).map_while(dup).collect::<Vec<_>>().len()
    }

    fn read_numbers(&mut self) -> Result<(), Errno> {
        self.numbers.clear();
        let Some(directory) = &mut self.proc_self_fd else {
            self.numbers.extend(numbers_by_trying());
            return Ok(());
        };
        directory.rewind();
        while let Some(entry) = directory.read() {
            if let Some(number) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
                self.numbers.push(number);
            }
        }
        Ok(())
    }

    /// Has a duplicate of `fd` looked at.
    fn with<R>(&mut self, fd: RawFd, use_it: impl FnOnce(BorrowedFd<'_>, &SocketAddrAny) -> R) -> Option<R> {
        // SAFETY: the number was listed a moment ago and is not -1. Its owner may close it any time, so it is
        // used for nothing but this one `dup3`, which then fails or duplicates whatever has the number now.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        dup3(borrowed, &mut self.slot, DupFlags::CLOEXEC).ok()?;
        if sockopt::socket_type(&self.slot) == Err(Errno::NOTSOCK) {
            // The number went from a socket to a file meanwhile. Closing the duplicate could release locks on
            // it, so it stays open, and the slot is made anew.
            let slot = rustix::io::fcntl_dupfd_cloexec(&self.blank, 0).ok()?;
            std::mem::forget(std::mem::replace(&mut self.slot, slot));
            return None;
        }
        Some(use_it(self.slot.as_fd(), &self.listener.1))
    }

    /// Lets go of what is in the slot: it could be the last thing that keeps a connection open.
    fn release(&mut self) {
        // Both descriptors are ours and open, so this cannot fail.
        let _ = dup3(&self.blank, &mut self.slot, DupFlags::CLOEXEC);
    }
}

/// The inode of a descriptor that is a socket. Nothing else is ever duplicated: closing a duplicate of a database's
/// file would release the database's locks on it (`fcntl(2)`, POSIX record locks).
fn socket_inode(fd: RawFd) -> Option<u64> {
    // SAFETY: the number is not -1. Its owner may close it any time, so it is used for nothing but this one `fstat`,
    // which then fails or tells of whatever has the number now.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let stat = fstat(borrowed).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::Socket).then_some(stat.st_ino)
}

/// Numbers among which are all open descriptors, found by trying. The kernel gives out the lowest free number, so a long gap is
/// the end.
fn numbers_by_trying() -> impl Iterator<Item = RawFd> {
    const GAP_MAX: RawFd = 4096;
    let mut last = 0;
    (0..RawFd::MAX).take_while(move |fd| {
        // SAFETY: as in `socket_inode`.
        let open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(*fd) }).is_ok();
        last = if open { *fd } else { last };
        *fd - last < GAP_MAX
    })
}

/// Looks at a socket; `None` when it is no connection of the listener.
fn look(socket: BorrowedFd<'_>, (fd, inode): (RawFd, u64), listener: &SocketAddrAny) -> Option<Seen> {
    if !is_of(&getsockname(socket).ok()?, listener) {
        return None;
    }
    let cookie = sockopt::socket_cookie(socket).ok()?;
    let peer = getpeername(socket).ok().flatten().and_then(|addr| SocketAddr::try_from(addr).ok());
    let unread = ioctl_fionread(socket).unwrap_or(0);
    let mut polled = [PollFd::new(&socket, PollFlags::OUT | PollFlags::RDHUP)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok()?;
    let events = polled[0].revents();
    let writable = events.intersects(PollFlags::OUT | PollFlags::HUP | PollFlags::ERR);
    let peer_done = events.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
    Some(Seen { cookie, inode, fd, peer, unread, writable, peer_done, tcp: tcp_info(socket) })
}

/// Whether a socket with that local address was accepted by the listener.
fn is_of(local: &SocketAddrAny, listener: &SocketAddrAny) -> bool {
    let (local_ip, listener_ip) =
        (SocketAddr::try_from(local.clone()), SocketAddr::try_from(listener.clone()));
    match (local_ip, listener_ip) {
        (Ok(local), Ok(listener)) => {
            local.port() == listener.port() && (listener.ip().is_unspecified() || local.ip() == listener.ip())
        }
        _ => local == listener,
    }
}

unsafe extern "C" {
    /// `getsockopt(2)`; rustix and socket2 know no `TCP_INFO`.
    fn getsockopt(socket: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut u32) -> c_int;
}

/// `IPPROTO_TCP` and `TCP_INFO` (`linux/in.h`, `linux/tcp.h`).
const TCP: (c_int, c_int) = (6, 11);
/// The part of `struct tcp_info` up to `tcpi_bytes_retrans` (Linux 4.19).
const TCP_INFO_BYTES: usize = 216;

fn tcp_info(socket: BorrowedFd<'_>) -> Option<Tcp> {
    let mut info = [0u8; TCP_INFO_BYTES];
    let mut length = 216u32;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many, and the number to `length`.
    let result =
        unsafe { getsockopt(socket.as_raw_fd(), TCP.0, TCP.1, info.as_mut_ptr().cast(), &raw mut length) };
    if result != 0 {
        return None;
    }
    // Offsets in `struct tcp_info` (`linux/tcp.h`); it only ever grows at its end.
    let u32_at = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap_or_default());
    let u64_at = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().unwrap_or_default());
    let (last_data_sent_ms, last_data_recv_ms) = (u32_at(44), u32_at(52));
    let (bytes_received, bytes_sent, bytes_retrans) = (u64_at(128), u64_at(200), u64_at(208));
    Some(Tcp {
        received: bytes_received,
        sent: bytes_sent.saturating_sub(bytes_retrans),
        received_last: last_data_recv_ms < last_data_sent_ms,
    })
}
