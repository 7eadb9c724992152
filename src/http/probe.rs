//! Asking the server itself, through its own socket: what the watchdog rests on.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::Error;
use crate::listener::Bound;

/// Sends `GET path` and gives the status of the answer.
pub(super) fn ask(bound: &Bound, path: &str, timeout: Duration) -> Result<u16, Error> {
    let io = |error: std::io::Error| Error::failed(format!("no answer from {bound}: {error}"));
    let mut socket = bound.dial().map_err(io)?;
    let wait = Timespec::try_from(timeout).map_err(|_| Error::failed("the timeout is too long"))?;
    let connected = poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&wait));
    if connected.map_err(|error| io(error.into()))? == 0 {
        return Err(io(std::io::ErrorKind::TimedOut.into()));
    }
    socket.set_nonblocking(false).map_err(io)?;
    socket.set_read_timeout(Some(timeout)).map_err(io)?;
    socket.set_write_timeout(Some(timeout)).map_err(io)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: dispod\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(io)?;
    let mut start = [0; 12];
    socket.read_exact(&mut start).map_err(io)?;
    let status = start.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.ok_or_else(|| Error::failed(format!("{bound} answers, but not HTTP")))
}
