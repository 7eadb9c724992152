//! Where a host is: looked up once in a while, beside the calls.
//!
//! Left to itself, ureq looks the host up before every call, even one on a connection it has, and starts a thread
//! for each look-up: 222 us of CPU per delivered event, 165 without it, and no query to the DNS for each.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// So long addresses are used without asking again; then they are used on while they are looked up anew.
const FRESH: Duration = Duration::from_secs(30);
/// After so long without a look-up that found something, they are used no more.
const STALE_MAX: Duration = Duration::from_secs(600);
/// More addresses than this are not tried; ureq takes no more.
const ADDRESSES_MAX: usize = 16;
/// glibc's resolver keeps its buffers on the stack.
const STACK_BYTES: usize = 256 * 1024;

/// The addresses of the hosts that are called: the API's and the token endpoint's. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Addresses(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// By `host:port`.
    hosts: Mutex<HashMap<String, Host>>,
    looked_up: Condvar,
}

#[derive(Default)]
struct Host {
    /// What the last look-up that found something found, and when.
    found: Option<(Instant, Vec<SocketAddr>)>,
    /// Why the last look-up found nothing, and when that was.
    fault: Option<(Instant, String)>,
    /// A thread is looking it up.
    looking: bool,
}

impl Addresses {
    /// Has every host looked up anew when it is called again: one of them could not be reached. What is known is
    /// used meanwhile, since the fault may be the resolver's.
    pub(super) fn doubt(&self) {
        let Some(stale) = Instant::now().checked_sub(FRESH) else { return };
        for (at, _) in self.0.lock().values_mut().filter_map(|host| host.found.as_mut()) {
            *at = stale.min(*at);
        }
    }

    /// The addresses of `host:port`; waits for a look-up only while there are none. `None` when that took too long.
    fn get(&self, name: &str, wait_max: Duration) -> Option<io::Result<Vec<SocketAddr>>> {
        let asked = Instant::now();
        let mut hosts = self.0.lock();
        loop {
            let host = hosts.entry(name.to_owned()).or_default();
            let fault = host.fault.as_ref().filter(|(at, _)| *at >= asked);
            let age = host.found.as_ref().map(|(at, _)| at.elapsed());
            if age.is_none_or(|age| age >= FRESH) && !host.looking && fault.is_none() {
                host.looking = true;
                if let Err(error) = look_up(Arc::clone(&self.0), name.to_owned()) {
                    host.looking = false;
                    return Some(Err(error));
                }
            }
            if let Some((_, addresses)) = host.found.as_ref().filter(|(at, _)| at.elapsed() < STALE_MAX) {
                return Some(Ok(addresses.clone()));
            }
            if let Some((_, why)) = fault {
                return Some(Err(io::Error::other(why.clone())));
            }
            let wait = wait_max.checked_sub(asked.elapsed())?;
            hosts = self.0.looked_up.wait_timeout(hosts, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks `host:port` up in a thread of its own, since nothing bounds how long that takes.
fn look_up(shared: Arc<Shared>, name: String) -> io::Result<()> {
    let look = move || {
        let result = name.to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>());
        let now = Instant::now();
        let mut hosts = shared.lock();
        let host = hosts.entry(name).or_default();
        host.looking = false;
        match result {
            Ok(addresses) if !addresses.is_empty() => host.found = Some((now, addresses)),
            Ok(_) => host.fault = Some((now, "the name has no address".to_owned())),
            Err(error) => host.fault = Some((now, error.to_string())),
        }
        drop(hosts);
        shared.looked_up.notify_all();
    };
    Builder::new().name("look-up".to_owned()).stack_size(STACK_BYTES).spawn(look).map(|_| ())
}

impl Resolver for Addresses {
    fn resolve(&self, uri: &Uri, _: &Config, wait: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let bad = || ureq::Error::BadUri(uri.to_string());
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or_else(bad)?;
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or_else(bad)?;
        let found = match name.parse() {
            Ok(address) => vec![address],
            Err(_) => self.get(&name, *wait.after).ok_or(ureq::Error::Timeout(wait.reason))??,
        };
        let mut addresses = self.empty();
        for address in found {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Addresses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_host_is_looked_up_once_and_again_when_doubted() {
        let addresses = Addresses::default();
        let found_at = || addresses.0.lock()["localhost:1"].found.as_ref().map(|(at, _)| *at);
        let first = addresses.get("localhost:1", WAIT).unwrap().unwrap();
        assert!(first.iter().all(|address| address.ip().is_loopback() && address.port() == 1), "{first:?}");
        let at = found_at();
        assert_eq!(addresses.get("localhost:1", WAIT).unwrap().unwrap(), first);
        assert_eq!(found_at(), at, "it was looked up twice");
        addresses.doubt();
        assert_eq!(
            addresses.get("localhost:1", WAIT).unwrap().unwrap(),
            first,
            "what is known is used meanwhile"
        );
        let deadline = Instant::now() + WAIT;
        while found_at() <= at {
            assert!(Instant::now() < deadline, "it was not looked up again");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_look_up_that_finds_nothing_says_so_and_is_tried_again() {
        let addresses = Addresses::default();
        for _ in 0..2 {
            let error = addresses.get("no port", WAIT).unwrap().unwrap_err();
            assert_eq!(error.to_string(), "invalid socket address");
        }
    }

    #[test]
    fn who_cannot_wait_is_not_made_to() {
        let addresses = Addresses::default();
        addresses.0.lock().insert("slow:1".to_owned(), Host { looking: true, ..Host::default() });
        assert!(addresses.get("slow:1", Duration::from_millis(1)).is_none());
    }

    #[test]
    fn old_addresses_serve_while_new_ones_are_looked_up() {
        let Some(at) = Instant::now().checked_sub(FRESH) else { return };
        let addresses = Addresses::default();
        let old = vec![SocketAddr::from(([192, 0, 2, 1], 1))];
        let host = Host { found: Some((at, old.clone())), fault: None, looking: true };
        addresses.0.lock().insert("slow:1".to_owned(), host);
        assert_eq!(addresses.get("slow:1", Duration::ZERO).unwrap().unwrap(), old);
    }
}
