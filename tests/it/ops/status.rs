//! `dispod status`: what the running daemon says, and words where none answers.

use super::*;
use crate::support::daemon::TempDir;

#[test]
fn a_daemon_that_is_well() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    assert_eq!(daemon.post(r#"{"contactId":"7","dispositionCode":"1001"}"#).0, 200);
    assert!(wait_until(SOON, || delivered(&sandbox, "7")));
    assert!(wait_until(SOON, || run(&daemon, &["status", "--json"]).json()["delivered"] == 1));
    let done = run(&daemon, &["status"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    for line in ["dispod 0.1.0 is well; up ", "kept                    1", "pending                 0"] {
        assert!(done.out.contains(line), "{line} is not in {done:?}");
    }
    assert!(!done.out.contains('\x1b'), "no colours in a pipe: {done:?}");
    let done = run(&daemon, &["status", "--json"]);
    let status = done.json();
    assert_eq!((done.code, &status["ready"], &status["kept"]), (0, &true.into(), &1.into()), "{done:?}");
    assert_eq!(status["api"]["200"], 1);
}

#[test]
fn one_that_is_not_says_why() {
    let sandbox = sandbox();
    let daemon =
        Daemon::start_with(&config_for(&sandbox), &[("DISPOD_CXONE_CLIENT_SECRET", "not the secret")]);
    assert_eq!(daemon.post(r#"{"contactId":"7","dispositionCode":"1001"}"#).0, 200);
    assert!(wait_until(SOON, || daemon.admin("GET", "/readyz").status == 503));
    let done = run(&daemon, &["status"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("is NOT well") && done.out.contains("because     denied"), "{done:?}");
    assert!(done.err.starts_with("dispod: not ready: denied"), "{done:?}");
    let done = run(&daemon, &["status", "--json"]);
    assert_eq!((done.code, &done.json()["ready"]), (1, &false.into()), "{done:?}");
}

#[test]
fn where_no_daemon_answers_it_says_so() {
    let sandbox = sandbox();
    let mut daemon = daemon(&sandbox);
    daemon.kill9();
    let done = run(&daemon, &["status", "--json"]);
    assert_eq!((done.code, done.out.as_str()), (1, ""), "{done:?}");
    let place = format!("http://{} (admin.listen)", daemon.admin_addr());
    let words = format!("dispod: no daemon answers at {place}: connection refused; is it running?\n");
    assert_eq!(done.err, words);
    for (listen, words) in [
        ("off", "admin.listen is \"off\""),
        ("127.0.0.1:0", "DISPOD_ADMIN_LISTEN=HOST:PORT"),
        ("unix:/nonexistent/admin", "unix:/nonexistent/admin (admin.listen): there is no such socket"),
    ] {
        let done: Done = on(&daemon, &["status"]).env("DISPOD_ADMIN_LISTEN", listen).output().unwrap().into();
        assert!(done.code == 1 && done.err.contains(words), "{listen}: {done:?}");
    }
}

#[test]
fn an_admin_listener_on_a_unix_socket_is_reached_too() {
    let (sandbox, dir) = (sandbox(), TempDir::new());
    let listen = format!("unix:{}", dir.path().join("admin").display());
    let daemon = Daemon::start_with(&config_for(&sandbox), &[("DISPOD_ADMIN_LISTEN", &listen)]);
    daemon.wait_for_log("admin listening on unix:");
    let mut command = command();
    command.args(["status", "--json", "--config", "dispod.toml"]).current_dir(daemon.dir());
    let done: Done = command.env("DISPOD_ADMIN_LISTEN", &listen).output().unwrap().into();
    assert_eq!((done.code, &done.json()["ready"]), (0, &true.into()), "{done:?}");
}
