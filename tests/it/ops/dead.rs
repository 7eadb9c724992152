//! `dispod dead`: looking needs only the store; changes are made by the daemon, or without it in the store.

use std::io::Write as _;
use std::process::Stdio;

use dispod::config::StoreConfig;
use dispod::store::Store;
use serde_json::Value;

use super::*;
use crate::admin::office;
use crate::support::tools;

/// More than one transaction retries.
const MANY: usize = 600;

/// A stopped daemon whose store has this many dead letters.
fn stopped_with_dead(sandbox: &Sandbox, dead: usize) -> Daemon {
    let mut daemon = daemon(sandbox);
    daemon.sigterm();
    let dir = daemon.dir().join("data");
    let mut store = Store::open(&StoreConfig { dir, ..StoreConfig::default() }).unwrap();
    office::fill(&mut store, 0, dead);
    daemon
}

fn listed(daemon: &Daemon, args: &[&str]) -> Vec<Value> {
    let done = run(daemon, &[&["dead", "list", "--json"], args].concat());
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn they_are_listed_and_shown_with_the_daemon_running_and_stopped() {
    let sandbox = sandbox();
    let mut daemon = daemon(&sandbox);
    assert_eq!(run(&daemon, &["dead", "list"]).err, "dispod: no dead letters\n");
    let ids = kill(&sandbox, &daemon, &["alice", "bob", "carol"]);
    let page: Value = serde_json::from_slice(&daemon.admin("GET", "/api/dead").body).unwrap();
    let look = |daemon: &Daemon| {
        [&["dead", "list"][..], &["dead", "show", &ids[1]], &["dead", "show", "--json", &ids[1]]]
            .map(|args| run(daemon, args))
            .map(|done| (done.code, done.out, done.err))
    };
    assert_eq!(listed(&daemon, &[]), *page["dead"].as_array().unwrap());
    assert_eq!(
        listed(&daemon, &["--after", &ids[0], "--limit", "1"]),
        page["dead"].as_array().unwrap()[1..2]
    );
    let running = look(&daemon);
    let [(_, list, _), (_, card, _), (_, json, _)] = &running;
    assert_eq!(list.lines().count(), 4, "{list}");
    assert!(list.lines().nth(2).unwrap().contains("bob"), "{list}");
    assert!(list.lines().nth(2).unwrap().contains("rejected, 422"), "{list}");
    for line in
        ["contact      bob\n", "disposition  1001, do_not_call (critical)\n", "reason       rejected, 422\n"]
    {
        assert!(card.contains(line), "{line} is not in {card}");
    }
    let mut shown: Value = serde_json::from_str(json).unwrap();
    let steps = shown.as_object_mut().unwrap().remove("steps");
    assert_eq!(shown.as_object_mut().unwrap().remove("moreSteps"), Some(false.into()));
    assert_eq!(shown, page["dead"][1]);
    let steps = steps.unwrap();
    let told: Vec<_> = steps.as_array().unwrap().iter().map(|step| step["what"].as_str().unwrap()).collect();
    assert_eq!(told, ["received", "mapped", "dead"]);
    assert_eq!((&steps[2]["status"], &steps[2]["attempt"]), (&422.into(), &1.into()));
    assert_eq!(card.lines().filter(|line| line.contains("  mapped  ")).count(), 1, "{card}");
    for kill in [true, false] {
        // Killed, there is a log to be read; ended in order, there is none.
        if kill {
            daemon.kill9();
        } else {
            daemon.restart();
            assert_eq!(daemon.sigterm().code(), Some(0));
        }
        assert_eq!(look(&daemon), running);
        let done = run(&daemon, &["dead", "show", "4711"]);
        assert_eq!(
            (done.code, done.err.as_str()),
            (1, "dispod: 4711 is no dead letter: there is no such event\n")
        );
    }
}

#[test]
fn the_running_daemon_retries_and_drops() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let ids = kill(&sandbox, &daemon, &["alice", "bob", "carol"]);
    let done = run(&daemon, &["dead", "retry", &ids[2], "999999", &ids[0]]);
    assert_eq!((done.code, done.out.as_str()), (1, "2 pending again\n"), "{done:?}");
    assert!(done.err.contains("999999 not retried: it is no dead letter"), "{done:?}");
    assert!(wait_until(SOON, || delivered(&sandbox, "alice") && delivered(&sandbox, "carol")));
    let done = run(&daemon, &["dead", "drop", &ids[1]]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "1 given up\n", ""), "{done:?}");
    assert!(dead_ids(&daemon).is_empty());
    assert!(!delivered(&sandbox, "bob"));
    let done = run(&daemon, &["dead", "show", &ids[0]]);
    assert_eq!(
        (done.code, done.err),
        (1, format!("dispod: {} is no dead letter: it is delivered\n", ids[0]))
    );
}

#[test]
fn what_is_retried_while_the_daemon_is_stopped_is_delivered_when_it_starts() {
    let sandbox = sandbox();
    let mut daemon = daemon(&sandbox);
    let ids = kill(&sandbox, &daemon, &["alice", "bob", "carol"]);
    daemon.kill9();
    let done = run(&daemon, &["dead", "retry", &ids[0], &ids[0]]);
    assert_eq!((done.code, done.out.as_str()), (1, "1 pending again\n"), "{done:?}");
    let done = run(&daemon, &["dead", "drop", &ids[1]]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "1 given up\n", ""), "{done:?}");
    assert_eq!(listed(&daemon, &[]).len(), 1);
    daemon.restart();
    assert!(wait_until(SOON, || delivered(&sandbox, "alice")));
    assert_eq!(dead_ids(&daemon), ids[2..]);
    assert!(!delivered(&sandbox, "bob") && !delivered(&sandbox, "carol"));
}

#[test]
fn all_of_them_with_the_daemon_running() {
    let sandbox = sandbox();
    let mut daemon = stopped_with_dead(&sandbox, MANY);
    daemon.restart();
    let ids: Vec<_> =
        listed(&daemon, &[]).iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), MANY);
    let done = run(&daemon, &["dead", "drop", "--all", "--after", &ids[MANY - 11]]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "10 given up\n", ""), "{done:?}");
    let done = run(&daemon, &["dead", "retry", "--all"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "590 pending again\n", ""), "{done:?}");
    assert!(sandbox.wait_until(|stats| stats.updates == 590, SOON), "{:?}", sandbox.stats());
    assert!(listed(&daemon, &[]).is_empty());
}

#[test]
fn all_of_them_with_the_daemon_stopped() {
    let sandbox = sandbox();
    let mut daemon = stopped_with_dead(&sandbox, MANY);
    let done = run(&daemon, &["dead", "retry", "--all"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "600 pending again\n", ""), "{done:?}");
    assert!(listed(&daemon, &[]).is_empty());
    daemon.restart();
    assert!(sandbox.wait_until(|stats| stats.updates == 600, SOON), "{:?}", sandbox.stats());
}

#[test]
fn a_list_of_many_has_one_head_and_fits_no_width_in_a_pipe() {
    let sandbox = sandbox();
    let daemon = stopped_with_dead(&sandbox, 2 * MANY);
    let done = run(&daemon, &["dead", "list"]);
    assert_eq!(done.out.lines().count(), 2 * MANY + 1);
    assert_eq!(
        done.out.matches("contact").count(),
        1 + 2 * MANY,
        "one head; the answers name a contact: {done:?}"
    );
    assert!(!done.out.contains('…') && !done.out.contains('\x1b'));
}

#[test]
fn who_holds_the_store_is_named_where_it_cannot_be_asked() {
    let sandbox = sandbox();
    let daemon = Daemon::start_with(&config_for(&sandbox), &[("DISPOD_ADMIN_LISTEN", "off")]);
    let mut command = command();
    command.args(["dead", "retry", "--all", "--config", "dispod.toml"]).current_dir(daemon.dir());
    let done: Done = command.env("DISPOD_ADMIN_LISTEN", "off").output().unwrap().into();
    let holder = format!("in use by process {}, and admin.listen is \"off\"", daemon.pid());
    assert!(done.code == 1 && done.err.contains(&holder), "{done:?}");
    command.env("DISPOD_ADMIN_LISTEN", "unix:/nonexistent/admin");
    let done: Done = command.output().unwrap().into();
    let holder =
        format!("in use by process {}, and no daemon answers at unix:/nonexistent/admin", daemon.pid());
    assert!(done.code == 1 && done.err.contains(&holder), "{done:?}");
}

#[test]
fn no_store_is_made_where_there_is_none() {
    let sandbox = sandbox();
    let mut daemon = daemon(&sandbox);
    daemon.kill9();
    for args in
        [&["dead", "list"][..], &["dead", "show", "1"], &["dead", "retry", "1"], &["dead", "drop", "--all"]]
    {
        let done: Done = on(&daemon, args).env("DISPOD_STORE_DIR", "elsewhere").output().unwrap().into();
        assert!(done.code == 1 && done.err.contains("there is no store in elsewhere"), "{args:?}: {done:?}");
        assert!(!daemon.dir().join("elsewhere").exists());
    }
}

#[test]
fn wrong_usage_is_told_before_anything_is_done() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    for args in [
        &["dead"][..],
        &["dead", "retry"],
        &["dead", "drop", "--yes"],
        &["dead", "retry", "1", "--all"],
        &["dead", "retry", "1", "--after", "1"],
        &["dead", "retry", "-1"],
        &["dead", "show", "x"],
        &["dead", "show", "9223372036854775808"],
    ] {
        let done = run(&daemon, args);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{args:?}: {done:?}");
    }
}

#[test]
fn on_a_terminal_dropping_asks_first() {
    if !tools::present(&["script"]) {
        return;
    }
    let sandbox = sandbox();
    let daemon = daemon(&sandbox);
    let ids = kill(&sandbox, &daemon, &["alice", "bob"]);
    let on_terminal = |answer: &str, args: &str| -> Done {
        let program = on(&daemon, &[]);
        let line = format!("{} dead drop --config dispod.toml {args}", program.get_program().display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(daemon.dir());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(input);
        output.into()
    };
    let done = on_terminal("n\n", &ids[0]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("Give this dead letter up for good? [y/N]"), "{done:?}");
    assert!(done.out.contains("nothing was dropped") && dead_ids(&daemon) == ids, "{done:?}");
    let done = on_terminal("y\n", "--all");
    assert!(done.code == 0 && done.out.contains("Give all 2 dead letters up for good?"), "{done:?}");
    assert!(dead_ids(&daemon).is_empty());
    let ids = kill(&sandbox, &daemon, &["carol"]);
    let done = on_terminal("", &format!("--yes {}", ids[0]));
    assert!(done.code == 0 && !done.out.contains("[y/N]"), "{done:?}");
}
