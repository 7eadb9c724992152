//! `cargo bench`: dispod against the limits of the machine it runs on, in one run, as one table.
//!
//! The daemon measured is the real program, built as it ships, in a process of its own. So are the stand-in for the
//! Contact API and the same tiny_http with a handler that keeps nothing; the load generator is one thread of this
//! process. What is compared runs side by side: every round measures everything once, and the table shows medians.
//!
//! `cargo bench -- acks` runs the measurements whose names hold one of the words given, `--quick` one round of each,
//! `--rounds N` so many.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for a table, far below 2^52"
)]

mod acks;
mod admin;
mod api;
mod commands;
mod daemon;
mod deliveries;
mod limits;
mod load;
mod measures;
mod memory;
mod overload;
mod plain;
mod process;
mod slow;
mod start;
mod store;
mod table;
mod written;

use std::time::Instant;

use measures::Measures;

/// Started with this word first, the program is the stand-in for the Contact API.
const CHILD_API: &str = "child-api";
/// ...a tiny_http that keeps nothing.
const CHILD_PLAIN: &str = "child-plain";
/// ...the load generator alone, for a profile: address, connections, events.
const CHILD_LOAD: &str = "child-load";
/// ...what enters a control group and then becomes the daemon.
const CHILD_LIMITED: &str = "child-limited";

/// One measurement of one round.
struct Scenario {
    name: &'static str,
    /// How often it is measured at most; what hardly varies or takes long is measured less often.
    rounds_max: u32,
    run: fn(&mut Measures),
}

const SCENARIOS: [Scenario; 14] = [
    Scenario { name: "acks-keep-alive", rounds_max: 5, run: acks::keep_alive },
    Scenario { name: "acks-connections", rounds_max: 5, run: acks::connections },
    Scenario { name: "store", rounds_max: 5, run: store::commits },
    Scenario { name: "delivered-0ms", rounds_max: 5, run: deliveries::at_once },
    Scenario { name: "delivered-50ms", rounds_max: 5, run: deliveries::after_50_ms },
    Scenario { name: "written", rounds_max: 3, run: written::bytes_per_event },
    Scenario { name: "start-empty", rounds_max: 5, run: start::empty },
    Scenario { name: "memory", rounds_max: 2, run: memory::idle_and_busy },
    Scenario { name: "backlog", rounds_max: 2, run: memory::backlog },
    Scenario { name: "limits", rounds_max: 1, run: limits::many_workers },
    Scenario { name: "overload", rounds_max: 3, run: overload::twice },
    Scenario { name: "overload-refused", rounds_max: 2, run: overload::twice_refused },
    Scenario { name: "slow", rounds_max: 2, run: slow::clients },
    Scenario { name: "admin", rounds_max: 1, run: admin::answers },
];

fn main() {
    // `cargo bench` adds `--bench`, `cargo test` may add other options; neither is meant for us.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some(CHILD_API) => api::serve(arguments.get(1).and_then(|ms| ms.parse().ok()).unwrap_or(0)),
        Some(CHILD_PLAIN) => plain::serve(),
        Some(CHILD_LOAD) => load::alone(&arguments[1..]),
        Some(CHILD_LIMITED) => limits::become_daemon(&arguments[1..]),
        _ => run(&arguments),
    }
}

fn run(arguments: &[String]) {
    let began = Instant::now();
    let mut rounds = 5;
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--quick" => rounds = 1,
            "--rounds" => {
                rounds = rest.next().and_then(|n| n.parse().ok()).expect("a number behind --rounds");
            }
            option if option.starts_with('-') => panic!("no such option: {option}"),
            word => words.push(word),
        }
    }
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| words.is_empty() || words.iter().any(|word| scenario.name.contains(word)))
        .collect();
    assert!(!chosen.is_empty(), "none of {words:?} is in the name of a measurement");
    println!("{}", process::machine());
    let mut measures = Measures::default();
    for round in 0..rounds {
        for scenario in chosen.iter().filter(|scenario| round < scenario.rounds_max) {
            let at = Instant::now();
            (scenario.run)(&mut measures);
            eprintln!("round {} {}: {:.1} s", round + 1, scenario.name, at.elapsed().as_secs_f64());
        }
    }
    daemon::remove_dirs();
    table::print(&measures);
    println!("\nafter {:.0} s; load average {}", began.elapsed().as_secs_f64(), process::load_average());
}
