//! Many workers on a small box: a control group with 64 MiB of memory, the page cache of its files included.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::api::Api;
use crate::daemon::{Dir, Setup};
use crate::load::Load;
use crate::measures::Measures;
use crate::process;

const WORKERS: &str = "256";
const BOX_BYTES: u64 = 64 * 1024 * 1024;
const EVENTS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// Where control groups are and how their limit is called: version 1, version 2.
const HIERARCHIES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// 256 workers, an API of 50 ms. Not measured where no control group can be made: that takes root.
pub fn many_workers(measures: &mut Measures) {
    let Some(group) = Group::new() else {
        eprintln!("no control group with a limit on memory can be made here: not measured");
        return;
    };
    let dir = Dir::new();
    let api = Api::start(Duration::from_millis(50));
    let setup = Setup::new(&dir).api(api.address).set("DISPOD_DELIVERY_WORKERS", WORKERS);
    let mut daemon = setup.in_group(&group.0).start();
    let answers = Load::closed(daemon.webhook, 64, PATIENCE).events(EVENTS).run();
    let delivered = api.wait_for_updates(answers.kept, PATIENCE) && answers.kept == EVENTS;
    measures.add("boxed", f64::from(u8::from(delivered && daemon.is_running())));
    measures.add("boxed_peak_mb", process::resident(daemon.pid()).peak);
}

/// A control group, removed on drop; nothing may be left in it then.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        HIERARCHIES.iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(format!("dispod-bench-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), BOX_BYTES.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Enters a control group, then becomes the program.
pub fn become_daemon(arguments: &[String]) {
    let [group, program, rest @ ..] = arguments else { panic!("control group, program and arguments") };
    let own_pid = std::process::id().to_string();
    fs::write(Path::new(group).join("cgroup.procs"), own_pid).expect("a place in the control group");
    let error = Command::new(program).args(rest).exec();
    panic!("cannot execute {program}: {error}");
}
