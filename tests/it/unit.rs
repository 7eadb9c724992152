//! The printed units are right by systemd's own judgement, and the daemon works under everything they forbid.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::daemon::{self, TempDir};
use crate::support::tools;

mod confined;

/// Where the unit expects the program.
const INSTALLED: &str = "/usr/local/bin/dispod";
/// Highest tolerable exposure, as `systemd-analyze security` counts it, times ten.
const EXPOSURE_MAX: &str = "--threshold=13";

/// What `dispod unit` prints.
fn printed(arguments: &[&str]) -> String {
    let output = daemon::command().arg("unit").args(arguments).output().expect("it runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The values of a key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The value of a key that is there once.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let [value] = values(unit, key)[..] else { panic!("not one {key}") };
    value
}

/// Writes both units, as installed beside this very program.
fn install(dir: &Path) -> [String; 2] {
    let (service, socket) = (printed(&[]), printed(&["--socket"]));
    assert!(service.contains(INSTALLED));
    let paths = [dir.join("dispod.service"), dir.join("dispod.socket")];
    fs::write(&paths[0], service.replace(INSTALLED, env!("CARGO_BIN_EXE_dispod"))).expect("written");
    fs::write(&paths[1], socket).expect("written");
    paths.map(|path| path.into_os_string().into_string().expect("text"))
}

fn analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !tools::present(&["systemd-analyze"]) {
        return;
    }
    let dir = TempDir::new();
    let [service, socket] = install(dir.path());
    for unit in [&service, &socket] {
        let (right, said) = analyze(&["verify", "--recursive-errors=no", unit]);
        assert!(right && !said.contains("dispod"), "{said}");
    }
    fs::write(&service, printed(&[]).replace("Restart=always", "Restart=often")).expect("written");
    let (_, said) = analyze(&["verify", "--recursive-errors=no", &service]);
    assert!(said.contains("often"), "verify verifies nothing: {said}");
}

#[test]
fn the_service_is_hardly_exposed() {
    if !tools::present(&["systemd-analyze"]) {
        return;
    }
    let dir = TempDir::new();
    let [service, _] = install(dir.path());
    let (below, said) = analyze(&["security", "--offline=true", "--no-pager", EXPOSURE_MAX, &service]);
    assert!(below && said.contains("Overall exposure level for dispod.service: 1."), "{said}");
}

#[test]
fn what_does_not_mend_itself_is_not_started_again() {
    let unit = printed(&[]);
    let prevented: Vec<_> = value(&unit, "RestartPreventExitStatus").split(' ').collect();
    assert_eq!(value(&unit, "Restart"), "always");
    let dir = TempDir::new();
    fs::write(dir.path().join("dispod.toml"), "[webhook]\nlisten = 1\n").expect("written");
    for (arguments, status) in [(&["check", "--config", "dispod.toml"][..], "78"), (&["serv"], "2")] {
        let output = daemon::command().args(arguments).current_dir(dir.path()).output().expect("it runs");
        assert_eq!(output.status.code().map(|code| code.to_string()).as_deref(), Some(status), "{output:?}");
        assert!(prevented.contains(&status), "{prevented:?}");
    }
}
