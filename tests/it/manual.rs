//! Completions and manual pages are printed by the program and know every command and option.

use crate::support::daemon;

fn printed(arguments: &[&str]) -> String {
    let output = daemon::command().args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands as `dispod help` lists them.
fn commands() -> Vec<String> {
    let help = printed(&["help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.map_while(|line| line.split_whitespace().next().map(str::to_owned));
    let names: Vec<String> = names.filter(|name| name != "help").collect();
    assert!(names.len() > 5, "{help}");
    names
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not complete {command}");
        }
        assert!(script.contains("against-history"), "{shell} does not complete options");
    }
    let output = daemon::command().args(["completions", "cmd"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn there_is_a_page_for_every_command() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH dispod 1 "), "{page}");
    for command in commands() {
        assert!(page.contains(&format!("dispod\\-{command}(1)")), "{command} is not in the main page");
        let own = printed(&["man", &command]);
        assert!(own.contains(&format!(".TH dispod-{command} 1 ")), "{own}");
        assert!(own.contains(&format!("\\fBdispod {command}\\fR")), "{own}");
    }
    let audit = printed(&["man", "audit"]);
    for option in ["contact", "since", "until", "format", "unmapped", "config"] {
        assert!(audit.contains(&format!("\\fB\\-\\-{option}\\fR")), "{option}: {audit}");
    }
    assert!(printed(&["man", "proxy", "nginx"]).contains("dispod proxy nginx"));
    let output = daemon::command().args(["man", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("\"nothing\""));
}
