//! What is allowed for a text: the tests, and their words for messages. Pure.

use super::url;

/// A test and its words.
pub(super) struct Rule {
    pub test: fn(&str) -> bool,
    pub allowed: &'static str,
}

/// Longest category, in bytes.
const CATEGORY_MAX_BYTES: usize = 128;
/// The place of the contact's id in `cxone.update_path`.
const CONTACT_ID_PLACE: &str = "{contactId}";
/// Answered on the webhook's listener itself (contract section 4), so not a path for call results.
const HEALTH_PATH: &str = "/healthz";

/// Any text of at least one character and no control character.
pub(super) const PLAIN: Rule =
    Rule { test: is_plain, allowed: "a string, not empty, without control characters" };

/// The name of a category.
pub(super) const CATEGORY: Rule = Rule {
    test: |text| is_plain(text) && text.len() <= CATEGORY_MAX_BYTES,
    allowed: "a category of 1 to 128 bytes without control characters",
};

/// A path in the file system.
pub(super) const PATH: Rule =
    Rule { test: is_plain, allowed: "a path, not empty, without control characters" };

/// A tenant.
pub(super) const HOST: Rule = Rule {
    test: |text| url::split_host(text).is_some(),
    allowed: "a host name such as \"us-east-1.api.cxone.com\", with a port if need be",
};

/// A URL that may still hold the environment's place; what it becomes is checked when that is known.
pub(super) const URL: Rule = Rule { test: is_plain, allowed: url::ALLOWED };

/// The path of the webhook.
pub(super) const WEBHOOK_PATH: Rule = Rule {
    test: |path| {
        path.starts_with('/') && url::is_uri_text(path) && !path.contains('?') && path != HEALTH_PATH
    },
    allowed: "a path such as \"/webhook/call-result\", percent-encoded, other than /healthz",
};

/// The path of the contact update.
pub(super) const UPDATE_PATH: Rule = Rule {
    test: is_update_path,
    allowed: "a path such as \"/contacts/{contactId}\", percent-encoded, with {contactId} once, as a whole segment",
};

fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn is_update_path(text: &str) -> bool {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let segments = || path.split('/');
    // A dot segment would be resolved away on the way, with a real one before it.
    path.starts_with('/')
        && segments().filter(|segment| *segment == CONTACT_ID_PLACE).count() == 1
        && !segments().any(|segment| segment == "." || segment == "..")
        && url::is_uri_text(&path.replacen(CONTACT_ID_PLACE, "", 1))
        && url::is_uri_text(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_paths() {
        for path in
            ["/contacts/{contactId}", "/{contactId}", "/a/{contactId}/b%20c", "/c/{contactId}?source=dispod"]
        {
            assert!((UPDATE_PATH.test)(path), "{path}");
        }
        for path in [
            "",
            "contacts/{contactId}",
            "/contacts",
            "/contacts/{contactid}",
            "/contacts/x{contactId}",
            "/{contactId}/{contactId}",
            "/contacts?id={contactId}",
            "/contacts/{contactId}#x",
            "/a/../{contactId}",
            "/a b/{contactId}",
            "/{tenant}/{contactId}",
        ] {
            assert!(!(UPDATE_PATH.test)(path), "{path}");
        }
    }
}
