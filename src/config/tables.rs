//! The tables of the mapping: dispositions and severities.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use super::draft::{Draft, Origin};
use super::kind::{Raw, alternatives};
use super::rules::{CATEGORY, PLAIN};
use super::sources::{Text, raw};
use super::values::quote_key;
use crate::event::{DISPOSITION_CODE_MAX_BYTES, Severity};

type Value<'i> = Spanned<DeValue<'i>>;

/// Reads `[dispositions]`. One code in it replaces the whole default table; an empty table changes nothing.
pub(super) fn dispositions(text: Text<'_>, value: &Value<'_>, draft: &mut Draft) {
    let mut mapping = BTreeMap::new();
    for (code, full, origin, category) in entries("dispositions", text, value, draft) {
        if !(PLAIN.test)(&code) || code.len() > DISPOSITION_CODE_MAX_BYTES {
            let allowed =
                format!("a code of 1 to {DISPOSITION_CODE_MAX_BYTES} bytes without control characters");
            draft.refuse(&origin, &full, format!("a code of {} bytes", code.len()), allowed);
        }
        match category.as_text().filter(|text| (CATEGORY.test)(text)) {
            Some(category) => {
                mapping.insert(code, category.to_owned());
            }
            None if matches!(category, Raw::Other("a table")) => {
                let allowed = format!("{}; a code with a dot in it must be quoted", CATEGORY.allowed);
                draft.refuse(&origin, &full, "a table", allowed);
            }
            None => draft.refuse(&origin, &full, category.found(), CATEGORY.allowed),
        }
    }
    if !mapping.is_empty() {
        draft.config.mapping.dispositions = mapping;
    }
}

/// Reads `[severities]`, laid over the defaults.
pub(super) fn severities(text: Text<'_>, value: &Value<'_>, draft: &mut Draft) {
    for (category, full, origin, severity) in entries("severities", text, value, draft) {
        if !(CATEGORY.test)(&category) {
            draft.refuse(&origin, &full, format!("a category of {} bytes", category.len()), CATEGORY.allowed);
        }
        match severity.as_text().and_then(Severity::parse) {
            Some(severity) => {
                draft.config.mapping.severities.insert(category, severity);
            }
            None => draft.refuse(&origin, &full, severity.found(), allowed_severities()),
        }
    }
}

/// The entries of a table of single values: name, full name, place, value.
fn entries(
    name: &str,
    text: Text<'_>,
    value: &Value<'_>,
    draft: &mut Draft,
) -> Vec<(String, String, Origin, Raw)> {
    let DeValue::Table(table) = value.get_ref() else {
        let origin = text.line(&value.span());
        draft.refuse(&origin, name, raw(value.get_ref()).found(), format!("a table, [{name}]"));
        return Vec::new();
    };
    let entry = |(key, value): (&Spanned<_>, &Value<'_>)| {
        let key_text: &std::borrow::Cow<'_, str> = key.get_ref();
        let full = format!("{name}.{}", quote_key(key_text));
        (key_text.clone().into_owned(), full, text.line(&key.span()), raw(value.get_ref()))
    };
    table.iter().map(entry).collect()
}

/// The severities, for messages.
pub(super) fn allowed_severities() -> String {
    alternatives(&Severity::ALL.map(Severity::as_str))
}
