//! A real nginx, run with the printed configuration, in front of the real daemon: good requests arrive unchanged,
//! and nothing else arrives.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dispod::sandbox::{Sandbox, SandboxOptions};
use ring::hmac;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{self, Daemon, TempDir, config_for};
use crate::support::http::Response;
use crate::support::{SOON, tools, wait_until};

mod catalogue;
mod tls;

const SERVER_NAME: &str = "dispod.test";
const PATH: &str = "/webhook/call-result";
/// Not the default, so that the test sees the configuration arrive in nginx.
const MAX_BODY: usize = 8 * 1024;
/// Tries for a port that nobody takes between our looking and nginx's listening.
const PORT_TRIES: u32 = 5;

/// nginx, the daemon behind it, the sandbox behind that.
struct Site {
    nginx: Nginx,
    daemon: Daemon,
    sandbox: Sandbox,
    // Last: it holds the others' files.
    dir: TempDir,
}

impl Site {
    /// `None`, said aloud, where nginx or openssl is missing.
    fn start(environment: &[(&str, &str)]) -> Option<Self> {
        if !tools::present(&["nginx", "openssl"]) {
            return None;
        }
        let (dir, sandbox) = (TempDir::new(), Sandbox::start(SandboxOptions::default()).expect("a sandbox"));
        let listen = format!("unix:{}", dir.path().join("webhook.sock").display());
        let max_body = format!("{MAX_BODY}B");
        let mut all = vec![
            ("DISPOD_WEBHOOK_LISTEN", listen.as_str()),
            // nginx runs as somebody else.
            ("DISPOD_WEBHOOK_SOCKET_MODE", "0666"),
            ("DISPOD_WEBHOOK_MAX_BODY", &max_body),
            ("DISPOD_WEBHOOK_READ_TIMEOUT", "1s"),
        ];
        all.extend(environment);
        let daemon = Daemon::start_with(&config_for(&sandbox), &all);
        tls::make_certificate(dir.path());
        let nginx = Nginx::start(dir.path(), daemon.dir(), &all);
        Some(Self { nginx, daemon, sandbox, dir })
    }

    fn post_with(&self, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.request("POST", PATH, headers, body)
    }

    fn post(&self, contact: &str) -> Response {
        self.post_with(&[], call(contact, "").as_bytes())
    }

    fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {SERVER_NAME}\r\nConnection: close\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !body.is_empty() {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        let answer = tls::exchange(self.nginx.address, &[head.as_bytes(), b"\r\n", body].concat());
        tls::parse(&answer)
    }

    /// What the daemon holds: threads and descriptors.
    fn footprint(&self) -> (usize, usize) {
        let count =
            |what| fs::read_dir(format!("/proc/{}/{what}", self.daemon.pid())).expect("it runs").count();
        (count("task"), count("fd"))
    }
}

fn call(contact: &str, timestamp: &str) -> String {
    format!(r#"{{"contactId":"{contact}","dispositionCode":"1001","timestamp":"{timestamp}"}}"#)
}

/// nginx's master process; its workers end with it.
struct Nginx {
    master: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(dir: &Path, config_dir: &Path, environment: &[(&str, &str)]) -> Self {
        for _ in 0..PORT_TRIES {
            let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
            let address = free.local_addr().expect("bound");
            drop(free);
            let (listen, file) = (address.to_string(), |name: &str| dir.join(name).display().to_string());
            let printed = daemon::command()
                .args(["proxy", "nginx", "--server-name", SERVER_NAME, "--listen", &listen])
                .args(["--certificate", &file(tls::CERTIFICATE), "--key", &file(tls::KEY)])
                .args(["--error-log", &file("error.log"), "--config", "dispod.toml"])
                .envs(environment.iter().copied())
                .current_dir(config_dir)
                .output()
                .expect("it runs");
            assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
            fs::write(dir.join("nginx.conf"), &printed.stdout).expect("written");
            if let Some(nginx) = Self::run(dir, address) {
                return nginx;
            }
        }
        panic!("nginx does not start: {}", fs::read_to_string(dir.join("error.log")).unwrap_or_default());
    }

    /// `None` if it ends instead of listening.
    fn run(dir: &Path, address: SocketAddr) -> Option<Self> {
        let pid_file = format!("daemon off; pid {};", dir.join("nginx.pid").display());
        let mut master = Command::new("nginx")
            .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin")
            .arg("-p")
            .arg(dir)
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .args(["-g", &pid_file])
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        let listens = wait_until(SOON, || {
            master.try_wait().expect("our child").is_some() || TcpStream::connect(address).is_ok()
        });
        assert!(listens, "nginx neither listens nor ends");
        let ended = master.try_wait().expect("our child").is_some();
        (!ended).then_some(Self { master, address })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Not SIGKILL: that would leave the workers behind.
        let _ = kill_process(Pid::from_child(&self.master), Signal::TERM);
        let _ = self.master.wait();
    }
}

#[test]
fn good_requests_arrive_and_are_delivered() {
    let Some(site) = Site::start(&[]) else { return };
    let answer = site.post("1");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Received"));
    assert!(wait_until(SOON, || site.sandbox.contact("1").is_some()), "not delivered");
    // A body in chunks arrives with a length.
    let body = call("2", "");
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(tls::parse(&tls::exchange(site.nginx.address, chunked.as_bytes())).status, 200);
    assert!(wait_until(SOON, || site.sandbox.contact("2").is_some()), "not delivered");
    let health = site.request("GET", "/healthz", &[], b"");
    assert_eq!((health.status, health.text().as_str()), (200, "ok"));
    let json = site.post_with(&[("Accept", "application/json")], call("3", "").as_bytes());
    assert_eq!(json.text(), r#"{"status":"received"}"#);
}

#[test]
fn what_the_daemon_needs_of_a_request_arrives_unchanged() {
    let secret = "It's a Secret to Everybody";
    let environment = [("DISPOD_WEBHOOK_AUTH", "hmac-sha256"), ("DISPOD_WEBHOOK_SECRET", secret)];
    let Some(site) = Site::start(&environment) else { return };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let sign = |body: &str| {
        let tag = hmac::sign(&key, body.as_bytes());
        tag.as_ref().iter().fold("sha256=".to_owned(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    assert_eq!(site.post("1").status, 401);
    for header in ["webhook-id", "Idempotency-Key", "ce-id"] {
        // One key, two events that differ: only the first is delivered.
        for (contact, kept) in [("first", true), ("second", false)] {
            let contact = format!("{contact}-{header}");
            let body = call(&contact, "2024-05-20T10:00:00Z");
            let headers = [(header, header), ("X-Hub-Signature-256", &sign(&body))];
            assert_eq!(site.post_with(&headers, body.as_bytes()).status, 200, "{header}");
            assert!(!kept || wait_until(SOON, || site.sandbox.contact(&contact).is_some()), "{header}");
        }
    }
    assert_eq!(site.sandbox.contacts().len(), 3);
}

#[test]
fn what_must_not_arrive_is_answered_in_the_daemons_words() {
    let Some(mut site) = Site::start(&[]) else { return };
    let body = call("1", "");
    for target in ["/", "/metrics", "/api/dead", "/livez", "/webhook//call-result", "/webhook/call-result/"] {
        let answer = site.request("POST", target, &[("X-Dispod", "1")], body.as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), (404, "Not found"), "{target}");
    }
    let large = site.post_with(&[], " ".repeat(MAX_BODY + 1).as_bytes());
    assert_eq!((large.status, large.text().as_str()), (413, "Payload too large"));
    let full = body.clone() + &" ".repeat(MAX_BODY - body.len());
    assert_eq!(site.post_with(&[], full.as_bytes()).status, 200);
    let get = site.request("GET", PATH, &[], b"");
    assert_eq!((get.status, get.header("Allow")), (405, Some("POST")));
    site.daemon.kill9();
    let away = site.post("2");
    assert_eq!((away.status, away.text().as_str()), (503, "Try again later"));
    assert!(away.header("Retry-After").is_some());
    site.daemon.restart();
    assert_eq!(site.post("2").status, 200);
}

#[test]
fn slow_clients_wait_in_nginx() {
    const SILENT: usize = 400;
    const SLOW: usize = 20;
    let Some(site) = Site::start(&[("DISPOD_WEBHOOK_READ_TIMEOUT", "20s")]) else { return };
    assert_eq!(site.post("before").status, 200);
    let (threads, _) = site.footprint();
    let silent: Vec<_> =
        (0..SILENT).map(|_| TcpStream::connect(site.nginx.address).expect("taken")).collect();
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut client = tls::Client::connect(site.nginx.address);
            let head = format!("POST {PATH} HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\n{{");
            client.input().write_all(head.as_bytes()).expect("sent");
            client
        })
        .collect();
    for good in 0..10 {
        assert_eq!(site.post(&format!("good-{good}")).status, 200);
    }
    assert!(site.footprint().0 <= threads + 4, "{:?}, {threads} threads before", site.footprint());
    drop((silent, slow));
    assert!(site.dir.path().exists());
}

#[test]
fn what_cannot_be_said_in_nginxs_language_is_refused() {
    let run = |arguments: &[&str], path: &str| {
        let mut command = daemon::command();
        command.env("DISPOD_CONFIG", "/dev/null").env("DISPOD_WEBHOOK_PATH", path);
        let output = command.args(["proxy", "nginx"]).args(arguments).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&[], PATH), (Some(0), String::new()));
    for arguments in [
        ["--server-name", "a;b"],
        ["--socket", "/a b"],
        ["--key", "key.pem"],
        ["--listen", "0"],
        ["--user", "{"],
    ] {
        let (code, said) = run(&arguments, PATH);
        assert!(code == Some(2) && said.contains(arguments[0]), "{arguments:?}: {code:?} {said}");
    }
    let (code, said) = run(&[], "/a%20b");
    assert!(code == Some(1) && said.contains("webhook.path"), "{code:?} {said}");
}
