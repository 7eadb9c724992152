//! A configuration on its way: what is set so far, by whom, and every mistake found.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::keys::{KEYS, Key};
use super::kind::{Kind, Raw};
use super::{Config, Purpose, rules};
use crate::Error;

/// Where a setting was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A line of the file.
    Line(usize),
    /// Nowhere: it is missing.
    Missing,
    /// An environment variable.
    Variable(String),
}

/// One key as one source sets it.
pub(super) struct Setting {
    /// The full name in use, which for a secret may be that of its file.
    pub full: String,
    pub key: &'static Key,
    pub raw: Raw,
    pub origin: Origin,
}

impl Setting {
    /// Whether it names a file to read the value from.
    pub fn is_file(&self) -> bool {
        self.full != self.key.name
    }
}

/// A configuration on its way.
pub(super) struct Draft {
    pub config: Config,
    pub purpose: Purpose,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts a service's credentials.
    pub credentials_directory: Option<String>,
    file: String,
    origins: BTreeMap<String, Origin>,
    mistakes: Vec<(Origin, String)>,
}

impl Draft {
    /// The defaults, before anything is set. `file` is the name for messages, empty where there is no file.
    pub fn new(file: &str, purpose: Purpose) -> Self {
        let mut config = Config::default();
        for key in &KEYS {
            // The two URLs hold the environment's place until all is known.
            if let ("cxone.base_url" | "cxone.token_url", Kind::Text { set, .. }) = (key.name, &key.kind) {
                set(&mut config, key.default.to_owned());
            }
        }
        Self {
            config,
            purpose,
            credentials_directory: None,
            file: file.to_owned(),
            origins: BTreeMap::new(),
            mistakes: Vec::new(),
        }
    }

    /// Lays one source over what is there. Secrets are only looked at: they are set when the source that wins is known.
    pub fn apply(&mut self, layer: &[Setting]) {
        for setting in layer {
            self.origins.insert(setting.full.clone(), setting.origin.clone());
            let Setting { raw, key, .. } = setting;
            let (done, found, allowed) = if setting.is_file() {
                let is_path = raw.as_text().is_some_and(rules::PATH.test);
                (is_path.then_some(()), raw.found(), rules::PATH.allowed.to_owned())
            } else {
                let done = key.kind.apply(&mut self.config, raw);
                let found = if key.has_file() { raw.found_for_secret().to_owned() } else { raw.found() };
                (done, found, key.kind.allowed())
            };
            if done.is_none() {
                self.refuse(&setting.origin, &setting.full, &found, &allowed);
            }
        }
    }

    /// Records a value that is not allowed.
    pub fn refuse(&mut self, origin: &Origin, name: &str, found: impl Display, allowed: impl Display) {
        self.mistake(origin, name, format!("found {found}, allowed: {allowed}"));
    }

    /// Records a mistake at its place.
    pub fn mistake(&mut self, origin: &Origin, name: &str, what: impl Display) {
        let message = match origin {
            Origin::Line(line) => format!("{}:{line}: {name}: {what}", self.file),
            Origin::Missing if self.file.is_empty() => format!("{name}: {what}"),
            Origin::Missing => format!("{}: {name}: {what}", self.file),
            Origin::Variable(variable) => format!("{variable}: {what}"),
        };
        self.mistakes.push((origin.clone(), message));
    }

    /// Where a key was last set; [`Origin::Missing`] where it was not.
    pub fn origin(&self, full: &str) -> Origin {
        self.origins.get(full).cloned().unwrap_or(Origin::Missing)
    }

    /// Whether any source sets the key.
    pub fn is_set(&self, full: &str) -> bool {
        self.origins.contains_key(full)
    }

    /// Forgets that a key was set, since another key won.
    pub fn forget(&mut self, full: &str) {
        self.origins.remove(full);
    }

    /// Whether nothing is wrong so far.
    pub fn is_sound(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The configuration, or all mistakes, one a line: the file's in its order, then what is missing, then the
    /// environment's.
    pub fn finish(mut self) -> Result<Config, Error> {
        if self.mistakes.is_empty() {
            return Ok(self.config);
        }
        self.mistakes.sort();
        let lines: Vec<String> = self.mistakes.into_iter().map(|(_, message)| message).collect();
        Err(Error::config(lines.join("\n")))
    }
}
