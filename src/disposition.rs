//! Disposition code to category to severity. Pure; the tutorial's table is the default.

use std::collections::BTreeMap;

use crate::event::Severity;

/// The mapping in force: which category a code means and how severe a category is (contract section 3).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mapping {
    /// `dispositions.<code>`
    pub dispositions: BTreeMap<String, String>,
    /// `severities.<category>`
    pub severities: BTreeMap<String, Severity>,
    /// `default_category`: for a code not in the table.
    pub default_category: String,
}

impl Mapping {
    /// The category of a code; the default category where the table has none.
    #[must_use]
    pub fn category(&self, disposition_code: &str) -> &str {
        self.dispositions.get(disposition_code).unwrap_or(&self.default_category)
    }

    /// The severity of a category; `medium` where none is set.
    #[must_use]
    pub fn severity(&self, category: &str) -> Severity {
        self.severities.get(category).copied().unwrap_or(Severity::Medium)
    }
}

impl Default for Mapping {
    fn default() -> Self {
        const TABLE: [(&str, &str); 9] = [
            ("1001", "do_not_call"),
            ("1002", "do_not_call"),
            ("1003", "do_not_call"),
            ("2001", "callback_later"),
            ("2002", "callback_later"),
            ("3001", "qualified_lead"),
            ("3002", "qualified_lead"),
            ("3003", "qualified_lead"),
            ("4001", "wrong_number"),
        ];
        const SEVERITIES: [(&str, Severity); 3] = [
            ("do_not_call", Severity::Critical),
            ("wrong_number", Severity::Low),
            ("unclassified", Severity::Low),
        ];
        Self {
            dispositions: TABLE.into_iter().map(|(code, category)| (code.into(), category.into())).collect(),
            severities: SEVERITIES
                .into_iter()
                .map(|(category, severity)| (category.into(), severity))
                .collect(),
            default_category: "unclassified".to_owned(),
        }
    }
}
