//! The daemon measured: the real program in a process of its own, on a store of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use dispod::config::{Config, StoreConfig};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_dispod");
/// Where call results are posted.
pub const WEBHOOK_PATH: &str = "/webhook/call-result";
/// An address nobody listens on.
const NOBODY: &str = "127.0.0.1:1";
/// No start takes longer.
const START_MAX: Duration = Duration::from_secs(60);

/// Where stores are made: on the disk of the build, since a store in memory would say nothing.
pub fn work_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A directory that is removed on drop.
pub struct Dir(PathBuf);

/// What the names of this process's directories begin with.
fn dir_prefix() -> String {
    format!("bench-{}-", std::process::id())
}

/// Removes every directory of this process.
pub fn remove_dirs() {
    let prefix = dir_prefix();
    for entry in fs::read_dir(work_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Dir {
    pub fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let path = work_dir().join(format!("{}{}", dir_prefix(), SERIAL.fetch_add(1, Relaxed)));
        fs::create_dir_all(&path).expect("a fresh directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A store's configuration in this directory, as the daemon has it.
    pub fn store_config(&self) -> StoreConfig {
        StoreConfig { dir: self.0.clone(), ..Config::default().store }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How to start a daemon.
pub struct Setup<'a> {
    dir: &'a Dir,
    api: String,
    environment: Vec<(&'static str, String)>,
    group: Option<PathBuf>,
}

impl<'a> Setup<'a> {
    /// On this store, with the API away.
    pub fn new(dir: &'a Dir) -> Self {
        Self { dir, api: NOBODY.to_owned(), environment: Vec::new(), group: None }
    }

    pub fn api(mut self, address: SocketAddr) -> Self {
        self.api = address.to_string();
        self
    }

    /// Sets a key by its environment variable.
    pub fn set(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// In this control group.
    pub fn in_group(mut self, group: &Path) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Daemon {
        let mut daemon = self.exec();
        assert!(daemon.wait_healthy(), "the daemon does not start");
        daemon
    }

    /// Starts it, without waiting for anything.
    pub fn exec(self) -> Daemon {
        let (webhook, admin) = (free_address(), free_address());
        let mut command = match self.group {
            None => Command::new(PROGRAM),
            Some(group) => {
                let mut command = Command::new(std::env::current_exe().expect("our own path"));
                command.arg(crate::CHILD_LIMITED).arg(group).arg(PROGRAM);
                command
            }
        };
        command
            .arg("serve")
            .env_clear()
            .env("DISPOD_CONFIG", "/dev/null")
            .env("DISPOD_WEBHOOK_LISTEN", webhook.to_string())
            .env("DISPOD_ADMIN_LISTEN", admin.to_string())
            .env("DISPOD_CXONE_BASE_URL", format!("http://{}/api/v2", self.api))
            .env("DISPOD_CXONE_TOKEN_URL", format!("http://{}/oauth/token", self.api))
            .env("DISPOD_CXONE_CLIENT_ID", "bench")
            .env("DISPOD_CXONE_CLIENT_SECRET", "bench-secret")
            .env("DISPOD_STORE_DIR", self.dir.path())
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let began = Instant::now();
        let child = command.spawn().expect("the daemon starts");
        Daemon { child, webhook, admin, began }
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

/// A running daemon, killed on drop.
pub struct Daemon {
    child: Child,
    pub webhook: SocketAddr,
    pub admin: SocketAddr,
    /// When it was executed.
    pub began: Instant,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it answers; false if it ends instead.
    pub fn wait_healthy(&mut self) -> bool {
        while self.is_running() && self.began.elapsed() < START_MAX {
            if ask(self.webhook, "GET", "/healthz", "").is_some_and(|(status, _)| status == 200) {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own; status and body of the answer.
pub fn ask(address: SocketAddr, method: &str, target: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.set_read_timeout(Some(START_MAX)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}
