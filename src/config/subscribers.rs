//! The list of durable subscribers, `[[subscribers]]` (contract section 7).

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::{Draft, Origin};
use super::kind::found_text;
use super::rules::PATH;
use super::sources::{Text, raw, shown};
use super::tables::allowed_severities;
use super::{Secret, SubscriberConfig, SubscriberTarget, names, secrets, url};
use crate::event::Severity;

/// Most durable subscribers: each is a thread.
const SUBSCRIBERS_MAX: usize = 64;
/// Longest name of a subscriber, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// The keys of a `[[subscribers]]` entry.
const SUBSCRIBER_KEYS: [&str; 6] = ["name", "severities", "webhook", "secret", "secret_file", "file"];
/// What a subscriber's secret may be.
const SECRET_ALLOWED: &str = "\"whsec_\" and base64, a secret of Standard Webhooks";

/// Something is wrong and has been recorded.
struct Refused;

/// Reads every `[[subscribers]]`.
pub(super) fn read(text: Text<'_>, value: &Spanned<DeValue<'_>>, draft: &mut Draft) {
    let origin = text.line(&value.span());
    let DeValue::Array(array) = value.get_ref() else {
        draft.refuse(
            &origin,
            "subscribers",
            raw(value.get_ref()).found(),
            "a list, each begun by [[subscribers]]",
        );
        return;
    };
    if array.len() > SUBSCRIBERS_MAX {
        let allowed = format!("at most {SUBSCRIBERS_MAX}");
        draft.refuse(&origin, "subscribers", format!("{} subscribers", array.len()), allowed);
    }
    for (index, value) in array.iter().enumerate() {
        let origin = text.line(&value.span());
        let prefix = format!("subscribers[{index}]");
        let DeValue::Table(table) = value.get_ref() else {
            draft.refuse(&origin, &prefix, raw(value.get_ref()).found(), "a table");
            continue;
        };
        let read = Entry { text, table, origin, prefix, draft: &mut *draft }.read();
        if let Ok(subscriber) = read {
            draft.config.subscribers.push(subscriber);
        }
    }
}

/// One `[[subscribers]]` being read.
struct Entry<'a, 'i> {
    text: Text<'a>,
    table: &'a DeTable<'i>,
    origin: Origin,
    prefix: String,
    draft: &'a mut Draft,
}

impl Entry<'_, '_> {
    fn read(&mut self) -> Result<SubscriberConfig, Refused> {
        for key in self.table.keys().filter(|key| !SUBSCRIBER_KEYS.contains(&key.get_ref().as_ref())) {
            let known = SUBSCRIBER_KEYS.map(str::to_owned);
            let full = format!("{}.{}", self.prefix, shown(key.get_ref()));
            self.draft.mistake(
                &self.text.line(&key.span()),
                &full,
                names::unknown("key", key.get_ref(), &known),
            );
        }
        // Each is read before any is asked for, so that all mistakes come out at once.
        let (name, severities, target) = (self.name(), self.severities(), self.target());
        Ok(SubscriberConfig { name: name?, severities: severities?, target: target? })
    }

    fn name(&mut self) -> Result<String, Refused> {
        let allowed = format!("1 to {NAME_MAX_BYTES} of a-z, 0-9, _ and -, unique");
        let Some(name) = self.string("name", &allowed)? else {
            return Err(self.missing("name", &allowed));
        };
        let fits = (1..=NAME_MAX_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if !fits {
            return Err(self.refuse("name", &found_text(&name), &allowed));
        }
        if self.draft.config.subscribers.iter().any(|other| other.name == name) {
            return Err(self.refuse("name", &format!("{name:?} a second time"), &allowed));
        }
        Ok(name)
    }

    fn severities(&mut self) -> Result<Vec<Severity>, Refused> {
        let allowed = format!("a list of at least one of {}", allowed_severities());
        let Some(value) = self.table.get("severities") else { return Ok(Severity::ALL.to_vec()) };
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.refuse("severities", &raw(value.get_ref()).found(), &allowed));
        };
        let mut severities = Vec::new();
        for value in array {
            let Some(severity) = value.get_ref().as_str().and_then(Severity::parse) else {
                return Err(self.refuse("severities", &raw(value.get_ref()).found(), &allowed));
            };
            severities.push(severity);
        }
        severities.sort_unstable();
        severities.dedup();
        if severities.is_empty() {
            return Err(self.refuse("severities", "an empty list", &allowed));
        }
        Ok(severities)
    }

    fn target(&mut self) -> Result<SubscriberTarget, Refused> {
        let (address, file) = (self.string("webhook", url::ALLOWED), self.string("file", PATH.allowed));
        let secret = self.secret();
        match (address?, file?, secret?) {
            (Some(address), None, _) if !url::is_allowed(&address) => {
                Err(self.refuse("webhook", &found_text(&address), url::ALLOWED))
            }
            (Some(address), None, secret) => Ok(SubscriberTarget::Webhook { url: address, secret }),
            (None, Some(_), Some(_)) => {
                Err(self.refuse("file", "file with a secret", "a secret with webhook only"))
            }
            (None, Some(path), None) if !(PATH.test)(&path) => {
                Err(self.refuse("file", &found_text(&path), PATH.allowed))
            }
            (None, Some(path), None) => Ok(SubscriberTarget::File(PathBuf::from(path))),
            (Some(_), Some(_), _) => Err(self.refuse("file", "both file and webhook", "one of the two")),
            (None, None, _) => Err(self.missing("webhook", "one of webhook and file")),
        }
    }

    fn secret(&mut self) -> Result<Option<Secret>, Refused> {
        let (value, file) =
            (self.string("secret", SECRET_ALLOWED)?, self.string("secret_file", PATH.allowed)?);
        let (key, text) = match (value, file) {
            (None, None) => return Ok(None),
            (Some(value), None) => ("secret", value),
            (None, Some(path)) => ("secret_file", path),
            (Some(_), Some(_)) => {
                return Err(self.refuse("secret_file", "both secret and secret_file", "one of the two"));
            }
        };
        match secrets::obtain(self.draft, &text, key == "secret_file", false) {
            Err(why) => {
                let (origin, full) = self.place(key);
                self.draft.mistake(&origin, &full, why);
                Err(Refused)
            }
            Ok(secrets) => {
                let secret = secrets.into_iter().next();
                let wrong = |s: &Secret| !s.is_redacted() && s.standard_webhooks_key().is_none();
                if secret.as_ref().is_some_and(wrong) {
                    return Err(self.refuse(key, "a secret of another form", SECRET_ALLOWED));
                }
                Ok(secret)
            }
        }
    }

    /// A string, if the key is there.
    fn string(&mut self, key: &str, allowed: &str) -> Result<Option<String>, Refused> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        if let DeValue::String(text) = value.get_ref() {
            return Ok(Some(text.clone().into_owned()));
        }
        let found = raw(value.get_ref());
        let found = if key == "secret" { found.found_for_secret().to_owned() } else { found.found() };
        Err(self.refuse(key, &found, allowed))
    }

    fn refuse(&mut self, key: &str, found: &str, allowed: &str) -> Refused {
        let (origin, full) = self.place(key);
        self.draft.refuse(&origin, &full, found, allowed);
        Refused
    }

    fn missing(&mut self, key: &str, allowed: &str) -> Refused {
        let full = format!("{}.{key}", self.prefix);
        self.draft.mistake(&self.origin, &full, format!("not set, allowed: {allowed}"));
        Refused
    }

    fn place(&self, key: &str) -> (Origin, String) {
        let of_key = self.table.get_key_value(key).map(|(key, _)| self.text.line(&key.span()));
        (of_key.unwrap_or_else(|| self.origin.clone()), format!("{}.{key}", self.prefix))
    }
}
