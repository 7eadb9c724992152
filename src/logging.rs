//! Logs: text or JSON lines on standard error, contact ids masked if asked, no library chatter with secrets in it.

use std::borrow::Cow;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::clock;
use crate::config::{LogConfig, LogFormat};

/// Libraries that would print requests, tokens or connections at `debug` and `trace`, and call a closed listener an
/// error; what matters of theirs is logged by us.
const QUIET: [&str; 4] = ["ureq", "ureq_proto", "rustls", "tiny_http"];

static MASK_CONTACTS: AtomicBool = AtomicBool::new(false);

/// Starts logging; `RUST_LOG` wins over the configured level. Does nothing the second time.
pub fn start(config: &LogConfig) {
    MASK_CONTACTS.store(config.mask_contacts, Relaxed);
    let mut builder = env_logger::Builder::new();
    builder.filter_level(config.level);
    builder.parse_default_env();
    for library in QUIET {
        builder.filter_module(library, log::LevelFilter::Off);
    }
    let json = config.format == LogFormat::Json;
    builder.format(move |out, record| {
        let (time, level) = (clock::rfc3339_ms(clock::now_ms()), record.level());
        if json {
            let line = serde_json::json!({
                "time": time,
                "level": level.as_str().to_lowercase(),
                "target": record.target(),
                "message": record.args().to_string(),
            });
            writeln!(out, "{line}")
        } else {
            writeln!(out, "{time} {level:<5} {}", record.args())
        }
    });
    let _ = builder.try_init();
}

/// A contact id as it may appear in a log line: whole, or its last four characters (`log.mask_contacts`).
#[must_use]
pub fn contact(id: &str) -> Cow<'_, str> {
    if !MASK_CONTACTS.load(Relaxed) {
        return Cow::Borrowed(id);
    }
    let hidden = id.chars().count().saturating_sub(4);
    Cow::Owned(format!("***{}", id.chars().skip(hidden.max(1)).collect::<String>()))
}
