//! The house itself: floors, sizes, top level, and a README that says what the program says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// The floors of `src/lib.rs`, lowest first. A file imports only what stands before its own module here, and no
/// room imports another.
const FLOORS: [&[&str]; 5] = [
    &["backoff", "clock", "error", "event", "disposition", "keep", "storm", "verdict", "config", "signature"],
    &[
        "health", "metrics", "logging", "glibc", "notify", "rooms", "bus", "listener", "http", "outgoing",
        "program", "cxone", "store", "audit",
    ],
    &["flow", "settle", "handover"],
    ROOMS,
    &["sandbox", "engine", "daemon"],
];
const ROOMS: &[&str] = &["admin", "dispatch", "intake", "keeper", "subscribers", "worker"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    rust_files(&root().join(dir), &mut files);
    files.sort();
    assert!(files.len() > 5, "no files in {dir}: this test would check nothing");
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn height(module: &str) -> Option<usize> {
    FLOORS.iter().copied().flatten().position(|name| *name == module)
}

#[test]
fn a_file_imports_only_from_floors_below_it() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if ["lib", "main", "cli"].contains(&module.as_str()) {
            continue;
        }
        let Some(own) = height(&module) else { panic!("{module} stands on no floor: give it one in FLOORS") };
        for import in text.split("crate::").skip(1) {
            let name: String = import.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let both_rooms = ROOMS.contains(&name.as_str()) && ROOMS.contains(&module.as_str());
            if let Some(other) = height(&name).filter(|_| name != module)
                && (other > own || both_rooms)
            {
                wrong.push(format!("{}: {module} imports {name}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            long.push(format!("{}: {} lines", path.display(), lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_function =
                ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "const fn ", "pub const fn "]
                    .iter()
                    .any(|prefix| head.starts_with(prefix));
            let ends = |line: &&str| line.ends_with(';') || line.ends_with('{') || line.ends_with('}');
            if !is_function
                || !lines[start..].iter().find(|line| ends(line)).is_some_and(|line| line.ends_with('{'))
            {
                continue;
            }
            let close = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == close).unwrap_or(0) + 1;
            if length > FUNCTION_LINES_MAX {
                long.push(format!("{}:{}: a function of {length} lines", path.display(), start + 1));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_top_level_is_what_it_should_be() {
    const ALLOWED: [&str; 7] = ["Cargo.toml", "Cargo.lock", "src", "tests", "README.md", "LICENSE", "target"];
    let extra: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !ALLOWED.contains(&name.as_str()))
        .collect();
    assert!(extra.is_empty(), "{extra:?}");
}

#[test]
fn the_readme_has_the_configuration_as_the_program_has_it() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let reference = dispod::config::reference();
    for line in reference.lines() {
        assert!(readme.contains(line), "README.md lacks this line of the configuration reference:\n{line}");
    }
}

#[test]
fn the_readme_names_every_command() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_dispod")).arg("help").output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    let commands: BTreeMap<&str, &str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.trim().split_once("  "))
        .collect();
    assert!(commands.len() > 5, "{help}");
    for command in commands.keys() {
        assert!(readme.contains(&format!("dispod {command}")), "README.md does not name `dispod {command}`");
    }
}

#[test]
fn the_readme_names_every_dependency() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let dependencies: Vec<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .collect();
    assert!(dependencies.len() > 5);
    for name in dependencies {
        assert!(readme.contains(&format!("`{name}`")), "README.md gives no reason for the dependency {name}");
    }
}

#[test]
fn nothing_is_left_undone_in_the_code() {
    let words = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["FIX", "ME"].concat(),
        ["db", "g!("].concat(),
    ];
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} contains {word}", path.display());
        }
    }
}
