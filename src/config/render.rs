//! The configuration written back: as TOML, as the reference of keys, and what to warn of.

use std::fmt::{self, Write};

use super::keys::KEYS;
use super::kind::path_text;
use super::names::FILE_SUFFIX;
use super::rules::{CATEGORY, PATH};
use super::values::{quote, quote_key};
use super::{Config, Listen, SubscriberConfig, SubscriberTarget, WebhookAuth, secret, url};

impl Config {
    /// The effective configuration as TOML that reads back to the same, but for its secrets: they are `"***"`, which
    /// [`Config::load`] refuses. What is not set is left to a comment.
    #[must_use]
    pub fn to_toml(&self) -> String {
        Toml(self).to_string()
    }

    /// What is allowed but hardly meant, one sentence each, for the log at the start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let webhook = &self.webhook;
        if webhook.auth == WebhookAuth::None {
            if let Listen::Tcp(address) = &webhook.listen
                && !address.ip().is_loopback()
            {
                let open = "is neither loopback nor a Unix socket and webhook.auth is none: anyone can post call results";
                warnings.push(format!("webhook.listen {address} {open}"));
            }
            if !webhook.secrets.is_empty() {
                warnings.push("webhook.secret is set but not asked for: webhook.auth is none".to_owned());
            }
        }
        warnings
    }
}

/// A configuration that displays as TOML.
struct Toml<'a>(&'a Config);

impl fmt::Display for Toml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copy = self.0.clone();
        let mut section = "";
        for key in &KEYS {
            if key.section() != section {
                section = key.section();
                writeln!(f, "\n[{section}]")?;
            }
            match key.kind.render(&mut copy) {
                Some(value) => writeln!(f, "{} = {value}", key.short())?,
                None => writeln!(f, "# {} is not set", key.short())?,
            }
        }
        writeln!(f, "\n[dispositions]")?;
        for (code, category) in &self.0.mapping.dispositions {
            writeln!(f, "{} = {}", quote_key(code), quote(category))?;
        }
        writeln!(f, "\n[severities]")?;
        for (category, severity) in &self.0.mapping.severities {
            writeln!(f, "{} = \"{severity}\"", quote_key(category))?;
        }
        self.0.subscribers.iter().try_for_each(|each| subscriber(f, each))
    }
}

fn subscriber(f: &mut fmt::Formatter<'_>, subscriber: &SubscriberConfig) -> fmt::Result {
    let severities: Vec<String> = subscriber.severities.iter().map(|each| quote(each.as_str())).collect();
    writeln!(f, "\n[[subscribers]]\nname = {}", quote(&subscriber.name))?;
    writeln!(f, "severities = [{}]", severities.join(", "))?;
    match &subscriber.target {
        SubscriberTarget::Webhook { url, secret } => {
            writeln!(f, "webhook = {}", quote(url))?;
            if secret.is_some() { writeln!(f, "secret = {}", quote(secret::REDACTED)) } else { Ok(()) }
        }
        SubscriberTarget::File(path) => writeln!(f, "file = {}", quote(&path_text(path))),
    }
}

/// The rows of what only the file can set: key, default, what is allowed, meaning.
const FILE_ROWS: [(&str, &str, &str, &str); 7] = [
    (
        "dispositions.<code>",
        "the built-in table",
        CATEGORY.allowed,
        "category of a code; setting any replaces the whole table",
    ),
    (
        "severities.<category>",
        "the built-in ones",
        "`critical`, `medium` or `low`",
        "severity of a category; laid over the built-in ones; a category without one is `medium`",
    ),
    (
        "subscribers[].name",
        "required",
        "1 to 64 of a-z, 0-9, _ and -, unique",
        "names its position in the store",
    ),
    ("subscribers[].severities", "all", "a list of `critical`, `medium`, `low`", "what it wants to hear of"),
    ("subscribers[].webhook", "this or file", url::ALLOWED, "where outcomes are posted"),
    (
        "subscribers[].secret`, `subscribers[].secret_file",
        "-",
        "`whsec_` and base64",
        "signs them by Standard Webhooks; with webhook only",
    ),
    (
        "subscribers[].file",
        "this or webhook",
        PATH.allowed,
        "where outcomes are appended, a line of JSON each",
    ),
];

/// The reference of all keys as a Markdown table: key, default, what is allowed, meaning. Made from the table the
/// parser uses; the README holds it.
#[must_use]
pub fn reference() -> String {
    let mut table = String::from("| key | default | allowed | meaning |\n|---|---|---|---|\n");
    for key in &KEYS {
        let file = if key.has_file() { format!(", `{}{FILE_SUFFIX}`", key.name) } else { String::new() };
        let default = if key.default.is_empty() { "-".to_owned() } else { format!("`{}`", key.default) };
        let _ = writeln!(
            table,
            "| `{}`{file} | {default} | {} | {} |",
            key.name,
            key.kind.allowed(),
            key.meaning
        );
    }
    for (key, default, allowed, meaning) in FILE_ROWS {
        let _ = writeln!(table, "| `{key}` | {default} | {allowed} | {meaning} |");
    }
    table
}
