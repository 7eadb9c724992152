//! Many workers on a small box.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::api::Api;
use crate::daemon::{Dir, Setup};
use crate::load::Load;
use crate::measures::Measures;
use crate::process;

const WORKERS: &str = "256";
const BOX_BYTES: u64 = 64 * 1024 * 1024;
const EVENTS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// 256 workers where all private memory that is mapped, every thread's whole stack included, is 64 MiB at most.
pub fn many_workers(measures: &mut Measures) {
    let dir = Dir::new();
    let api = Api::start(Duration::from_millis(50));
    let setup = Setup::new(&dir).api(api.address).set("DISPOD_DELIVERY_WORKERS", WORKERS);
    let mut daemon = setup.data_max(BOX_BYTES).exec();
    if !daemon.wait_healthy() {
        measures.add("boxed", 0.0);
        return;
    }
    let answers = Load::closed(daemon.webhook, 64, PATIENCE).events(EVENTS).run();
    let delivered = api.wait_for_updates(answers.kept, PATIENCE) && answers.kept == EVENTS;
    measures.add("boxed", f64::from(u8::from(delivered && daemon.is_running())));
    measures.add("boxed_peak_mb", process::resident(daemon.pid()).peak_mb);
}

/// Limits itself to so many bytes, then becomes the program.
pub fn become_daemon(arguments: &[String]) {
    let [bytes, program, rest @ ..] = arguments else { panic!("bytes, program and arguments") };
    let bytes = bytes.parse().expect("a number of bytes");
    setrlimit(Resource::Data, Rlimit { current: Some(bytes), maximum: Some(bytes) }).expect("a limit");
    let error = Command::new(OsString::from(program)).args(rest).exec();
    panic!("cannot execute {program}: {error}");
}
