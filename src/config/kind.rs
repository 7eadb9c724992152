//! What sort of value a key takes: how it is read, what is allowed, how it is written back. Pure.

use std::path::Path;
use std::time::Duration;

use super::rules::Rule;
use super::values::{
    format_duration, format_listen, format_size, parse_duration, parse_listen, parse_mode, parse_size, quote,
};
use super::{Config, Listen, Secret, secret};

/// Longest text shown of what was found, in characters.
const FOUND_MAX_CHARS: usize = 80;

/// Where in the configuration a value lives.
pub(super) type Field<T> = fn(&mut Config) -> &mut T;

/// Where a whole number lives.
pub(super) enum Number {
    Usize(Field<usize>),
    U32(Field<u32>),
    U64(Field<u64>),
}

/// The sort of a key's value, its range, and where it lives.
pub(super) enum Kind {
    /// A duration from one to another, both allowed.
    Duration(Duration, Duration, Field<Duration>),
    /// A size in bytes from one to another, both allowed.
    Size(u64, u64, Number),
    /// A whole number from one to another, both allowed.
    Count(u64, u64, Number),
    /// One of some words, set and got by its place among them.
    Word { words: &'static [&'static str], set: fn(&mut Config, usize), get: fn(&Config) -> usize },
    /// Any text that passes its rule; `None` from `get` is "not set".
    Text { rule: Rule, set: fn(&mut Config, String), get: fn(&Config) -> Option<String> },
    /// True or false.
    Flag(Field<bool>),
    /// Octal permissions.
    Mode(Field<u32>),
    /// Where to listen.
    Listen(Field<Listen>),
    /// Where to listen, or `off`.
    ListenOrOff(Field<Option<Listen>>),
    /// A secret, or with `many` one a line; its key `..._file` names a file to read it from.
    Secret { many: bool, set: fn(&mut Config, Vec<Secret>), is_set: fn(&Config) -> bool },
}

/// A value as it was written, not yet understood. Has no `Debug`, since it may be a secret.
pub(super) enum Raw {
    /// A TOML string.
    Text(String),
    /// A TOML integer: as written, and its value unless negative or too large.
    Integer(String, Option<u64>),
    /// A TOML boolean.
    Flag(bool),
    /// Any other TOML value, in words.
    Other(&'static str),
    /// The value of an environment variable, to be read as the key's kind.
    Environment(String),
}

impl Raw {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Environment(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Self::Integer(_, value) => *value,
            // `parse` alone would let "+5" pass.
            Self::Environment(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }

    fn as_flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            Self::Environment(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// What was found, for a message: one line, bounded, escaped.
    pub fn found(&self) -> String {
        match self {
            Self::Text(text) | Self::Environment(text) => found_text(text),
            Self::Integer(digits, _) => clip(digits),
            Self::Flag(flag) => flag.to_string(),
            Self::Other(words) => (*words).to_owned(),
        }
    }

    /// What was found in place of a secret, without a character of it. A text is refused only for being empty.
    pub fn found_for_secret(&self) -> &str {
        match self {
            Self::Text(_) | Self::Environment(_) => "an empty string",
            Self::Integer(..) => "an integer",
            Self::Flag(_) => "a boolean",
            Self::Other(words) => words,
        }
    }
}

/// A text for a message: quoted, escaped, clipped; one that may hold a password (`user:password@host`) is not shown.
pub(super) fn found_text(text: &str) -> String {
    if text.contains("://") && text.contains('@') {
        return "a URL with a user or password".to_owned();
    }
    format!("{:?}", clip(text))
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(FOUND_MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Number {
    fn set(&self, config: &mut Config, value: u64) -> Option<()> {
        match self {
            Self::Usize(at) => *at(config) = usize::try_from(value).ok()?,
            Self::U32(at) => *at(config) = u32::try_from(value).ok()?,
            Self::U64(at) => *at(config) = value,
        }
        Some(())
    }

    fn get(&self, config: &mut Config) -> u64 {
        match self {
            Self::Usize(at) => u64::try_from(*at(config)).unwrap_or(u64::MAX),
            Self::U32(at) => u64::from(*at(config)),
            Self::U64(at) => *at(config),
        }
    }
}

impl Kind {
    /// Sets the value; `None` when it is not allowed. Secrets are not set here: they need files.
    pub fn apply(&self, config: &mut Config, raw: &Raw) -> Option<()> {
        match self {
            Self::Duration(min, max, at) => {
                *at(config) = raw.as_text().and_then(parse_duration).filter(|d| (min..=max).contains(&d))?;
            }
            Self::Size(min, max, at) => {
                let bytes = raw.as_number().or_else(|| parse_size(raw.as_text()?))?;
                return (*min..=*max).contains(&bytes).then(|| at.set(config, bytes))?;
            }
            Self::Count(min, max, at) => {
                let count = raw.as_number().filter(|count| (min..=max).contains(&count))?;
                return at.set(config, count);
            }
            Self::Word { words, set, .. } => {
                let text = raw.as_text()?;
                set(config, words.iter().position(|word| *word == text)?);
            }
            Self::Text { rule, set, .. } => set(config, raw.as_text().filter(|t| (rule.test)(t))?.to_owned()),
            Self::Flag(at) => *at(config) = raw.as_flag()?,
            Self::Mode(at) => *at(config) = raw.as_text().and_then(parse_mode)?,
            Self::Listen(at) => *at(config) = raw.as_text().and_then(parse_listen)?,
            Self::ListenOrOff(at) => {
                *at(config) = match raw.as_text()? {
                    "off" => None,
                    text => Some(parse_listen(text)?),
                };
            }
            Self::Secret { .. } => raw.as_text().filter(|text| !text.is_empty()).map(|_| ())?,
        }
        Some(())
    }

    /// What is allowed, in words.
    pub fn allowed(&self) -> String {
        match self {
            Self::Duration(min, max, _) => format!(
                "a duration such as \"250ms\", \"10s\" or \"24h\", from {} to {}",
                format_duration(*min),
                format_duration(*max)
            ),
            Self::Size(min, max, _) => {
                format!("a size such as \"64KiB\", from {} to {}", format_size(*min), format_size(*max))
            }
            Self::Count(min, max, _) => format!("an integer from {min} to {max}"),
            Self::Word { words, .. } => alternatives(words),
            Self::Text { rule, .. } => rule.allowed.to_owned(),
            Self::Flag(_) => "true or false".to_owned(),
            Self::Mode(_) => "octal permissions such as \"0660\", up to \"0777\"".to_owned(),
            Self::Listen(_) => "HOST:PORT, of a host that resolves, or unix:/PATH".to_owned(),
            Self::ListenOrOff(_) => "HOST:PORT, of a host that resolves, unix:/PATH, or \"off\"".to_owned(),
            Self::Secret { many: true, .. } => "a string, one secret a line".to_owned(),
            Self::Secret { many: false, .. } => "a string, not empty, without control characters".to_owned(),
        }
    }

    /// The value as TOML; `None` when it is not set. Takes the configuration by `&mut` for the accessors' sake and
    /// changes nothing.
    pub fn render(&self, config: &mut Config) -> Option<String> {
        Some(match self {
            Self::Duration(_, _, at) => quote(&format_duration(*at(config))),
            Self::Size(_, _, at) => quote(&format_size(at.get(config))),
            Self::Count(_, _, at) => at.get(config).to_string(),
            Self::Word { words, get, .. } => quote(words[get(config)]),
            Self::Text { get, .. } => quote(&get(config)?),
            Self::Flag(at) => at(config).to_string(),
            Self::Mode(at) => format!("\"{:04o}\"", at(config)),
            Self::Listen(at) => quote(&format_listen(at(config))),
            Self::ListenOrOff(at) => quote(&at(config).as_ref().map_or("off".to_owned(), format_listen)),
            Self::Secret { is_set, .. } => is_set(config).then(|| quote(secret::REDACTED))?,
        })
    }
}

/// `"a", "b" or "c"`.
pub(super) fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// A path as text; what is not UTF-8 in it is replaced, since TOML could not hold it.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
