//! Programs of others that a test needs, and may find missing.

use std::path::Path;

/// Set to `1` where every test must run, as in CI: a missing tool is then a failure.
const REQUIRE_ALL: &str = "DISPOD_TEST_REQUIRE_ALL";
/// Also looked at, since an ordinary user's `$PATH` may lack it.
const SYSTEM_PROGRAMS: &str = "/usr/sbin";

/// Whether all of these programs are there: names to look up in `$PATH`, or absolute paths. Says aloud what is
/// missing; the caller then returns, and its test has shown nothing.
///
/// # Panics
/// When one is missing and [`REQUIRE_ALL`] is set.
#[must_use]
pub fn present(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    directories.push(Path::new(SYSTEM_PROGRAMS).to_owned());
    let there = |program: &str| directories.iter().any(|directory| directory.join(program).exists());
    let missing: Vec<_> = programs.iter().filter(|program| !there(program)).collect();
    missing.is_empty() || skip(&format!("{missing:?} not installed"))
}

/// Says aloud that a test is skipped, and why; always false.
///
/// # Panics
/// When [`REQUIRE_ALL`] is set.
pub fn skip(why: &str) -> bool {
    let required = std::env::var(REQUIRE_ALL).is_ok_and(|value| value == "1");
    assert!(!required, "{why}, and {REQUIRE_ALL}=1");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the test harness, which keeps what a passing test prints to itself.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED {test}: {why}\n").as_bytes());
    false
}
