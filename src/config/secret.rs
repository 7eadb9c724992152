//! A string that is used but never shown.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What stands for a secret wherever one would be shown.
pub(super) const REDACTED: &str = "***";
/// What a Standard Webhooks secret starts with.
const STANDARD_WEBHOOKS_PREFIX: &str = "whsec_";

/// A secret: it prints, logs and serialises as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that sends or compares it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of a Standard Webhooks 1.0.0 secret, which is `whsec_` and the key in base64; `None` if this
    /// is not one.
    #[must_use]
    pub fn standard_webhooks_key(&self) -> Option<Vec<u8>> {
        let encoded = self.0.strip_prefix(STANDARD_WEBHOOKS_PREFIX)?;
        STANDARD.decode(encoded).ok().filter(|key| !key.is_empty())
    }

    /// Whether this is what dispod prints in place of a secret, and so not a secret.
    pub(super) fn is_redacted(&self) -> bool {
        self.0 == REDACTED
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}
