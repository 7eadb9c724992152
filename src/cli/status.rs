//! `dispod status`: is the running daemon well, and what is it doing?

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::client::Client;
use super::table::{fit, harmless, styled, terminal_width};
use super::{ConfigFile, text};
use crate::clock;
use crate::config::Config;
use crate::error::Error;

/// What begins a line of the overview.
const LABEL_WIDTH: usize = 12;

/// `dispod status`
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Print what the daemon says as one JSON object, for a program.
    #[arg(long)]
    json: bool,
}

/// Prints the running daemon's state.
///
/// # Errors
/// No daemon answers, or it is not ready to do its work: exit status 1.
pub fn run(args: &Args) -> Result<(), Error> {
    let config = Config::load_local(args.file.config.as_deref())?;
    let client = Client::admin(&config)?;
    let answer = client.get("/api/status")?;
    if answer.status != 200 {
        let (place, words) = (client.place(), answer.in_words());
        return Err(Error::failed(format!("{place} does not tell its state: {words}")));
    }
    let unreadable = |error| {
        let place = client.place();
        Error::failed(format!("what answers at {place} does not tell a daemon's state: {error}"))
    };
    let status: Status = serde_json::from_str(&answer.body).map_err(unreadable)?;
    if args.json {
        super::print(&format!("{}\n", answer.body.trim_end()))?;
    } else {
        let width = terminal_width().unwrap_or(usize::MAX);
        super::print(&render(&status, width, styled()))?;
    }
    if status.ready {
        Ok(())
    } else {
        Err(Error::failed(format!("not ready: {}", status.reasons.join("; "))))
    }
}

/// What is shown of `GET /api/status`. A daemon of another version may say less.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    version: String,
    ready: bool,
    reasons: Vec<String>,
    uptime_seconds: u64,
    kept: u64,
    duplicate: u64,
    delivered: u64,
    pending: u64,
    dead: u64,
    oldest_pending_seconds: u64,
    api: BTreeMap<String, u64>,
    token: Token,
    store_bytes: u64,
    webhook: Webhook,
    latency_seconds: Option<Latency>,
    subscribers: Vec<Subscriber>,
    dropped: BTreeMap<String, u64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Token {
    refresh_at: Option<String>,
    ok: u64,
    refused: u64,
    failed: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Webhook {
    address: String,
    connections: u64,
    requests: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Subscriber {
    name: String,
    kind: String,
    pending: u64,
    delivered: u64,
    disabled: Option<String>,
    last_error: Option<String>,
}

/// How a line looks (ECMA-48 SGR).
#[derive(Clone, Copy)]
enum Look {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[1;32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// Lines under labels.
struct Overview {
    text: String,
    width: usize,
    styled: bool,
}

impl Overview {
    /// A line behind a label.
    fn line(&mut self, label: &str, content: &str, look: Look) {
        let _ = write!(self.text, "{label:<LABEL_WIDTH$}");
        self.content(content, LABEL_WIDTH, look);
    }

    /// The rest of a line; what came in from outside reaches no terminal as a command.
    fn content(&mut self, content: &str, indent: usize, look: Look) {
        let content = harmless(content);
        let content = fit(&content, self.width.saturating_sub(indent).max(1));
        if self.styled && !look.code().is_empty() {
            let _ = write!(self.text, "{}{content}\x1b[0m", look.code());
        } else {
            self.text += &content;
        }
        self.text.push('\n');
    }
}

fn render(status: &Status, width: usize, styled: bool) -> String {
    let mut overview = Overview { text: String::new(), width, styled };
    health(&mut overview, status);
    events(&mut overview, status);
    api(&mut overview, status);
    let webhook = &status.webhook;
    let connections = plural(webhook.connections, "connection");
    overview.line("webhook", &format!("{}, {connections}", webhook.address), Look::Plain);
    if !webhook.requests.is_empty() {
        overview.line("", &format!("answered {}", by_status(&webhook.requests)), Look::Plain);
    }
    overview.line("store", &text::bytes(status.store_bytes), Look::Plain);
    subscribers(&mut overview, status);
    overview.text
}

fn health(overview: &mut Overview, status: &Status) {
    let up = text::span(status.uptime_seconds);
    if status.ready {
        overview.content(&format!("dispod {} is well; up {up}", status.version), 0, Look::Good);
    } else {
        overview.content(&format!("dispod {} is NOT well; up {up}", status.version), 0, Look::Bad);
        for reason in &status.reasons {
            overview.line("because", reason, Look::Bad);
        }
    }
    overview.text.push('\n');
}

fn events(overview: &mut Overview, status: &Status) {
    let count = |number: u64| format!("{:>13}", text::count(number));
    let duplicates = match status.duplicate {
        0 => String::new(),
        some => format!("   and {} not kept again", plural(some, "duplicate")),
    };
    overview.line("kept", &(count(status.kept) + &duplicates), Look::Plain);
    let latency = status.latency_seconds.as_ref().map_or_else(String::new, |latency| {
        let (p50, p99) = (text::seconds(latency.p50), text::seconds(latency.p99));
        format!("   half within {p50}, 99 of 100 within {p99} in the last hour")
    });
    overview.line("delivered", &(count(status.delivered) + &latency), Look::Plain);
    let oldest = match status.pending {
        0 => String::new(),
        _ => format!("   the oldest for {}", text::span(status.oldest_pending_seconds)),
    };
    overview.line("pending", &(count(status.pending) + &oldest), Look::Plain);
    let (hint, look) = match status.dead {
        0 => ("", Look::Plain),
        _ => ("   see dispod dead list", Look::Warning),
    };
    overview.line("dead", &(count(status.dead) + hint), look);
    overview.text.push('\n');
}

fn api(overview: &mut Overview, status: &Status) {
    let answers = if status.api.is_empty() { "not called yet".to_owned() } else { by_status(&status.api) };
    overview.line("API", &answers, Look::Plain);
    let Token { refresh_at, ok, refused, failed } = &status.token;
    let mut token = match refresh_at {
        Some(at) => format!("held, refreshed {}", in_future(at)),
        None => "none held".to_owned(),
    };
    let _ = write!(token, "; fetched {}", times(*ok));
    for (count, what) in [(refused, "refused"), (failed, "failed")] {
        if *count > 0 {
            let _ = write!(token, ", {what} {}", times(*count));
        }
    }
    let fine = refresh_at.is_some() || (*refused == 0 && *failed == 0);
    overview.line("token", &token, if fine { Look::Plain } else { Look::Warning });
}

fn subscribers(overview: &mut Overview, status: &Status) {
    for (index, subscriber) in status.subscribers.iter().enumerate() {
        let Subscriber { name, kind, pending, delivered, disabled, last_error } = subscriber;
        let (pending, delivered) = (text::count(*pending), text::count(*delivered));
        let mut line = format!("{name} ({kind}): {delivered} delivered, {pending} pending");
        let trouble = match (disabled, last_error) {
            (Some(why), _) => Some(format!("; DISABLED: {why}")),
            (None, Some(error)) => Some(format!("; last error: {error}")),
            (None, None) => None,
        };
        line += trouble.as_deref().unwrap_or_default();
        let look = if trouble.is_some() { Look::Warning } else { Look::Plain };
        overview.line(if index == 0 { "subscribers" } else { "" }, &line, look);
    }
    let dropped = status.dropped.iter().filter(|(_, count)| **count > 0);
    for (name, count) in dropped {
        overview.line("", &format!("{name}: {} dropped", text::count(*count)), Look::Warning);
    }
}

/// `200: 12,345, 429: 7`, the most frequent first.
fn by_status(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(status, count)| (std::cmp::Reverse(**count), status.as_str()));
    let shown = |(status, count): (&String, &u64)| {
        let status = if status == "none" { "no answer" } else { status };
        format!("{status}: {}", text::count(*count))
    };
    counts.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// `in 5 min`, of a point in time the daemon told.
fn in_future(at: &str) -> String {
    let Ok(at) = at.parse::<jiff::Timestamp>() else { return format!("at {at}") };
    let left_ms = at.as_millisecond() - clock::now_ms();
    format!("in {}", text::span(left_ms.max(0).cast_unsigned() / 1000))
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", text::count(count)) }
}

fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", text::count(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::columns_of;

    fn troubled() -> Status {
        serde_json::from_str(
            r#"{"version":"0.1.0","ready":false,"reasons":["denied: 401\u001b[2J"],"uptimeSeconds":93784,
            "kept":12345,"duplicate":1,"delivered":12000,"pending":345,"dead":3,"oldestPendingSeconds":125,
            "api":{"200":12000,"429":7,"none":1},"token":{"refreshAt":null,"ok":1,"refused":2,"failed":0},
            "storeBytes":1234567,"webhook":{"address":"http://127.0.0.1:8080/webhook/call-result",
            "connections":1,"parked":0,"requests":{"200":12345}},"latencySeconds":{"p50":0.034,"p99":1.25},
            "subscribers":[{"name":"crm","kind":"webhook","pending":5,"delivered":11995,"dropped":0,
            "disabled":null,"lastError":"status 500"}],"dropped":{},"lastHour":[],"newerMember":1}"#,
        )
        .unwrap()
    }

    #[test]
    fn everything_has_its_line() {
        let text = render(&troubled(), usize::MAX, false);
        for line in [
            "dispod 0.1.0 is NOT well; up 1 d 2 h",
            "because     denied: 401\\u{1b}[2J",
            "kept               12,345   and 1 duplicate not kept again",
            "delivered          12,000   half within 34 ms, 99 of 100 within 1.2 s in the last hour",
            "pending               345   the oldest for 2 min 5 s",
            "dead                    3   see dispod dead list",
            "API         200: 12,000, 429: 7, no answer: 1",
            "token       none held; fetched once, refused 2 times",
            "webhook     http://127.0.0.1:8080/webhook/call-result, 1 connection",
            "            answered 200: 12,345",
            "store       1.2 MB",
            "subscribers crm (webhook): 11,995 delivered, 5 pending; last error: status 500",
        ] {
            assert!(text.lines().any(|each| each == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn it_fits_a_narrow_terminal_and_colours_only_where_wanted() {
        let text = render(&troubled(), 40, false);
        assert!(text.lines().all(|line| columns_of(line) <= 40), "{text}");
        assert!(!text.contains('\x1b'));
        let text = render(&troubled(), 40, true);
        assert!(text.contains("\x1b[1;31mdispod 0.1.0 is NOT well"), "{text:?}");
    }
}
