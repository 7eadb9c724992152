//! The same tiny_http with a handler that keeps nothing: what acknowledgements are compared with.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

/// The server as a process of its own, ended on drop.
pub struct Plain {
    child: Child,
    pub address: SocketAddr,
}

impl Plain {
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("our own path"))
            .arg(crate::CHILD_PLAIN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("its address");
        Self { child, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads bodies and answers, on one thread: two are no faster where the other core makes the load.
pub fn serve() {
    let server = tiny_http::Server::http((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    println!("{}", server.server_addr());
    let mut body = Vec::new();
    for mut request in server.incoming_requests() {
        body.clear();
        let _ = request.as_reader().read_to_end(&mut body);
        let _ = request.respond(tiny_http::Response::from_string("Received"));
    }
}
