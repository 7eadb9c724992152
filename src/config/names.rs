//! The names of keys: in the file, in the environment, and the nearest to a mistyped one. Pure.

use super::keys::{KEYS, Key};
use super::kind::Kind;

/// What the environment's names start with.
pub(super) const ENV_PREFIX: &str = "DISPOD_";
/// The tables and lists, which only the file can set.
pub(super) const FILE_ONLY: [&str; 3] = ["dispositions", "severities", "subscribers"];
/// What ends the name of the key that names a secret's file.
pub(super) const FILE_SUFFIX: &str = "_file";

impl Key {
    /// The section; empty for the top level.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name within the section.
    pub fn short(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, short)| short)
    }

    /// Whether there is a second key that names a file to read the value from.
    pub fn has_file(&self) -> bool {
        matches!(self.kind, Kind::Secret { .. })
    }
}

/// The sections, in the table's order, without the top level.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(Key::section).filter(|section| !section.is_empty()).collect();
    sections.dedup();
    sections
}

/// Every full name in use (`section.key`, those of files included) with its key.
pub(super) fn all() -> impl Iterator<Item = (String, &'static Key)> {
    KEYS.iter().flat_map(|key| {
        let file = key.has_file().then(|| (format!("{}{FILE_SUFFIX}", key.name), key));
        std::iter::once((key.name.to_owned(), key)).chain(file)
    })
}

/// The environment variable of a full name.
pub(super) fn environment(full: &str) -> String {
    format!("{ENV_PREFIX}{}", full.to_ascii_uppercase().replace('.', "_"))
}

/// The keys of the top level.
pub(super) fn top() -> Vec<String> {
    KEYS.iter().filter(|key| key.section().is_empty()).map(|key| key.name.to_owned()).collect()
}

/// What to say to an unknown name of that sort: the nearest known one if any is close, and all of them.
pub(super) fn unknown(sort: &str, found: &str, known: &[String]) -> String {
    let hint = suggestion(found, known.iter().cloned());
    format!("unknown {sort}{hint}, allowed: {}", known.join(", "))
}

/// ` (did you mean X?)` where one of the names is close, else nothing.
pub(super) fn suggestion(found: &str, known: impl Iterator<Item = String>) -> String {
    // Up to a third of it mistyped: "max_boddy" is max_body, "colour" is nothing of ours.
    let allowed = (found.chars().count() / 3).max(1);
    known
        .map(|name| (distance(found, &name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map_or_else(String::new, |(_, name)| format!(" (did you mean {name}?)"))
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_a_name() {
        let mut names: Vec<String> = all().map(|(full, _)| environment(&full)).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > KEYS.len(), "the files of secrets are among them");
    }

    #[test]
    fn a_sections_keys_stand_together() {
        let sections = sections();
        let mut unique = sections.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), sections.len());
        assert_eq!(KEYS[0].section(), "", "the top level comes first");
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("kitten", "sitting", 3),
            ("max_boddy", "max_body", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
