//! Listening on Unix sockets, on sockets handed over by systemd, and telling systemd how it goes.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use dispod::config::{Listen, WebhookConfig};
use dispod::listener::{Bound, HandedOver};

use crate::door::{self, Door, GOOD_BODY, PATIENCE, eventually, post, read_answer};

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dispod-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("webhook.sock")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(path: &Path) -> WebhookConfig {
    WebhookConfig { listen: Listen::Unix(path.to_owned()), socket_mode: 0o620, ..door::config() }
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(path: &Path, request: &[u8]) -> u16 {
    let mut stream = connect(path);
    stream.write_all(request).unwrap();
    read_answer(&mut stream).unwrap().status
}

#[test]
fn a_unix_socket_serves_has_its_mode_and_goes_away() {
    let directory = Directory::new("unix");
    let path = directory.socket();
    let door = door::open_with(&config(&path));
    assert_eq!(door.intake.local_addr(), None);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o620);
    assert_eq!(ask(&path, &post(GOOD_BODY, "")), 200);
    assert_eq!(ask(&path, &post(&format!("{GOOD_BODY}{}", " ".repeat(3000)), "")), 200);
    assert_eq!(ask(&path, b"POST /webhook/call-result HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n"), 413);
    assert_eq!(
        ask(&path, b"POST /webhook/call-result HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        411
    );
    assert_eq!(door.intake.probe(PATIENCE).unwrap(), 200);
    door.close();
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let directory = Directory::new("stale");
    let path = directory.socket();
    drop(UnixListener::bind(&path).unwrap());
    let door = door::open_with(&config(&path));
    assert_eq!(ask(&path, &post(GOOD_BODY, "")), 200);
    let refused = |path: &Path| Bound::bind(&Listen::Unix(path.to_owned()), 0o600).unwrap_err().to_string();
    assert!(refused(&path).contains("somebody listens there already"), "{}", refused(&path));
    assert_eq!(ask(&path, &post(GOOD_BODY, "")), 200);
    let file = directory.0.join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(refused(&file).contains("no socket"), "{}", refused(&file));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(refused(&directory.0.join("no/such/directory")).contains("no/such/directory"));
    // Somebody else's socket in the place of ours is not ours to remove.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    door.close();
    assert!(path.exists());
    drop(other);
}

#[test]
fn an_address_in_use_is_named() {
    let door = door::open();
    let error = Bound::bind(&Listen::Tcp(door.addr()), 0).unwrap_err();
    assert!(error.to_string().contains(&door.addr().to_string()), "{error}");
    door.close();
}

#[test]
fn a_unix_client_that_does_not_read_is_cut_off() {
    let directory = Directory::new("deaf");
    let path = directory.socket();
    let door = door::open_with(&config(&path));
    let mut deaf = connect(&path);
    deaf.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let began = Instant::now();
    // A Unix socket's buffer holds a few hundred answers.
    let many = post(GOOD_BODY, "").repeat(2000);
    let _ = deaf.write_all(&many);
    // Its fellows have to wait for their answers, but not for long.
    assert_eq!(ask(&path, &post(GOOD_BODY, "")), 200);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).unwrap();
    door.close();
}

#[test]
fn answers_over_a_unix_socket_keep_their_order() {
    const COUNT: usize = 200;
    let directory = Directory::new("order");
    let path = directory.socket();
    let door = door::open_with(&config(&path));
    door.held.store(true, SeqCst);
    let mut stream = connect(&path);
    for index in 0..COUNT {
        stream.write_all(&post(if index % 3 == 0 { "{}" } else { GOOD_BODY }, "")).unwrap();
    }
    door.held.store(false, SeqCst);
    for index in 0..COUNT {
        let expected = if index % 3 == 0 { 400 } else { 200 };
        assert_eq!(read_answer(&mut stream).unwrap().status, expected, "request {index}");
    }
    door.close();
}

#[test]
fn a_unix_connection_does_not_stay_for_ever() {
    let directory = Directory::new("idle");
    let path = directory.socket();
    let limit = Duration::from_secs(1);
    let door = door::open_with(&WebhookConfig { read_timeout: limit, idle_timeout: limit, ..config(&path) });
    let began = Instant::now();
    let mut silent = connect(&path);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let took = began.elapsed();
    assert!(took >= 2 * limit && took < 4 * limit, "{took:?}");
    door.close();
}

/// Starts [`activated`] with a listening socket as systemd would.
fn with_handed_over(listener: &impl AsRawFd, names: &str, notify: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "listeners::activated", "--ignored", "--nocapture"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", names)
        // The one thing systemd does otherwise: it always starts at 3.
        .env("LISTEN_FDS_FIRST_FD", listener.as_raw_fd().to_string())
        .env("NOTIFY_SOCKET", notify)
        .env("WATCHDOG_USEC", "30000000")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "runs in a process of its own, started by another test"]
fn activated() {
    let handed_over = HandedOver::take().unwrap();
    assert!(handed_over.admin.is_none());
    let door: Door = door::open_on(handed_over.webhook.unwrap(), &door::config(), 1024);
    assert_eq!(dispod::notify::watchdog_every(), Some(Duration::from_secs(15)));
    dispod::notify::ready("serving");
    dispod::notify::alive();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    dispod::notify::stopping();
    door.close();
}

#[test]
fn a_socket_handed_over_is_served_and_survives_us() {
    let directory = Directory::new("activated");
    let told = UnixDatagram::bind(directory.0.join("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut message = [0; 256];
        let length = told.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let path = directory.socket();
    let unix = UnixListener::bind(&path).unwrap();
    // A duplicate without close-on-exec, as systemd's.
    let inherited = rustix::io::dup(&unix).unwrap();
    for _ in 0..2 {
        let mut process = with_handed_over(&inherited, "webhook", &directory.0.join("notify"));
        assert!(hear().starts_with("READY=1\nSTATUS=serving"));
        assert!(hear().starts_with("WATCHDOG=1"));
        assert_eq!(ask(&path, &post(GOOD_BODY, "")), 200);
        drop(process.stdin.take());
        assert!(hear().starts_with("STOPPING=1"));
        assert!(process.wait().unwrap().success());
        // It is not ours to remove or to shut: connections wait in it for the next process.
        assert!(path.exists());
    }
    let mut early = connect(&path);
    early.write_all(&post(GOOD_BODY, "")).unwrap();
    let mut process = with_handed_over(&inherited, "webhook", &directory.0.join("notify"));
    assert_eq!(read_answer(&mut early).unwrap().status, 200);
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_tcp_socket_handed_over_goes_on_listening() {
    let directory = Directory::new("activated-tcp");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let inherited = rustix::io::dup(&tcp).unwrap();
    for _ in 0..2 {
        let mut process = with_handed_over(&inherited, "", &directory.0.join("notify"));
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&post(GOOD_BODY, "")).unwrap();
        assert_eq!(read_answer(&mut stream).unwrap().status, 200);
        drop(process.stdin.take());
        eventually("the process ends", || process.try_wait().unwrap().is_some_and(|status| status.success()));
    }
}
