//! Raw bytes over TLS, by the `openssl` program: what it is given goes out as it is.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::SERVER_NAME;
use crate::support::http::Response;

pub const CERTIFICATE: &str = "certificate.pem";
pub const KEY: &str = "key.pem";

/// Makes [`CERTIFICATE`] and [`KEY`] in a directory.
pub fn make_certificate(dir: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={SERVER_NAME}"), "-keyout", KEY, "-out", CERTIFICATE])
        .current_dir(dir)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
}

/// A connection; ended at once on drop.
pub struct Client(Child);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let client = Command::new("openssl")
            // Quiet, it takes no byte of ours for a command, and stays until the server has ended the connection.
            .args(["s_client", "-quiet", "-servername", SERVER_NAME, "-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self(client)
    }

    pub fn input(&mut self) -> &mut ChildStdin {
        self.0.stdin.as_mut().expect("a pipe")
    }

    /// Everything that comes back until the server ends the connection.
    pub fn answer(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let output = self.0.stdout.as_mut().expect("a pipe");
        std::io::Read::read_to_end(output, &mut bytes).expect("it ends");
        bytes
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends all of it on a connection of its own; everything that comes back.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(address);
    // The server may have heard enough before we have said it all.
    let _ = client.input().write_all(bytes);
    client.answer()
}

/// The answer, on a connection that ended after it.
pub fn parse(bytes: &[u8]) -> Response {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Response {
        status: status.unwrap_or_else(|| panic!("no status: {head:?}")),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: body.as_bytes().to_vec(),
    }
}
