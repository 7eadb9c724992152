//! Who may ask: no page of another site, under whatever name it has the browser find us.
//!
//! There is no password: who can connect is an operator. A web page can connect too, from the operator's browser;
//! what tells it apart is the `Host` it thinks it talks to, and what browsers say of where a request comes from.

use std::net::IpAddr;

use super::routes::Route;
use crate::http::{Head, Reply};
use crate::listener::Bound;

/// The header state-changing calls must carry (contract section 8): no page can send it to another origin without
/// asking first, and we never say yes.
const MARKER: &str = "X-Dispod";
/// Its value.
const MARKER_VALUE: &str = "1";

/// The rule for `Host`.
pub(super) struct Gate {
    /// Whether only names of this machine are ours, or such as no public DNS can give away. Elsewhere our names are unknown, and on a Unix socket no browser
    /// can ask.
    loopback: bool,
}

impl Gate {
    pub(super) fn for_listener(listener: &Bound) -> Self {
        Self { loopback: listener.local_addr().is_some_and(|addr| addr.ip().is_loopback()) }
    }

    /// Refuses a name that somebody else's DNS made ours.
    ///
    /// The port is free: it differs through a tunnel, and tells nothing about the name.
    pub(super) fn check_host(&self, head: Head<'_>) -> Result<(), Reply> {
        let mut hosts = head.all("Host");
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(Reply::new(400, "More than one Host"));
        }
        match host {
            Some(host) if self.loopback && !is_ours(name_of(host)) => {
                Err(Reply::new(421, "Misdirected request: ask for localhost or a loopback address"))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses what a page of another site asks for, and changes without the marker.
pub(super) fn check_site(head: Head<'_>, route: &Route) -> Result<(), Reply> {
    const CROSS_SITE: Reply = Reply::new(403, "Requests from other sites are refused");
    if route.is_for_programs() {
        let foreign = |site: &str| !matches!(site, "same-origin" | "none");
        if head.all("Sec-Fetch-Site").any(foreign) {
            return Err(CROSS_SITE);
        }
        let host = head.first("Host").unwrap_or_default();
        if !head.all("Origin").all(|origin| is_same_host(origin, host)) {
            return Err(CROSS_SITE);
        }
    }
    let marked = || head.all(MARKER).eq([MARKER_VALUE]);
    if route.changes_state() && !marked() {
        return Err(Reply::new(403, "State-changing calls need the header X-Dispod: 1"));
    }
    Ok(())
}

fn is_same_host(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(host))
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// A loopback address, or a name without a dot, which is nobody's in the public DNS: a container's, a host's own.
fn is_ours(name: &str) -> bool {
    name.parse().map_or(!name.contains(['.', ':', '[']), |ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for ours in [
            "localhost",
            "LocalHost:9090",
            "dispod:9090",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.1.2.3:9090",
            "[::1]",
            "[::1]:9",
        ] {
            assert!(is_ours(name_of(ours)), "{ours}");
        }
        for theirs in [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]:9090",
            "[::1",
            "0x7f.1",
            "0.0.0.0",
        ] {
            assert!(!is_ours(name_of(theirs)), "{theirs}");
        }
    }

    #[test]
    fn origins() {
        assert!(is_same_host("http://localhost:9090", "localhost:9090"));
        assert!(is_same_host("http://LOCALHOST:9090", "localhost:9090"));
        for foreign in
            ["null", "", "http://localhost", "http://evil.example", "http://localhost:9091", "localhost:9090"]
        {
            assert!(!is_same_host(foreign, "localhost:9090"), "{foreign}");
        }
    }
}
