//! A door in a process of its own, for what must be measured alone or may end the process.
//!
//! The process is this test binary again, running only [`serve`]; it takes commands on standard input.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use dispod::config::WebhookConfig;

use crate::door::{self, Answer, GOOD_BODY, PATIENCE, post, read_answer};

const DEADLINE_MS: &str = "DISPOD_TEST_DEADLINE_MS";
const CONNECTIONS: &str = "DISPOD_TEST_CONNECTIONS";

/// The process.
pub struct Process {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub addr: SocketAddr,
}

/// What it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    pub threads: usize,
    pub descriptors: usize,
}

impl Process {
    /// Starts it with that read and write deadline (idle connections have five times as long).
    pub fn start(deadline: Duration, max_connections: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::serve", "--ignored", "--nocapture"])
            .env(DEADLINE_MS, deadline.as_millis().to_string())
            .env(CONNECTIONS, max_connections.to_string())
            // A panic of tiny_http, told with its stack, would map the debug information: 100 MB of no interest.
            .env("RUST_BACKTRACE", "0")
            // As the program itself has it, in `src/glibc.rs`.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, commands, answers, addr: SocketAddr::from(([0, 0, 0, 0], 0)) };
        process.addr = process.answer().parse().unwrap();
        process
    }

    /// Has it do something; gives its answer.
    pub fn command(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the process is gone");
            // The harness talks on the same stream.
            if let Some((_, answer)) = line.trim_end().split_once("@ ") {
                return answer.to_owned();
            }
        }
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn footprint(&self) -> Footprint {
        let count = |what| std::fs::read_dir(format!("/proc/{}/{what}", self.child.id())).unwrap().count();
        Footprint { threads: count("task"), descriptors: count("fd") }
    }

    /// The most memory it ever had resident.
    pub fn peak_kib(&self) -> usize {
        memory_kib(self.child.id(), "VmHWM")
    }

    /// How often its threads were put to sleep so far, those that take its commands excepted.
    pub fn wakeups(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of_one = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"))?;
            line.split_whitespace().nth(1)?.parse::<usize>().ok()
        };
        tasks.filter_map(|task| of_one(task.unwrap())).sum()
    }

    pub fn kept(&mut self) -> usize {
        self.command("kept").parse().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Posts a good request on a new connection.
    pub fn post(&self) -> Option<Answer> {
        let mut stream = self.connect();
        stream.write_all(&post(GOOD_BODY, "Connection: close\r\n")).unwrap();
        read_answer(&mut stream)
    }

    /// Ends it as a user would; it must end well.
    pub fn close(mut self) {
        assert_eq!(self.command("close"), "closed");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failed test must not leave it behind; after `close` it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "runs in a process of its own, started by other tests"]
fn serve() {
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let deadline = Duration::from_millis(number(DEADLINE_MS));
    let config = WebhookConfig {
        read_timeout: deadline,
        write_timeout: deadline,
        idle_timeout: 5 * deadline,
        max_connections: usize::try_from(number(CONNECTIONS)).unwrap(),
        ..door::config()
    };
    let door = door::open_with(&config);
    let mut hoard = Vec::new();
    println!("\n@ {}", door.addr());
    for command in std::io::stdin().lines() {
        let answer = match command.unwrap().as_str() {
            "kept" => door.kept_count().to_string(),
            "failure" => door.failures.try_recv().unwrap_or("none".to_owned()),
            "stuck" => door.metrics.webhook_connections_parked.get().to_string(),
            "open" => door.metrics.webhook_connections.get().to_string(),
            "hoard" => {
                while let Ok(file) = std::fs::File::open(Path::new("/dev/null")) {
                    hoard.push(file);
                }
                hoard.len().to_string()
            }
            "spare one" => hoard.pop().map(|_| "spared".to_owned()).unwrap(),
            "release" => {
                hoard.clear();
                "released".to_owned()
            }
            "close" => break,
            other => panic!("unknown command {other:?}"),
        };
        println!("@ {answer}");
    }
    door.close();
    println!("@ closed");
}

/// A figure of a process's memory, in KiB (proc(5)).
pub fn memory_kib(pid: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
