//! What the kernel says about a process, and about the machine.

use std::fs;
use std::time::Duration;

/// The unit of the times in `/proc/PID/stat`, which is the same on every Linux.
const TICK_US: f64 = 10_000.0;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number behind `name:` in a file of such lines, summed if it is there more than once.
fn number(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.filter_map(|value| value.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// User and system time of a process so far in microseconds, ended threads included.
pub fn cpu_us(pid: u32) -> f64 {
    let stat = read(&format!("/proc/{pid}/stat"));
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * TICK_US
}

/// User and system time of this thread so far.
pub fn own_thread_cpu() -> Duration {
    let stat = read("/proc/thread-self/schedstat");
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Resident memory in MB (10^6 bytes).
pub struct Resident {
    pub all: f64,
    /// What is no file's.
    pub anonymous: f64,
    /// The most there ever was.
    pub peak: f64,
}

pub fn resident(pid: u32) -> Resident {
    let status = read(&format!("/proc/{pid}/status"));
    let mb = |name| number(&status, name) as f64 * 1024.0 / 1e6;
    Resident { all: mb("VmRSS"), anonymous: mb("RssAnon"), peak: mb("VmHWM") }
}

pub fn threads(pid: u32) -> u64 {
    number(&read(&format!("/proc/{pid}/status")), "Threads")
}

/// Bytes the process caused to be written to the disk.
pub fn written_bytes(pid: u32) -> u64 {
    number(&read(&format!("/proc/{pid}/io")), "write_bytes")
}

/// How often the process's threads went to sleep so far, which is how often they were woken.
pub fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let statuses = tasks.map(|task| read(&task.path().join("status").to_string_lossy()));
    statuses.map(|status| number(&status, "voluntary_ctxt_switches")).sum()
}

pub fn load_average() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()
}

/// One line about what the figures were measured on.
pub fn machine() -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let release = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} x {}, Linux {}, stores in {}, load average {}\n",
        model.trim_start_matches([' ', '\t', ':']),
        release.trim(),
        crate::daemon::work_dir().display(),
        load_average()
    )
}
