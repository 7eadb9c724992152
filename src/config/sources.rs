//! The two sources of settings, the file and the environment, read into lists of what they set.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::{Draft, Origin, Setting};
use super::kind::Raw;
use super::{names, subscribers, tables};

/// A TOML document's text, to find lines in.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(pub &'a str);

impl Text<'_> {
    /// The line something starts on, counted from 1.
    pub fn line(self, span: &Range<usize>) -> Origin {
        let before = self.0.as_bytes().iter().take(span.start);
        Origin::Line(before.filter(|byte| **byte == b'\n').count() + 1)
    }
}

/// Reads the file: its single values are given back, its tables and lists set in the draft.
pub(super) fn file(text: &str, draft: &mut Draft) -> Vec<Setting> {
    let document = match DeTable::parse(text) {
        Ok(document) => document.into_inner(),
        Err(error) => {
            let origin = Text(text).line(&error.span().unwrap_or_default());
            // The message alone does not say which; a key, unlike a value, may be shown.
            let key =
                error.span().filter(|_| error.message() == "duplicate key").and_then(|span| text.get(span));
            let key = key.map(|key| format!(" {}", shown(key))).unwrap_or_default();
            draft.mistake(&origin, "not valid TOML", format!("{}{key}", error.message()));
            return Vec::new();
        }
    };
    let text = Text(text);
    let mut settings = Vec::new();
    for (name, value) in &document {
        let origin = text.line(&name.span());
        match name.get_ref().as_ref() {
            "dispositions" => tables::dispositions(text, value, draft),
            "severities" => tables::severities(text, value, draft),
            "subscribers" => subscribers::read(text, value, draft),
            section if names::sections().contains(&section) => match value.get_ref() {
                DeValue::Table(table) => {
                    for (key, value) in table {
                        let full = format!("{section}.{}", key.get_ref());
                        setting(full, value, text.line(&key.span()), &mut settings, draft);
                    }
                }
                other => {
                    draft.refuse(&origin, section, raw(other).found(), format!("a table, [{section}]"));
                }
            },
            top => setting(top.to_owned(), value, origin, &mut settings, draft),
        }
    }
    settings
}

fn setting(
    full: String,
    value: &Spanned<DeValue<'_>>,
    origin: Origin,
    settings: &mut Vec<Setting>,
    draft: &mut Draft,
) {
    if let Some((_, key)) = names::all().find(|(name, _)| *name == full) {
        settings.push(Setting { full, key, raw: raw(value.get_ref()), origin });
        return;
    }
    let name = shown(&full);
    if let Some((section, short)) = full.split_once('.') {
        let here: Vec<String> = names::all()
            .filter_map(|(name, _)| Some(name.strip_prefix(section)?.strip_prefix('.')?.to_owned()))
            .collect();
        draft.mistake(&origin, &name, names::unknown("key", short, &here));
    } else if value.get_ref().is_table() || value.get_ref().is_array() {
        let tables: Vec<String> =
            names::sections().into_iter().chain(names::FILE_ONLY).map(str::to_owned).collect();
        draft.mistake(&origin, &name, names::unknown("section", &full, &tables));
    } else {
        // A key without its section's heading is the likeliest slip.
        let inside = names::all().find(|(name, _)| name.split('.').nth(1) == Some(&full));
        let what = match inside {
            Some((inside, _)) => {
                format!("unknown key (did you mean {inside}?), allowed here: {}", names::top().join(", "))
            }
            None => names::unknown("key", &full, &names::top()),
        };
        draft.mistake(&origin, &name, what);
    }
}

/// Reads the environment's `DISPOD_...` variables. `DISPOD_CONFIG` names the file and is no setting.
pub(super) fn environment(variables: &[(String, String)], draft: &mut Draft) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (variable, value) in variables {
        if !variable.starts_with(names::ENV_PREFIX) || variable == super::load::CONFIG_VARIABLE {
            continue;
        }
        let origin = Origin::Variable(variable.clone());
        if let Some((full, key)) = names::all().find(|(full, _)| names::environment(full) == *variable) {
            settings.push(Setting { full, key, raw: Raw::Environment(value.clone()), origin });
            continue;
        }
        let mut tables = names::FILE_ONLY.iter();
        if let Some(table) = tables.find(|table| variable.starts_with(&names::environment(table))) {
            draft.mistake(&origin, "", format!("{table} can be set in the file only"));
        } else {
            let hint = names::suggestion(variable, names::all().map(|(full, _)| names::environment(&full)));
            let allowed = "allowed: DISPOD_SECTION_KEY for a key of the file";
            draft.mistake(&origin, "", format!("unknown variable{hint}, {allowed}"));
        }
    }
    settings
}

/// A value of the file as a [`Raw`].
pub(super) fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(integer) => {
            Raw::Integer(integer.to_string(), u64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Float(_) => Raw::Other("a float"),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Array(_) => Raw::Other("an array"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// A key for a message: escaped where it holds control characters.
pub(super) fn shown(full: &str) -> String {
    full.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
