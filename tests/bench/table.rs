//! The table: what was measured, what it is compared with, what it ought to be.

use crate::measures::Measures;

/// How a figure is written.
#[derive(Clone, Copy)]
enum Unit {
    PerS,
    Ms,
    Us,
    Mb,
    Kb,
    Count,
    YesNo,
}

/// What a figure ought to be.
#[derive(Clone, Copy)]
enum Target {
    None,
    AtLeast(f64),
    AtMost(f64),
    /// At least this part of what it is compared with.
    Part(f64),
}

use Target::{AtLeast, AtMost, Part};
use Unit::{Count, Kb, Mb, Ms, PerS, Us, YesNo};

struct Row {
    what: &'static str,
    name: &'static str,
    unit: Unit,
    /// The measurement it is compared with, and its name for people.
    against: Option<(&'static str, &'static str)>,
    target: Target,
}

const fn row(what: &'static str, name: &'static str, unit: Unit, target: Target) -> Row {
    Row { what, name, unit, against: None, target }
}

const fn compared(
    what: &'static str,
    name: &'static str,
    unit: Unit,
    target: Target,
    against: &'static str,
    against_what: &'static str,
) -> Row {
    Row { what, name, unit, against: Some((against, against_what)), target }
}

const NOTHING_KEPT: &str = "tiny_http keeping nothing";
const BARE: &str = "append+fdatasync";

const ROWS: &[Row] = &[
    compared(
        "durable acknowledgements, 64 kept connections",
        "acks",
        PerS,
        AtLeast(10_000.0),
        "plain",
        NOTHING_KEPT,
    ),
    compared("  the same, as a part of it", "acks", PerS, Part(0.5), "plain", NOTHING_KEPT),
    row("  p50", "acks_p50_ms", Ms, Target::None),
    compared("  p99", "acks_p99_ms", Ms, AtMost(15.0), "plain_p99_ms", NOTHING_KEPT),
    compared(
        "  a connection for each, 64 at a time",
        "acks_each",
        PerS,
        Part(0.5),
        "plain_each",
        NOTHING_KEPT,
    ),
    row("  p50", "acks_each_p50_ms", Ms, Target::None),
    compared("  p99", "acks_each_p99_ms", Ms, AtMost(15.0), "plain_each_p99_ms", NOTHING_KEPT),
    row("  unanswered", "failed", Count, AtMost(0.0)),
    compared("store, events kept singly", "commits_1", PerS, Target::None, "bare_1", BARE),
    compared("store, events kept by 32", "commits_32", PerS, Target::None, "bare_32", BARE),
    row("delivered end to end, API at 0 ms, 16 workers", "delivered_0", PerS, AtLeast(6000.0)),
    row("  CPU per delivered event", "delivered_0_cpu_us", Us, AtMost(110.0)),
    row("  acknowledged meanwhile", "delivered_0_acks", PerS, Target::None),
    row("  p99 of these", "delivered_0_ack_p99_ms", Ms, Target::None),
    row("  connections to the API", "delivered_0_connections", Count, AtMost(16.0)),
    row("delivered end to end, API at 50 ms, 256 workers", "delivered_50", PerS, AtLeast(4000.0)),
    row("  CPU per delivered event", "delivered_50_cpu_us", Us, AtMost(110.0)),
    row("  connections to the API", "delivered_50_connections", Count, AtMost(256.0)),
    row("  most memory", "delivered_50_peak_mb", Mb, AtMost(64.0)),
    row("256 workers in a control group of 64 MiB work", "boxed", YesNo, AtLeast(1.0)),
    row("  most memory", "boxed_peak_mb", Mb, AtMost(64.0)),
    row("written per event, one at a time", "written_1_kb", Kb, Target::None),
    row("written per event, 32 at a time", "written_32_kb", Kb, Target::None),
    row("idle: resident", "idle_mb", Mb, AtMost(6.0)),
    row("  of it not the program's file", "idle_anonymous_mb", Mb, Target::None),
    row("  threads", "threads", Count, Target::None),
    row("  wake-ups a second", "idle_wake_ups", Count, AtMost(5.0)),
    row("at 2,000 events a second: resident", "busy_mb", Mb, AtMost(15.0)),
    row("  of it not the program's file", "busy_anonymous_mb", Mb, Target::None),
    row("  kept", "busy_per_s", PerS, Target::None),
    row("  p99", "busy_p99_ms", Ms, Target::None),
    row("  a while later", "rested_mb", Mb, Target::None),
    row("with a million pending: resident at most", "million_mb", Mb, AtMost(32.0)),
    row("  of it not the program's file", "million_anonymous_mb", Mb, Target::None),
    row("first 200 after the start, empty store", "start_empty_ms", Ms, AtMost(15.0)),
    row("first 200 after the start, a million pending", "start_million_ms", Ms, AtMost(1000.0)),
    row("offered twice its best rate on 1,000 connections", "overload_wanted", PerS, Target::None),
    compared("  kept", "overload_kept", PerS, Part(0.8), "overload_best", "64 connections"),
    row("  p99", "overload_p99_ms", Ms, Target::None),
    row("  neither 200 nor 503", "overload_failed", Count, AtMost(0.0)),
    row("  resident at the end", "overload_mb", Mb, Target::None),
    row("  grown in the second half", "overload_growth_mb", Mb, AtMost(2.0)),
    compared("the same on 3,000: kept", "refused_kept", PerS, Part(0.8), "refused_best", "64 connections"),
    row("  refused with 503", "refused_503", PerS, Target::None),
    row("  neither 200 nor 503", "refused_failed", Count, AtMost(0.0)),
    row("  resident at the end", "refused_mb", Mb, Target::None),
    row("  grown in the second half", "refused_growth_mb", Mb, AtMost(2.0)),
    row("a good client's p99, no slow ones", "slow_none_p99_ms", Ms, Target::None),
    row("  beside 2,000 slow heads and 2,000 slow bodies", "slow_p99_ms", Ms, AtMost(20.0)),
    row("  the slow ones end after, at a deadline of 4 s", "slow_lasted_ms", Ms, AtMost(6000.0)),
    row("  of them left", "slow_left", Count, AtMost(0.0)),
    row(
        "300 clients at once, kept connections: all connected and served after",
        "at_once_ms",
        Ms,
        AtMost(1000.0),
    ),
    row("first answer after running out of descriptors", "descriptors_back_ms", Ms, AtMost(2000.0)),
    row("/api/status, 10,000 dead, 100,000 delivered", "admin_status_ms", Ms, Target::None),
    row("/api/dead, first 100", "admin_dead_ms", Ms, Target::None),
    row("/api/dead, last 100", "admin_dead_last_ms", Ms, Target::None),
    row("/api/audit of a contact", "admin_audit_ms", Ms, Target::None),
    row("/metrics", "admin_metrics_ms", Ms, Target::None),
    row("dispod status", "status_ms", Ms, AtMost(1000.0)),
    row("  with a million pending", "million_status_ms", Ms, AtMost(1000.0)),
    row("dispod dead list, 10,000 of them", "dead_list_ms", Ms, AtMost(1000.0)),
    row("  --json", "dead_json_ms", Ms, AtMost(1000.0)),
    row("dispod dead drop --all, 10,000 of them", "dead_drop_ms", Ms, AtMost(1000.0)),
    row("dispod audit, 110,000 events with 440,000 steps", "audit_table_ms", Ms, AtMost(1000.0)),
    row("  --format jsonl", "audit_jsonl_ms", Ms, AtMost(1000.0)),
    row("  --format csv", "audit_csv_ms", Ms, AtMost(1000.0)),
    row("  --contact", "audit_contact_ms", Ms, AtMost(1000.0)),
    row("  --unmapped", "audit_unmapped_ms", Ms, AtMost(1000.0)),
    row("dispod check --against-history", "check_history_ms", Ms, AtMost(1000.0)),
    row("most memory of any of these commands", "commands_mb", Mb, AtMost(32.0)),
    row("size of the program", "binary_mb", Mb, AtMost(6.0)),
    row("cost of the load generator per request", "load_cpu_us", Us, Target::None),
    row("cost of the API's stand-in per update", "api_cpu_us", Us, Target::None),
    row("cost of the daemon per acknowledgement", "acks_cpu_us", Us, Target::None),
];

/// Prints the table of what was measured, as Markdown.
pub fn print(measures: &Measures) {
    let head = ["what", "median", "from - to", "compared with", "ratio", "target", "met"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(ROWS.iter().filter_map(|row| row.cells(measures)));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            println!("|-{}-|", widths.map(|width| "-".repeat(width)).join("-|-"));
        }
    }
}

impl Row {
    fn cells(&self, measures: &Measures) -> Option<[String; 7]> {
        let values = measures.sorted(self.name);
        let median = measures.median(self.name)?;
        let range = match values.as_slice() {
            [first, .., last] if first.to_bits() != last.to_bits() => {
                format!("{} - {}", self.unit.show(*first), self.unit.show(*last))
            }
            _ => String::new(),
        };
        let other = self.against.and_then(|(name, what)| Some((measures.median(name)?, what)));
        let ratio = other.map(|(other, _)| median / other);
        let met = match (self.target, ratio) {
            (AtLeast(least), _) => Some(median >= least),
            (AtMost(most), _) => Some(median <= most),
            (Part(least), Some(ratio)) => Some(ratio >= least),
            _ => None,
        };
        Some([
            self.what.replacen("  ", "&nbsp; ", 1),
            self.unit.show(median),
            range,
            other.map_or(String::new(), |(other, what)| format!("{what}: {}", self.unit.show(other))),
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            match self.target {
                Target::None => String::new(),
                AtLeast(least) => format!("at least {}", self.unit.show(least)),
                AtMost(most) => format!("at most {}", self.unit.show(most)),
                Part(part) => format!("ratio {part:.1}"),
            },
            met.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
        ])
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            PerS => format!("{value:.0}/s"),
            Ms if value < 10.0 => format!("{value:.2} ms"),
            Ms => format!("{value:.0} ms"),
            Us => format!("{value:.1} us"),
            Mb => format!("{value:.1} MB"),
            Kb => format!("{value:.1} kB"),
            Count => format!("{}", (value * 10.0).round() / 10.0),
            YesNo => if value > 0.0 { "yes" } else { "no" }.to_owned(),
        }
    }
}
