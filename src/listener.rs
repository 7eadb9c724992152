//! Listening sockets: TCP, Unix with a mode and a rule for stale files, and those systemd hands over.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::config::Listen;
use crate::error::Error;

/// Connections the kernel holds for us until they are accepted (it caps this at `net.core.somaxconn`).
const BACKLOG: i32 = 1024;
/// A silent peer's host is probed after this long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// And again this often.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// A bound, listening socket. Dropping it does not remove the file of a Unix socket; [`Bound::remove_file`] does.
#[derive(Debug)]
pub struct Bound {
    kind: Kind,
    /// The file we made, with its device and inode, so that a successor's file is never removed.
    file: Option<(PathBuf, u64, u64)>,
    handed_over: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What a connection may send ahead of our reading (the kernel doubles it): what it still holds is read even after
/// the guard has ended the reading, and a flood of headers grows twentyfold in memory.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

/// How long the kernel lets a connection be slow at taking what we send.
#[derive(Debug, Clone, Copy)]
pub struct SendLimits {
    /// One `write` may wait this long for room in the send buffer (`SO_SNDTIMEO`).
    pub write: Duration,
    /// Sent data may stay unacknowledged this long (`TCP_USER_TIMEOUT`).
    pub unacknowledged: Duration,
}

impl Bound {
    /// Binds and listens. `socket_mode` is the permissions of a Unix socket's file; a file left behind by a
    /// dead process is replaced, one that somebody listens on is not.
    ///
    /// # Errors
    /// When the address is in use, not ours or not allowed; the message names it.
    pub fn bind(listen: &Listen, socket_mode: u32) -> Result<Self, Error> {
        match listen {
            Listen::Tcp(addr) => {
                let listener = bind_tcp(*addr)
                    .map_err(|error| Error::failed(format!("cannot listen on {addr}: {error}")))?;
                Ok(Self { kind: Kind::Tcp(listener), file: None, handed_over: false })
            }
            Listen::Unix(path) => {
                clear_stale(path)?;
                let (listener, device, inode) = bind_unix(path, socket_mode).map_err(|error| {
                    Error::failed(format!("cannot listen on unix:{}: {error}", path.display()))
                })?;
                let file = Some((path.clone(), device, inode));
                Ok(Self { kind: Kind::Unix(listener), file, handed_over: false })
            }
        }
    }

    /// The address of a TCP listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix(_) => None,
        }
    }

    /// Whether only this machine can reach it: loopback or a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local_addr().is_none_or(|addr| addr.ip().is_loopback())
    }

    /// Whether systemd owns the socket and hands it to our successor too.
    #[must_use]
    pub fn handed_over(&self) -> bool {
        self.handed_over
    }

    /// The same socket for tiny_http.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn for_server(&self) -> io::Result<tiny_http::Listener> {
        Ok(match &self.kind {
            Kind::Tcp(listener) => listener.try_clone()?.into(),
            Kind::Unix(listener) => listener.try_clone()?.into(),
        })
    }

    /// Sets what accepted TCP connections inherit: small writes at once, dead peers noticed, bounded sends and
    /// buffers.
    /// Unix connections inherit nothing.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub(crate) fn set_inherited(&self, limits: SendLimits) -> io::Result<()> {
        let Kind::Tcp(listener) = &self.kind else { return Ok(()) };
        let socket = SockRef::from(listener);
        socket.set_tcp_nodelay(true)?;
        socket.set_write_timeout(Some(limits.write))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
        socket.set_tcp_keepalive(&keepalive)?;
        let unacknowledged_ms = u32::try_from(limits.unacknowledged.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(listener, unacknowledged_ms)?;
        Ok(())
    }

    /// Ends the listening for good, on every clone. Must not be done to a socket that was handed over: systemd
    /// gives the same one to our successor.
    pub(crate) fn shut(&self) {
        // The only failure is a socket that is shut already.
        let _ = rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Both);
    }

    /// Removes the file of a Unix socket we made, if it is still ours.
    pub fn remove_file(&self) {
        let Some((path, device, inode)) = &self.file else { return };
        let ours = path.symlink_metadata().is_ok_and(|m| m.dev() == *device && m.ino() == *inode);
        if ours && let Err(error) = std::fs::remove_file(path) {
            log::warn!("cannot remove {}: {error}", path.display());
        }
    }

    /// Starts a connection to this listener from inside, without waiting for it.
    ///
    /// # Errors
    /// When there is no descriptor left or the backlog is full.
    pub(crate) fn dial(&self) -> io::Result<Socket> {
        let (domain, addr) = match &self.kind {
            Kind::Tcp(listener) => {
                let addr = reachable(listener.local_addr()?);
                (Domain::for_address(addr), SockAddr::from(addr))
            }
            Kind::Unix(listener) => {
                let addr = listener.local_addr()?;
                let path = addr.as_pathname().ok_or(io::ErrorKind::Unsupported)?;
                (Domain::UNIX, SockAddr::unix(path)?)
            }
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&addr) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                Err(error)
            }
            _ => Ok(socket),
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix(listener) => listener.as_fd(),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Tcp(listener) => match listener.local_addr() {
                Ok(addr) => write!(f, "http://{addr}"),
                Err(error) => write!(f, "a TCP socket ({error})"),
            },
            Kind::Unix(listener) => match listener.local_addr() {
                Ok(addr) => write!(f, "unix:{}", addr.as_pathname().unwrap_or(Path::new("?")).display()),
                Err(error) => write!(f, "a Unix socket ({error})"),
            },
        }
    }
}

/// The address one connects to in order to reach a listener on `addr`.
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, addr.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, addr.port()).into(),
        _ => addr,
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // A restart must not wait for the last process's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds, sets the mode, then listens: nobody can connect before the mode holds.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, u64, u64)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    let metadata = path.symlink_metadata()?;
    Ok((UnixListener::from(std::os::fd::OwnedFd::from(socket)), metadata.dev(), metadata.ino()))
}

/// Removes the socket file of a process that is gone.
fn clear_stale(path: &Path) -> Result<(), Error> {
    let shown = path.display();
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(Error::failed(format!(
            "cannot listen on unix:{shown}: a file that is no socket is there"
        )));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::failed(format!("cannot listen on unix:{shown}: somebody listens there already"))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            log::info!("removing the stale socket {shown}");
            std::fs::remove_file(path).map_err(|error| {
                Error::failed(format!("cannot remove the stale socket unix:{shown}: {error}"))
            })
        }
        Err(error) => {
            Err(Error::failed(format!("cannot tell whether somebody listens on unix:{shown}: {error}")))
        }
    }
}

/// The sockets systemd handed over (`sd_listen_fds(3)`).
#[derive(Debug, Default)]
pub struct HandedOver {
    /// The one named `webhook`, or the first that has no other known name.
    pub webhook: Option<Bound>,
    /// The one named `admin`.
    pub admin: Option<Bound>,
}

impl HandedOver {
    /// Takes them over; call it once, early. Both are `None` outside systemd.
    ///
    /// # Errors
    /// When a descriptor is no listening stream socket, or there are more than we know what to do with.
    pub fn take() -> Result<Self, Error> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut listenfd = ListenFd::from_env();
        let mut taken = Self::default();
        for index in 0..listenfd.len() {
            let bound = take_one(&mut listenfd, index)?;
            let name = names.get(index).copied().unwrap_or_default();
            let place = if name == "admin" { &mut taken.admin } else { &mut taken.webhook };
            if place.is_some() {
                let message =
                    format!("socket activation: socket {index} ({name:?}, {bound}) is one too many");
                return Err(Error::failed(message));
            }
            *place = Some(bound);
        }
        Ok(taken)
    }
}

fn take_one(listenfd: &mut ListenFd, index: usize) -> Result<Bound, Error> {
    let refused = |error| Error::failed(format!("socket activation: socket {index}: {error}"));
    // TCP first: a socket of another family is left in its place for the second try.
    let kind = match listenfd.take_tcp_listener(index) {
        Ok(Some(listener)) => Kind::Tcp(listener),
        _ => match listenfd.take_unix_listener(index).map_err(refused)? {
            Some(listener) => Kind::Unix(listener),
            None => return Err(refused(io::ErrorKind::NotFound.into())),
        },
    };
    let bound = Bound { kind, file: None, handed_over: true };
    if !rustix::net::sockopt::socket_acceptconn(&bound).unwrap_or(false) {
        return Err(Error::failed(format!("socket activation: socket {index} does not listen")));
    }
    SockRef::from(&bound).set_nonblocking(false).map_err(refused)?;
    Ok(bound)
}

/// Raises the soft limit on open descriptors to the hard one, since a connection costs tiny_http two. Gives the
/// limit that holds now.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("cannot raise the limit on open descriptors: {error}");
        limit.current = soft;
    }
    limit.current.unwrap_or(u64::MAX)
}
