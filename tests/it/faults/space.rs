//! A file system that is full, a real one: what is kept is delivered and settled, and service returns by itself.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dispod::sandbox::{Behaviour, Reply, Sandbox, SandboxOptions};

use crate::support::daemon::{TempDir, command, config_for};
use crate::support::http::{Client, Response};
use crate::support::{SOON, tools, wait_until};

/// Size of the file system.
const DISK_MIB: u64 = 6;
/// `store.max_size`: more than that.
const MAX_SIZE: &str = "16MiB";

/// A daemon whose store is on a small file system of its own, seen by it alone; killed on drop.
struct Confined {
    dir: TempDir,
    child: Child,
}

impl Confined {
    /// `None`: the system does not let us mount one.
    fn start(sandbox: &Sandbox) -> Option<Self> {
        let mount = format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs data");
        let dir = TempDir::new();
        fs::create_dir(dir.path().join("data")).unwrap();
        if !tools::present(&["unshare", "mount", "sh"]) {
            return None;
        }
        let trial =
            Command::new("unshare").args(["-rm", "sh", "-c", &mount]).current_dir(dir.path()).output();
        if !trial.is_ok_and(|output| output.status.success()) {
            tools::skip("`unshare -rm` may not mount here");
            return None;
        }
        fs::write(dir.path().join("dispod.toml"), config_for(sandbox)).unwrap();
        let daemon = command();
        let script = format!("{mount} && exec \"$0\" serve --config dispod.toml");
        let mut confined = Command::new("unshare");
        confined.args(["-rm", "sh", "-c", &script]).arg(daemon.get_program());
        for (name, value) in daemon.get_envs() {
            if value.is_none() {
                confined.env_remove(name);
            }
        }
        let child = confined
            .current_dir(dir.path())
            .env("DISPOD_STORE_MAX_SIZE", MAX_SIZE)
            .env("DISPOD_ADMIN_LISTEN", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Some(Self { dir, child })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn address(&self) -> SocketAddr {
        const READY: &str = "webhook listening on http://";
        assert!(wait_until(SOON, || self.log().contains(READY)), "{}", self.log());
        let log = self.log();
        let (address, _) = log.split_once(READY).unwrap().1.split_once('/').unwrap();
        address.parse().unwrap()
    }

    /// The store's directory as the daemon sees it.
    fn data(&self) -> std::path::PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join("cwd/data")
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// A sender that dials again when its connection is ended, as the guard may see fit.
struct Sender {
    address: SocketAddr,
    client: Client,
}

impl Sender {
    fn new(address: SocketAddr) -> Self {
        Self { address, client: Client::connect(address).unwrap() }
    }

    fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Response {
        self.client.request(method, target, &[], body).unwrap_or_else(|_| {
            self.client = Client::connect(self.address).unwrap();
            self.client.request(method, target, &[], body).unwrap()
        })
    }

    fn post(&mut self, contact: &str) -> Response {
        // Long members: fewer events fill the disk.
        let filler = "x".repeat(220);
        let body = serde_json::json!({
            "contactId": format!("{contact}-{filler}"), "dispositionCode": "1001", "callResult": filler,
            "timestamp": filler,
        });
        self.request("POST", "/webhook/call-result", body.to_string().as_bytes())
    }
}

/// Posts until there is no room; how many were kept.
fn fill(sender: &mut Sender, name: &str) -> u64 {
    for number in 0..100_000 {
        let answer = sender.post(&format!("{name}-{number}"));
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.header("Retry-After").is_some(), "{answer:?}");
            return number;
        }
    }
    panic!("{DISK_MIB} MiB are never full");
}

fn returns(sender: &mut Sender, name: &str) -> bool {
    let mut number = 0;
    wait_until(SOON, || {
        number += 1;
        sender.post(&format!("{name}-{number}")).status == 200
    })
}

#[test]
fn a_full_file_system_refuses_new_events_and_settles_what_is_kept() {
    let mut behaviour = Behaviour { outage: Reply::Status(503), ..Behaviour::default() };
    let options = SandboxOptions { behaviour: behaviour.clone(), threads: 64, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).unwrap();
    let Some(daemon) = Confined::start(&sandbox) else { return };
    let mut sender = Sender::new(daemon.address());
    let kept = fill(&mut sender, "first");
    assert!(kept > 1000, "only {kept} events in {DISK_MIB} MiB");
    assert_eq!(sender.request("GET", "/healthz", b"").status, 503);

    behaviour.outage = Reply::Normal;
    sandbox.set_behaviour(|now| *now = behaviour.clone()).unwrap();
    let delivered = sandbox.wait_until(|stats| stats.updates >= kept, SOON);
    assert!(delivered, "{kept} kept, {:?}", sandbox.stats());
    // In the file as it is, since the disk has no more: what is delivered gives way.
    assert!(returns(&mut sender, "second"), "service does not return");
    let before = sandbox.stats().updates;
    let more = (0..500).filter(|number| sender.post(&format!("third-{number}")).status == 200).count();
    assert!(more > 250, "{more} of 500 kept in what became free");
    assert!(sandbox.wait_until(|stats| stats.updates >= before + more as u64, SOON), "{:?}", sandbox.stats());

    // Another program takes what is left of the disk, and gives it back.
    behaviour.outage = Reply::Status(503);
    sandbox.set_behaviour(|now| *now = behaviour.clone()).unwrap();
    let hog = daemon.data().join("hog");
    let mut file = File::create(&hog).unwrap();
    assert!(std::io::copy(&mut std::io::repeat(0), &mut file).is_err(), "the disk is not full");
    drop(file);
    let before = sandbox.stats().updates;
    let kept = fill(&mut sender, "fourth");
    fs::remove_file(&hog).unwrap();
    behaviour.outage = Reply::Normal;
    sandbox.set_behaviour(|now| *now = behaviour.clone()).unwrap();
    assert!(returns(&mut sender, "fifth"), "service does not return");
    assert!(
        sandbox.wait_until(|stats| stats.updates > before + kept, SOON),
        "{kept} kept, {:?}",
        sandbox.stats()
    );
    let log = daemon.log();
    assert!(!log.contains("panicked") && !log.contains("trusted"), "{log}");
    assert!(log.contains("the disk of the store is full"), "{log}");
    // It does not go on about it.
    assert!(log.lines().filter(|line| !line.contains("WORKFLOW TRIGGERED")).count() < 50, "{log}");
}
