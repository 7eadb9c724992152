//! The daemon under what the unit asks of systemd, without a systemd: bubblewrap makes the mounts and the account,
//! seccomp kills on what the unit filters, and the test plays the manager (socket, credential, notifications).

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dispod::sandbox::{Sandbox, SandboxOptions};
use rustix::process::{Pid, Signal, kill_process};

use super::{INSTALLED, printed, value, values};
use crate::support::daemon::TempDir;
use crate::support::{SOON, tools, wait_until};

/// Debian's own interpreter, which sees Debian's python3-seccomp.
const PYTHON: &str = "/usr/bin/python3";
/// An account as systemd makes them for `DynamicUser=`.
const DYNAMIC_USER: &str = "61184";
/// Where the manager listens for `sd_notify(3)`, the credentials are and the store goes.
const NOTIFY: &str = "/run/systemd/notify";
const CREDENTIALS: &str = "/run/credentials/dispod.service";
const STATE: &str = "/var/lib/dispod";
/// What bubblewrap exits with when a filter killed the program: 128 and SIGSYS.
const KILLED_BY_FILTER: i32 = 128 + 31;
/// Short, so that the test need not wait for the unit's own interval.
const WATCHDOG_US: &str = "1000000";

/// The manager's side: the directories, the filters, what is heard.
struct Manager {
    dir: TempDir,
    unit: String,
    socket: String,
    notified: UnixDatagram,
}

impl Manager {
    /// `None`, said aloud, where the tools are missing.
    fn new() -> Option<Self> {
        if !tools::present(&["systemd-analyze", "bwrap", PYTHON]) {
            return None;
        }
        let has_seccomp = Command::new(PYTHON).args(["-c", "import seccomp"]).output().expect("it runs");
        if !has_seccomp.status.success() {
            tools::skip("python3-seccomp is not installed");
            return None;
        }
        let dir = TempDir::new();
        for name in ["state", "credentials", "manager", "run", "etc"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let notified = UnixDatagram::bind(dir.path().join("manager/notify")).expect("a socket");
        notified.set_read_timeout(Some(SOON)).expect("a timeout");
        let manager = Self { unit: printed(&[]), socket: printed(&["--socket"]), notified, dir };
        manager.compile_filters();
        Some(manager)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn compile_filters(&self) {
        let mut allowed = BTreeSet::new();
        for value in values(&self.unit, "SystemCallFilter") {
            let names: Vec<_> = value.trim_start_matches('~').split(' ').collect();
            let calls = expand(&names);
            if value.starts_with('~') {
                allowed.retain(|call| !calls.contains(call));
            } else {
                allowed.extend(calls);
            }
        }
        assert!(!allowed.contains("mount") && allowed.contains("pwrite64"), "{allowed:?}");
        let mut python = Command::new(PYTHON)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/unit/filter.py"))
            .args([self.path("allow"), self.path("restrict")])
            .args(value(&self.unit, "RestrictAddressFamilies").split(' '))
            .stdin(Stdio::piped())
            .spawn()
            .expect("it runs");
        let names: Vec<_> = allowed.into_iter().collect();
        python.stdin.take().expect("a pipe").write_all(names.join("\n").as_bytes()).expect("it reads");
        assert!(python.wait().expect("it ends").success());
    }

    /// A command under the unit's restrictions, with its environment. Its standard input becomes descriptor 3.
    fn confined(&self, command: &[&str]) -> Command {
        // What the shell opens without close-on-exec reaches bubblewrap, and descriptor 3 the command too.
        let inherit = r#"exec bwrap "$@" 3<&0 4<allow 5<restrict </dev/null"#;
        let mut bwrap = Command::new("/bin/sh");
        bwrap.current_dir(self.dir.path()).args(["-c", inherit, "sh", "--die-with-parent"]);
        bwrap.args(["--add-seccomp-fd", "5", "--add-seccomp-fd", "4"]);
        bwrap.args(["--unshare-user", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
        bwrap.args(["--uid", DYNAMIC_USER, "--gid", DYNAMIC_USER, "--cap-drop", "ALL"]);
        for path in ["/usr/bin", "/usr/lib", "/usr/lib64", "/bin", "/lib", "/lib64", "/etc/hosts", "/proc"] {
            bwrap.args(["--ro-bind-try", path, path]);
        }
        bwrap.args([
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--ro-bind",
            env!("CARGO_BIN_EXE_dispod"),
            INSTALLED,
        ]);
        let run = Path::new(value(&self.socket, "ListenStream")).parent().expect("a directory");
        for (name, to) in [
            ("etc", Path::new("/etc/dispod")),
            ("credentials", Path::new(CREDENTIALS)),
            ("manager", Path::new(NOTIFY).parent().expect("a directory")),
            ("run", run),
        ] {
            bwrap.arg("--ro-bind").arg(self.path(name)).arg(to);
        }
        assert_eq!(
            Path::new(STATE).file_name().and_then(|name| name.to_str()),
            Some(value(&self.unit, "StateDirectory"))
        );
        bwrap.arg("--bind").arg(self.path("state")).arg(STATE);
        // The watchdog's probe goes by the address the socket was bound to, which is here.
        bwrap.arg("--ro-bind").arg(self.path("run")).arg(self.path("run"));
        // ProtectSystem=strict
        bwrap.args(["--remount-ro", "/", "--clearenv"]);
        let mut environment = vec![
            ("PATH", "/usr/bin:/bin"),
            ("NOTIFY_SOCKET", NOTIFY),
            ("WATCHDOG_USEC", WATCHDOG_US),
            ("CREDENTIALS_DIRECTORY", CREDENTIALS),
            ("STATE_DIRECTORY", STATE),
            ("LISTEN_FDS", "1"),
            ("LISTEN_FDNAMES", value(&self.socket, "FileDescriptorName")),
        ];
        environment.extend(values(&self.unit, "Environment").iter().filter_map(|pair| pair.split_once('=')));
        for (name, value) in environment {
            bwrap.args(["--setenv", name, &value.replace("%d", CREDENTIALS)]);
        }
        // The daemon's own process id, as systemd would say it.
        bwrap.args(["--", "/bin/sh", "-c", r#"export LISTEN_PID=$$; exec "$@""#, "sh"]).args(command);
        bwrap
    }

    /// How a command ends under the restrictions: its exit code and what it said.
    fn result(&self, command: &[&str]) -> (Option<i32>, String) {
        let output = self.confined(command).stdin(Stdio::null()).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Waits until the manager is told this.
    fn wait_for(&self, word: &str) {
        let mut buffer = [0; 4096];
        let heard = wait_until(SOON, || {
            let size = self.notified.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word}: {error}"));
            String::from_utf8_lossy(&buffer[..size]).lines().any(|line| line == word)
        });
        assert!(heard, "no {word}");
    }
}

/// System calls and sets of them, as systemd knows them.
fn expand(names: &[&str]) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for name in names {
        if name.starts_with('@') {
            let (known, text) = super::analyze(&["syscall-filter", "--no-pager", name]);
            assert!(known, "{text}");
            let members = text.lines().skip(1).map(str::trim);
            let members: Vec<_> = members.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            calls.extend(expand(&members));
        } else {
            calls.insert((*name).to_owned());
        }
    }
    calls
}

/// The daemon, under bubblewrap's own process.
struct Confined {
    bwrap: Child,
    pid: Pid,
    log: PathBuf,
}

impl Confined {
    fn start(manager: &Manager, listener: UnixListener) -> Self {
        let command: Vec<_> = value(&manager.unit, "ExecStart").split(' ').collect();
        let log = manager.path("log");
        let mut bwrap = manager
            .confined(&command)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("it starts");
        let children = format!("/proc/{0}/task/{0}/children", bwrap.id());
        let mut pid = None;
        let there = wait_until(SOON, || {
            let listed = fs::read_to_string(&children).unwrap_or_default();
            pid = listed.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
            pid.is_some() || bwrap.try_wait().expect("our child").is_some()
        });
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let pid = pid.filter(|_| there).unwrap_or_else(|| panic!("bubblewrap did not start it:\n{}", said()));
        Self { bwrap, pid, log }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process is there");
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        let _ = wait_until(SOON, || {
            status = self.bwrap.try_wait().expect("our child");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // The daemon dies with it.
        let _ = self.bwrap.kill();
        let _ = self.bwrap.wait();
        if std::thread::panicking() {
            eprintln!("the confined daemon said:\n{}", self.said());
        }
    }
}

fn post(socket: &Path, contact: &str) -> String {
    let body =
        format!(r#"{{"contactId":"{contact}","dispositionCode":"1001","timestamp":"2024-05-20T10:00:00Z"}}"#);
    let head = format!(
        "POST /webhook/call-result HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.write_all((head + &body).as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_restrictions_are_real() {
    let Some(manager) = Manager::new() else { return };
    assert_eq!(manager.result(&["true"]), (Some(0), String::new()));
    let (code, _) = manager.result(&["nice", "-n", "1", "true"]);
    assert_eq!(code, Some(KILLED_BY_FILTER), "a filtered system call");
    for code_run in [
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
        "import os; os.chmod('/var/lib/dispod/x', 0o4755)",
    ] {
        let (code, said) = manager.result(&[PYTHON, "-c", code_run]);
        assert_eq!(code, Some(KILLED_BY_FILTER), "{code_run}: {said}");
    }
    for code_run in ["import socket; socket.socket(socket.AF_NETLINK)", "open('/etc/dispod/x', 'w')"] {
        let (code, said) = manager.result(&[PYTHON, "-c", code_run]);
        assert!(code == Some(1) && said.contains("OSError"), "{code_run}: {code:?} {said}");
    }
}

#[test]
fn the_daemon_works_under_them() {
    let Some(manager) = Manager::new() else { return };
    let sandbox = Sandbox::start(SandboxOptions::default()).expect("a sandbox");
    let config = format!(
        "[cxone]\nenvironment = \"sandbox.invalid\"\nbase_url = \"{}\"\ntoken_url = \"{}\"\nclient_id = \"sandbox\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n",
        sandbox.base_url(),
        sandbox.token_url()
    );
    fs::write(manager.path("etc/dispod.toml"), config).expect("written");
    let credential = value(&manager.unit, "LoadCredential").split_once(':').expect("a name and a file").0;
    fs::write(manager.path("credentials").join(credential), "sandbox-secret\n").expect("written");
    let name = Path::new(value(&manager.socket, "ListenStream")).file_name().expect("a name");
    let socket = manager.path("run").join(name);
    let listener = UnixListener::bind(&socket).expect("a socket");
    let mode = u32::from_str_radix(value(&manager.socket, "SocketMode"), 8).expect("a mode");
    fs::set_permissions(&socket, Permissions::from_mode(mode)).expect("a mode");

    let mut daemon = Confined::start(&manager, listener);
    manager.wait_for("READY=1");
    let answer = post(&socket, "1");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("Received"), "{answer}");
    assert!(wait_until(SOON, || sandbox.contact("1").is_some()), "not delivered");
    manager.wait_for("WATCHDOG=1");
    daemon.signal(Signal::HUP);
    assert!(wait_until(SOON, || daemon.said().contains("reloaded")), "not reloaded");
    let answer = post(&socket, "2");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(wait_until(SOON, || sandbox.contact("2").is_some()), "not delivered");
    daemon.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(fs::read_dir(manager.path("state")).expect("a directory").count() > 0, "the store is elsewhere");
}
